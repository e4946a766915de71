"""What a run asks, told apart: the one seam that every call of a model, a tool or its memory goes through.

A call's identity is what is asked, by whom, and in which task; its *ordinal* tells equal ones of a run
apart. No id, no time, no place among all calls is part of it, so that a run which asks the same finds the
answers that an earlier one was given, whatever goes on beside it. Where anything differs, nothing is found.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from crewai.tools.tool_failure import ToolFailure

from kasal_jupyter.events.event import Edited, ErrorInfo
from kasal_jupyter.hiding import here
from kasal_jupyter.schemas.cassettes import FOLDER, Settling
from kasal_jupyter.schemas.spec import RunEdit, RunSource, RunSpec, RunToolAnswer
from kasal_jupyter.tools.tool import Question
from kasal_jupyter.worker.crew.client_tool import said
from kasal_jupyter.worker.crew.earlier import CallKind, EarlierRun, Given, canonical
from kasal_jupyter.worker.crew.miss import difference
from kasal_jupyter.worker.crew.spans import OpenSpan, Spans
from kasal_jupyter.worker.crewai_seams import among_equals
from kasal_jupyter.worker.process.outbox import encode
from kasal_jupyter.worker.process.stop import RunFailed, StopSignal

VERSION = "1"
"""How identities are made; whatever is changed below makes it another."""

REPLAY_MISS = "REPLAY_MISS"

AGAIN, WITHOUT = "call it again", "do without it"
"""What a human may answer of a call of which nobody knows whether it was made."""

_NOT_ASKED = frozenset({"on_timeout"})
"""What of a question says what becomes of it, and not what it is."""

_FOLDER = FOLDER.encode()


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that is about to be made.

    Attributes
    ----------
    key
        Its identity, as events have it.
    what
        What is asked; it is the same wherever the identity is.
    found
        The call as an earlier run has recorded it.
    given
        The same, where its answer can be given.
    edit
        The prompt that a user has put in the place of the last one: that is to be asked.
    """

    key: str
    what: Mapping[str, Any]
    found: Given | None = None
    given: Given | None = None
    edit: RunEdit | None = None


