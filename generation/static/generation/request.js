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
    if (request.sequence !== currentRequest().sequence) update();
  },
  onPreview: update,
  onReconnect: update,
});
live.watch("requestId", currentRequest().requestId);

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
