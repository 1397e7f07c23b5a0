// The form: options by type and model, one image or a batch, and the API's errors at their fields.

import { ApiError, call, newIdempotencyKey } from "./api.js";
import { clearFieldErrors, showFieldError } from "./field_errors.js";
import { addSubmitted } from "./gallery.js";
import * as inputs from "./inputs.js";
import { announce } from "./page.js";

const MIN_LENGTH = 10;
const MAX_LENGTH = 1000;
const MAX_BATCH = 100;
const METADATA_FIELDS = ["title", "imageStyle", "aspectRatio", "resolution", "quality", "outputFormat", "seed", "negativePrompt", "provider", "model", "maxAttempts"];
const NUMERIC_FIELDS = ["seed", "maxAttempts"];

const options = JSON.parse(document.getElementById("options").textContent);
const form = document.getElementById("composer");
const prompt = document.getElementById("prompt");
const count = document.getElementById("prompt-count");
const formError = document.getElementById("composer-error");
const submit = document.getElementById("submit");

const field = (name) => form.elements.namedItem(name);
const isBatch = () => field("mode").value === "batch";
const variations = () => Number(field("variations").value);
const selectedKind = () => options.kinds.find(({ value }) => value === field("type").value);
const prompts = () => prompt.value.split("\n").map((line) => line.trim()).filter(Boolean);
let lastSubmit = { text: "", key: "" };

// --- The form ---------------------------------------------------------------------------------------------------------

function updateType() {
  const chosen = selectedKind();
  document.getElementById("kind-hint").textContent = chosen.hint;
  field("aspectRatio").value = chosen.ratio;
  for (const part of form.querySelectorAll("[data-only]")) part.hidden = part.dataset.only !== chosen.value;
  writePlaceholder();
}

function updateMode() {
  for (const part of form.querySelectorAll("[data-mode]")) part.hidden = part.dataset.mode !== field("mode").value;
  document.getElementById("prompt-label").textContent = isBatch() ? "Prompts, one per line" : "Prompt";
  document.getElementById("composer-title").textContent = isBatch() ? "New batch" : "New image";
  prompt.rows = isBatch() ? 8 : 4;
  writePlaceholder();
  writeCount();
}

function writePlaceholder() {
  const others = options.kinds.map(({ example }) => example);
  prompt.placeholder = isBatch() ? others.slice(0, 3).join("\n") : selectedKind().example;
}

function writeCount() {
  if (isBatch()) {
    const lines = prompts().length;
    count.textContent = `${lines} of ${MAX_BATCH} prompts`;
    submit.textContent = lines > 1 ? `Generate ${lines} images` : "Generate";
  } else {
    const length = [...prompt.value.trim()].length;
    count.textContent = length ? `${length} of ${MAX_LENGTH}` : `${MIN_LENGTH} to ${MAX_LENGTH} characters`;
    submit.textContent = variations() > 1 ? `Generate ${variations()} images` : "Generate";
  }
}

/** List the models of the chosen provider, and disable the options that they do not support. */
function updateModels() {
  const model = field("model");
  const chosen = options.providers.filter(({ name }) => !field("provider").value || name === field("provider").value);
  const previous = model.value;
  model.replaceChildren(new Option("Default", ""), ...chosen.flatMap(({ models }) => models.map(({ name }) => new Option(name, name))));
  model.value = [...model.options].some(({ value }) => value === previous) ? previous : "";
  const models = chosen.flatMap((provider) => provider.models).filter(({ name }) => !model.value || name === model.value);
  for (const name of ["seed", "negativePrompt", "quality", "outputFormat"]) {
    const isSupported = models.some(({ supported }) => supported.includes(name));
    const element = field(name);
    element.disabled = !isSupported;
    element.title = isSupported ? "" : "Not supported by this model";
    if (!isSupported) element.value = "";
  }
  const resolution = field("resolution");
  for (const option of resolution.options) {
    option.disabled = option.value !== "" && !models.some(({ resolutions }) => resolutions.includes(option.value));
  }
  if (resolution.selectedOptions[0].disabled) resolution.value = "";
}

// --- Errors -----------------------------------------------------------------------------------------------------------

