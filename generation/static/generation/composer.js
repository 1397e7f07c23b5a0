// The form: what can be chosen for which type, one picture or a batch, and where the API finds fault.

import { ApiError, call, newKey } from "./api.js";
import { addSubmitted } from "./gallery.js";
import { say } from "./page.js";

const SHORTEST = 10;
const LONGEST = 1000;
const MOST = 100;
const OF_METADATA = ["title", "imageStyle", "aspectRatio", "quality", "outputFormat", "seed", "negativePrompt", "provider", "model", "maxAttempts"];
const NUMBERS = ["seed", "maxAttempts"];

const options = JSON.parse(document.getElementById("options").textContent);
const form = document.getElementById("composer");
const prompt = document.getElementById("prompt");
const count = document.getElementById("prompt-count");
const fault = document.getElementById("composer-fault");
const submit = document.getElementById("submit");

const field = (name) => form.elements.namedItem(name);
const isBatch = () => field("mode").value === "batch";
const kind = () => options.kinds.find(({ value }) => value === field("type").value);
const prompts = () => prompt.value.split("\n").map((line) => line.trim()).filter(Boolean);
let attempt = { text: "", key: "" };

// --- What is shown ----------------------------------------------------------------------------------------------------

function followKind() {
  const chosen = kind();
  document.getElementById("kind-hint").textContent = chosen.hint;
  field("aspectRatio").value = chosen.ratio;
  for (const part of form.querySelectorAll("[data-only]")) part.hidden = part.dataset.only !== chosen.value;
  writePlaceholder();
}

function followMode() {
  for (const part of form.querySelectorAll("[data-mode]")) part.hidden = !isBatch();
  document.getElementById("prompt-label").textContent = isBatch() ? "One picture on each line" : "What is to be seen";
  document.getElementById("composer-title").textContent = isBatch() ? "New batch" : "New picture";
  prompt.rows = isBatch() ? 8 : 4;
  writePlaceholder();
  writeCount();
}

function writePlaceholder() {
  const others = options.kinds.map(({ example }) => example);
  prompt.placeholder = isBatch() ? others.slice(0, 3).join("\n") : kind().example;
}

function writeCount() {
  if (isBatch()) {
    const lines = prompts().length;
    count.textContent = `${lines} of at most ${MOST}`;
    submit.textContent = lines > 1 ? `Draw ${lines} pictures` : "Draw them";
  } else {
    const length = [...prompt.value.trim()].length;
    count.textContent = length ? `${length} of ${LONGEST}` : `${SHORTEST} to ${LONGEST} characters`;
    submit.textContent = "Draw it";
  }
}

/** Only what a model of this provider honours can be chosen. */
function followProvider() {
  const model = field("model");
  const chosen = options.providers.filter(({ name }) => !field("provider").value || name === field("provider").value);
  const before = model.value;
  model.replaceChildren(new Option("The usual one", ""), ...chosen.flatMap(({ models }) => models.map(({ name }) => new Option(name, name))));
  model.value = [...model.options].some(({ value }) => value === before) ? before : "";
  const models = chosen.flatMap((provider) => provider.models).filter(({ name }) => !model.value || name === model.value);
  for (const name of ["seed", "negativePrompt", "quality", "outputFormat"]) {
    const honoured = models.some(({ honours }) => honours.includes(name));
    const element = field(name);
    element.disabled = !honoured;
    element.title = honoured ? "" : "Not honoured by this model";
    if (!honoured) element.value = "";
  }
}

// --- What is wrong ----------------------------------------------------------------------------------------------------

function forgive() {
  fault.hidden = true;
  for (const element of form.querySelectorAll(".fault")) element.textContent = "";
  for (const element of form.querySelectorAll("[aria-invalid]")) element.removeAttribute("aria-invalid");
}

function blame(name, message) {
  const element = document.getElementById(name);
  const words = document.getElementById(`${name}-fault`);
  if (!element || !words) return false;
  if (!words.textContent) words.textContent = message;
  element.setAttribute("aria-invalid", "true");
  if (element.closest("details")) element.closest("details").open = true;
  return true;
}

