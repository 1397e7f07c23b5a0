// The page of API keys: lists, makes, edits, rotates and revokes the user's keys.

import { ApiError, call } from "./api.js";
import { focus, open } from "./dialogs.js";
import * as form from "./key_form.js";
import { ago, announce, realtimeOrigin, writeTimes } from "./page.js";
import { copy, showSecret } from "./secret_dialog.js";

const SOON = 7 * 86_400_000;
const list = document.getElementById("keys");
const state = document.getElementById("state");
const make = document.getElementById("make");
const template = document.getElementById("key");
const date = new Intl.DateTimeFormat("en", { dateStyle: "medium" });
const moment = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

const keys = new Map(); // key id → key
let newestLoad = 0;

const byId = (id) => document.getElementById(id);
const plural = (count, word) => `${count} ${word}${Number(count) === 1 ? "" : "s"}`;
const isPast = (at) => new Date(at) <= Date.now();
const addressOf = (key) => `/keys/${encodeURIComponent(key.keyId)}`;

// --- The list --------------------------------------------------------------------------------------------------------

/** Load all keys, over as many pages as there are. */
async function load() {
  const thisLoad = ++newestLoad;
  list.setAttribute("aria-busy", "true");
  try {
    const found = [];
    for (let query = ""; query !== null; ) {
      const page = await call("GET", `/keys${query}`);
      found.push(...page.results);
      query = page.next && new URL(page.next).search;
    }
    if (thisLoad !== newestLoad) return;
    keys.clear();
    for (const key of found) keys.set(key.keyId, key);
    const focused = list.contains(document.activeElement) ? document.activeElement.id : "";
    list.replaceChildren(...found.map(render));
    state.hidden = found.length > 0;
    make.hidden = !found.length;
    if (!found.length) showState("no-keys");
    if (focused) focus(focused);
  } catch (error) {
    if (thisLoad !== newestLoad || !(error instanceof ApiError)) throw error;
    list.replaceChildren();
    showState("not-loaded").querySelector(".why").textContent = error.message;
  } finally {
    if (thisLoad === newestLoad) list.setAttribute("aria-busy", "false");
  }
}

function showState(name) {
  state.replaceChildren(byId(name).content.cloneNode(true));
  state.hidden = false;
  return state;
}