/** Show each error at its field, the others above the button, and focus the first field. */
function showErrors(error) {
  const general = [];
  for (const { path, msg } of error.errors) {
    const [, line, rest] = /^requests\[(\d+)\]\.(.*)$/.exec(path) ?? [null, null, path];
    const name = rest.split(".").at(-1);
    const message = line !== null && name === "prompt" ? `Line ${Number(line) + 1}: ${msg}` : msg;
    if (!inputs.showError(rest, message) && !showFieldError(name, message)) general.push(`${rest}: ${msg}`);
  }
  if (!error.errors.length || general.length) {
    formError.textContent = general.length ? general.join(" ") : error.message;
    formError.hidden = false;
  }
  form.querySelector("[aria-invalid]")?.focus();
}

/** Check the prompts. Returns an error message, or an empty string. */
function promptError() {
  const texts = isBatch() ? prompts() : [prompt.value.trim()];
  if (!texts.length) return "Enter a prompt.";
  if (texts.length > MAX_BATCH) return `At most ${MAX_BATCH} prompts; you entered ${texts.length}.`;
  for (const [index, text] of texts.entries()) {
    const length = [...text].length;
    const where = isBatch() ? `Line ${index + 1}: ` : "";
    if (length < MIN_LENGTH) return `${where}At least ${MIN_LENGTH} characters.`;
    if (length > MAX_LENGTH) return `${where}At most ${MAX_LENGTH} characters.`;
  }
  return "";
}

// --- Submitting -------------------------------------------------------------------------------------------------------

function readForm() {
  const metadata = {};
  for (const name of METADATA_FIELDS) {
    const value = field(name).value.trim();
    if (!value || field(name).closest("[hidden]")) continue;
    metadata[name] = NUMERIC_FIELDS.includes(name) ? Number(value) : value;
  }
  if (field("useCache").checked) metadata.useCache = true;
  if (field("onRefusal")?.checked) metadata.onRefusal = "fallback";
  const common = { type: selectedKind().value, priority: field("priority").value, metadata, ...inputs.read() };
  for (const name of ["projectId", "pageId"]) if (field(name).value.trim()) common[name] = field(name).value.trim();
  return common;
}

async function submitAll() {
  if (submit.disabled) return;
  formError.hidden = true;
  clearFieldErrors(form);
  const invalid = promptError();
  if (invalid) {
    showFieldError("prompt", invalid);
    prompt.focus();
    return;
  }
  const common = readForm();
  const bodies = isBatch() ? prompts().map((text) => ({ ...common, prompt: text })) : [{ ...common, prompt: prompt.value.trim() }];
  const limit = Number(field("maxConcurrent").value);
  const batch = { requests: bodies, batchOptions: { priority: common.priority, ...(limit ? { maxConcurrent: limit } : {}) } };
  if (!isBatch() && variations() > 1) bodies[0].variations = variations();
  const [path, body] = isBatch() ? ["/batch", batch] : ["/submit", bodies[0]];
  // A resubmit after a lost answer has the same key, so that it does not run twice.
  const text = path + JSON.stringify(body);
  if (lastSubmit.text !== text) lastSubmit = { text, key: newIdempotencyKey() };
  submit.disabled = true;
  try {
    const answer = await call("POST", path, { body, key: lastSubmit.key });
    lastSubmit = { text: "", key: "" };
    if (isBatch()) {
      for (const one of answer.requests.toReversed()) addSubmitted(bodies[one.index], one, { batchId: answer.batchId });
      announce(`${answer.count} images submitted.`);
    } else if (answer.requestIds) {
      for (const requestId of answer.requestIds.toReversed()) addSubmitted(body, { ...answer, requestId }, { batchId: answer.batchId });
      announce(`${answer.requestIds.length} images submitted.`);
    } else {
      addSubmitted(body, answer);
      announce("Submitted.");
    }
    prompt.value = "";
    inputs.submitted();
    writeCount();
    prompt.focus({ preventScroll: true });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showErrors(error);
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
  if (target.name === "type") updateType();
  if (target.name === "mode") updateMode();
  if (target.name === "variations") writeCount();
  if (target.name === "provider" || target.name === "model") updateModels();
});
prompt.addEventListener("input", writeCount);
document.getElementById("state").addEventListener("click", (event) => {
  const button = event.target.closest("[data-example]");
  if (!button) return;
  const example = options.kinds[button.dataset.example];
  field("type").value = example.value;
  updateType();
  prompt.value = example.example;
  writeCount();
  prompt.focus();
});

updateType();
updateMode();
updateModels();
