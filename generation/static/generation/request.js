// The page of one request: refreshes when the request changes.

import { ApiError, cancel, retry, submitVariation } from "./api.js";
import { Live } from "./live.js";
import { announce, refresh, showError } from "./page.js";

const currentRequest = () => JSON.parse(document.getElementById("request").textContent);

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

const live = new Live({
  onUpdate(request) {
    const current = currentRequest();
    if (request.requestId !== current.requestId) updateForSource(request);
    else if (request.sequence !== current.sequence) update();
  },
  onPreview: update,
  onReconnect: update,
});
live.watch("requestId", currentRequest().requestId);

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
  async variation(request) {
    const { answer } = await submitVariation(request);
    location.assign(`/requests/${encodeURIComponent(answer.requestId)}`);
  },
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action]");
  if (!button || button.disabled) return;
  button.disabled = true;
  try {
    await ACTIONS[button.dataset.action](currentRequest());
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showError(error.message);
  } finally {
    button.disabled = false;
  }
});