function render(key) {
  const item = template.content.firstElementChild.cloneNode(true);
  const part = (name) => item.querySelector(name);
  const isExpired = key.expiresAt && isPast(key.expiresAt);
  item.dataset.id = key.keyId;
  item.classList.toggle("expired", Boolean(isExpired));
  part("h3").textContent = key.name;
  part("h3").id = `name-${key.keyId}`;
  part(".prefix").textContent = `${key.prefix}_…`;
  const badge = part(".badge");
  badge.hidden = !isExpired && !(key.expiresAt && new Date(key.expiresAt) - Date.now() < SOON);
  badge.dataset.health = isExpired ? "critical" : "warning";
  badge.textContent = isExpired ? "Expired" : "Expires soon";
  part(".scopes").append(...key.scopes.map((scope) => element("code", scope)));
  part(".limits").textContent = limits(key);
  part(".expires").append(...(key.expiresAt ? [date.format(new Date(key.expiresAt)), ", ", time(key.expiresAt)] : ["Never"]));
  part(".used").append(...(key.lastUsedAt ? [time(key.lastUsedAt, { minute: "" }), key.lastUsedFrom ? ` from ${key.lastUsedFrom}` : ""] : ["Never"]));
  const overlaps = key.previousUntil && !isPast(key.previousUntil);
  part(".overlap").hidden = !overlaps;
  if (overlaps) part(".previous").append("Works until ", moment.format(new Date(key.previousUntil)));
  for (const button of item.querySelectorAll("[data-action]")) {
    button.id = `${button.dataset.action}-${key.keyId}`;
    button.setAttribute("aria-describedby", part("h3").id);
  }
  writeTimes(item);
  return item;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function time(at, options = {}) {
  const made = element("time", ago(at));
  made.dateTime = at;
  Object.assign(made.dataset, options);
  return made;
}

/** `20/m` in words: `20 requests a minute`. */
function rate(text) {
  const [, count, times, unit] = /^(\d+)\/(\d*)([smhd])$/.exec(text) ?? [];
  if (!unit) return text;
  const name = { s: "second", m: "minute", h: "hour", d: "day" }[unit];
  const period = times > 1 ? `in ${times} ${name}s` : `${unit === "h" ? "an" : "a"} ${name}`;
  return `${plural(count, "request")} ${period}`;
}

function limits(key) {
  const parts = [];
  if (key.dailyBudgetUsd !== null) parts.push(`$${Number(key.dailyBudgetUsd).toFixed(2)} a day`);
  if (key.rate) parts.push(rate(key.rate));
  if (key.maxActive) parts.push(`${key.maxActive} at once`);
  if (key.maxPriority) parts.push(`priority up to ${key.maxPriority}`);
  if (key.models) parts.push(key.models.length > 2 ? plural(key.models.length, "model") : key.models.join(", "));
  if (key.projectIds) parts.push(key.projectIds.length > 2 ? plural(key.projectIds.length, "project") : `in ${key.projectIds.join(", ")}`);
  return parts.join(" · ") || "None";
}

// --- Dialogs ---------------------------------------------------------------------------------------------------------

function edit(key, from) {
  form.fill(key);
  byId("editor-title").textContent = key ? `Edit ${key.name}` : "New key";
  byId("save").textContent = key ? "Save" : "Make key";
  const onSubmit = async () => {
    if (!form.check()) return;
    const body = form.body();
    if (key && !Object.keys(body).length) return byId("editor").close();
    const answer = key ? await call("PATCH", addressOf(key), { body }) : await call("POST", "/keys", { body });
    byId("editor").close();
    if (key) {
      announce(`Saved ${answer.name}.`);
    } else {
      make.hidden = false; // it gets the focus back, even before the list is loaded
      show(answer, `Your new key “${answer.name}”`);
    }
    await load();
  };
  open(byId("editor"), { onSubmit, from, onError: form.showErrors });
}

function rotate(key, from) {
  byId("rotation-title").textContent = `Rotate ${key.name}`;
  byId("overlapHours").value = "24";
  const overlaps = key.previousUntil && !isPast(key.previousUntil);
  byId("rotation-previous").hidden = !overlaps;
  byId("rotation-previous").textContent = overlaps ? "The old secret of the last rotation still works. It stops at once." : "";
  const onSubmit = async () => {
    const answer = await call("POST", `${addressOf(key)}/rotate`, { body: { overlapHours: Number(byId("overlapHours").value) } });
    byId("rotation").close();
    show(answer, `The new secret of “${key.name}”`);
    await load();
  };
  open(byId("rotation"), { onSubmit, from });
}

function revoke(key, from) {
  byId("revocation-title").textContent = `Revoke ${key.name}?`;
  byId("revocation-use").textContent = key.lastUsedAt
    ? `Last used ${ago(key.lastUsedAt)}${key.lastUsedFrom ? ` from ${key.lastUsedFrom}` : ""}.`
    : "It was never used.";
  const onSubmit = async () => {
    await call("DELETE", addressOf(key));
    byId("revocation").close();
    await load();
    announce(`Revoked ${key.name}.`);
  };
  open(byId("revocation"), { onSubmit, from });
}

// --- The secret ------------------------------------------------------------------------------------------------------

function show({ key, previousUntil }, title) {
  const overlaps = previousUntil && !isPast(previousUntil);
  showSecret(key, { title, note: overlaps ? `The old secret works until ${moment.format(new Date(previousUntil))}.` : "" });
}

// --- How to use a key ------------------------------------------------------------------------------------------------

byId("openai-base").textContent = `${realtimeOrigin().replace(/^ws/, "http")}/v1`;
byId("curl").textContent = [
  `curl ${location.origin}/api/visual-generation/submit`,
  `-H "Authorization: Bearer $VGA_API_KEY"`,
  `-H "Content-Type: application/json"`,
  `-d '{"type": "illustration", "prompt": "A fox and an owl in the forest"}'`,
].join(" \\\n  ");

// --- Clicks ----------------------------------------------------------------------------------------------------------

const ACTIONS = { edit, rotate, revoke };

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  if (button.dataset.action) {
    const key = keys.get(button.closest(".key").dataset.id);
    ACTIONS[button.dataset.action](key, button.id);
  } else if (button === make || "make" in button.dataset) {
    edit(null, make.id);
  } else if ("reload" in button.dataset) {
    load();
  } else if (button.dataset.copy) {
    const words = (await copy(byId(button.dataset.copy))) ? "Copied" : "Press Ctrl C";
    button.querySelector("span").textContent = words;
    announce(`${words}.`);
    setTimeout(() => { button.querySelector("span").textContent = "Copy"; }, 2_000);
  }
});

load();
