/* Shows the description of the API with Swagger UI, in the colours that the reader's system has. */
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

SwaggerUIBundle({
  url: document.getElementById("docs").dataset.schema,
  dom_id: "#docs",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  defaultModelRendering: "example",
  filter: true,
  syntaxHighlight: { theme: dark.matches ? "obsidian" : "idea" },
  tryItOutEnabled: true,
  // By default the description would be sent to a validator on the internet.
  validatorUrl: null,
});
