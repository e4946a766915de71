"""The thread that changes the store, so that nobody else waits for the disk."""

from __future__ import annotations

import asyncio
import copy
import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kasal_jupyter.errors import StoreError
from kasal_jupyter.store.engine import Engine

GROUP = 1_000
"""Most changes of one commit, so that the first of them does not wait for too many others."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """A change that is waited for."""

    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a job ended: with an error, or else with a result."""

    job: _Job
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Carries out changes one after the other, and commits those that are waiting as one.

    An fsync takes as long for a hundred changes as for one, so the more there is to
    do, the less each of them costs.

    Parameters
    ----------
    engine
        The database to change.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # None ends the thread.
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    async def change(self, work: Callable[[], T]) -> T:
        """Carry out a change, and give its result once it is on the disk.

        A change that is queued is carried out, even if its caller is cancelled meanwhile.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Job(work, loop, future))
        return await future

    def close(self) -> None:
        """Carry out what is queued, and end."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
            if thread is not None:
                self._jobs.put(None)
        if thread is not None:
            thread.join()

    def _put(self, job: _Job) -> None:
        with self._lock:
            if self._closed:
                raise StoreError("The store is closed.")
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="kasal-store-writer", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise StoreError("The store can't be changed: there are no more threads.") from error
                self._thread = thread
            self._jobs.put(job)

    def _run(self) -> None:
        ending = False
        while not ending:
            group = [self._jobs.get()]
            while len(group) < GROUP and not self._jobs.empty():
                group.append(self._jobs.get())
            # Nothing is queued behind the None.
            ending = group[-1] is None
            if group != [None]:
                _deliver(self._carry_out([job for job in group if job is not None]))

    def _carry_out(self, jobs: list[_Job]) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        try:
            with self._engine.group():
                outcomes.extend(self._attempt(job) for job in jobs)
        except BaseException as error:  # noqa: BLE001  # the callers get it; the thread must live on
            failed = {outcome.job.future: outcome for outcome in outcomes if outcome.error}
            return [failed.get(job.future) or _Outcome(job, error=_own(error)) for job in jobs]
        return outcomes

    def _attempt(self, job: _Job) -> _Outcome:
        try:
            with self._engine.work():
                return _Outcome(job, result=job.work())
        except BaseException as error:  # noqa: BLE001  # the caller gets it; the others go on
            return _Outcome(job, error=_own(error))


def _own(error: BaseException) -> BaseException:
    """Give an error that a future can carry, and that one caller's traceback can be added to."""
    if isinstance(error, StopIteration):
        own: BaseException = RuntimeError("the change raised StopIteration")
    elif isinstance(error, StoreError):
        own = copy.copy(error)
    else:
        return error
    own.__cause__ = error
    return own


def _deliver(outcomes: list[_Outcome]) -> None:
    """Wake the callers: one call into each loop, however many they are."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_loop[outcome.job.loop].append(outcome)
    for loop, theirs in by_loop.items():
        # A loop that was closed meanwhile has nobody waiting.
        if not loop.is_closed():
            try:
                loop.call_soon_threadsafe(_resolve, theirs)
            except RuntimeError:
                # The thread must live on: others' changes are behind these.
                if not loop.is_closed():
                    _log.exception("who waits for a change could not be told")


def _resolve(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.job.future
        if future.done():
            continue
        if outcome.error is None:
            future.set_result(outcome.result)
        else:
            future.set_exception(outcome.error)
