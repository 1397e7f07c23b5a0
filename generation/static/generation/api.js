// Calls the JSON API with the session of the page.

import { signedOut } from "./page.js";

const PREFIX = "/api/visual-generation";
// Metadata that the server adds to a request and does not accept in a submit.
const SERVER_METADATA = ["requestedAt", "startedAt", "completedAt", "attempts", "generationTime"];
const MAX_SEED = 4_294_967_294;

/** A failed call: an error response, or no response (`status` 0). `errors` has the path of each invalid field. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body.error ?? "Something went wrong.");
    this.status = status;
    this.code = body.code ?? "";
    this.errors = body.errors ?? [];
  }
}

/** The address of a part of the API. */
export const address = (path) => PREFIX + path;

/** The headers of a call; those of a change have the page's CSRF token. */
export function headersOf(method) {
  const token = () => document.querySelector("[name=csrfmiddlewaretoken]").value;
  return { Accept: "application/json", ...(method === "GET" ? {} : { "X-CSRFToken": token() }) };
}

/** Call the API. Throws `ApiError`. */
export async function call(method, path, { body, key } = {}) {
  const headers = headersOf(method);
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  let response;
  try {
    response = await fetch(address(path), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError(0, { error: "The server cannot be reached. Check your connection and try again." });
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw apiError(response.status, answer, response.headers.get("Retry-After"));
}

/** The error of a response that is not a success. */
export function apiError(status, answer, retryAfter) {
  if (status === 401) {
    signedOut();
    return new ApiError(401, { error: "You are signed out." });
  }
  if (status === 403) {
    return new ApiError(403, { error: "Your session has changed since this page was loaded. Reload the page." });
  }
  if (status === 429) return new ApiError(429, { ...answer, error: `Too many requests. Try again in ${retryAfter} s.` });
  return new ApiError(status, answer);
}

/** An `Idempotency-Key`: a submit that is sent again with the same key runs once. */
export function newIdempotencyKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const cancel = (id) => call("DELETE", `/cancel/${encodeURIComponent(id)}`);
export const retry = (id) => call("POST", `/retry/${encodeURIComponent(id)}`);

/** A reference of the status as one of a submit. */
function sameReference({ role, name, requestId, uploadId }) {
  if (!requestId && !uploadId) throw new ApiError(0, { error: "A reference image of this request was deleted." });
  return { role, ...(name ? { name } : {}), ...(requestId ? { requestId } : { uploadId }) };
}

/** Approve or reject the image of a request; `null` takes that back. */
export const decide = (id, approval) => call("PATCH", `/requests/${encodeURIComponent(id)}`, { body: { approval } });

/** Give a queued request another priority. */
export const changePriority = (id, priority) => call("PATCH", `/requests/${encodeURIComponent(id)}`, { body: { priority } });

/** Submit the same request with a random seed. Resolves to the body that was sent and its answer. */
export async function submitVariation(request) {
  const metadata = Object.fromEntries(Object.entries(request.metadata).filter(([name]) => !SERVER_METADATA.includes(name)));
  metadata.seed = crypto.getRandomValues(new Uint32Array(1))[0] % (MAX_SEED + 1);
  const body = { type: request.type, prompt: request.prompt, priority: request.priority, metadata };
  if (request.projectId) body.projectId = request.projectId;
  if (request.pageId) body.pageId = request.pageId;
  if (request.references?.length) body.references = request.references.map(sameReference);
  try {
    return { body, answer: await call("POST", "/submit", { body, key: newIdempotencyKey() }) };
  } catch (error) {
    if (!error.errors?.some((detail) => detail.path === "metadata.seed")) throw error;
    // A model without seeds generates a different image each time anyway.
    delete metadata.seed;
    return { body, answer: await call("POST", "/submit", { body, key: newIdempotencyKey() }) };
  }
}
