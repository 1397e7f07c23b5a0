// The form of an API key: reads and writes its fields, and shows the API's errors at them.

import { clearFieldErrors, focusInvalid, showFieldError, showFieldErrors } from "./field_errors.js";

const DEFAULTS = { name: "", scopes: ["requests:read", "requests:write"], expiresAt: null };
const LIMITS = ["rate", "dailyBudgetUsd", "maxActive", "maxPriority", "models", "projectIds"];
const NUMERIC = ["dailyBudgetUsd", "maxActive"];
const DEFAULT_DAYS = "90";
const DAY = 86_400_000;

const form = document.getElementById("key-form");
const problem = document.getElementById("form-error");
const field = (name) => form.elements.namedItem(name);
const checkboxes = (name) => [...form.querySelectorAll(`input[name="${name}"]`)];
const isSet = (value) => value !== null && value !== undefined && value !== "" && value.length !== 0;

const pad = (number) => String(number).padStart(2, "0");
const dayOf = (moment) => `${moment.getFullYear()}-${pad(moment.getMonth() + 1)}-${pad(moment.getDate())}`;

let original = {}; // the values that the form was filled with

function showDate() {
  field("expiresAt").hidden = field("expiry").value !== "date";
}

/** Fill the form with a key, or for a new one. */
export function fill(key = null) {
  const values = key ?? DEFAULTS;
  clear();
  field("name").value = values.name;
  const models = values.models ?? [];
  addMissing(models);
  for (const [name, chosen] of [["scopes", values.scopes], ["models", models]]) {
    for (const box of checkboxes(name)) box.checked = chosen.includes(box.value);
  }
  for (const name of ["rate", "dailyBudgetUsd", "maxActive", "maxPriority"]) field(name).value = values[name] ?? "";
  field("projectIds").value = (values.projectIds ?? []).join("\n");
  field("expiresAt").value = values.expiresAt ? dayOf(new Date(values.expiresAt)) : dayOf(new Date(Date.now() + 90 * DAY));
  field("expiry").value = key ? (values.expiresAt ? "date" : "") : DEFAULT_DAYS;
  showDate();
  document.getElementById("limits").open = LIMITS.some((name) => isSet(values[name]));
  original = key ? read() : {};
}

/** Offer the models of the key that are no longer in the catalog, so that saving does not drop them. */
function addMissing(models) {
  for (const label of form.querySelectorAll("#models [data-missing]")) label.remove();
  const known = checkboxes("models").map((box) => box.value);
  for (const model of models.filter((name) => !known.includes(name))) {
    const label = document.createElement("label");
    label.className = "check";
    label.dataset.missing = "";
    const box = Object.assign(document.createElement("input"), { type: "checkbox", name: "models", value: model });
    const text = document.createElement("span");
    text.textContent = `${model} (not offered)`;
    label.append(box, text);
    form.querySelector("#models .choices").append(label);
  }
}

/** Return the fields of the API; one that is left empty is `null`. */
function read() {
  const chosen = (name) => checkboxes(name).filter((box) => box.checked).map((box) => box.value);
  const values = { name: field("name").value.trim(), scopes: chosen("scopes"), expiresAt: expiresAt() };
  for (const name of ["rate", "maxPriority"]) values[name] = field(name).value.trim() || null;
  for (const name of NUMERIC) values[name] = field(name).value === "" ? null : Number(field(name).value);
  values.models = chosen("models");
  values.projectIds = field("projectIds").value.split("\n").map((line) => line.trim()).filter(Boolean);
  for (const name of ["models", "projectIds"]) if (!values[name].length) values[name] = null;
  return values;
}

function expiresAt() {
  const choice = field("expiry").value;
  if (choice === "") return null;
  if (choice !== "date") return new Date(Date.now() + Number(choice) * DAY).toISOString();
  const day = field("expiresAt").value;
  return day ? new Date(`${day}T23:59:59`).toISOString() : "";
}

/** Return the body of the call: for a new key the fields that are set, else those that were changed. */
export function body() {
  const differs = (name, value) => JSON.stringify(value) !== JSON.stringify(original[name] ?? null);
  return Object.fromEntries(Object.entries(read()).filter(([name, value]) => differs(name, value)));
}

/** Check what only the browser knows. Returns whether the form may be sent; shows the errors otherwise. */
export function check() {
  clear();
  if (!field("name").value.trim()) showFieldError("name", "Enter a name.");
  if (!checkboxes("scopes").some((box) => box.checked)) showFieldError("scopes", "Choose at least one scope.");
  if (field("expiry").value === "date" && !field("expiresAt").value) showFieldError("expiresAt", "Choose a day.");
  for (const name of NUMERIC) if (field(name).validity.badInput) showFieldError(name, "Enter a number.");
  return !focusInvalid(form);
}

/** Show the API's errors at their fields, and others above the buttons. */
export const showErrors = (error) => showFieldErrors(form, error);

function clear() {
  problem.hidden = true;
  clearFieldErrors(form);
}

field("expiry").addEventListener("change", showDate);
