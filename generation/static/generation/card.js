// One card of the gallery, rendered from the state of its request. Text from users and providers is set as text only.

import { ago, since } from "./page.js";
import { waitText } from "./waits.js";

const STATUSES = {
  queued: "Queued", "in-progress": "In progress", completed: "Completed", failed: "Failed", cancelled: "Cancelled",
};
const APPROVALS = { approved: "Approved", rejected: "Rejected" };
const PLACEHOLDERS = { "in-progress": "Generating", completed: "", failed: "Failed", cancelled: "Cancelled" };
export const isActive = (request) => request.status === "queued" || request.status === "in-progress";

/** Whether another request may refer to this one. */
export const canRefer = (request) => request.status === "completed" || isActive(request);
/** Whether it waits for the image of another request. */
const isParked = ({ status, references = [] }) => status === "queued" && references.some((one) => one.requestId && one.status && one.status !== "completed");

const template = document.getElementById("card");
const icons = document.body.dataset.icons;
const advice = JSON.parse(document.getElementById("advice").textContent);
const { types } = JSON.parse(document.getElementById("options").textContent);
const typeLabels = Object.fromEntries(types);

const apiUrl = (kind, id) => `/api/visual-generation/${kind}/${encodeURIComponent(id)}`;

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Create the card of a request; `render` updates it. */
export function makeCard(request) {
  const card = template.content.firstElementChild.cloneNode(true);
  card.dataset.id = request.requestId;
  card.querySelector(".frame").href = `/requests/${encodeURIComponent(request.requestId)}`;
  const prompt = card.querySelector(".prompt");
  prompt.textContent = request.prompt;
  prompt.id = `prompt-${request.requestId}`;
  for (const button of card.querySelectorAll("[data-action]")) button.setAttribute("aria-describedby", prompt.id);
  render(card, request);
  return card;
}

/** Show the state of the request on its card. */
export function render(card, request) {
  const { status } = request;
  card.dataset.status = status;
  const frame = card.querySelector(".frame");
  const decision = APPROVALS[request.approval] ?? "";
  frame.setAttribute("aria-label", `${request.prompt} – ${decision || STATUSES[status]}, details`);
  const mark = card.querySelector(".approval");
  mark.hidden = !decision;
  mark.dataset.approval = request.approval ?? "";
  setText(mark, decision);
  const badge = card.querySelector(".badge");
  badge.dataset.status = status;
  badge.querySelector("use").setAttribute("href", `${icons}#${status}`);
  setText(badge.querySelector(".text"), STATUSES[status]);
  const time = card.querySelector("time");
  time.dateTime = request.metadata.requestedAt;
  setText(time, ago(time.dateTime));
  setText(card.querySelector(".facts"), facts(request));
  renderImage(card, request);
  renderError(card.querySelector(".error"), request.error);
  const progress = card.querySelector("progress");
  progress.hidden = !isActive(request);
  progress.value = request.progress;
  showAction(card, "cancel", isActive(request));
  showAction(card, "retry", status === "failed" || status === "cancelled");
  // The status does not tell the mask of an edit.
  showAction(card, "variation", !isActive(request) && !request.editOf);
  showAction(card, "reference", canRefer(request));
}

/** Update the time that a running request has taken so far. */
export function renderElapsed(card, request) {
  if (request.status !== "in-progress" || !request.metadata.startedAt) return;
  setText(card.querySelector(".status-text"), `Generating, ${since(request.metadata.startedAt)}`);
}

function facts(request) {
  const parts = [typeLabels[request.type] ?? request.type];
  if (request.editOf) parts.push("edit");
  if (request.references?.length) parts.push(request.references.length === 1 ? "1 reference" : `${request.references.length} references`);
  if (request.priority !== "normal") parts.push(`${request.priority} priority`);
  if (request.projectId) parts.push(request.pageId ? `${request.projectId}, ${request.pageId}` : request.projectId);
  if (request.metadata.attempts > 1) parts.push(`attempt ${request.metadata.attempts} of ${request.metadata.maxAttempts}`);
  if (request.result) parts.push(request.result.model ?? request.result.provider);
  return parts.join(" · ");
}

function renderImage(card, request) {
  const image = card.querySelector("img");
  const placeholder = card.querySelector(".placeholder");
  placeholder.querySelector("use").setAttribute("href", `${icons}#${request.status === "completed" ? "image" : request.status}`);
  const words = request.status === "queued" ? waitText(request) : PLACEHOLDERS[request.status];
  setText(placeholder.querySelector(".status-text"), isParked(request) ? "Waiting for another image" : words);
  renderElapsed(card, request);
  if (request.status !== "completed") {
    image.hidden = true;
    image.removeAttribute("src");
    return;
  }
  if (image.hasAttribute("src")) return;
  image.addEventListener("error", () => {
    image.hidden = true;
    setText(placeholder.querySelector(".status-text"), "The image is no longer stored");
  });
  image.alt = request.prompt;
  image.hidden = false;
  image.src = apiUrl("thumbnail", request.requestId);
}

function renderError(element, error) {
  element.hidden = !error;
  if (!error) return;
  setText(element.querySelector(".message"), error.message || error.code);
  setText(element.querySelector(".advice"), advice[error.code] ?? "");
}

function showAction(card, action, isAvailable) {
  const button = card.querySelector(`[data-action="${action}"]`);
  if (!isAvailable && button === document.activeElement) card.querySelector(".frame").focus();
  button.hidden = !isAvailable;
  button.disabled = false;
}
