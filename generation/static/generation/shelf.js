// The shelf of characters: the character sheets of the project, to drag or to add to the form's references. Once any of
// them is approved, only the approved ones are shown.

import { ApiError, call } from "./api.js";
import * as inputs from "./inputs.js";
import { announce } from "./page.js";

const MOST = 20;
const TYPE = "character-reference";
const byId = (id) => document.getElementById(id);
const shelf = byId("shelf");
const list = byId("characters");
const words = byId("shelf-words");
const again = byId("shelf-again");
const filter = document.querySelector("#filter [name=projectId]");
const project = byId("projectId");
const template = byId("character");

const items = new Map(); // id → item
let newestLoad = 0;

/** The project that the user works on: that of the form, else that of the list. */
const current = () => project.value.trim() || filter.value.trim();

export async function load() {
  const thisLoad = ++newestLoad;
  const name = current();
  try {
    const approved = await characters(name, { approval: "approved" });
    const shown = approved.length ? approved : await characters(name);
    if (thisLoad !== newestLoad) return;
    items.clear();
    list.replaceChildren(...shown.map(render));
    shelf.hidden = !name && !shown.length;
    say(shown.length ? "" : "This project has no characters yet. Generate an image of the type “Character”.");
    again.hidden = true;
  } catch (error) {
    if (thisLoad !== newestLoad || !(error instanceof ApiError)) throw error;
    shelf.hidden = again.hidden = false;
    list.replaceChildren();
    say(`The characters could not be loaded. ${error.message}`);
  }
  byId("shelf-project").textContent = name ? `of ${name}` : "";
}

/** The newest completed characters of the project, or of all projects without a name. */
async function characters(name, conditions = {}) {
  const query = new URLSearchParams({ type: TYPE, status: "completed", limit: MOST, ...conditions });
  if (name) query.set("projectId", name);
  return (await call("GET", `/requests?${query}`)).results;
}

function say(text) {
  words.textContent = text;
  words.hidden = !text;
}

function render(request) {
  const item = inputs.ofRequest(request);
  items.set(item.id, item);
  const element = template.content.firstElementChild.cloneNode(true);
  const button = element.querySelector("button");
  element.dataset.id = item.id;
  element.querySelector("img").src = inputs.thumbnail(item);
  element.querySelector(".name").textContent = item.name || item.label;
  button.title = `${item.label}\nDrag it to the references, or press it`;
  button.setAttribute("aria-label", `Use as reference: ${item.label}`);
  return element;
}

list.addEventListener("click", ({ target }) => {
  const element = target.closest("li");
  if (!element) return;
  const item = items.get(element.dataset.id);
  if (inputs.isChosen(item)) announce(`${item.name || item.label} is among the references already.`);
  else inputs.add(item);
});
list.addEventListener("dragstart", (event) => {
  const element = event.target.closest("li");
  if (element) inputs.startDrag(event, items.get(element.dataset.id));
});
again.addEventListener("click", load);
let timer;
for (const field of [project, filter]) {
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(load, 300);
  });
}
document.addEventListener("vga:completed", ({ detail }) => detail.type === TYPE && load());
