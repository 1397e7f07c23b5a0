// What every page does: tell people things, keep times readable, and fetch itself anew.

const said = document.getElementById("said");
const toasts = document.getElementById("toasts");
const notice = document.getElementById("notice");

/** Say something to people who listen instead of looking. */
export function say(text) {
  said.textContent = text;
}

/** Show a fault until it is closed, or for ten seconds. */
export function complain(text) {
  const toast = document.createElement("div");
  toast.className = "toast";
  const words = document.createElement("span");
  words.textContent = text;
  const close = document.createElement("button");
  close.className = "quiet small";
  close.textContent = "Close";
  close.addEventListener("click", () => toast.remove());
  toast.append(words, close);
  toasts.append(toast);
  setTimeout(() => toast.remove(), 10_000);
}

/** A line over the page, with a button if there is something to do; `null` takes it away. Returns where a detail may be
 * written that changes all the time, which is not read out each time. */
export function notify(text, button = null) {
  if (text === null) {
    notice.hidden = true;
    return null;
  }
  const words = document.createElement("span");
  words.textContent = text;
  const detail = document.createElement("span");
  detail.setAttribute("aria-hidden", "true");
  notice.replaceChildren(words, detail);
  if (button) {
    const element = document.createElement("button");
    element.className = "small";
    element.textContent = button.label;
    element.addEventListener("click", button.act);
    notice.append(element);
  }
  notice.hidden = false;
  return detail;
}

/** The session is over: whatever is typed stays, until somebody goes to sign in. */
export function signedOut() {
  showState("signed-out");
  notify("You are signed out.", {
    label: "Sign in",
    act: () => location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`),
  });
}

const STATES = { live: "Live", connecting: "Connecting", waiting: "Offline", "signed-out": "Signed out" };

/** How current the page is. */
export function showState(state) {
  const pill = document.getElementById("connection");
  if (!pill) return;
  pill.dataset.state = state;
  pill.querySelector(".text").textContent = STATES[state];
}

// --- Times -----------------------------------------------------------------------------------------------------------

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const absolute = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });
const STEPS = [["day", 86_400], ["hour", 3_600], ["minute", 60]];

/** `3 minutes ago`, or `in 20 seconds`. */
export function ago(moment) {
  const seconds = (new Date(moment) - Date.now()) / 1000;
  for (const [unit, length] of STEPS) {
    if (Math.abs(seconds) >= length - 0.5) return relative.format(Math.round(seconds / length), unit);
  }
  return Math.abs(seconds) < 10 ? "just now" : relative.format(Math.round(seconds), "second");
}

/** `4 s`, `2 min 5 s` since then. */
export function since(moment) {
  const seconds = Math.max(0, Math.round((Date.now() - new Date(moment)) / 1000));
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

function read(moment, { elapsed, clock }) {
  if (clock !== undefined) return absolute.format(new Date(moment));
  return elapsed !== undefined ? since(moment) : ago(moment);
}

/** Write the times below this element as people say them. */
export function writeTimes(root = document) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = time.dateTime;
    const text = read(moment, time.dataset);
    if (time.textContent !== text) time.textContent = text;
    if (!time.title) time.title = absolute.format(new Date(moment));
  }
}

setInterval(writeTimes, 5_000);
writeTimes();

// --- The same page as it is now ---------------------------------------------------------------------------------------

export class Unreachable extends Error {}

const served = new Map([...document.querySelectorAll("[data-live]")].map((part) => [part.id, part.cloneNode(true)]));
let asked = 0;

/** Bring the parts with `data-live` to what the server sends now; open details and the focus stay. Resolves to `false`
 * where the session is over. Throws `Unreachable`. */
export async function refresh() {
  const turn = ++asked;
  let response;
  try {
    response = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
  } catch {
    throw new Unreachable("The server cannot be reached.");
  }
  if (response.type === "opaqueredirect") {
    signedOut();
    return false;
  }
  if (!response.ok) throw new Unreachable(`The server answered with ${response.status}.`);
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  if (turn !== asked) return true; // a later answer is under way
  for (const old of document.querySelectorAll("[data-live]")) {
    const part = fresh.getElementById(old.id);
    if (!part || served.get(old.id)?.isEqualNode(part)) continue;
    served.set(old.id, part.cloneNode(true));
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    for (const details of old.querySelectorAll("details[open]")) part.querySelector(`#${details.id}`)?.setAttribute("open", "");
    old.replaceWith(document.adoptNode(part));
    writeTimes(part);
    if (focused) (document.getElementById(focused) ?? document.getElementById("main")).focus();
  }
  return true;
}
