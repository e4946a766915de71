"""The open spans of a run: who is inside whom, on whatever thread."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.events.event import Edited, ErrorInfo
from kasal_jupyter.events.trace import SpanKind
from kasal_jupyter.worker.process.outbox import Outbox

_FAILED = {"task": "task_failed", "agent": "agent_failed", "llm": "llm_failed", "tool": "tool_failed"}

# CrewAI runs async tasks and parallel tools in copies of the context they were started in, so each
# thread sees the spans around it and none of its neighbours'. CrewAI keeps a stack like this of its
# own, but it goes wrong after an error: a failed model call is reported twice, and pops twice.
_stack: ContextVar[tuple[OpenSpan, ...]] = ContextVar("kasal_spans", default=())


@dataclass(slots=True, eq=False)
class OpenSpan:
    """A span that has begun.

    Attributes
    ----------
    extra
        Fields that its closing event repeats: the model or the tool.
    unfinished
        Fields of the event that ends it badly: what a model call has taken that was not answered.
    key
        A tool call's identity; None where the tool is CrewAI's own.
    arguments
        A tool call's.
    answered
        Whether the tool has answered: what else ends the call is no answer of its.
    recorded
        Whether it was an earlier run's tool that has.
    edited
        Who has put another result in the place of its.
    said
        What it has given, where that is a text.
    """

    id: int
    kind: SpanKind
    parent: OpenSpan | None
    task_id: str | None
    task: str | None
    agent: str | None
    extra: dict[str, Any] = field(default_factory=dict)
    unfinished: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    answered: bool = False
    recorded: bool = False
    edited: Edited | None = None
    said: str | None = None

    def failed(self, error: ErrorInfo) -> dict[str, Any]:
        """Give the event that ends it badly."""
        return {"type": _FAILED[self.kind], "error": error, **self.unfinished}

    def fields(self) -> dict[str, Any]:
        """Give what every event of the span carries."""
        return {
            "span_id": self.id,
            "parent_id": self.parent.id if self.parent else None,
            "task_id": self.task_id,
            "task": self.task,
            "agent": self.agent,
        }


class Spans:
    """Opens and closes spans, each exactly once, and emits their events.

    Parameters
    ----------
    outbox
        Where the events go.
    opened
        The number of the last span that was opened before these.
    """

    def __init__(self, outbox: Outbox, opened: int = 0) -> None:
        self._outbox = outbox
        self._lock = threading.RLock()
        self._open: dict[int, OpenSpan] = {}
        self._opened = opened
        self._ended = False
        self._asking: Counter[int] = Counter()
        self._waited = 0.0
        self._waits_since: float | None = None

    def open(self, kind: SpanKind, event: Mapping[str, Any], **known: Any) -> OpenSpan | None:
        """Begin a span inside the innermost one of this thread.

        Parameters
        ----------
        kind
            What it is.
        event
            The opening event's own fields.
        **known
            ``task_id``, ``task``, ``agent`` and ``extra`` where they differ from the span around it.

        Returns
        -------
        OpenSpan or None
            None once the run has ended: a thread that was left behind has nothing more to say.
        """
        parent = self.around()
        inherited = {
            "task_id": parent.task_id if parent else None,
            "task": parent.task if parent else None,
            "agent": parent.agent if parent else None,
        }
        with self._lock:
            if self._ended:
                return None
            self._opened += 1
            span = OpenSpan(id=self._opened, kind=kind, parent=parent, **{**inherited, **known})
            self._open[span.id] = span
            self._look_at(span)
            self._outbox.emit({**event, **span.fields(), **span.extra})
        _stack.set((*_stack.get(), span))
        return span

    def emit(self, event: Mapping[str, Any]) -> None:
        """Emit an event that belongs to no span, or to one that has ended."""
        with self._lock:
            if not self._ended:
                self._outbox.emit(dict(event))

    def emit_closed(self, kind: SpanKind, event: Mapping[str, Any], **known: Any) -> None:
        """Emit a span that begins and ends with one event, outside of all others.

        Parameters
        ----------
        kind, event, **known
            As of :meth:`open`.
        """
        with self._lock:
            if self._ended:
                return
            self._opened += 1
            about: dict[str, Any] = {"task_id": None, "task": None, "agent": None, **known}
            span = OpenSpan(id=self._opened, kind=kind, parent=None, **about)
            self._outbox.emit({**event, **span.fields()})

    def note(self) -> int:
        """Ask to be told when all that was emitted is recorded; give the number that is told then."""
        return self._outbox.note()

    def tell(self, line: bytes) -> None:
        """Say something to the server that is no event."""
        self._outbox.tell(line)

    def around(self) -> OpenSpan | None:
        """Give this thread's innermost open span."""
        return next((span for span in reversed(_stack.get()) if span.id in self._open), None)

    def innermost(self, kind: SpanKind, *, within: SpanKind | None = None) -> OpenSpan | None:
        """Give this thread's innermost open span of a kind, looking out no further than another kind."""
        for span in reversed(_stack.get()):
            if span.id not in self._open:
                continue
            if span.kind == kind:
                return span
            if span.kind == within:
                return None
        return None

    @contextmanager
    def waiting(self, span: OpenSpan) -> Iterator[None]:
        """Note that a span waits for a person."""
        with self._lock:
            self._asking[span.id] += 1
            self._look()
        try:
            yield
        finally:
            with self._lock:
                self._asking[span.id] -= 1
                self._look()

    def waited(self, spent: float = 0.0) -> tuple[float, bool]:
        """Give the seconds that all tasks under way have waited for people, and whether they do now.

        Those that were ``spent`` before by the run's other processes are taken from them.
        """
        with self._lock:
            since = self._waits_since
            now = time.monotonic() - since if since is not None else 0.0
            return self._waited + now - spent, since is not None

    def _look(self) -> None:
        """Note whether every task under way waits for a person."""
        asking = [span for span in self._open.values() if self._asking[span.id]]
        tasks = (span.id for span in self._open.values() if span.kind == "task")
        waits = bool(asking) and {_root(span).id for span in asking}.issuperset(tasks)
        if waits and self._waits_since is None:
            self._waits_since = time.monotonic()
        elif not waits and self._waits_since is not None:
            self._waited += time.monotonic() - self._waits_since
            self._waits_since = None

    def _look_at(self, span: OpenSpan) -> None:
        if span.kind == "task" and self._asking:
            self._look()

    def add(self, span: OpenSpan, event: Mapping[str, Any]) -> None:
        """Emit an event of an open span."""
        with self._lock:
            if span.id in self._open:
                self._outbox.emit({**event, **span.fields()})

    def complete(self, span: OpenSpan, event: Mapping[str, Any]) -> None:
        """End a span well."""
        self._close(span, event, ErrorInfo(code="INTERNAL_ERROR", message="It was left unfinished."))

    def fail(self, span: OpenSpan, error: ErrorInfo) -> None:
        """End a span badly, and what is still open within it for the same reason."""
        self._close(span, span.failed(error), error)

    def end(self, error: ErrorInfo) -> None:
        """End every span that is still open, innermost first; nothing is emitted from then on."""
        with self._lock:
            for span in sorted(self._open.values(), key=lambda span: -span.id):
                self.fail(span, error)
            self._ended = True

    def following(self) -> Spans:
        """Give those that come after these have ended: threads that were left behind do not know them."""
        with self._lock:
            return Spans(self._outbox, self._opened)

    def _close(self, span: OpenSpan, event: Mapping[str, Any], error: ErrorInfo) -> None:
        with self._lock:
            if span.id not in self._open:
                return
            for inner in sorted(self._open.values(), key=lambda inner: -inner.id):
                if inner is not span and _is_within(inner, span):
                    del self._open[inner.id]
                    self._outbox.emit({**inner.failed(error), **inner.fields(), **inner.extra})
            del self._open[span.id]
            self._look_at(span)
            self._outbox.emit({**event, **span.fields(), **span.extra})
        stack = _stack.get()
        if span in stack:
            _stack.set(stack[: stack.index(span)])


def _root(span: OpenSpan) -> OpenSpan:
    while span.parent is not None:
        span = span.parent
    return span


def _is_within(span: OpenSpan, outer: OpenSpan) -> bool:
    above = span.parent
    while above is not None:
        if above is outer:
            return True
        above = above.parent
    return False
