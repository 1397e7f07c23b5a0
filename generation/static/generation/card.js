// One card of the gallery, drawn from the state of its request. Whatever people or providers wrote is set as text.

import { ago, since } from "./page.js";

const STATUSES = {
  queued: "Queued", "in-progress": "In progress", completed: "Completed", failed: "Failed", cancelled: "Cancelled",
};
const DOING = { queued: "Waiting for a worker", completed: "", failed: "No picture", cancelled: "Given up" };
export const isActive = (request) => request.status === "queued" || request.status === "in-progress";

const template = document.getElementById("card");
const icons = document.body.dataset.icons;
const advice = JSON.parse(document.getElementById("advice").textContent);
const { types } = JSON.parse(document.getElementById("options").textContent);
const labels = Object.fromEntries(types);

const address = (kind, id) => `/api/visual-generation/${kind}/${encodeURIComponent(id)}`;

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** An element for the request; `draw` keeps it as the request is. */
export function makeCard(request) {
  const card = template.content.firstElementChild.cloneNode(true);
  card.dataset.id = request.requestId;
  card.querySelector(".frame").href = `/requests/${encodeURIComponent(request.requestId)}`;
  const prompt = card.querySelector(".prompt");
  prompt.textContent = request.prompt;
  prompt.id = `prompt-${request.requestId}`;
  for (const button of card.querySelectorAll("[data-action]")) button.setAttribute("aria-describedby", prompt.id);
  draw(card, request);
  return card;
}

/** Bring the card to the state of the request. */
export function draw(card, request) {
  const { status } = request;
  card.dataset.status = status;
  const frame = card.querySelector(".frame");
  frame.setAttribute("aria-label", `${request.prompt} – ${STATUSES[status]}, details`);
  const badge = card.querySelector(".badge");
  badge.dataset.status = status;
  badge.querySelector("use").setAttribute("href", `${icons}#${status}`);
  setText(badge.querySelector(".text"), STATUSES[status]);
  const time = card.querySelector("time");
  time.dateTime = request.metadata.requestedAt;
  setText(time, ago(time.dateTime));
  setText(card.querySelector(".facts"), facts(request));
  drawPicture(card, request);
  drawTrouble(card.querySelector(".trouble"), request.error);
  const progress = card.querySelector("progress");
  progress.hidden = !isActive(request);
  progress.value = request.progress;
  show(card, "cancel", isActive(request));
  show(card, "retry", status === "failed" || status === "cancelled");
  show(card, "again", !isActive(request));
}

/** What changes while nothing happens: how long a drawing takes already. */
export function tick(card, request) {
  if (request.status !== "in-progress" || !request.metadata.startedAt) return;
  setText(card.querySelector(".doing"), `Being drawn for ${since(request.metadata.startedAt)}`);
}

function facts(request) {
  const parts = [labels[request.type] ?? request.type];
  if (request.priority !== "normal") parts.push(`${request.priority} priority`);
  if (request.projectId) parts.push(request.pageId ? `${request.projectId}, ${request.pageId}` : request.projectId);
  if (request.metadata.attempts > 1) parts.push(`attempt ${request.metadata.attempts} of ${request.metadata.maxAttempts}`);
  if (request.result) parts.push(request.result.model ?? request.result.provider);
  return parts.join(" · ");
}

function drawPicture(card, request) {
  const image = card.querySelector("img");
  const placeholder = card.querySelector(".placeholder");
  placeholder.querySelector("use").setAttribute("href", `${icons}#${request.status === "completed" ? "picture" : request.status}`);
  const wait = request.estimatedWaitTime ? `, about ${request.estimatedWaitTime} s` : "";
  setText(placeholder.querySelector(".doing"), request.status === "queued" ? DOING.queued + wait : (DOING[request.status] ?? "Being drawn"));
  tick(card, request);
  if (request.status !== "completed") {
    image.hidden = true;
    image.removeAttribute("src");
    return;
  }
  if (image.hasAttribute("src")) return;
  image.addEventListener("error", () => {
    image.hidden = true;
    setText(placeholder.querySelector(".doing"), "The picture is not stored any more");
  });
  image.alt = request.prompt;
  image.hidden = false;
  image.src = address("thumbnail", request.requestId);
}

function drawTrouble(element, error) {
  element.hidden = !error;
  if (!error) return;
  setText(element.querySelector(".what"), error.message || error.code);
  setText(element.querySelector(".todo"), advice[error.code] ?? "");
}

function show(card, action, there) {
  const button = card.querySelector(`[data-action="${action}"]`);
  if (!there && button === document.activeElement) card.querySelector(".frame").focus();
  button.hidden = !there;
  button.disabled = false;
}
