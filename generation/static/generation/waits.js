// When a queued request starts and why it waits, in a few words.

import { call } from "./api.js";

const REASONS = {
  paused: "Paused", reference: "Waiting for another image", not_before: "Starts later", retry: "Waiting for a retry",
  batch_limit: "Waiting for its batch", key_limit: "Waiting for its API key", provider_suspended: "The provider is suspended",
  provider_rate: "Waiting for the provider", no_worker: "No worker is running", no_dispatcher: "No dispatcher is running",
};
const UNITS = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];

/** Read what a queued request waits for, which only its status tells. */
export async function readWait(requestId) {
  const { status, estimate, waitingFor } = await call("GET", `/status/${encodeURIComponent(requestId)}?imageData=false`);
  return { status, estimate, waitingFor };
}

/** The words for a queued request; without an estimate only what holds it. */
export function waitText({ estimate, waitingFor }) {
  const reason = REASONS[waitingFor?.reason];
  if (!estimate) return reason ?? "Waiting in the queue";
  const { startP50, startP90 } = estimate;
  const start = startP90 <= 1 ? "starts now" : `starts in about ${span(startP50, startP90)}`;
  return reason ? `${reason}, ${start}` : start[0].toUpperCase() + start.slice(1);
}

function span(low, high) {
  const [first, unit] = inUnit(low);
  const [last, lastUnit] = inUnit(high);
  if (unit !== lastUnit) return low ? `${first} ${unit} to ${last} ${lastUnit}` : `${last} ${lastUnit} at most`;
  return first === last ? `${last} ${unit}` : `${first}–${last} ${unit}`;
}

function inUnit(seconds) {
  const [size, unit] = UNITS.find(([size]) => seconds >= 2 * size) ?? UNITS.at(-1);
  return [Math.round(seconds / size), unit];
}
