// The pages of webhooks: adds, edits, tests, disables, rotates and deletes the user's webhooks.

import { ApiError, call } from "./api.js";
import { focus, open, openedBy } from "./dialogs.js";
import { clearFieldErrors, showFieldErrors } from "./field_errors.js";
import { announce, refresh, showError } from "./page.js";
import { showSecret } from "./secret_dialog.js";
import * as form from "./webhook_form.js";

const DAY = 86_400_000;
const byId = (id) => document.getElementById(id);
const moment = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });
const addressOf = ({ webhookId }) => `/webhooks/${encodeURIComponent(webhookId)}`;
const pageOf = addressOf; // the pages have the same paths
const plural = (count, word) => `${count} ${count === 1 ? word : word.replace(/y$/, "ie") + "s"}`;

/** Show the page as it is now. A failure is only told: the change itself has been made. */
const update = () => refresh().catch((error) => showError(error.message));

function edit(webhook, from) {
  form.fill(webhook);
  byId("editor-title").textContent = webhook ? "Edit webhook" : "New webhook";
  byId("save").textContent = webhook ? "Save" : "Add webhook";
  const onSubmit = async () => {
    if (!form.check()) return;
    const body = form.body();
    if (webhook && !Object.keys(body).length) return byId("editor").close();
    const answer = webhook ? await call("PATCH", addressOf(webhook), { body }) : await call("POST", "/webhooks", { body });
    byId("editor").close();
    if (webhook) announce("Saved.");
    else showSecret(answer.secret, { title: "The secret of your new webhook" });
    await update();
  };
  open(byId("editor"), { onSubmit, from, onError: form.showErrors });
}

/** Ask for the overlap, then rotate the secret at this address of the API. */
function askToRotate(path, { title, shown, overlaps, from }) {
  byId("rotation-title").textContent = title;
  byId("overlapHours").value = "24";
  byId("rotation-previous").hidden = !overlaps;
  byId("rotation-previous").textContent = overlaps ? "The old secret of the last rotation still signs as well. It stops at once." : "";
  const onSubmit = async () => {
    const overlapHours = Number(byId("overlapHours").value);
    const { secret } = await call("POST", path, { body: { overlapHours } });
    byId("rotation").close();
    const until = moment.format(new Date(Date.now() + overlapHours * 3_600_000));
    showSecret(secret, { title: shown, note: overlapHours ? `The old secret signs as well until ${until}.` : "" });
    await update();
  };
  open(byId("rotation"), { onSubmit, from });
}

function ask(dialog, from, onSubmit) {
  open(byId(dialog), {
    from,
    onSubmit: async () => {
      await onSubmit();
      byId(dialog).close();
    },
  });
}

/** The value of a `datetime-local` field. */
function local(time) {
  return new Date(time - new Date(time).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function repeat(webhook, from) {
  const fields = byId("repetition-form");
  clearFieldErrors(fields);
  byId("since").value = local(Date.now() - DAY);
  byId("until").value = "";
  const onSubmit = async () => {
    clearFieldErrors(fields);
    const read = (name) => (byId(name).value ? new Date(byId(name).value).toISOString() : undefined);
    const body = { since: read("since") ?? "", until: read("until"), onlyFailed: fields.elements.onlyFailed.checked };
    const { count } = await call("POST", `${addressOf(webhook)}/redeliver`, { body });
    byId("repetition").close();
    announce(count ? `${plural(count, "delivery")} will be sent again.` : "No delivery of this time has to be sent again.");
    await update();
  };
  open(byId("repetition"), { onSubmit, from, onError: (error) => showFieldErrors(fields, error) });
}

const ACTIONS = {
  add: (_, from) => edit(null, from),
  edit,
  repeat,
  async test(webhook) {
    await call("POST", `${addressOf(webhook)}/test`);
    if (location.pathname !== pageOf(webhook)) return location.assign(pageOf(webhook));
    announce("The test is being sent.");
    if (location.search) return location.assign(pageOf(webhook)); // the list may not show it
    await update();
  },
  async enable(webhook) {
    await call("PATCH", addressOf(webhook), { body: { enabled: true } });
    announce("Enabled.");
    await update();
    focus(byId("test") ? "test" : `test-${webhook.webhookId}`);
  },
  disable: (webhook, from) => ask("disabling", from, async () => {
    await call("PATCH", addressOf(webhook), { body: { enabled: false } });
    announce("Disabled.");
    openedBy("enable");
    await update();
  }),
  rotate: (webhook, from) => askToRotate(`${addressOf(webhook)}/rotate`, {
    title: "Rotate the secret of this webhook",
    shown: "The new secret of this webhook",
    overlaps: webhook.overlaps,
    from,
  }),
  remove(webhook, from) {
    byId("deletion-url").textContent = webhook.url;
    ask("deletion", from, async () => {
      await call("DELETE", addressOf(webhook)).catch((error) => {
        if (error.status !== 404) throw error; // it is gone already
      });
      location.assign("/webhooks");
    });
  },
  async showSecret(_, from) {
    const { secret } = await call("GET", "/webhooks/secret");
    openedBy(from);
    showSecret(secret, { title: "Your default secret", once: false });
  },
  rotateSecret: (_, from) => askToRotate("/webhooks/secret/rotate", {
    title: "Rotate your default secret",
    shown: "Your new default secret",
    overlaps: byId("default").querySelector("time") !== null,
    from,
  }),
};

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-action]");
  const act = ACTIONS[button?.dataset.action];
  if (!act || button.disabled) return;
  const id = button.closest("[data-webhook]")?.dataset.webhook;
  button.disabled = true;
  try {
    await act(id && JSON.parse(byId("webhooks").textContent)[id], button.id);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showError(error.message);
  } finally {
    button.disabled = false;
  }
});
