// The page of the API: Swagger UI over this server's own OpenAPI document.
"use strict";

// The cookie in which Jupyter tells its own pages what a request without a token has to bring.
function xsrf() {
  const found = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/);
  return found ? decodeURIComponent(found[1]) : null;
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
  // Jupyter opens its pages with the server's token in their address.
  onComplete() {
    const address = new URL(location.href);
    const token = address.searchParams.get("token");
    if (token) {
      ui.preauthorizeApiKey("bearer", token);
      address.searchParams.delete("token");
      history.replaceState(null, "", address);
    }
  },
});
