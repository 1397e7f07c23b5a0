// The list of requests: pages of it, what changes in it, and what can be done with each.

import { again, ApiError, call, cancel, retry } from "./api.js";
import { draw, isActive, makeCard, tick } from "./card.js";
import { Live } from "./live.js";
import { complain, say } from "./page.js";

const PAGE = 24;
const list = document.getElementById("cards");
const state = document.getElementById("state");
const more = document.getElementById("load-more");
const end = document.getElementById("the-end");
const filter = document.getElementById("filter");

const known = new Map(); // id → {request, card}
const live = new Live({ hear: apply, back: () => load({ merge: true }) });
const nearEnd = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && loadMore(), { rootMargin: "400px" });
let next = null; // the query of the page that follows
let turn = 0;

// --- Loading ----------------------------------------------------------------------------------------------------------

function query() {
  const values = new URLSearchParams(new FormData(filter));
  for (const [name, value] of [...values]) if (!value.trim()) values.delete(name);
  return values;
}

/** Load the first page; `merge` keeps what is there and brings it up to date. */
export async function load({ merge = false } = {}) {
  const mine = ++turn;
  const asked = query();
  history.replaceState(null, "", asked.size ? `?${asked}` : location.pathname);
  asked.set("limit", PAGE);
  list.setAttribute("aria-busy", "true");
  try {
    const page = await call("GET", `/requests?${asked}`);
    if (mine !== turn) return;
    if (!merge) clear();
    for (const skeleton of list.querySelectorAll(".skeleton")) skeleton.remove();
    if (merge) page.results.toReversed().forEach((request) => known.has(request.requestId) ? apply(request) : add(request, { first: true }));
    else page.results.forEach((request) => add(request));
    if (!merge || known.size <= page.results.length) follow(page);
    if (merge) await bringUpToDate();
    showState();
  } catch (error) {
    if (mine !== turn || !(error instanceof ApiError)) throw error;
    if (merge && known.size) return; // what is there stays, and the notice tells that it may be old
    clear();
    show("not-loaded").querySelector(".why").textContent = error.message;
    more.hidden = end.hidden = true;
  } finally {
    if (mine === turn) list.setAttribute("aria-busy", "false");
  }
}

/** What was active before a break and is on no page that was loaded anew. */
async function bringUpToDate() {
  const active = [...known.values()].filter(({ request }) => isActive(request)).map(({ request }) => request.requestId);
  for (const id of active.slice(0, PAGE)) apply(await call("GET", `/status/${encodeURIComponent(id)}?imageData=false`));
}

async function loadMore() {
  if (!next || more.disabled) return;
  const mine = turn;
  more.disabled = true;
  more.textContent = "Loading …";
  try {
    const page = await call("GET", `/requests${next}`);
    if (mine !== turn) return;
    const hadFocus = document.activeElement === more;
    const first = page.results.map((request) => add(request)).find(Boolean);
    follow(page);
    if (hadFocus) first?.querySelector(".frame").focus();
  } catch (error) {
    complain(error.message);
  } finally {
    more.disabled = false;
    more.textContent = "Show more";
  }
}

function follow(page) {
  next = page.next && new URL(page.next).search;
  more.hidden = !next;
  showState();
  // It tells of a change alone, and the button may be as near as before.
  nearEnd.unobserve(more);
  nearEnd.observe(more);
}

function clear() {
  for (const { request } of known.values()) leave(request);
  known.clear();
  list.replaceChildren();
}

function show(template) {
  state.replaceChildren(document.getElementById(template).content.cloneNode(true));
  state.hidden = false;
  return state;
}

function showState() {
  state.hidden = true;
  end.hidden = next !== null || known.size <= PAGE;
  if (!known.size) show(query().size ? "nothing-matches" : "nothing-yet");
}

// --- What is in it ----------------------------------------------------------------------------------------------------

function add(request, { first = false } = {}) {
  if (known.has(request.requestId)) {
    apply(request);
    return null;
  }
  const card = makeCard(request);
  known.set(request.requestId, { request, card });
  if (first) list.prepend(card);
  else list.append(card);
  if (first) card.classList.add("new");
  watch(request);
  return card;
}

/** Put what was just submitted in front. It is as good as known: the subscription tells the rest. */
export function addSubmitted(body, answer, more = {}) {
  if (query().size) {
    filter.reset();
    load();
    return;
  }
  const request = {
    ...{ priority: "normal", projectId: null, pageId: null, batchId: null, result: null, error: null },
    ...{ ...body, ...more, requestId: answer.requestId, status: answer.status, progress: 0, sequence: 0 },
    estimatedWaitTime: answer.estimatedWaitTime,
    metadata: { ...body.metadata, requestedAt: new Date().toISOString(), attempts: 0 },
  };
  add(request, { first: true });
  showState();
}

function apply(request) {
  const entry = known.get(request.requestId);
  if (!entry) {
    if (request.batchId && matches(request)) add(request, { first: true });
    return;
  }
  const before = entry.request;
  if (request.sequence < before.sequence) return;
  entry.request = request;
  draw(entry.card, request);
  if (before.status !== request.status) {
    if (!isActive(request)) say(`${request.prompt.slice(0, 80)}: ${request.status}`);
    if (!isActive(request)) leave(request);
    else if (!isActive(before)) watch(request);
  }
}

const matches = (request) => [...query()].every(([name, value]) => request[name] === value);

// --- Who is told ------------------------------------------------------------------------------------------------------

const target = ({ batchId, requestId }) => (batchId ? ["batchId", batchId] : ["requestId", requestId]);

function watch(request) {
  if (isActive(request)) live.watch(...target(request));
}

function leave(request) {
  const others = request.batchId && [...known.values()].some(({ request: other }) => other.batchId === request.batchId && isActive(other));
  if (!others) live.unwatch(...target(request));
}

// --- What can be done -------------------------------------------------------------------------------------------------

const ACTIONS = {
  async cancel(request) {
    await cancel(request.requestId);
    apply(await call("GET", `/status/${encodeURIComponent(request.requestId)}?imageData=false`));
  },
  async retry(request) {
    const answer = await retry(request.requestId);
    const entry = known.get(request.requestId);
    if (!entry) return;
    watch({ ...request, status: answer.status });
    apply(await call("GET", `/status/${encodeURIComponent(request.requestId)}?imageData=false`));
  },
  async again(request) {
    const { body, answer } = await again(request);
    addSubmitted(body, answer);
    say("Submitted with another seed.");
    scrollTo({ top: 0, behavior: "smooth" });
  },
};

list.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action]");
  const entry = button && known.get(button.closest(".card").dataset.id);
  if (!entry) return;
  button.disabled = true;
  try {
    await ACTIONS[button.dataset.action](entry.request);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    complain(error.message);
  } finally {
    button.disabled = false;
  }
});

let typing;
filter.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(load, 250);
});
filter.addEventListener("submit", (event) => event.preventDefault());
state.addEventListener("click", (event) => {
  if (event.target.closest("[data-clear]")) filter.reset();
  if (event.target.closest("[data-clear], [data-again]")) load();
});
more.addEventListener("click", loadMore);
setInterval(() => {
  for (const { request, card } of known.values()) tick(card, request);
}, 1_000);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && known.size) load({ merge: true }).catch(() => {});
});

for (const [name, value] of new URLSearchParams(location.search)) {
  const field = filter.elements.namedItem(name);
  if (field) field.value = value;
}
