// Calls of the JSON API with the session of the page.

import { signedOut } from "./page.js";

const PREFIX = "/api/visual-generation";
const KEPT_FROM_CLIENTS = ["requestedAt", "startedAt", "completedAt", "attempts", "generationTime"];
const MAX_SEED = 4_294_967_294;

/** What the API, or the way to it, says no with. `errors` has a path for each field that is wrong. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body.error ?? "Something went wrong.");
    this.status = status;
    this.code = body.code ?? "";
    this.errors = body.errors ?? [];
  }
}

/** Call the API. Throws `ApiError`. */
export async function call(method, path, { body, key } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRFToken"] = document.querySelector("[name=csrfmiddlewaretoken]").value;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  let response;
  try {
    response = await fetch(PREFIX + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError(0, { error: "The server cannot be reached. Check the connection and try again." });
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401) {
    signedOut();
    throw new ApiError(401, { error: "You are signed out." });
  }
  if (response.status === 403) {
    throw new ApiError(403, { error: "This page is out of date, since somebody signed in or out meanwhile. Load it again." });
  }
  if (response.status === 429) {
    const wait = response.headers.get("Retry-After");
    throw new ApiError(429, { ...answer, error: `That was a lot in a short time. Try again in ${wait} s.` });
  }
  throw new ApiError(response.status, answer);
}

/** A key under which a submit is done once, however often it is sent. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const cancel = (id) => call("DELETE", `/cancel/${encodeURIComponent(id)}`);
export const retry = (id) => call("POST", `/retry/${encodeURIComponent(id)}`);

/** Submit what this request was once more, with a seed of its own. Resolves to what was sent and what was answered. */
export async function again(request) {
  const metadata = Object.fromEntries(Object.entries(request.metadata).filter(([name]) => !KEPT_FROM_CLIENTS.includes(name)));
  metadata.seed = crypto.getRandomValues(new Uint32Array(1))[0] % (MAX_SEED + 1);
  const body = { type: request.type, prompt: request.prompt, priority: request.priority, metadata };
  if (request.projectId) body.projectId = request.projectId;
  if (request.pageId) body.pageId = request.pageId;
  try {
    return { body, answer: await call("POST", "/submit", { body, key: newKey() }) };
  } catch (error) {
    if (!error.errors?.some((fault) => fault.path === "metadata.seed")) throw error;
    // A model without seeds draws another picture each time anyway.
    delete metadata.seed;
    return { body, answer: await call("POST", "/submit", { body, key: newKey() }) };
  }
}
