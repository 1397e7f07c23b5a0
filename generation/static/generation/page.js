// Shared by every page: messages, the realtime process's address, relative times, and refreshing parts of the page.

const announcer = document.getElementById("announcer");
const toasts = document.getElementById("toasts");
const notice = document.getElementById("notice");

/** Announce the text to screen readers. */
export function announce(text) {
  announcer.textContent = text;
}

/** Show an error until it is closed, or for ten seconds. */
export function showError(text) {
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

/** Show a notice above the page, with an optional button; `null` hides it. Returns an element for details that change
 * often, which screen readers skip. */
export function showNotice(text, button = null) {
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
    element.addEventListener("click", button.onClick);
    notice.append(element);
  }
  notice.hidden = false;
  return detail;
}

/** Say that the session has ended. The page stays, so that typed text is not lost. */
export function signedOut() {
  showConnection("signed-out");
  showNotice("You are signed out.", {
    label: "Sign in",
    onClick: () => location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`),
  });
}

const CONNECTION_STATES = { live: "Live", connecting: "Connecting", waiting: "Offline", "signed-out": "Signed out" };

/** Show the state of the connection in the header. */
export function showConnection(state) {
  const pill = document.getElementById("connection");
  if (!pill) return;
  pill.dataset.state = state;
  pill.querySelector(".text").textContent = CONNECTION_STATES[state];
}

/** The origin of the realtime process, with a WebSocket's scheme. */
export function realtimeOrigin() {
  const { realtimeBase, realtimePort } = document.body.dataset;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return realtimeBase || `${scheme}://${realtimePort ? `${location.hostname}:${realtimePort}` : location.host}`;
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

function timeText(moment, { elapsed, clock, minute }) {
  if (clock !== undefined) return absolute.format(new Date(moment));
  if (minute !== undefined && Date.now() - new Date(moment) < 120_000) return "just now"; // it has no seconds
  return elapsed !== undefined ? since(moment) : ago(moment);
}

/** Write the `<time>` elements below `root` in the user's language and time zone. */
export function writeTimes(root = document) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = time.dateTime;
    const text = timeText(moment, time.dataset);
    if (time.textContent !== text) time.textContent = text;
    if (!time.title) time.title = absolute.format(new Date(moment));
  }
}

setInterval(writeTimes, 5_000);
writeTimes();

// --- Refreshing ---------------------------------------------------------------------------------------

export class Unreachable extends Error {}

// The parts as the server sent them last, to tell which ones have changed.
const served = new Map([...document.querySelectorAll("[data-live]")].map((part) => [part.id, part.cloneNode(true)]));
let newestRefresh = 0;

/** Fetch this page and replace its `data-live` parts that have changed; open details and the focus stay. Resolves to
 * `false` if the session has ended. Throws `Unreachable`. */
export async function refresh() {
  const thisRefresh = ++newestRefresh;
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
  if (!response.ok) throw new Unreachable(`The server responded with status ${response.status}.`);
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  if (thisRefresh !== newestRefresh) return true; // a newer refresh has started
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