@dataclass(slots=True)
class RunRecord:
    """Which call is which in a run, and what an earlier one was answered.

    Parameters
    ----------
    spec
        The run.
    spans
        Tell who asks, and in which task.
    signal
        Ends the run where it may ask nobody.
    ask
        Asks a person a question that has a key, or takes the answer that is given with it.
    noted
        Waits until all that the run has told is recorded, and says whether it is.
    """

    spec: RunSpec
    spans: Spans
    signal: StopSignal
    ask: Callable[[Question, str, RunToolAnswer | None], RunToolAnswer]
    noted: Callable[[], bool]
    earlier: EarlierRun | None = field(init=False, default=None)
    _own: EarlierRun | None = field(init=False, default=None)
    _edits: dict[str, RunEdit] = field(init=False)
    _asked: Counter[str] = field(default_factory=Counter)
    _reading: threading.Lock = field(default_factory=threading.Lock)
    _titles: dict[str, int] = field(init=False)
    _folder: bytes = field(init=False)
    _settling: Settling | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._titles = _numbered((task.id, task.title()) for task in self.spec.tasks)
        self._folder = encode(self.spec.folder)[1:-1]
        if self.spec.cassette is not None:
            self._settling = Settling(self.spec.cassette.varies, self.spec.folder)
        self._edits = {edit.call: edit for edit in self.spec.edits}
        if (own := self.spec.own) is not None:
            before = RunSource(verb="resume", job_id=self.spec.job_id, journal=own.journal)
            self._own = EarlierRun(before, self._folder, own=True)
        if (source := self.spec.source) is not None:
            self.earlier = EarlierRun(source, self._folder)

    @property
    def replays(self) -> bool:
        """Whether nothing may be asked that is not recorded."""
        return self.spec.source is not None and self.spec.source.verb == "replay"

    # -- models ----------------------------------------------------------------------------------------------

    def model(self, asked: Mapping[str, Any], line: Sequence[str]) -> Asked:
        """Say which call of a model is about to be made, with its answer where that is recorded.

        Parameters
        ----------
        asked
            What is asked: ``model``, ``messages`` and so on.
        line
            The models that may be asked in its place. Which of them an agent has come to may hang on what
            goes on beside it; and whoever resumes with another model keeps the answers of the one before.
        """
        whole = self._whole("model", {**asked, "messages": canonical(asked["messages"])})
        call = self._counted(whole)
        records = self._records()
        if not records:
            return call
        ordinal = call.key.rpartition(":")[2]
        goes_on = self.spec.source is None or self.spec.source.verb in {"resume", "fork"}
        known = sorted(model for record in records for model in record.models) if goes_on else ()
        others = [*line, *known]
        keys = [call.key] + [
            f"{self._identity({**whole, 'model': other})}:{ordinal}"
            for other in dict.fromkeys(others)
            if other != asked["model"]
        ]
        if (edit := next((self._edits[key] for key in keys if key in self._edits), None)) is not None:
            if edit.what == "prompt":
                return replace(call, edit=edit)
            return replace(call, given=_edited_answer(whole, edit, self._found([edit.call])))
        found = self._found(keys)
        return replace(call, found=found, given=found if found is not None and self._counts(found) else None)

    def check_live(self, call: Asked) -> None:
        """Make sure that a call may be made whose answer is not recorded.

        Raises
        ------
        RunFailed
            It may not: this is a replay.
        """
        if self.replays:
            raise self._miss(call)

    def _counts(self, given: Given) -> bool:
        """Say whether an answer is taken: a failure that has ended the run is not, where it is to go on."""
        if given.answered is None or given.cut or given.stands != "before":
            return False
        return self.replays or given.own or given.settled

    # -- tools -----------------------------------------------------------------------------------------------

    def tool_key(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Say which call of a tool has begun."""
        return self._counted(self._tool(tool, arguments)).key

    def tool(
        self,
        name: str,
        call: Callable[[str], Any],
        *,
        idempotent: bool,
        leave: Callable[[str], Any] | None = None,
    ) -> Any:
        """Give what a tool has answered, or have it called.

        Parameters
        ----------
        name
            The tool.
        call
            Calls it, under a key of the call's own.
        idempotent
            Whether that may be done without asking where nobody knows whether it was done before.
        leave
            Asks a person for leave, and calls it with what they say; None where none is needed.

        Raises
        ------
        RunStopped, RunFailed
            The run must end: the call is not recorded, and may not be made, say.
        """
        span = self.spans.innermost("tool", within="agent")
        if span is None or span.key is None:
            # A thread that was left behind: what it did would stand nowhere, and be done again.
            return ToolFailure(message="The run has ended")
        given = self._found([span.key])
        answer: Any
        anew = given is not None and _is_called_anew(given, idempotent=idempotent)
        if (edit := self._edits.get(span.key)) is not None:
            self.signal.check()
            span.recorded, span.edited = True, edited(edit)
            answer = edit.text
        elif given is not None and given.answered is not None and not given.cut and not anew:
            self.signal.check()
            span.recorded = True
            answer = _tool_answer(given)
        elif self.replays:
            arguments = given.call["arguments"] if given is not None else span.arguments
            raise self._miss(Asked(span.key, self._tool(name, arguments), given))
        elif given is not None and not (anew or given.held or idempotent or self._again(name, span, given)):
            answer = ToolFailure(
                message=f"{name} was called with these arguments before, and nobody knows what became of it. "
                "It was not called again; go on without its result."
            )
        elif leave is not None:
            answer = leave(self._call_key(span.key))
        elif not idempotent and (unrecorded := self.unrecorded(name)) is not None:
            return unrecorded
        else:
            answer = call(self._call_key(span.key))
        span.answered = True
        if isinstance(answer, str):
            span.said = answer
        return answer

    def unrecorded(self, tool: str) -> ToolFailure | None:
        """Give why a call is not made: its beginning is not on disk, and who goes on could not know of it."""
        if self.noted():
            return None
        return ToolFailure(message=f"{tool} was not called: the call could not be recorded")

    def _call_key(self, key: str) -> str:
        """Give the key of a call, by which its receiver knows it again in whatever attempt at the run."""
        return hashlib.sha256(f"{self.spec.lineage}/{key}".encode()).hexdigest()[:32]

    def _tool(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return self._whole("tool", {"tool": tool, "arguments": arguments})

    def _again(self, name: str, span: OpenSpan, given: Given) -> bool:
        """Ask a human whether a call is made again of which nobody knows what became of it."""
        if given.answered is None:
            why = "had begun when the run ended, and nobody knows whether it was done"
        else:
            why = "was done, but its result was too long to be recorded whole"
        arguments = here().hide(encode(span.arguments)).decode()
        shown = arguments if len(arguments) <= 400 else f"{arguments[:400]}…"
        question = Question(f"The call {name}({shown}) {why}. Is it to be made again?", (AGAIN, WITHOUT))
        return (self.person(question).result or "").strip().casefold() == AGAIN

    # -- people ----------------------------------------------------------------------------------------------

    def answer_of(self, question: Question) -> str:
        """Ask a person; see :data:`kasal_jupyter.tools.tool.Ask`."""
        return said(self.person(question))

    def person(self, question: Question) -> RunToolAnswer:
        """Ask a person, unless the answer is recorded, and give it.

        Raises
        ------
        RunStopped, RunFailed
            The run must end: nobody may be asked in a replay, say.
        """
        about = {name: value for name, value in question.about.items() if name not in _NOT_ASKED}
        about["form"] = about.pop("kind", "question")
        asked = {"question": question.text, "choices": list(question.choices), **about}
        call = self._counted(self._whole("person", asked))
        found = self._found([call.key])
        given = None
        if found is not None and found.answered and not found.cut and found.stands == "before":
            said_then = {name: found.answer.get(name) for name in ("result", "error", "arguments")}
            given = RunToolAnswer(call_id="", **said_then)
        else:
            self.check_live(replace(call, found=found))
        return self.ask(question, call.key, given)

    # -- memory ----------------------------------------------------------------------------------------------

    def memory(self, asked: Mapping[str, Any], agent: str) -> tuple[str, Given | None]:
        """Say which reminder it is that an agent is about to be given, and give it where it is recorded.

        Raises
        ------
        RunFailed
            It is not, and memories may not be looked up.
        """
        call = self._counted(self._whole("memory", asked) | {"agent": agent})
        given = self._found([call.key])
        if given is not None and not given.cut and given.stands == "before":
            return call.key, given
        self.check_live(replace(call, found=given))
        return call.key, None

    # -- identities ------------------------------------------------------------------------------------------

    def _whole(self, kind: CallKind, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Give what is asked, by whom, and in which task."""
        span = self.spans.around()
        task_id = span.task_id if span is not None else None
        whole = {
            "kind": kind,
            "task": span.task if span is not None else None,
            # Of several tasks of one title.
            "nth": self._titles.get(task_id or "", 0),
            "agent": span.agent if span is not None else None,
            # Of several equal calls that a model has asked for at once, and of what is asked within each.
            "among": among_equals.get(),
            **asked,
        }
        # Of a cassette: what varies is no part of what is asked.
        return self._settling.settled(whole) if self._settling is not None else whole

    def _counted(self, what: Mapping[str, Any]) -> Asked:
        identity = self._identity(what)
        with self._reading:
            self._asked[identity] += 1
            return Asked(f"{identity}:{self._asked[identity]}", what)

    def _identity(self, what: Mapping[str, Any]) -> str:
        written = here().json(encode(what, orjson.OPT_SORT_KEYS).replace(self._folder, _FOLDER))
        return f"{VERSION}:{hashlib.sha256(written).hexdigest()[:32]}"

    def _records(self) -> list[EarlierRun]:
        """Give where answers are looked for: in what this run has done before, then in its source."""
        return [record for record in (self._own, self.earlier) if record is not None]

    def _found(self, keys: Sequence[str]) -> Given | None:
        with self._reading:
            found = (record.find(key) for record in self._records() for key in keys)
            return next((given for given in found if given is not None), None)

    def _miss(self, call: Asked) -> RunFailed:
        """End a run that asks what is not recorded."""
        assert self.earlier is not None
        assert self.spec.source is not None
        with self._reading:
            words = difference(call.what, call.found, self.earlier)
        message = f"{self.spec.source.job_id} has recorded no answer: {words}"
        error = ErrorInfo(code=REPLAY_MISS, message=message)
        self.signal.fail(error)
        return RunFailed(error)


def edited(edit: RunEdit) -> Edited:
    """Give what events tell of a user's change."""
    return Edited(call=edit.call, what=edit.what, by=edit.by)


def _is_called_anew(given: Given, *, idempotent: bool) -> bool:
    """Say whether a tool is called again that has been called in the run that this one is a fork of.

    Behind the place, the world is looked at anew, and humans are asked again; what has changed the world is
    not done twice. The call at the place is the one that somebody wants made again.
    """
    return given.stands == "at" or (given.stands == "behind" and (idempotent or given.asked_human))


def _edited_answer(asked: Mapping[str, Any], edit: RunEdit, found: Given | None) -> Given:
    """Give a user's text as the answer of a model, which was asked this."""
    shown = {name: asked[name] for name in ("model", "messages", "settings")}
    names = [tool.get("function", tool).get("name") for tool in asked["tools"] or ()]
    call = found.call if found is not None else {**shown, "tools": names}
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    before = found.answer if found is not None else {}
    answer = {
        "text": edit.text,
        "tool_calls": [],
        "usage": before.get("usage") or nothing,
        "cost": before.get("cost", 0.0),
        "finish_reason": "stop",
        "edited": edited(edit),
    }
    return Given(call=call, answer=answer, answered="llm_response")


def _numbered(titles: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Give, by the ids of tasks, how many before have the same title."""
    seen: Counter[str] = Counter()
    numbers = {}
    for task_id, title in titles:
        numbers[task_id] = seen[title]
        seen[title] += 1
    return numbers


def _tool_answer(given: Given) -> str | ToolFailure:
    if given.answered == "tool_failed":
        return ToolFailure(message=given.answer["error"]["message"])
    said: str = given.answer.get("given", given.answer["result"])
    return said
