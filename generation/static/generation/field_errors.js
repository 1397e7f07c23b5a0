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

/** Show the API's errors at their fields, and others above the buttons. */
export function showFieldErrors(form, error) {
  const problem = form.querySelector(".problem");
  const general = error.errors.filter(({ path, msg }) => !showFieldError(/^\w*/.exec(path)[0], msg));
  if (!error.errors.length || general.length) {
    problem.textContent = general.length ? general.map(({ path, msg }) => `${path}: ${msg}`).join(" ") : error.message;
    problem.hidden = false;
  }
  focusInvalid(form);
}

/** Focus the first invalid field. Returns whether there is one. */
export function focusInvalid(form) {
  const invalid = form.querySelector("[aria-invalid]");
  (invalid?.querySelector("input") ?? invalid)?.focus();
  return Boolean(invalid);
}
