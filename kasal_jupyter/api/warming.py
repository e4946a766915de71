"""What first requests need and a server's start does not: fetched beside it, so that nobody waits for it.

Modules are imported and models are built where they are first used, which keeps both starts short: the
server's, and that of a program which needs a few of them. On the loop, the first use would hold everybody up.
"""

from __future__ import annotations

import gc
import importlib
import threading
from collections.abc import Iterator

from pydantic import BaseModel

from kasal_jupyter.events.event import is_event
from kasal_jupyter.schemas.base import Deferred, utc_now
from kasal_jupyter.tools.tool import builtin_tools

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
