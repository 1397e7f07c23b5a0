// The page of the queue: it is fetched anew every few seconds while somebody looks at it.

import { notify, refresh, say, showState, since, writeTimes } from "./page.js";

const EVERY = 4_000;
const LONGEST = 60_000;
let pause = EVERY;
let timer;
let freshAt = Date.now();
let detail = null;

async function update() {
  clearTimeout(timer);
  try {
    if (!(await refresh())) return;
    if (detail) say("Connected again.");
    detail = null;
    notify(null);
    showState("live");
    freshAt = Date.now();
    pause = EVERY;
  } catch (error) {
    pause = Math.min(2 * pause, LONGEST);
    showState("waiting");
    detail ??= notify(error.message, { label: "Try now", act: update });
    tell();
  }
  timer = setTimeout(update, pause);
}

function tell() {
  if (detail) detail.textContent = `The numbers are ${since(new Date(freshAt))} old.`;
}

setInterval(() => {
  tell();
  for (const time of document.querySelectorAll("[data-elapsed]")) writeTimes(time.parentElement);
}, 1_000);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") clearTimeout(timer);
  else update();
});
addEventListener("online", update);
addEventListener("offline", update);
showState("live");
timer = setTimeout(update, EVERY);
