"""What is answered where the data folder can't be used, and what is fetched beside a start."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import orjson
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from pydantic import BaseModel
from tornado import web

from kasal_jupyter.errors import Unavailable
from kasal_jupyter.events.event import is_event
from kasal_jupyter.schemas.base import Deferred, utc_now
from kasal_jupyter.tools.tool import builtin_tools

TRY_SECONDS = 5.0
"""How long nobody looks again whether the data folder can be used."""


class UnusableStore:
    """Serves the reason for which nothing else is served.

    Parameters
    ----------
    reason
        Why the data folder can't be used, and what to do about it.
    try_again
        Opens it, and has the API be served; gives the reason why not.
    """

    def __init__(self, reason: str, try_again: Callable[[], Awaitable[str | None]]) -> None:
        self.reason: str | None = reason
        self._try_again = try_again
        self._tried = time.monotonic()
        self._lock = asyncio.Lock()
        self._rules: list[object] = []

    def serve(self, web_app: web.Application, prefixes: list[str]) -> None:
        """Answer under the API's prefixes."""
        before = list(web_app.default_router.rules)
        base_url = web_app.settings["base_url"]
        web_app.add_handlers(
            ".*$",
            [
                (f"{url_path_join(base_url, prefix)}(?:/.*)?$", UnusableHandler, {"unusable": self})
                for prefix in prefixes
            ],
        )
        self._rules = [rule for rule in web_app.default_router.rules if rule not in before]

    def leave(self, web_app: web.Application) -> None:
        """Answer no more."""
        rules = web_app.default_router.rules
        rules[:] = [rule for rule in rules if rule not in self._rules]

    async def look(self) -> str | None:
        """Give the reason; None where there is none any more. It is looked for every few seconds."""
        async with self._lock:
            if self.reason is not None and time.monotonic() - self._tried > TRY_SECONDS:
                self._tried = time.monotonic()
                self.reason = await self._try_again()
            return self.reason


class UnusableHandler(JupyterHandler):
    """Every path of the API."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

    def initialize(self, unusable: UnusableStore) -> None:
        """Take what knows the reason."""
        self.unusable = unusable

    @allow_unauthenticated
    async def prepare(self) -> None:  # type: ignore[override]
        """Answer 503 and say why, or send the client here once more where there is no reason any more.

        Who is nobody to Jupyter is not told where the data folder is.
        """
        reason = await self.unusable.look()
        if reason is None:
            reason, after = "The store can be used again; send the request once more", 1
        else:
            after = int(TRY_SECONDS) + 1
            user = self.identity_provider.get_user(self)
            if inspect.isawaitable(user):
                user = await user
            if user is None:
                reason = "The store can't be opened; the server's log says why"
        error = Unavailable(reason, retry_after=after)
        self.set_status(error.status)
        self.set_header("Retry-After", str(after))
        self.set_header("Content-Type", "application/json")
        self.finish(orjson.dumps(error.body()))


# What first requests need and a server's start does not: fetched beside it, so that nobody waits for it.
#
# Modules are imported and models are built where they are first used, which keeps both starts short: the
# server's, and that of a program which needs a few of them. On the loop, the first use would hold everybody
# up.

MODULES = ("argon2", "cryptography.fernet", "jwt", "psutil")
"""What is imported by functions that are called on the loop."""


warmed = threading.Event()
"""Set when it is all there."""


def warm_up() -> threading.Thread:
    """Begin to import and to build it all, in a thread."""
    thread = threading.Thread(target=_warm_up, name="kasal-warm", daemon=True)
    thread.start()
    return thread


def _warm_up() -> None:
    for name in MODULES:
        importlib.import_module(name)
    builtin_tools()
    # In the order they were declared: those that others are made of come first.
    for model in _below(Deferred):
        model.model_rebuild()
    is_event({"type": "error", "time": utc_now()})
    # What there is by now, 200,000 objects, stays: a full collection would look through it all again and
    # again, and hold everybody's events up for a tenth of a second each time.
    gc.freeze()
    warmed.set()


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in model.__subclasses__():
        yield each
        yield from _below(each)
