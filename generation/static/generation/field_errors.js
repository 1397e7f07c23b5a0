// Error messages of a form: the message of the field with the id `x` stands in the element `x-error`.

export function clearFieldErrors(form) {
  for (const element of form.querySelectorAll(".field-error")) element.textContent = "";
  for (const element of form.querySelectorAll("[aria-invalid]")) element.removeAttribute("aria-invalid");
}

/** Show the message at the field. Returns `false` if there is no such field. */
export function showFieldError(id, message) {
  const element = document.getElementById(id);
  const place = document.getElementById(`${id}-error`);
  if (!element || !place) return false;
  if (!place.textContent) place.textContent = message;
  element.setAttribute("aria-invalid", "true");
  if (element.closest("details")) element.closest("details").open = true;
  return true;
}
