// Uploads an image with progress, and says in plain words why one is not accepted.

import { ApiError, address, apiError, headersOf } from "./api.js";

const MAX_BYTES = 20 * 1024 * 1024;
const WORDS = {
  too_large: "The file is larger than 20 MB. Save a smaller copy, for example as JPEG.",
  upload_quota: "Your uploads are full. Delete some that you no longer need, then try again.",
  in_use: "A request that has not ended uses this image. Wait until it ends or cancel it, then delete the image.",
  unavailable: "The server is busy with other images. Try again in a few seconds.",
};

/** Upload a file. `onProgress` gets the share that was sent, from 0 to 1. Rejects with an `ApiError`. */
export function upload(file, onProgress = () => {}) {
  // The server would close the connection, which a browser reports without a reason.
  if (file.size > MAX_BYTES) return Promise.reject(new ApiError(413, { code: "too_large" }));
  const form = new FormData();
  form.append("file", file);
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest(); // fetch does not report how much was sent
    call.open("POST", address("/uploads"));
    for (const [name, value] of Object.entries(headersOf("POST"))) call.setRequestHeader(name, value);
    call.responseType = "json";
    call.upload.addEventListener("progress", (event) => event.lengthComputable && onProgress(event.loaded / event.total));
    call.addEventListener("load", () => {
      if (call.status === 200 || call.status === 201) resolve(call.response);
      else reject(apiError(call.status, call.response ?? {}, call.getResponseHeader("Retry-After")));
    });
    call.addEventListener("error", () => reject(new ApiError(0, { error: "The upload was interrupted. Check your connection and try again." })));
    call.send(form);
  });
}

/** The error of an upload, or of its deletion, in words. */
export function inWords(error) {
  const text = WORDS[error.code] ?? error.errors[0]?.msg ?? error.message;
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** The size of a file in words. */
export const sizeInWords = (bytes) => (bytes < 1_000_000 ? `${Math.max(1, Math.round(bytes / 1_000))} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`);
