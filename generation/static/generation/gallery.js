// The gallery: loads pages of requests, shows their updates, and runs the actions of the cards.

import { ApiError, call, cancel, retry, submitVariation } from "./api.js";
import { canRefer, isActive, makeCard, render, renderElapsed } from "./card.js";
import { Live } from "./live.js";
import * as inputs from "./inputs.js";
import { announce, showError } from "./page.js";
import { readWait } from "./waits.js";

const PAGE_SIZE = 24;
const WAITS_EVERY = 10_000; // ms
const MOST_WAITS = 6; // cards, the newest first
const list = document.getElementById("cards");
const state = document.getElementById("state");
const more = document.getElementById("load-more");
const end = document.getElementById("the-end");
const filter = document.getElementById("filter");

const entries = new Map(); // request id → {request, card}
const live = new Live({ onUpdate: apply, onReconnect: () => load({ merge: true }) });
const nearEnd = new IntersectionObserver((changes) => changes.some((change) => change.isIntersecting) && loadMore(), { rootMargin: "400px" });
let nextPage = null; // query of the next page
let newestLoad = 0;

// --- Loading ----------------------------------------------------------------------------------------------------------

function query() {
  const values = new URLSearchParams(new FormData(filter));
  for (const [name, value] of [...values]) if (!value.trim()) values.delete(name);
  return values;
}

/** Load the first page; `merge` updates the cards instead of replacing them. */
export async function load({ merge = false } = {}) {
  const thisLoad = ++newestLoad;
  const parameters = query();
  history.replaceState(null, "", parameters.size ? `?${parameters}` : location.pathname);
  parameters.set("limit", PAGE_SIZE);
  list.setAttribute("aria-busy", "true");
  try {
    const page = await call("GET", `/requests?${parameters}`);
    if (thisLoad !== newestLoad) return;
    if (!merge) clear();
    for (const skeleton of list.querySelectorAll(".skeleton")) skeleton.remove();
    if (merge) page.results.toReversed().forEach((request) => entries.has(request.requestId) ? apply(request) : add(request, { first: true }));
    else page.results.forEach((request) => add(request));
    if (!merge || entries.size <= page.results.length) setNextPage(page);
    if (merge) await updateActive();
    updateState();
    updateWaits();
  } catch (error) {
    if (thisLoad !== newestLoad || !(error instanceof ApiError)) throw error;
    if (merge && entries.size) return; // keep the cards; the notice says that updates are interrupted
    clear();
    showMessage("not-loaded").querySelector(".why").textContent = error.message;
    more.hidden = end.hidden = true;
  } finally {
    if (thisLoad === newestLoad) list.setAttribute("aria-busy", "false");
  }
}

/** Update the requests that were active before an interruption and are not on the first page. */
async function updateActive() {
  const active = [...entries.values()].filter(({ request }) => isActive(request)).map(({ request }) => request.requestId);
  for (const id of active.slice(0, PAGE_SIZE)) apply(await call("GET", `/status/${encodeURIComponent(id)}?imageData=false`));
}

async function loadMore() {
  if (!nextPage || more.disabled) return;
  const thisLoad = newestLoad;
  more.disabled = true;
  more.textContent = "Loading …";
  try {
    const page = await call("GET", `/requests${nextPage}`);
    if (thisLoad !== newestLoad) return;
    const hadFocus = document.activeElement === more;
    const first = page.results.map((request) => add(request)).find(Boolean);
    setNextPage(page);
    if (hadFocus) first?.querySelector(".frame").focus();
  } catch (error) {
    showError(error.message);
  } finally {
    more.disabled = false;
    more.textContent = "Load more";
  }
}

function setNextPage(page) {
  nextPage = page.next && new URL(page.next).search;
  more.hidden = !nextPage;
  updateState();
  // The observer reports changes only, and the button may still be in view: observe it again.
  nearEnd.unobserve(more);
  nearEnd.observe(more);
}

function clear() {
  for (const { request } of entries.values()) unwatch(request);
  entries.clear();
  list.replaceChildren();
}

function showMessage(template) {
  state.replaceChildren(document.getElementById(template).content.cloneNode(true));
  state.hidden = false;
  return state;
}

function updateState() {
  state.hidden = true;
  end.hidden = nextPage !== null || entries.size <= PAGE_SIZE;
  if (!entries.size) showMessage(query().size ? "nothing-matches" : "nothing-yet");
}

// --- Cards -----------------------------------------------------------------------------------------------------------

function add(request, { first = false } = {}) {
  if (entries.has(request.requestId)) {
    apply(request);
    return null;
  }
  const card = makeCard(request);
  entries.set(request.requestId, { request, card });
  if (first) list.prepend(card);
  else list.append(card);
  if (first) card.classList.add("new");
  watch(request);
  return card;
}

