// The dialog that shows a secret. The secret is only in it, and is removed when the dialog closes.

import { focusOpener } from "./dialogs.js";

const dialog = document.getElementById("secret");
const value = document.getElementById("secret-value");
const status = document.getElementById("secret-status");
const previous = document.getElementById("secret-previous");
const copyButton = document.getElementById("secret-copy");
const { noun } = dialog.dataset;
let isCopied = false;

/** Show the secret. One that is shown `once` has to be copied; `note` says what becomes of an old one. */
export function showSecret(secret, { title, note = "", once = true }) {
  isCopied = !once;
  document.getElementById("secret-title").textContent = title;
  document.getElementById("secret-once").hidden = !once;
  value.textContent = secret;
  status.textContent = "";
  previous.hidden = !note;
  previous.textContent = note;
  dialog.showModal();
  copyButton.focus();
}

/** Copy the element's text. Without access to the clipboard, as on a page without HTTPS, its text is selected. */
export async function copy(from) {
  try {
    await navigator.clipboard.writeText(from.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(from);
    return document.execCommand("copy");
  }
}

/** Close the dialog; the first time without a copy only warn. */
function close() {
  if (isCopied) {
    forget(); // the event of the close comes later
    dialog.close();
  } else {
    isCopied = true;
    status.textContent = `You have not copied the ${noun} yet. Press Done again to close without it.`;
  }
}

function forget() {
  value.textContent = "";
}

copyButton.addEventListener("click", async () => {
  isCopied = await copy(value);
  status.textContent = isCopied ? "Copied." : `Your browser does not allow copying. Press Ctrl C: the ${noun} is selected.`;
});
document.getElementById("secret-done").addEventListener("click", close);
value.addEventListener("copy", () => { isCopied = true; });
dialog.addEventListener("cancel", (event) => {
  event.preventDefault();
  close();
});
dialog.addEventListener("close", () => {
  forget();
  focusOpener();
});
addEventListener("pagehide", () => {
  forget();
  dialog.close();
});
