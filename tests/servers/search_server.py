"""Search engines on loopback that speak as SearXNG, Tavily and Brave do, all on one port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.endpoint_server import Asked, EndpointServer, endpoint_server, reply

KEY = "key-of-the-search-engine"


@dataclass
class SearchServer:
    """A running engine.

    Attributes
    ----------
    results
        What it finds: title, address, text.
    status
        What it answers instead, where it is not 200; the body repeats the key.
    """

    http: EndpointServer
    results: list[tuple[str, str, str]] = field(
        default_factory=lambda: [
            ("Green tea", "https://example.com/tea", "What there is to know about tea"),
            ("Oolong", "https://example.com/oolong", "Half way to black tea"),
        ]
    )
    status: int = 200

    @property
    def url(self) -> str:
        return self.http.url

    @property
    def asked(self) -> list[Asked]:
        return self.http.asked

    def answer(self, handler: BaseHTTPRequestHandler, asked: Asked) -> None:
        if self.status != 200:
            reply(f"no, not with {KEY}", self.status)(handler, asked)
            return
        said: Any
        if asked.path == "/res/v1/web/search":
            if asked.headers.get("x-subscription-token") != KEY:
                reply("SUBSCRIPTION_TOKEN_INVALID", 403)(handler, asked)
                return
            said = {"type": "search", "web": {"results": self._rows("description", bold=True)}}
        elif asked.method == "POST":
            if asked.headers.get("authorization") != f"Bearer {KEY}":
                reply("Unauthorized", 401)(handler, asked)
                return
            said = {"query": asked.json()["query"], "results": self._rows("content")}
        else:
            if asked.query.get("format") != ["json"]:
                reply("Forbidden", 403)(handler, asked)
                return
            said = {"query": asked.query["q"][0], "results": self._rows("content")}
        reply(json.dumps(said), content_type="application/json")(handler, asked)

    def _rows(self, text: str, *, bold: bool = False) -> list[dict[str, str]]:
        mark = ("<strong>", "</strong>") if bold else ("", "")
        return [
            {"title": f"{mark[0]}{title}{mark[1]}", "url": url, text: said.replace("&", "&amp;")}
            for title, url, said in self.results
        ]


@contextmanager
def search_server() -> Iterator[SearchServer]:
    """Run the engines."""
    with endpoint_server() as http:
        server = SearchServer(http)
        http.replies["/search"] = server.answer
        http.replies["/res/v1/web/search"] = server.answer
        yield server