/** Add a request that was just submitted in front; its subscription brings the updates. */
export function addSubmitted(body, answer, more = {}) {
  if (query().size) {
    filter.reset();
    load();
    return;
  }
  const request = {
    ...{ priority: "normal", projectId: null, pageId: null, batchId: null, result: null, error: null },
    ...{ ...body, ...more, requestId: answer.requestId, status: answer.status, progress: 0, sequence: 0 },
    metadata: { ...body.metadata, requestedAt: new Date().toISOString(), attempts: 0 },
  };
  add(request, { first: true });
  updateState();
  updateWaits();
}

function apply(request) {
  const entry = entries.get(request.requestId);
  if (!entry) {
    if (request.batchId && matches(request)) add(request, { first: true });
    return;
  }
  const before = entry.request;
  if (request.sequence < before.sequence) return;
  const { estimate, waitingFor } = before; // updates lack these
  entry.request = request.sequence === before.sequence ? { estimate, waitingFor, ...request } : request;
  render(entry.card, request);
  if (before.status !== request.status) {
    if (!isActive(request)) announce(`${request.prompt.slice(0, 80)}: ${request.status}`);
    if (request.status === "completed") document.dispatchEvent(new CustomEvent("vga:completed", { detail: request }));
    if (!isActive(request)) unwatch(request);
    else if (!isActive(before)) watch(request);
  }
}

let isReadingWaits = false;

/** Show when the newest queued requests start. */
async function updateWaits() {
  if (isReadingWaits || document.visibilityState !== "visible") return;
  isReadingWaits = true;
  try {
    const waiting = [...list.children].map(({ dataset }) => entries.get(dataset.id)).filter((entry) => entry?.request.status === "queued");
    for (const entry of waiting.slice(0, MOST_WAITS)) {
      const { status, ...wait } = await readWait(entry.request.requestId);
      if (status !== "queued" || entry.request.status !== "queued") continue;
      Object.assign(entry.request, wait);
      render(entry.card, entry.request);
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error; // the notice says that updates are interrupted
  } finally {
    isReadingWaits = false;
  }
}

const matches = (request) => [...query()].every(([name, value]) => (name === "approval" ? (request.approval ?? "none") : request[name]) === value);

// --- Subscriptions ----------------------------------------------------------------------------------------------------

const target = ({ batchId, requestId }) => (batchId ? ["batchId", batchId] : ["requestId", requestId]);

function watch(request) {
  if (isActive(request)) live.watch(...target(request));
}

function unwatch(request) {
  const others = request.batchId && [...entries.values()].some(({ request: other }) => other.batchId === request.batchId && isActive(other));
  if (!others) live.unwatch(...target(request));
}

// --- Actions ---------------------------------------------------------------------------------------------------------

const ACTIONS = {
  async cancel(request) {
    await cancel(request.requestId);
    apply(await call("GET", `/status/${encodeURIComponent(request.requestId)}?imageData=false`));
  },
  async retry(request) {
    const answer = await retry(request.requestId);
    const entry = entries.get(request.requestId);
    if (!entry) return;
    watch({ ...request, status: answer.status });
    apply(await call("GET", `/status/${encodeURIComponent(request.requestId)}?imageData=false`));
  },
  async variation(request) {
    const { body, answer } = await submitVariation(request);
    addSubmitted(body, answer);
    announce("New variation submitted.");
    scrollTo({ top: 0, behavior: "smooth" });
  },
  async reference(request) {
    if (inputs.add(inputs.ofRequest(request))) document.getElementById("references").scrollIntoView({ block: "nearest" });
  },
};

list.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action]");
  const entry = button && entries.get(button.closest(".card").dataset.id);
  if (!entry) return;
  button.disabled = true;
  try {
    await ACTIONS[button.dataset.action](entry.request);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showError(error.message);
  } finally {
    button.disabled = false;
  }
});

list.addEventListener("dragstart", (event) => {
  const entry = entries.get(event.target.closest(".card")?.dataset.id);
  if (entry && canRefer(entry.request)) inputs.startDrag(event, inputs.ofRequest(entry.request));
});

let inputTimer;
filter.addEventListener("input", () => {
  clearTimeout(inputTimer);
  inputTimer = setTimeout(load, 250);
});
filter.addEventListener("submit", (event) => event.preventDefault());
state.addEventListener("click", (event) => {
  if (event.target.closest("[data-clear]")) filter.reset();
  if (event.target.closest("[data-clear], [data-reload]")) load();
});
more.addEventListener("click", loadMore);
setInterval(updateWaits, WAITS_EVERY);
setInterval(() => {
  for (const { request, card } of entries.values()) renderElapsed(card, request);
}, 1_000);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && entries.size) load({ merge: true }).catch(() => {});
});

for (const [name, value] of new URLSearchParams(location.search)) {
  const field = filter.elements.namedItem(name);
  if (field) field.value = value;
}
