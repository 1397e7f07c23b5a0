// The queue page: refreshes every few seconds while it is visible.

import { announce, refresh, showConnection, showNotice, since, writeTimes } from "./page.js";

const INTERVAL = 4_000;
const MAX_INTERVAL = 60_000;
let interval = INTERVAL;
let timer;
let updatedAt = Date.now();
let detail = null;

async function update() {
  clearTimeout(timer);
  try {
    if (!(await refresh())) return;
    if (detail) announce("Reconnected.");
    detail = null;
    showNotice(null);
    showConnection("live");
    updatedAt = Date.now();
    interval = INTERVAL;
  } catch (error) {
    interval = Math.min(2 * interval, MAX_INTERVAL);
    showConnection("waiting");
    detail ??= showNotice(error.message, { label: "Try now", onClick: update });
    showAge();
  }
  timer = setTimeout(update, interval);
}

function showAge() {
  if (detail) detail.textContent = `Last updated ${since(new Date(updatedAt))} ago.`;
}

setInterval(() => {
  showAge();
  for (const time of document.querySelectorAll("[data-elapsed]")) writeTimes(time.parentElement);
}, 1_000);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") clearTimeout(timer);
  else update();
});
addEventListener("online", update);
addEventListener("offline", update);
showConnection("live");
timer = setTimeout(update, INTERVAL);
