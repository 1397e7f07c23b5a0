// The dialog that chooses references: from the user's completed images and from the uploads.

import { ApiError, call } from "./api.js";
import * as inputs from "./inputs.js";
import { announce } from "./page.js";
import * as uploadList from "./upload_list.js";

const PAGE_SIZE = 24;
const byId = (id) => document.getElementById(id);
const dialog = byId("picker");
const images = byId("picker-images");
const state = byId("picker-state");
const more = byId("more-images");
const project = byId("picker-project");
const template = byId("image-tile");

const items = new Map(); // id → item
let nextPage = null;
let newestLoad = 0;
let areUploadsLoaded = false;

async function load() {
  const thisLoad = ++newestLoad;
  const query = new URLSearchParams({ status: "completed", limit: PAGE_SIZE });
  if (project.value.trim()) query.set("projectId", project.value.trim());
  images.setAttribute("aria-busy", "true");
  try {
    const page = await call("GET", `/requests?${query}`);
    if (thisLoad !== newestLoad) return;
    images.replaceChildren();
    append(page);
    state.hidden = page.results.length > 0;
    if (!page.results.length) state.textContent = project.value.trim() ? "This project has no completed images." : "You have no completed images yet.";
  } catch (error) {
    if (thisLoad !== newestLoad || !(error instanceof ApiError)) throw error;
    images.replaceChildren();
    more.hidden = true;
    state.hidden = false;
    state.textContent = `The images could not be loaded. ${error.message}`;
  } finally {
    if (thisLoad === newestLoad) images.setAttribute("aria-busy", "false");
  }
}

function append(page) {
  images.append(...page.results.map(tile));
  nextPage = page.next && new URL(page.next).search;
  more.hidden = !nextPage;
}

function tile(request) {
  const item = inputs.ofRequest(request);
  items.set(item.id, item);
  const element = template.content.firstElementChild.cloneNode(true);
  element.querySelector("img").src = inputs.thumbnail(item);
  element.querySelector(".name").textContent = request.prompt;
  element.querySelector(".facts").textContent = [request.projectId, request.pageId].filter(Boolean).join(", ");
  prepare(element, item);
  return element;
}

function prepare(element, item) {
  element.dataset.id = item.id;
  const name = element.querySelector(".name");
  name.id = `picked-${item.id}`;
  element.querySelector("button").setAttribute("aria-describedby", name.id);
  mark(element, item);
}

function mark(element, item) {
  const isChosen = inputs.isChosen(item);
  const button = element.querySelector("[data-action=choose]");
  button.setAttribute("aria-pressed", isChosen);
  button.textContent = isChosen ? "Added" : "Add";
}

function showTab() {
  const areUploads = dialog.querySelector("[name=from]:checked").value === "uploads";
  byId("from-uploads").hidden = !areUploads;
  byId("from-images").hidden = areUploads;
  if (areUploads && !areUploadsLoaded) {
    areUploadsLoaded = true;
    uploadList.mount((element, one) => {
      const item = inputs.ofUpload(one);
      items.set(item.id, item);
      prepare(element, item);
    });
  }
}

inputs.onChange(() => {
  for (const element of dialog.querySelectorAll(".tile")) mark(element, items.get(element.dataset.id));
  byId("picker-count").textContent = `${document.querySelectorAll("#reference-list > li").length} chosen`;
});

byId("add-reference").addEventListener("click", () => {
  project.value ||= byId("projectId").value;
  byId("picker-problem").hidden = true;
  showTab();
  load();
  dialog.showModal();
});
dialog.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-action=choose]");
  if (!button) return;
  const item = items.get(button.closest(".tile").dataset.id);
  if (inputs.isChosen(item)) {
    inputs.remove(item);
    return;
  }
  const isAdded = inputs.add(item);
  byId("picker-problem").hidden = isAdded;
});
dialog.addEventListener("change", ({ target }) => target.name === "from" && showTab());
dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => byId("add-reference").focus());
more.addEventListener("click", async () => {
  more.disabled = true;
  try {
    append(await call("GET", `/requests${nextPage}`));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    announce(error.message);
  } finally {
    more.disabled = false;
  }
});
let timer;
project.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(load, 250);
});
