// The list of deliveries: sends one again, and follows those that are about to be sent.

import { ApiError, call } from "./api.js";
import { Unreachable, announce, refresh, showError } from "./page.js";

const FOLLOW_EVERY = 2_000;

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-redeliver]");
  if (!button || button.disabled) return;
  button.disabled = true;
  try {
    await call("POST", `/deliveries/${encodeURIComponent(button.dataset.redeliver)}/redeliver`);
    announce("It is being sent again.");
    await refresh();
    // The button is gone until the delivery has ended.
    if (document.activeElement === document.body) document.getElementById("main").focus();
  } catch (error) {
    if (!(error instanceof ApiError || error instanceof Unreachable)) throw error;
    showError(error.message);
  } finally {
    button.disabled = false;
  }
});

/** Refresh while a delivery is due, until nothing is about to change. */
async function follow() {
  if (document.querySelector("#deliveries [data-soon]") && document.visibilityState === "visible") {
    await refresh().catch(() => {}); // the next one tries again
  }
  setTimeout(follow, FOLLOW_EVERY);
}

setTimeout(follow, FOLLOW_EVERY);
