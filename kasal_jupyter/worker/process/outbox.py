"""The way out of a run's process: events to lines on its socket, in order, from any thread."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

import orjson

from kasal_jupyter.events.event import ErrorInfo
from kasal_jupyter.hiding import Hider
from kasal_jupyter.schemas.base import Clock
from kasal_jupyter.schemas.spec import NOTE
from kasal_jupyter.wellformed import text_of, well_formed
from kasal_jupyter.worker.process.failures import describe
from kasal_jupyter.worker.process.said_once import SaidOnce
from kasal_jupyter.worker.process.sizes import LEAST, MOST_TEXT, fitted

CHUNK_WINDOW = 0.05
"""Seconds over which the pieces of a streamed answer are gathered into one event."""

MAX_WAITING = 8_000_000
"""Bytes that may wait for the server; beyond, whoever emits waits too."""

_OURS = frozenset({"type", "status", "time"})
"""What of an event nobody else has a say in: a secret that is one of its words must not make it another."""

_AT_ONCE = getattr(socket, "MSG_DONTWAIT", 0)

log = logging.getLogger(__name__)


class Outbox:
    """Writes events to a socket from a thread of its own.

    Parameters
    ----------
    sock
        The run's socket.
    hider
        Knows the secrets that must never get out.
    clock
        Tells the time of the events; one of its own, where none is given.
    most
        Bytes of events that are recorded; beyond, pieces of answers are dropped, and texts are cut short.
        Any number, where none is given.
    """

    def __init__(
        self,
        sock: socket.socket,
        hider: Hider | None = None,
        clock: Clock | None = None,
        *,
        most: int | None = None,
    ) -> None:
        self._sock = sock
        self.hider = hider or Hider(())
        self._clock = clock or Clock()
        self._left = math.inf if most is None else most
        self.passing: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] | None = None
        """Gives an event as it is sent; None where it is not."""
        self.on_full: Callable[[], None] | None = None
        """Told once that nothing more than how things end is recorded."""
        self.on_broken: Callable[[BaseException], None] | None = None
        """Told once, on the outbox's own thread, that nothing can be sent any more, and why."""
        self.broken = False
        self._fault: BaseException | None = None
        self._full = False
        self._notes = 0
        # Characters of each answer that were streamed so far.
        self._streamed: Counter[int] = Counter()
        self._said = SaidOnce(encode, self.hider.json)
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._chunks: dict[int, dict[str, Any]] = {}
        # The ends of streamed pieces that may be the beginning of a secret; what follows them decides.
        self._held: dict[int, dict[str, Any]] = {}
        self._chunks_due = 0.0
        self._muted = False
        self._ended = False
        self._closing = False
        # How often the server has taken something, and whether that ended with a line.
        self._taken = 0
        self._between_lines = True
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()

    def emit(self, event: Mapping[str, Any]) -> None:
        """Send an event; its time is now. Returns once it is queued."""
        with self._changed:
            if self._muted:
                return
            if self.passing is not None:
                passed = self.passing(event)
                if passed is None:
                    return
                event = passed
            stamped = {"time": self._clock.now(), **self._fitted(event)}
            if event["type"] == "llm_chunk":
                self._gather(stamped)
            else:
                self._release_chunks()
                if held := self._held.pop(stamped.get("span_id", -1), None):
                    self._queue(held)
                self._queue(stamped)
            self._changed.notify_all()
            full, self._full = self._left <= 0 and not self._full, self._full or self._left <= 0
            while self._waiting > MAX_WAITING and self._thread.is_alive():
                self._changed.wait(1)
        if full and self.on_full is not None:
            self.on_full()

    def note(self) -> int:
        """Ask the server to say when it has recorded all that was emitted; give the number it will say."""
        with self._changed:
            self._notes += 1
            self.tell(b"%b%d}\n" % (NOTE, self._notes))
            return self._notes

    def tell(self, line: bytes) -> None:
        """Say something to the server that is no event; it comes in its turn."""
        with self._changed:
            if not self._muted:
                self._release_chunks()
                self._lines.append(line)
                self._waiting += len(line)
                self._changed.notify_all()

    def end(self, status: str, **fields: Any) -> None:
        """Tell how the run has ended; only the first end is told. One that cannot be written is a failure."""
        with self._changed:
            if self._ended:
                return
            self._ended = True
            try:
                self.emit({"type": "execution_status", "status": status, **fields})
            except BaseException as error:
                log.exception("The run's end cannot be written.")
                # Behind what is queued.
                self._fault = error
                self._changed.notify_all()

    def mute(self) -> None:
        """Send what is queued, and take nothing more."""
        with self._changed:
            self._release_all()
            self._muted = True
            self._changed.notify_all()

    def close(self, timeout: float, *, patient: bool = False) -> bool:
        """Send what is queued, and end; say whether all of it was taken.

        Parameters
        ----------
        timeout
            Seconds that this may take.
        patient
            Whether they begin anew with whatever the server takes: a slow one is waited for.
        """
        with self._changed:
            self._release_all()
            self._closing = True
            self._changed.notify_all()
        if threading.current_thread() is self._thread:
            return False
        seen = -1
        while self._thread.is_alive() and (seen < 0 or patient) and seen != self._taken:
            seen = self._taken
            self._thread.join(timeout)
        return not self.broken and not self._thread.is_alive()

    def _fitted(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Cut what is too long to be recorded, before anything else is done with it."""
        return fitted(event, most=LEAST if self._left <= 0 else MOST_TEXT, clean=self._clean)

    def _clean(self, text: str) -> str:
        """Give a text without secrets, and without what at its end may be the beginning of one."""
        return self.hider.split(text)[0]

    def _gather(self, chunk: dict[str, Any]) -> None:
        before = self._streamed[chunk["span_id"]]
        if before > MOST_TEXT or self._left <= 0:
            return  # Its end says how much there was.
        self._streamed[chunk["span_id"]] += len(chunk["text"])
        if self._streamed[chunk["span_id"]] > MOST_TEXT:
            chunk["text"] = "\n[… the rest is left out]"
        if held := self._held.pop(chunk["span_id"], None):
            chunk = {**held, "text": held["text"] + chunk["text"]}
        if waiting := self._chunks.get(chunk["span_id"]):
            waiting["text"] += chunk["text"]
            return
        if not self._chunks:
            self._chunks_due = time.monotonic() + CHUNK_WINDOW
        self._chunks[chunk["span_id"]] = chunk

    def _release_chunks(self) -> None:
        for span_id, chunk in self._chunks.items():
            text, rest = self.hider.split(chunk["text"])
            if rest:
                self._held[span_id] = {**chunk, "text": rest}
            if text:
                self._queue({**chunk, "text": text})
        self._chunks.clear()

    def _release_all(self) -> None:
        self._release_chunks()
        for held in self._held.values():
            self._queue(held)
        self._held.clear()

    def _queue(self, event: Mapping[str, Any]) -> None:
        event = self._said.named(event)
        line = encode(event)
        if self.hider.found(line):
            line = self._without_secrets(event)
        self._lines.append(line + b"\n")
        self._waiting += len(line) + 1
        self._left -= len(line) + 1

    def _without_secrets(self, event: Mapping[str, Any]) -> bytes:
        written = {name: encode(value) for name, value in event.items()}
        return b"{%b}" % b",".join(
            b"%b:%b" % (encode(name), value if name in _OURS else self.hider.json(value))
            for name, value in written.items()
        )

    def _work(self) -> None:
        try:
            self._write()
        except BaseException as error:  # noqa: BLE001 - the border of the thread
            # Nobody must wait for it, and somebody must hear of it.
            try:
                log.exception("The run's events can no longer be sent.")
            finally:
                self._break(error)

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    if self._fault is not None:
                        raise self._fault
                    if self._closing:
                        return
                    left = self._chunks_due - time.monotonic() if self._chunks else None
                    if left is not None and left <= 0:
                        self._release_chunks()
                    else:
                        self._changed.wait(left)
                batch = b"".join(self._lines)
                self._lines.clear()
            self._send(batch)
            with self._changed:
                self._waiting -= len(batch)
                self._changed.notify_all()

    def _send(self, batch: bytes) -> None:
        left = memoryview(batch)
        while left:
            sent = self._sock.send(left)
            self._between_lines = left[sent - 1] == b"\n"[0]
            self._taken += 1
            left = left[sent:]

    def _break(self, error: BaseException) -> None:
        """Have nobody wait for what can no longer be sent, and see to it that the run ends for it."""
        with self._changed:
            self.broken = self._muted = True
            self._lines.clear()
            self._waiting = 0
            self._changed.notify_all()
        told = describe(error)
        if told["code"] == "INTERNAL_ERROR":
            told["message"] = f"The run's events could no longer be sent: {told['message']}"
        # The server hears it where not the socket is what is broken.
        say_end(self._sock, told, self.hider, self._clock, begun=not self._between_lines)
        if self.on_broken is not None:
            self.on_broken(error)


def say_end(
    sock: socket.socket, error: ErrorInfo, hider: Hider, clock: Clock, *, begun: bool = False
) -> None:
    """Tell a server that a run has failed, where nothing else can be told any more; as far as that goes.

    Parameters
    ----------
    sock
        The run's socket.
    error
        Why.
    hider
        Knows the secrets that must never get out.
    clock
        Tells the time of the event.
    begun
        Whether the server has got a line but for its end, which must not spoil this one.
    """
    shown = ErrorInfo(code=error["code"], message=hider.hide(error["message"]))
    event = {"time": clock.now(), "type": "execution_status", "status": "failed", "error": shown}
    line = b"%b%b\n" % (b"\n" if begun else b"", encode(event))
    # The process ends with its server anyway, and must not wait for one that takes nothing.
    with suppress(OSError):
        sock.send(line, _AT_ONCE)


def encode(value: Any, option: int = 0) -> bytes:
    """Write a value as JSON, whatever CrewAI put in it; ``option`` is one of orjson's."""
    option |= orjson.OPT_NON_STR_KEYS
    try:
        return orjson.dumps(value, default=text_of, option=option)
    except TypeError:
        # Half a surrogate pair, or an integer beyond 64 bits: rare, so repaired only when it happens.
        return orjson.dumps(_encodable(value), default=text_of, option=option)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, dict):
        return {_encodable(str(key)): _encodable(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_encodable(part) for part in cast(Iterable[Any], value)]
    return value
