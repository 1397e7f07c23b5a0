/* Shows the API schema with Swagger UI, in the light or dark theme of the system. */
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const applyTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", applyTheme);
applyTheme();

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
  // The default sends the schema to a validator on the internet.
  validatorUrl: null,
});
