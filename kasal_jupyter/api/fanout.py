"""One run's events to many sockets: encoded once, framed once, the same bytes written to each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from kasal_jupyter.executions.feed import Feed

TICK_SECONDS = 0.01
"""How long events are gathered before they go out: it makes a burst to 500 sockets ten times cheaper."""


OneLook = Callable[[], AbstractContextManager[object]]


class Receiver(Protocol):
    """What takes frames: a socket."""

    def push(self, frames: bytes) -> None:
        """Take frames that are ready to be written."""
        ...

    def done(self, job_id: str) -> None:
        """Hear that the run has ended and nothing more will come."""
        ...


def frame(text: bytes) -> bytes:
    """Frame a text message as a server sends it: final, unmasked (RFC 6455, section 5.2)."""
    size = len(text)
    if size < 126:
        head = bytes((0x81, size))
    elif size < 1 << 16:
        head = bytes((0x81, 126)) + size.to_bytes(2)
    else:
        head = bytes((0x81, 127)) + size.to_bytes(8)
    return head + text


@dataclass(slots=True, eq=False)
class Fanout:
    """The live end of one run.

    ``sent`` is the number of the last event that has gone out to the receivers; one that joins has read
    the journal up to there.
    """

    feed: Feed
    sent: int
    one_look: OneLook
    _receivers: set[Receiver] = field(default_factory=set)
    _pending: list[bytes] = field(default_factory=list)
    _tick: asyncio.TimerHandle | None = None
    _unsubscribe: Callable[[], None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody listens."""
        return not self._receivers

    def join(self, receiver: Receiver) -> None:
        """Have everything behind event ``sent`` pushed to a receiver."""
        self._receivers.add(receiver)
        if self._unsubscribe is None:
            self._unsubscribe = self.feed.subscribe(self._deliver)

    def leave(self, receiver: Receiver) -> None:
        """Stop pushing to a receiver."""
        self._receivers.discard(receiver)
        if self.idle:
            self.close()

    def flush(self) -> None:
        """Send what was gathered."""
        self._tick = None
        if not self._pending:
            return
        frames = b"".join(map(frame, self._pending))
        self.sent += len(self._pending)
        self._pending.clear()
        # Each receiver looks whether its caller still may have them.
        with self.one_look():
            for receiver in tuple(self._receivers):
                receiver.push(frames)
        if self.feed.summary.ended:
            for receiver in tuple(self._receivers):
                receiver.done(self.feed.job_id)

    def close(self) -> None:
        """Let go of the run."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _deliver(self, first: int, lines: list[bytes]) -> None:
        # Lines that a receiver has read from the journal before it joined are not sent again.
        self._pending += lines[max(0, self.sent + len(self._pending) + 1 - first) :]
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_SECONDS, self.flush)


class Fanouts:
    """The runs that sockets follow at the moment.

    Parameters
    ----------
    one_look
        Lets the receivers' looks at who may do what make do with one at the store's file.
    """

    def __init__(self, one_look: OneLook = nullcontext) -> None:
        self._one_look = one_look
        self._by_job: dict[str, Fanout] = {}

    def of(self, feed: Feed, read: int) -> Fanout | None:
        """Give a run's fan-out to a receiver that has read the journal up to event ``read``.

        None where live events have gone out beyond that: the receiver reads on and asks again.
        """
        fanout = self._by_job.get(feed.job_id)
        if fanout is None or fanout.idle:
            if read < feed.journal.seq:
                return None
            fanout = self._by_job[feed.job_id] = Fanout(feed, sent=read, one_look=self._one_look)
            return fanout
        fanout.flush()
        return fanout if fanout.sent == read else None

    def leave(self, job_id: str, receiver: Receiver) -> None:
        """Take a receiver out of a run's fan-out, and forget the fan-out when it was the last."""
        fanout = self._by_job.get(job_id)
        if fanout is not None:
            fanout.leave(receiver)
            if fanout.idle:
                del self._by_job[job_id]
