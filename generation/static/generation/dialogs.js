// Dialogs with a form: what a submit does, its errors, and the focus afterwards.

import { ApiError } from "./api.js";

let task = null; // what the open dialog's form does when it is submitted
let showError = null; // shows an error of the API in it
let opener = ""; // id of the button that gets the focus back

/** Open the dialog. `onSubmit` may throw `ApiError`, which `onError` shows, by default above the buttons. */
export function open(dialog, { onSubmit, from, onError = null }) {
  [task, showError, opener] = [onSubmit, onError, from];
  for (const problem of dialog.querySelectorAll(".problem")) problem.hidden = true;
  dialog.showModal();
}

/** Focus the button, or the list if the button is gone. */
export function focus(id) {
  const button = document.getElementById(id);
  (button && !button.closest("[hidden]") ? button : document.getElementById("list-title")).focus();
}

/** Focus the button that opened the newest dialog. */
export const focusOpener = () => focus(opener);

/** Let the dialog give the focus back to this button. */
export function openedBy(id) {
  opener = id;
}

async function run(dialog) {
  const button = dialog.querySelector(".actions > :not([data-close])");
  if (button.disabled) return;
  button.disabled = true;
  try {
    await task();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (showError) {
      showError(error);
    } else {
      const problem = dialog.querySelector(".problem");
      problem.textContent = error.message;
      problem.hidden = false;
    }
  } finally {
    button.disabled = false;
  }
}

for (const dialog of document.querySelectorAll("dialog:has(form)")) {
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    run(dialog);
  });
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => document.querySelector("dialog[open]") || focusOpener());
}
