"""Where requests of the API wait while what answers them is loaded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterable
from typing import Any

from jupyter_server.utils import url_path_join
from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.routing import PathMatches, Router, Rule
from tornado.web import Application


class Doorway(Router):
    """Takes in what is asked of the API, before anybody else, until it is left.

    A request waits with its head; its body is not read, and it is then whoever serves it that looks at both.

    Parameters
    ----------
    web_app
        The Jupyter server's.
    prefixes
        Where the API is served.
    """

    def __init__(self, web_app: Application, prefixes: Iterable[str]) -> None:
        self.web_app = web_app
        self.is_left = asyncio.Event()
        base_url = web_app.settings["base_url"]
        bases = "|".join(re.escape(url_path_join(base_url, prefix)) for prefix in prefixes)
        self._rule = Rule(PathMatches(f"(?:{bases})(?:/.*)?$"), self)
        web_app.default_router.rules.insert(0, self._rule)

    def leave(self) -> None:
        """Send those who wait to who serves them now, and take in nobody any more."""
        if not self.is_left.is_set():
            self.web_app.default_router.rules.remove(self._rule)
            self.is_left.set()

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> HTTPMessageDelegate:
        """Give what waits in a request's place."""
        return _Waiting(self, request)


class _Waiting(HTTPMessageDelegate):
    """A request that waits, and then is handed on."""

    def __init__(self, doorway: Doorway, request: HTTPServerRequest) -> None:
        self._doorway = doorway
        self._request = request
        self._served: HTTPMessageDelegate | None = None

    async def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        """Wait; the connection reads on when this is done."""
        await self._doorway.is_left.wait()
        self._served = self._doorway.web_app.find_handler(self._request)
        if (taking := self._served.headers_received(start_line, headers)) is not None:
            await taking

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Hand a piece of the body on."""
        assert self._served is not None
        return self._served.data_received(chunk)

    def finish(self) -> None:
        """Hand on that it is whole."""
        assert self._served is not None
        self._served.finish()

    def on_connection_close(self) -> None:
        """Hand on that the client has gone."""
        if self._served is not None:
            self._served.on_connection_close()
