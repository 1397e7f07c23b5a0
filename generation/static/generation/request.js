// The page of one request: refreshes when the request or one of its variations changes.

import { ApiError, cancel, changePriority, decide, retry, submitVariation } from "./api.js";
import { Live } from "./live.js";
import { announce, refresh, showError } from "./page.js";

const currentRequest = () => JSON.parse(document.getElementById("request").textContent);
const sequences = () => JSON.parse(document.getElementById("sequences").textContent); // by the ids of the requests shown

async function update() {
  const before = currentRequest();
  try {
    await refresh();
  } catch (error) {
    showError(error.message);
    return;
  }
  const now = currentRequest();
  if (now.status !== before.status) announce(`Status: ${now.status}.`);
}

/** Whether a preview arrived after the page was rendered and before it was subscribed. */
function hasNewPreview({ requestId, previewUrl }) {
  const shown = currentRequest();
  return requestId === shown.requestId && previewUrl && previewUrl !== shown.previewUrl;
}

const live = new Live({
  onUpdate(request) {
    const shown = sequences()[request.requestId];
    if (shown === undefined) updateForSource(request);
    else if (shown !== request.sequence || hasNewPreview(request)) update();
  },
  onPreview: update,
  onReconnect: update,
});
const { requestId, batchId } = currentRequest();
if (Object.keys(sequences()).length > 1) live.watch("batchId", batchId);
else live.watch("requestId", requestId);

// The wait of a queued request changes without an update.
const REFRESH_EVERY = 10_000; // ms
setInterval(() => {
  const isChoosing = document.activeElement?.id === "priority"; // a refresh would close its list
  if (document.visibilityState === "visible" && !isChoosing && currentRequest().status === "queued") refresh().catch(() => {});
}, REFRESH_EVERY);

/** Approve or reject, or take that back if it is pressed already. */
async function choose(button, approval) {
  const isPressed = button.getAttribute("aria-pressed") === "true";
  const answer = await decide(button.dataset.id, isPressed ? null : approval);
  await update();
  // A disabled button loses the focus, and the part of the page with it was replaced.
  if (document.activeElement === document.body) document.getElementById(button.id)?.focus();
  announce({ approved: "Approved.", rejected: "Rejected." }[answer.approval] ?? "Decision taken back.");
}

// The page of a request that waits says how the images come on that it waits for.
const sources = new Map(); // request id → its status
for (const { requestId, status } of currentRequest().references) {
  if (requestId && status !== "completed") sources.set(requestId, status);
}
const { editOf, status } = currentRequest();
if (status === "queued" && editOf?.startsWith("vga_")) sources.set(editOf, "");
for (const id of sources.keys()) live.watch("requestId", id);

function updateForSource({ requestId, status }) {
  if (sources.get(requestId) === status || currentRequest().status !== "queued") return;
  sources.set(requestId, status);
  update();
}

const ACTIONS = {
  cancel: (request) => cancel(request.requestId).then(update),
  retry: (request) => retry(request.requestId).then(update),
  approve: (_, button) => choose(button, "approved"),
  reject: (_, button) => choose(button, "rejected"),
  async variation(request) {
    const { answer } = await submitVariation(request);
    location.assign(`/requests/${encodeURIComponent(answer.requestId)}`);
  },
};

document.addEventListener("change", async ({ target }) => {
  if (target.id !== "priority") return;
  target.disabled = true;
  try {
    await changePriority(target.dataset.id, target.value);
    announce(`Priority: ${target.selectedOptions[0].text}.`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showError(error.message);
  } finally {
    await update(); // shows the place, or the former priority
    if (document.activeElement === document.body) document.getElementById("priority")?.focus();
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action]");
  if (!button || button.disabled) return;
  button.disabled = true;
  try {
    await ACTIONS[button.dataset.action](currentRequest(), button);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showError(error.message);
  } finally {
    button.disabled = false;
  }
});
