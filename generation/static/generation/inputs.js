// The images that the form sends with the prompt: references with role and name, and an image to edit with its mask.

import { ApiError, address, call } from "./api.js";
import { announce } from "./page.js";
import { acceptFiles } from "./upload_list.js";
import { inWords, upload } from "./uploading.js";

const MAX_REFERENCES = 16;
/** The type of what is dragged from the page to the form. */
const DRAGGED = "application/x-vga-image";

const byId = (id) => document.getElementById(id);
const area = byId("references");
const list = byId("reference-list");
const problem = byId("references-error");
const status = byId("references-status");
const onFailure = byId("reference-failure");
const edit = byId("editOf");
const maskFile = byId("mask");
const template = byId("reference");

let references = []; // {kind: request|upload, id, label, name, role}
let edited = null; // the same of the image to edit
let mask = null; // an upload
const listeners = [];

/** The name of the character in a prompt: “Pip” of “Pip, the red fox” and of “A red fox called Pip”. */
function nameIn(prompt) {
  const [, called] = /\b(?:called|named)\s+(\p{Lu}[\p{L}'’-]*)/u.exec(prompt) ?? [];
  const [, first] = /^(\p{Lu}[\p{L}'’-]*),? (?:the|an?|is)\b/u.exec(prompt) ?? [];
  return (called ?? first ?? "").slice(0, 40);
}

export const ofRequest = ({ requestId, prompt }) => ({ kind: "request", id: requestId, label: prompt, name: nameIn(prompt), role: "character" });
export const ofUpload = ({ uploadId, name }) => ({ kind: "upload", id: uploadId, label: name || "Your upload", name: "", role: "character" });

/** The address of a small image of the item. */
export function thumbnail({ kind, id }) {
  return address(`/${kind === "request" ? "thumbnail" : "upload-image"}/${encodeURIComponent(id)}`);
}

export const isChosen = ({ id }) => references.some((one) => one.id === id);

/** Call this after each change of the references. */
export const onChange = (listener) => listeners.push(listener);

/** Add the image to the references. Returns whether there was room for it. */
export function add(item) {
  if (isChosen(item)) return true;
  if (references.length === MAX_REFERENCES) {
    problem.textContent = `At most ${MAX_REFERENCES} references.`;
    return false;
  }
  references.push({ ...item });
  changed(`Added ${item.name || item.label} as reference ${references.length}.`);
  return true;
}

export function remove({ id }) {
  const index = references.findIndex((one) => one.id === id);
  if (index < 0) return;
  const [gone] = references.splice(index, 1);
  changed(`Removed ${gone.name || gone.label}.`);
}

function changed(words) {
  problem.textContent = "";
  draw();
  announce(words);
  for (const listener of listeners) listener();
}

// --- The rows --------------------------------------------------------------------------------------------------------

function draw() {
  list.replaceChildren(...references.map(row));
  list.hidden = !references.length;
  onFailure.hidden = !references.some(({ kind }) => kind === "request");
}

function row(item, index) {
  const element = template.content.firstElementChild.cloneNode(true);
  const part = (selector) => element.querySelector(selector);
  element.dataset.id = item.id;
  part("img").src = thumbnail(item);
  part(".label").textContent = item.label;
  part(".label").title = item.label;
  const where = `reference ${index + 1}`;
  const [role, name] = [part("select"), part("input")];
  [role.value, name.value] = [item.role, item.name];
  role.setAttribute("aria-label", `Role of ${where}`);
  name.setAttribute("aria-label", `Name of ${where} in the prompt`);
  role.addEventListener("change", () => { item.role = role.value; });
  name.addEventListener("input", () => { item.name = name.value; });
  for (const button of element.querySelectorAll("button")) button.setAttribute("aria-label", `${button.title} ${where}`);
  part("[data-move=up]").disabled = index === 0;
  part("[data-move=down]").disabled = index === references.length - 1;
  return element;
}

function move(id, by) {
  const from = references.findIndex((one) => one.id === id);
  const [item] = references.splice(from, 1);
  references.splice(from + by, 0, item);
  changed(`Moved to position ${from + by + 1} of ${references.length}.`);
  const moved = list.children[from + by];
  const button = moved.querySelector(`[data-move=${by < 0 ? "up" : "down"}]`);
  (button.disabled ? moved.querySelector("[data-move]:not(:disabled)") : button).focus();
}

list.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  const { id } = button.closest("li").dataset;
  if (button.dataset.move) {
    move(id, button.dataset.move === "up" ? -1 : 1);
  } else {
    const index = [...list.children].indexOf(button.closest("li"));
    remove({ id });
    (list.children[Math.min(index, references.length - 1)]?.querySelector("[data-remove]") ?? byId("add-reference")).focus();
  }
});

// --- Dragging --------------------------------------------------------------------------------------------------------

/** Let the item be dragged to the form. */
export function startDrag(event, item) {
  event.dataTransfer.setData(DRAGGED, JSON.stringify(item));
  event.dataTransfer.effectAllowed = "copy";
}

area.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes(DRAGGED)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
  area.classList.add("over");
});
area.addEventListener("drop", (event) => {
  const dragged = event.dataTransfer.getData(DRAGGED);
  if (!dragged) return;
  event.preventDefault();
  add(JSON.parse(dragged));
});
acceptFiles(area, async (files) => {
  for (const file of files) {
    const made = await uploaded(file, status, problem);
    if (made) add(ofUpload(made));
  }
});

