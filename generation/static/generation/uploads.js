// The page of uploads: adds and deletes images.

import { ApiError, call } from "./api.js";
import { announce } from "./page.js";
import * as list from "./upload_list.js";
import { inWords } from "./uploading.js";

const dialog = document.getElementById("deletion");
const problem = dialog.querySelector(".problem");
const confirm = dialog.querySelector(".danger");
let chosen = null; // the upload that the open dialog is about
let opener = null; // gets the focus back

list.mount((tile, { uploadId }) => {
  for (const link of tile.querySelectorAll("a[data-query]")) link.href = `/?${link.dataset.query}=${encodeURIComponent(uploadId)}`;
});

document.getElementById("uploads").addEventListener("click", ({ target }) => {
  const button = target.closest("[data-action=delete]");
  if (!button) return;
  [chosen, opener] = [list.uploadOf(button), button];
  document.getElementById("deletion-title").textContent = `Delete ${chosen.name || "this image"}?`;
  problem.hidden = true;
  dialog.showModal();
});

dialog.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (confirm.disabled) return;
  confirm.disabled = true;
  try {
    await call("DELETE", `/uploads/${encodeURIComponent(chosen.uploadId)}`).catch((error) => {
      if (error.status !== 404) throw error; // it is gone already
    });
    dialog.close();
    list.remove(chosen);
    announce(`Deleted ${chosen.name || "the image"}.`);
    document.getElementById("list-title").focus();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    problem.textContent = inWords(error);
    problem.hidden = false;
  } finally {
    confirm.disabled = false;
  }
});
dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => opener?.isConnected && opener.focus());
