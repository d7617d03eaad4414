// Fetches the document with the token that the reader gives, and shows it. Nothing else is fetched.
"use strict";

const door = document.getElementById("door");
const said = document.getElementById("said");

// A page may ask the listener that it came from; the client listener has another address.
const adminOnly = () => ({
  statePlugins: {
    spec: {
      wrapSelectors: {
        allowTryItOutFor: () => (state, path, method) => {
          return !state.hasIn(["json", "paths", path, "servers"]);
        },
      },
    },
  },
});

function show(spec, token) {
  door.hidden = true;
  const ui = SwaggerUIBundle({
    spec,
    dom_id: "#ui",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    plugins: [adminOnly],
    onComplete: () => token && ui.preauthorizeApiKey("bearer", token),
  });
}

async function load(token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch("openapi.json", { headers, cache: "no-store" });
  if (answer.ok) {
    show(await answer.json(), token);
  } else {
    door.hidden = false;
    said.textContent = token ? `${answer.status}: ${(await answer.json()).detail}` : "";
    document.getElementById("token").focus();
  }
}

door.addEventListener("submit", (event) => {
  event.preventDefault();
  load(document.getElementById("token").value.trim());
});
load("");
