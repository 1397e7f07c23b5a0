// The page of one request: it is fetched anew whenever the request changes.

import { again, ApiError, cancel, retry } from "./api.js";
import { Live } from "./live.js";
import { complain, refresh, say } from "./page.js";

const read = () => JSON.parse(document.getElementById("request").textContent);

async function update() {
  const before = read();
  try {
    await refresh();
  } catch (error) {
    complain(error.message);
    return;
  }
  const now = read();
  if (now.status !== before.status) say(`Now ${now.status}.`);
}

const live = new Live({
  hear(request) {
    if (request.sequence !== read().sequence) update();
  },
  back: update,
});
live.watch("requestId", read().requestId);

const ACTIONS = {
  cancel: (request) => cancel(request.requestId).then(update),
  retry: (request) => retry(request.requestId).then(update),
  async again(request) {
    const { answer } = await again(request);
    location.assign(`/requests/${encodeURIComponent(answer.requestId)}`);
  },
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action]");
  if (!button || button.disabled) return;
  button.disabled = true;
  try {
    await ACTIONS[button.dataset.action](read());
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    complain(error.message);
  } finally {
    button.disabled = false;
  }
});