/** Show each fault at its field, those without one above the button, and go to the first. */
function showFaults(error) {
  const homeless = [];
  for (const { path, msg } of error.errors) {
    const [, line, rest] = /^requests\[(\d+)\]\.(.*)$/.exec(path) ?? [null, null, path];
    const name = rest.split(".").at(-1);
    const message = line !== null && name === "prompt" ? `Line ${Number(line) + 1}: ${msg}` : msg;
    if (!blame(name, message)) homeless.push(`${rest}: ${msg}`);
  }
  if (!error.errors.length || homeless.length) {
    fault.textContent = homeless.length ? homeless.join(" ") : error.message;
    fault.hidden = false;
  }
  form.querySelector("[aria-invalid]")?.focus();
}

/** What needs no question to the server. */
function findFault() {
  const texts = isBatch() ? prompts() : [prompt.value.trim()];
  if (!texts.length) return "Say what is to be seen on at least one line.";
  if (texts.length > MOST) return `At most ${MOST} lines; here are ${texts.length}.`;
  for (const [index, text] of texts.entries()) {
    const length = [...text].length;
    const where = isBatch() ? `Line ${index + 1}: ` : "";
    if (length < SHORTEST) return `${where}At least ${SHORTEST} characters.`;
    if (length > LONGEST) return `${where}At most ${LONGEST} characters.`;
  }
  return "";
}

// --- Submitting -------------------------------------------------------------------------------------------------------

function read() {
  const metadata = {};
  for (const name of OF_METADATA) {
    const value = field(name).value.trim();
    if (!value || field(name).closest("[hidden]")) continue;
    metadata[name] = NUMBERS.includes(name) ? Number(value) : value;
  }
  if (field("useCache").checked) metadata.useCache = true;
  if (field("onRefusal")?.checked) metadata.onRefusal = "fallback";
  const common = { type: kind().value, priority: field("priority").value, metadata };
  for (const name of ["projectId", "pageId"]) if (field(name).value.trim()) common[name] = field(name).value.trim();
  return common;
}

async function submitAll() {
  if (submit.disabled) return;
  forgive();
  const found = findFault();
  if (found) {
    blame("prompt", found);
    prompt.focus();
    return;
  }
  const common = read();
  const bodies = isBatch() ? prompts().map((text) => ({ ...common, prompt: text })) : [{ ...common, prompt: prompt.value.trim() }];
  const limit = Number(field("maxConcurrent").value);
  const batch = { requests: bodies, batchOptions: { priority: common.priority, ...(limit ? { maxConcurrent: limit } : {}) } };
  const [path, body] = isBatch() ? ["/batch", batch] : ["/submit", bodies[0]];
  // What is sent once more because no answer came has the same key, so that it is not drawn twice.
  const text = path + JSON.stringify(body);
  if (attempt.text !== text) attempt = { text, key: newKey() };
  submit.disabled = true;
  try {
    const answer = await call("POST", path, { body, key: attempt.key });
    attempt = { text: "", key: "" };
    if (isBatch()) {
      for (const one of answer.requests.toReversed()) addSubmitted(bodies[one.index], one, { batchId: answer.batchId });
      say(`${answer.count} pictures submitted.`);
    } else {
      addSubmitted(body, answer);
      say("Submitted.");
    }
    prompt.value = "";
    writeCount();
    prompt.focus({ preventScroll: true });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showFaults(error);
  } finally {
    submit.disabled = false;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submitAll();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    submitAll();
  }
});
form.addEventListener("change", ({ target }) => {
  if (target.name === "type") followKind();
  if (target.name === "mode") followMode();
  if (target.name === "provider" || target.name === "model") followProvider();
});
prompt.addEventListener("input", writeCount);
document.getElementById("state").addEventListener("click", (event) => {
  const button = event.target.closest("[data-example]");
  if (!button) return;
  const example = options.kinds[button.dataset.example];
  field("type").value = example.value;
  followKind();
  prompt.value = example.example;
  writeCount();
  prompt.focus();
});

followKind();
followMode();
followProvider();
