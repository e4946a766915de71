"""One lane for what is done in the page: in the order it was done, and one after the other.

A JupyterLab sends what its user does in widgets to a thread of the kernel beside the one of the cells.
Newer ipykernels answer with a thread for each widget: the one that has updated it last. Two widgets then have
two threads, and a click on *Save* overtakes the text that was typed just before it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

P = ParamSpec("P")

_lock = threading.RLock()


def in_lane(work: Callable[P, object]) -> Callable[P, None]:
    """Give a callback that waits until another has ended: two pages may show the same editor."""

    def wait_and_work(*args: P.args, **kwargs: P.kwargs) -> None:
        with _lock:
            work(*args, **kwargs)

    return wait_and_work


def keep_order(widget: Any) -> None:
    """Have what is done in a widget, and in those inside it, go where the page sends it: to one thread.

    The attribute is what an ipykernel asks for the thread; one that does not ask has but one anyway.
    """
    for each in _walk(widget):
        if each.comm is not None:
            each.comm._reply_subshell_for = _as_sent  # noqa: SLF001 - it has no public name


def _as_sent(data: Any, sent_to: str | None) -> str | None:
    del data
    return sent_to


def _walk(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _walk(child)
