"""An extension of Jupyter's that notes how much of a processor each turn of the server's loop takes.

It counts the time of the loop's own thread, which other work on the machine does not make longer. Each turn
of more than a millisecond is a line of the file that ``LOOP_METER`` names: its seconds, and what it did.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kasal_jupyter.api.starting import warmed

SHORTEST = 0.001

_original: Callable[[asyncio.Handle], None] = asyncio.Handle._run


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(_serverapp: Any) -> None:
    out = Path(os.environ["LOOP_METER"]).open("a", buffering=1)  # noqa: SIM115 - as long as the server
    looking = _Sampler() if "LOOP_SAMPLES" in os.environ else None

    def run(handle: asyncio.Handle) -> None:
        what = _name(handle)
        if looking is not None:
            looking.stacks.clear()
        began = time.thread_time()
        try:
            _original(handle)
        finally:
            took = time.thread_time() - began
            if took >= SHORTEST:
                out.write(f"{took:.6f} {what}\n")
                if looking is not None and took >= 0.005:
                    most = looking.stacks.most_common(6)
                    out.writelines(f"    {count}x {stack}\n" for stack, count in most)

    def begin() -> None:
        # What is fetched beside the start is not asked for again: until then, a first use may take it all.
        warmed.wait()
        asyncio.Handle._run = run  # type: ignore[method-assign]
        out.write("0 begun\n")

    threading.Thread(target=begin, daemon=True).start()


def _name(handle: asyncio.Handle) -> str:
    callback: Any = handle._callback
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return getattr(callback, "__qualname__", repr(callback))
    names = []
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        handler = frame.f_locals.get("self") if frame is not None else None
        request = getattr(handler, "request", None)
        if request is not None and not names:
            names.append(f"{request.method} {request.path}")
        names.append(getattr(coroutine, "__qualname__", "?"))
        coroutine = getattr(coroutine, "cr_await", None)
    return " > ".join(names)


class _Sampler:
    """Looks at what a turn is doing, every other millisecond."""

    def __init__(self) -> None:
        self.stacks: Counter[str] = Counter()
        self._main = threading.get_ident()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            time.sleep(0.002)
            frame = sys._current_frames().get(self._main)
            stack = traceback.extract_stack(frame) if frame is not None else []
            known = [each for each in stack if "asyncio" not in each.filename and each.filename != __file__]
            self.stacks[
                " < ".join(f"{Path(each.filename).name}:{each.lineno}:{each.name}" for each in known[:-13:-1])
            ] += 1
