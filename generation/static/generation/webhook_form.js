// The form of a webhook: reads and writes its fields, and shows the API's errors at them.

import { clearFieldErrors, focusInvalid, showFieldError, showFieldErrors } from "./field_errors.js";

const form = document.getElementById("webhook-form");
const field = (name) => form.elements.namedItem(name);
const boxes = [...form.querySelectorAll('input[name="events"]')];

let original = {}; // the values that the form was filled with

/** Fill the form with a webhook, or for a new one. */
export function fill(webhook = null) {
  clear();
  for (const name of ["url", "projectId", "description"]) field(name).value = webhook?.[name] ?? "";
  for (const box of boxes) box.checked = webhook ? webhook.events.includes(box.value) : "default" in box.dataset;
  document.getElementById("project").hidden = Boolean(webhook);
  original = webhook ? read() : {};
}

function read() {
  const values = Object.fromEntries(["url", "projectId", "description"].map((name) => [name, field(name).value.trim()]));
  return { ...values, events: boxes.filter((box) => box.checked).map((box) => box.value) };
}

/** Return the body of the call: for a new webhook the fields that are set, else those that were changed. */
export function body() {
  const differs = (name, value) => JSON.stringify(value) !== JSON.stringify(original[name] ?? "");
  return Object.fromEntries(Object.entries(read()).filter(([name, value]) => differs(name, value)));
}

/** Check what the browser knows. Returns whether the form may be sent; shows the errors otherwise. */
export function check() {
  clear();
  if (!field("url").value.trim()) showFieldError("url", "Enter an address.");
  if (!boxes.some((box) => box.checked)) showFieldError("events", "Choose at least one event.");
  return !focusInvalid(form);
}

/** Show the API's errors at their fields, and others above the buttons. */
export const showErrors = (error) => showFieldErrors(form, error);

function clear() {
  form.querySelector(".problem").hidden = true;
  clearFieldErrors(form);
}
