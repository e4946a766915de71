"""What the server says about its own API: the reference's *Testing* section."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import secrets
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.openapi import OpenApi, endpoints, models_of
from kasal_jupyter.api.operation import Media, operation
from kasal_jupyter.api.postman import Postman
from kasal_jupyter.errors import NotFound

# Of all packages on the index that bring a current Swagger UI, this one pulls no web framework in.
SWAGGER_UI = files("mkdocs_swagger_ui_tag") / "swagger-ui"

PAGE = files("kasal_jupyter.api") / "page"

FILES = {
    "swagger-ui.css": SWAGGER_UI / "stylesheets" / "swagger-ui.css",
    "swagger-ui-bundle.js": SWAGGER_UI / "javascripts" / "swagger-ui-bundle.js",
    "docs.css": PAGE / "docs.css",
    "docs.js": PAGE / "docs.js",
}
"""What the page is made of besides itself, by name."""

TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


class DescriptionHandler(ApiHandler):
    """What the descriptions of the API share."""

    tag = "Testing"

    @property
    def prefix(self) -> str:
        """Where the API is on this server, e.g. ``/user/ada/v1``: all before the request's resource."""
        return self.sent_path.removesuffix(self.template)


class OpenApiHandler(DescriptionHandler):
    """``GET /openapi.json``."""

    @operation(
        "Get the OpenAPI document",
        access="anyone",
        answers={200: Media("application/json", "An OpenAPI document of version 3.1.")},
    )
    async def get(self) -> None:
        """Describe every operation of the API, with the schemas of what it takes and answers."""
        self.write_bytes((await openapi()).to_json(self.prefix))


class PostmanHandler(DescriptionHandler):
    """``GET /postman.json``."""

    @operation(
        "Get the Postman collection",
        access="anyone",
        answers={200: Media("application/json", "A Postman collection of version 2.1.")},
    )
    async def get(self) -> None:
        """Give every request as a collection for Postman, with examples, and a login that keeps its token."""
        collection = await asyncio.to_thread(_postman, await openapi())
        address = f"{self.request.protocol}://{self.request.host}{self.prefix}"
        self.write_bytes(collection.to_json(address))


class DocsHandler(DescriptionHandler):
    """``GET /docs``."""

    _nonce = ""

    @operation(
        "Show the API's page",
        access="anyone",
        answers={200: Media("text/html", "Swagger UI, which works without any other server.")},
    )
    async def get(self) -> None:
        """Show every operation on a page that can call them.

        It takes a token under *Authorize*, and goes on with the one of a login made there.
        """
        self._nonce = secrets.token_urlsafe(16)
        self.set_header("Content-Security-Policy", self.content_security_policy)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish((PAGE / "docs.html").read_text().replace("NONCE", self._nonce))

    @property
    def content_security_policy(self) -> str:
        """Let the page run its own two scripts, and talk to its own server, and nothing else."""
        if not self._nonce:
            return super().content_security_policy
        return (
            f"{super().content_security_policy}; script-src 'nonce-{self._nonce}'; style-src 'self'; "
            "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
        )


class DocsFileHandler(DescriptionHandler):
    """``GET /docs/{file}``: what the page is made of, and so no operation of the API itself."""

    @operation("Get a part of the API's page", access="anyone", answers={200: Media("text/*", "A file.")})
    async def get(self, name: str) -> None:
        """Give a file of the page."""
        if name not in FILES:
            raise NotFound(f"The page has no {name}")
        part = await asyncio.to_thread(_part, name)
        self.set_header("Content-Type", TYPES[name.rpartition(".")[2]])
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Vary", "Accept-Encoding")
        self.set_header("ETag", part.etag)
        if part.etag in self.request.headers.get("If-None-Match", ""):
            self.set_status(304)
            self.finish()
        elif "gzip" in self.request.headers.get("Accept-Encoding", ""):
            # Tornado would compress it on the loop, again for each request: 1.5 MB.
            self.set_header("Content-Encoding", "gzip")
            self.finish(part.compressed)
        else:
            self.finish(part.plain)


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the page, ready to be sent.

    Attributes
    ----------
    plain, compressed
        Its bytes, and those in gzip's form.
    etag
        Tells it from what it was in another version.
    """

    plain: bytes
    compressed: bytes
    etag: str


@cache
def _part(name: str) -> Part:
    plain = FILES[name].read_bytes()
    return Part(plain, gzip.compress(plain, 6), f'"{hashlib.sha256(plain).hexdigest()[:32]}"')


_described: list[tuple[str, type[ApiHandler]]] = []


def describe(resources: list[tuple[str, type[ApiHandler]]]) -> None:
    """Note what is described: the resources by the templates of their paths.

    The table of the routes tells it, for it has the handlers of this module as well.
    """
    _described[:] = resources


async def openapi() -> OpenApi:
    """Give the OpenAPI document, made when the first asks for it."""
    # Whole, before their schemas are made beside others' use of them.
    described = list(endpoints(_described))
    for model in [each.operation.query for each in described] + [model for model, _ in models_of(described)]:
        if model.model_rebuild():
            await asyncio.sleep(0)
    return await asyncio.to_thread(_openapi)


@cache
def _openapi() -> OpenApi:
    return OpenApi(_described)


@cache
def _postman(document: OpenApi) -> Postman:
    return Postman(document.endpoints)
