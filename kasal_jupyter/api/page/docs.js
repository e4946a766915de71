// The page of the API: Swagger UI over this server's own OpenAPI document.
"use strict";

// The cookie in which Jupyter tells its own pages what a request without a token has to bring.
function xsrf() {
  const found = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/);
  return found ? decodeURIComponent(found[1]) : null;
}

// Jupyter opens its pages with the server's token in their address, where it must not stay: it would go along
// wherever the address goes.
const address = new URL(location.href);
const sent = address.searchParams.get("token");
if (address.searchParams.has("token")) {
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
}

const ui = SwaggerUIBundle({
  dom_id: "#docs",
  url: "openapi.json",
  validatorUrl: null,
  deepLinking: true,
  filter: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  requestInterceptor(request) {
    const token = xsrf();
    if (token && !request.loadSpec) {
      request.headers["X-XSRFToken"] = token;
    }
    return request;
  },
  // Who has logged in here goes on with the token.
  responseInterceptor(response) {
    if (response.ok && response.url.includes("/auth/") && response.body && response.body.access_token) {
      ui.preauthorizeApiKey("bearer", response.body.access_token);
    }
    return response;
  },
  onComplete() {
    offer(sent);
  },
});

// Asks the visitor whether the page is to act as the one whom the token in its address names. Anybody may have
// made that link: what the visitor does here would then be done as somebody else, who could read it.
async function offer(token) {
  if (!token) {
    return;
  }
  const name = await nameOf(token);
  const bar = document.createElement("div");
  bar.id = "offer";
  bar.setAttribute("role", "alertdialog");
  bar.setAttribute("aria-label", "A token in the address");
  const words = document.createElement("p");
  if (name === null) {
    words.textContent = "The address of this page came with a token, which is not valid here. It is not used.";
    bar.append(words, button("Close", () => bar.remove()));
  } else {
    const who = document.createElement("strong");
    who.textContent = name;
    words.append("The address of this page came with a token of ", who, ". Whoever made the link may have put it there. Call the API as ", who.cloneNode(true), "?");
    bar.append(
      words,
      button("Yes, as this one", () => {
        ui.preauthorizeApiKey("bearer", token);
        bar.remove();
      }),
      button("No, without it", () => bar.remove()),
    );
  }
  document.body.prepend(bar);
  bar.querySelector("button:last-of-type").focus();
}

// Whom a token means on this server, as everybody is called here; null where it means nobody. No cookie goes along.
async function nameOf(token) {
  const answer = await fetch("auth/me", {
    headers: { Authorization: `Bearer ${token}` },
    credentials: "omit",
  }).catch(() => null);
  if (answer === null || !answer.ok) {
    return null;
  }
  const me = await answer.json();
  return me.email ?? (me.sandbox ? "the sandbox" : `this server's owner (${me.name})`);
}

function button(text, done) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", done);
  return made;
}
