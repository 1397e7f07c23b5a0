// The list of the user's uploads with a place to add some; used by the page of uploads and by the picker.

import { ApiError, address, call } from "./api.js";
import { announce } from "./page.js";
import { inWords, sizeInWords, upload } from "./uploading.js";

const PAGE_SIZE = 24;
const list = document.getElementById("uploads");
const state = document.getElementById("uploads-state");
const more = document.getElementById("more-uploads");
const transfers = document.getElementById("transfers");
const files = document.getElementById("files");
const drop = document.getElementById("drop");
const template = document.getElementById("upload-tile");

const uploads = new Map(); // upload id → upload
let nextPage = null; // query of the next page
let fillTile = () => {}; // completes a tile for the page that shows it
let newestLoad = 0;

/** `fill(tile, upload)` completes each tile. */
export function mount(fill) {
  fillTile = fill;
  return load();
}

export async function load() {
  const thisLoad = ++newestLoad;
  list.setAttribute("aria-busy", "true");
  try {
    const page = await call("GET", `/uploads?limit=${PAGE_SIZE}`);
    if (thisLoad !== newestLoad) return;
    uploads.clear();
    list.replaceChildren();
    append(page);
  } catch (error) {
    if (thisLoad !== newestLoad || !(error instanceof ApiError)) throw error;
    list.replaceChildren();
    showState("uploads-not-loaded").querySelector(".why").textContent = error.message;
  } finally {
    if (thisLoad === newestLoad) list.setAttribute("aria-busy", "false");
  }
}

async function loadMore() {
  more.disabled = true;
  try {
    append(await call("GET", `/uploads${nextPage}`));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    announce(error.message);
  } finally {
    more.disabled = false;
  }
}

function append(page) {
  for (const one of page.results) if (!uploads.has(one.uploadId)) list.append(render(one));
  nextPage = page.next && new URL(page.next).search;
  more.hidden = !nextPage;
  showWhetherEmpty();
}

function showWhetherEmpty() {
  state.hidden = uploads.size > 0;
  if (!uploads.size) showState("no-uploads");
}

function showState(name) {
  state.replaceChildren(document.getElementById(name).content.cloneNode(true));
  state.hidden = false;
  return state;
}

function render(one) {
  uploads.set(one.uploadId, one);
  const tile = template.content.firstElementChild.cloneNode(true);
  tile.dataset.id = one.uploadId;
  tile.querySelector("img").src = address(`/upload-image/${encodeURIComponent(one.uploadId)}`);
  const name = tile.querySelector(".name");
  name.textContent = one.name || "Without a name";
  name.id = `name-${one.uploadId}`;
  tile.querySelector(".facts").textContent = `${one.width} × ${one.height} · ${sizeInWords(one.bytes)}`;
  for (const control of tile.querySelectorAll("a, button")) control.setAttribute("aria-describedby", name.id);
  fillTile(tile, one);
  return tile;
}

/** The upload of a tile, or of an element in it. */
export const uploadOf = (element) => uploads.get(element.closest(".tile").dataset.id);

/** Remove a deleted upload from the list. */
export function remove(one) {
  uploads.delete(one.uploadId);
  list.querySelector(`[data-id="${one.uploadId}"]`)?.remove();
  showWhetherEmpty();
}

// --- Adding ----------------------------------------------------------------------------------------------------------

/** Upload the files one after the other, with a line for each until it is in the list. */
async function add(chosen) {
  const lines = [...chosen].map((file) => [file, transferLine(file)]);
  for (const [file, line] of lines) {
    const progress = line.querySelector("progress");
    try {
      const made = await upload(file, (share) => { progress.value = share; });
      list.querySelector(`[data-id="${made.uploadId}"]`)?.remove(); // the same image again
      list.prepend(render(made));
      showWhetherEmpty();
      line.remove();
      announce(`Uploaded ${file.name}.`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      progress.remove();
      line.classList.add("problem");
      line.querySelector(".why").textContent = inWords(error);
      line.querySelector("button").hidden = false;
    }
  }
}

function transferLine(file) {
  const line = document.getElementById("transfer").content.firstElementChild.cloneNode(true);
  line.querySelector(".name").textContent = file.name;
  line.querySelector("progress").setAttribute("aria-label", `Uploading ${file.name}`);
  line.querySelector("button").addEventListener("click", () => {
    line.remove();
    files.focus();
  });
  transfers.append(line);
  return line;
}

/** Let files be dropped on the element. */
export function acceptFiles(element, onFiles) {
  const hasFiles = (event) => event.dataTransfer.types.includes("Files");
  element.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    element.classList.remove("over");
    if (!hasFiles(event)) return;
    event.preventDefault();
    onFiles(event.dataTransfer.files);
  });
}

files.addEventListener("change", () => {
  add(files.files);
  files.value = "";
});
acceptFiles(drop, add);
more.addEventListener("click", loadMore);
state.addEventListener("click", ({ target }) => target.closest("[data-reload]") && load());