/** Upload the file, with its progress and its error in these elements. Returns null if it was not accepted. */
async function uploaded(file, progress, errorPlace) {
  errorPlace.textContent = "";
  try {
    return await upload(file, (share) => { progress.textContent = `Uploading ${file.name}, ${Math.round(100 * share)} %`; });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    errorPlace.textContent = `${file.name}: ${inWords(error)}`;
    return null;
  } finally {
    progress.textContent = "";
  }
}

// --- Editing ---------------------------------------------------------------------------------------------------------

function setEdit(item) {
  edited = item;
  edit.hidden = !item;
  setMask(null);
  byId("editOf-error").textContent = "";
  if (!item) return;
  byId("edit-image").src = thumbnail(item);
  byId("edit-label").textContent = item.label;
}

function setMask(made) {
  mask = made;
  byId("mask-name").textContent = made ? made.name : "";
  byId("mask-remove").hidden = byId("mask-mode").hidden = !made;
  byId("mask-error").textContent = "";
}

byId("edit-remove").addEventListener("click", () => {
  setEdit(null);
  announce("The image to edit was removed.");
  byId("add-reference").focus();
});
byId("mask-remove").addEventListener("click", () => {
  setMask(null);
  maskFile.focus();
});
maskFile.addEventListener("change", async () => {
  const [file] = maskFile.files;
  maskFile.value = "";
  if (!file) return;
  setMask(null);
  const image = edited;
  const made = await uploaded(file, byId("mask-name"), byId("mask-error"));
  if (made && image === edited) setMask(made);
});

// --- The submit ------------------------------------------------------------------------------------------------------

/** Return the fields of the body. */
export function read() {
  const body = {};
  if (references.length) {
    body.references = references.map(({ kind, id, role, name }) => ({ [`${kind}Id`]: id, role, ...(name.trim() ? { name: name.trim() } : {}) }));
    if (!onFailure.hidden && byId("onReferenceFailure").value) body.onReferenceFailure = byId("onReferenceFailure").value;
  }
  if (edited) body.editOf = edited.id;
  if (edited && mask) Object.assign(body, { mask: mask.uploadId, maskMode: byId("maskMode").value });
  return body;
}

/** Show the API's error at the image that it is about. Returns `false` if it is about none. */
export function showError(path, message) {
  const [, index] = /^references\[(\d+)\]/.exec(path) ?? [];
  const line = index && list.children[index];
  if (!line) return false;
  line.querySelector(".field-error").textContent ||= message;
  line.querySelector("input").setAttribute("aria-invalid", "true");
  return true;
}

/** After a submit: the references stay for the next page, an edit is over. */
export const submitted = () => setEdit(null);

/** Take the images that the address names: `?reference=ID` and `?editOf=ID`. */
async function takeFromAddress() {
  const query = new URLSearchParams(location.search);
  const find = async (id) => {
    const path = encodeURIComponent(id);
    return id.startsWith("vgu_") ? ofUpload(await call("GET", `/uploads/${path}`)) : ofRequest(await call("GET", `/status/${path}?imageData=false`));
  };
  try {
    for (const id of query.getAll("reference")) add(await find(id));
    if (query.get("editOf")) setEdit(await find(query.get("editOf")));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    problem.textContent = error.status === 404 ? "The image of this address does not exist any more." : error.message;
  }
  if (references.length || edited) byId("prompt").focus();
}

draw();
takeFromAddress();
