"""The state of a run, folded from its events: the only source of status and progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.events.event import ErrorEvent, Event, ExecutionStatusEvent, InputRequest, Remembered
from kasal_jupyter.events.tally import (
    CALL_ENDS,
    COUNTED,
    Answers,
    Breakdown,
    Tally,
    is_free,
    is_recorded,
)
from kasal_jupyter.schemas.base import parse_time, whole_seconds
from kasal_jupyter.schemas.executions import (
    ENDED,
    ExecutionError,
    FailedCall,
    OpenQuestion,
    RunState,
    Status,
    Verb,
)
from kasal_jupyter.schemas.usage import Usage, UsageBreakdown


@dataclass(slots=True)
class RunSummary:
    """A run in figures. Feed it the journal's events in order.

    ``progress`` is the percentage of tasks done; it never goes back, and reaches
    100 only with the state ``completed``.
    """

    status: RunState = "queued"
    crew_name: str = ""
    verb: Verb = "run"
    parent: str | None = None
    """The run whose record it uses."""
    seq: int = 0
    created_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    tasks_total: int = 0
    tasks_done: int = 0
    current_task: str | None = None
    task_states: dict[str, str] = field(default_factory=dict)
    questions: dict[str, OpenQuestion] = field(default_factory=dict)
    """What people are asked and nobody has answered yet, by ``call_id``."""
    result: str | None = None
    result_file: str | None = None
    """Where the whole result is in the run's folder, where it is longer than an event's may be."""
    latest_done: tuple[str, str] | None = None
    """The task that was done last, by its title, and what it gave."""
    error: ExecutionError | None = None
    tally: Tally = field(default_factory=Tally)
    """Tokens, calls and dollars of the whole run."""
    answers: Answers = field(default_factory=Answers)
    """How its calls were answered: live, or from an earlier run's record."""
    failed_at: FailedCall | None = None
    """The call that a run has failed at, or was cut off in, where it was one."""
    days: dict[str, Breakdown] = field(default_factory=dict)
    """The same by the day of UTC, and there by task, agent and model."""
    remembered: list[Remembered] = field(default_factory=list)
    """What the crew is to remember of the run."""
    remarks: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What is wrong with tasks' results, that one was cut off, say, by task: its title, and the remark."""
    errors: int = 0
    """Failed spans and errors, those the run recovered from included."""
    waited: float = 0.0
    """Seconds that it has done nothing but wait for people, not counting how long it does so now."""
    rests: bool = False
    """Whether it waits for people, or has done nothing since but to be answered: so it can be put away."""
    _asking: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _waits_since: str | None = None
    resuming: bool = False
    """Whether another run goes on with this one, which was cut off."""
    _under_way: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    _failing: Mapping[str, Any] | None = None
    _latest: str = ""
    _set_back: float = 0.0

    @property
    def latest_at(self) -> str:
        """When the latest event happened; empty before the first."""
        return self._latest

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.status in ENDED

    @property
    def waits(self) -> bool:
        """Whether the run does nothing but wait for people: each task under way, and each call."""
        if not self._asking or self.status != "running":
            return False
        spans = {event["span_id"] for event in self._asking.values()}
        tasks = {event["task_id"] for event in self._asking.values()}
        # A call without a key is the crew's own: an agent that has another work asks by that one.
        calls = (span_id for span_id, call in self._under_way.items() if call.get("key"))
        running = (task_id for task_id, state in self.task_states.items() if state == "running")
        return spans.issuperset(calls) and tasks.issuperset(running)

    @property
    def standing(self) -> Status:
        """The status of its execution."""
        return "waiting_for_input" if self.waits else self.status

    @property
    def under_way(self) -> FailedCall | None:
        """The call that has begun and not ended; of several, the one that has begun last."""
        return _worded(next(reversed(self._under_way.values()), None))

    @property
    def partial_result(self) -> str | None:
        """What there is of a run that ended before its time, and without a result: its last task's."""
        early = self.ended and self.status != "completed" and self.result is None
        return self.latest_done[1] if early and self.latest_done is not None else None

    @property
    def progress(self) -> int:
        """Percent of tasks done, 0 to 100."""
        if self.status == "completed":
            return 100
        return min(99, 100 * self.tasks_done // self.tasks_total) if self.tasks_total else 0

    @property
    def duration(self) -> float | None:
        """Seconds from the start to the end; None while the run goes on."""
        if self.started_at is None or self.ended_at is None:
            return None
        passed = (parse_time(self.ended_at) - parse_time(self.started_at)).total_seconds()
        return max(0.0, passed + self._set_back)

    @property
    def total_tokens(self) -> int:
        """Tokens of all calls, in and out."""
        return self.tally.total_tokens

    @property
    def llm_calls(self) -> int:
        """How often a model was asked."""
        return self.tally.llm_calls

    @property
    def tool_calls(self) -> int:
        """How often a tool was called."""
        return self.tally.tool_calls

    @property
    def cost(self) -> float | None:
        """US dollars of the model calls; None as soon as one's is unknown."""
        return self.tally.cost

    def worked(self, now: str) -> float:
        """Give the seconds since its start that it has not waited for people."""
        if self.started_at is None:
            return 0.0
        passed = (parse_time(self._waits_since or now) - parse_time(self.started_at)).total_seconds()
        return max(0.0, passed + self._set_back - self.waited)

    def usage(self) -> Usage:
        """Give the tokens, the calls and the cost so far."""
        return self.tally.usage()

    def usage_by(self) -> UsageBreakdown:
        """Give the same by task, agent and model."""
        if len(self.days) == 1:
            return next(iter(self.days.values())).by()
        merged = Breakdown()
        for day in self.days.values():
            merged.add(day.whole.usage(), day.by())
        return merged.by()

    def feed(self, event: Event) -> None:
        """Take in the next event.

        What comes after the end is what the crew learns of the run: it costs, and changes nothing else.
        """
        self._take(event)
        if not self.rests or not _leaves_at_rest(event):
            self.rests = self.waits
        if self.waits:
            self._waits_since = self._waits_since or event["time"]
        elif self._waits_since is not None:
            passed = parse_time(event["time"]) - parse_time(self._waits_since)
            self.waited += max(0.0, passed.total_seconds())
            self._waits_since = None

    def _take(self, event: Event) -> None:
        self.seq = event.get("seq", self.seq)
        self._follow_clock(event["time"])
        if event["type"] in CALL_ENDS:
            self._end_call(event)
        if event["type"] in {"llm_call", "tool_call"}:
            self._under_way[event["span_id"]] = event
            self._book(event, event["time"])
        if event["type"] in COUNTED:
            return
        match event["type"]:
            case "execution_status":
                self._status(event)
            case "task_start":
                self.current_task = event["task"]
                self._task_state(event["task_id"], "running")
            case "task_complete":
                if self._task_state(event["task_id"], "completed") != "completed":
                    self.tasks_done += 1
                if (result := event.get("result")) is not None:
                    self.latest_done = event["task"] or "task", result
                if remark := event.get("remark"):
                    self.remarks[event["task_id"] or ""] = event["task"] or "", remark
            case "task_skipped":
                self._task_state(event["task_id"], "skipped")
                self.tasks_done += 1
            case "task_failed":
                self._task_state(event["task_id"], "failed")
                self.errors += 1
            case "input_request":
                self._asking[event["call_id"]] = event
                self.questions[event["call_id"]] = question_of(event)
            case "input_answer":
                self._close_question(event["call_id"])
            case "tool_result" | "tool_failed":
                for call_id, asked in list(self._asking.items()):
                    if asked["span_id"] == event["span_id"]:
                        self._close_question(call_id)
            case "memory_stored":
                self.remembered = event["memories"]
            case "error":
                if not self.ended:
                    self._error(event)
            case _:
                pass

    def told_remarks(self) -> list[str]:
        """Give a sentence for each task's result that has something wrong with it."""
        many = self.tasks_total > 1
        return [f"{title}: {said}" if many and title else said for title, said in self.remarks.values()]

    def fields(self) -> dict[str, Any]:
        """Give what an execution's stored summary takes from the run, as plain JSON types."""
        return {
            "status": self.standing,
            "progress": self.progress,
            "current_task": None if self.ended else self.current_task,
            "started_at": whole_seconds(self.started_at) if self.started_at else None,
            "ended_at": whole_seconds(self.ended_at) if self.ended_at else None,
            "duration": self.duration,
            "result": self.result,
            "result_file": self.result_file,
            "partial_result": self.partial_result,
            "questions": [question.model_dump() for question in self.questions.values()],
            "error": self.error.model_dump() if self.error else None,
            "usage": self.usage().model_dump(),
            "usage_by": self.usage_by().model_dump(),
            "task_states": dict(self.task_states),
            "calls": self.answers.calls().model_dump(),
            "failed_at": self.failed_at.model_dump() if self.failed_at else None,
        }

    def _close_question(self, call_id: str) -> None:
        self.questions.pop(call_id, None)
        self._asking.pop(call_id, None)

    def _end_call(self, event: Mapping[str, Any]) -> None:
        opened = self._under_way.pop(event["span_id"], event)
        failed = event["type"] in {"llm_failed", "tool_failed"}
        self.errors += failed
        self._failing = opened if failed else None
        if opened.get("key") or is_recorded(event):
            # Others are the crew's own: to delegate is to begin an agent's work.
            self.answers.feed(event)
        if is_recorded(event):
            # It takes back what its beginning has counted, on the same day.
            self._book(event, opened["time"])
        elif event["type"] in COUNTED:
            self._book(event, event["time"])

    def _book(self, event: Mapping[str, Any], time: str) -> None:
        self.tally.feed(event)
        self.days.setdefault(time[:10], Breakdown()).feed(event)

    def _leave_calls(self) -> None:
        """Book the calls that a run's end has cut off: what they cost, nobody here knows."""
        for call in self._under_way.values():
            if call["type"] == "llm_call" and self.verb != "replay" and not is_free(call):
                self._book({**call, "type": "llm_failed", "usage": None, "cost": None}, call["time"])
        self._under_way.clear()

    def _follow_clock(self, time: str) -> None:
        """Note by how much the clock was set back while the run went on: events are in their order."""
        if time < self._latest and self.started_at is not None and not self.ended:
            self._set_back += (parse_time(self._latest) - parse_time(time)).total_seconds()
        self._latest = time

    def _status(self, event: ExecutionStatusEvent) -> None:
        if self.ended:
            return
        self.status = event["status"]
        if self.status == "queued":
            self.created_at = event["time"]
            self.crew_name = event.get("crew_name", "")
            self.verb = event.get("verb", "run")
            self.parent = event.get("parent")
            self.tasks_total = len(event.get("tasks", ()))
            self.task_states = {task["id"]: "created" for task in event.get("tasks", ())}
        elif self.status == "running":
            # One that was put away is told to run again when it is brought back.
            self.started_at = self.started_at or event["time"]
        elif self.status in ENDED:
            self.ended_at = event["time"]
            self.resuming = event.get("resuming", False)
            if self.status in {"failed", "interrupted"}:
                self.failed_at = self._failed_call(event)
            self._leave_calls()
            self.questions.clear()
            self._asking.clear()
            self.result = event.get("result", self.result)
            self.result_file = event.get("result_file")
            if (error := event.get("error")) and self.error is None:
                self.error = ExecutionError(code=error["code"], message=error["message"])
            for task_id, state in self.task_states.items():
                if state == "running":
                    self.task_states[task_id] = "stopped"

    def _failed_call(self, end: ExecutionStatusEvent) -> FailedCall | None:
        """Give the call that was under way as the run ended; of a failure, else the last that has failed."""
        error = self.error or end.get("error")
        code = error.code if isinstance(error, ExecutionError) else error["code"] if error else None
        if code == "BUDGET_EXCEEDED":
            return None
        failing = self._failing if self.status == "failed" and not self._under_way else None
        return _worded(failing) if failing is not None else self.under_way

    def _error(self, event: ErrorEvent) -> None:
        self.errors += 1
        self.error = ExecutionError(code=event["code"], message=event["message"], task=event.get("task_id"))

    def _task_state(self, task_id: str | None, state: str) -> str | None:
        """Set a task's state and give the one before."""
        if task_id is None:
            return None
        before = self.task_states.get(task_id)
        self.task_states[task_id] = state
        return before


def _leaves_at_rest(event: Event) -> bool:
    """Say whether an event does not wake a run that rests: it is answered, or gets a process again."""
    return event["type"] == "input_answer" or (
        event["type"] == "execution_status" and event["status"] == "running"
    )


def question_of(event: InputRequest) -> OpenQuestion:
    """Give the question of an event."""
    return OpenQuestion(
        call_id=event["call_id"],
        agent=event["agent"],
        question=event["question"],
        choices=event["choices"],
        timeout=event["timeout"],
        asked_at=whole_seconds(event["time"]),
        kind=event.get("kind", "question"),
        on_timeout=event.get("on_timeout"),
        task=event["task"],
        output=event.get("output"),
        tool=event.get("tool"),
        arguments=event.get("arguments"),
        digest=event.get("digest"),
        crew_version=event.get("crew_version"),
    )


def _worded(call: Mapping[str, Any] | None) -> FailedCall | None:
    if call is None or not (key := call.get("key")):
        return None
    what = f"the model {call['model']}" if call["type"] == "llm_call" else f"the tool {call.get('tool')}"
    where = f" in task {call['task']!r}" if call.get("task") else ""
    # The same request has another number where it was asked more often before.
    return FailedCall(call=key.rpartition(":")[0], words=f"{what}{where}")


def add_costs(one: float | None, other: float | None) -> float | None:
    """Add up US dollars; what is unknown makes the sum unknown, which would look too small without it."""
    # No token costs less than a millionth of a cent: further digits are those of binary fractions.
    return None if one is None or other is None else round(one + other, 12)


def summarise(events: Iterable[Event]) -> RunSummary:
    """Fold a whole run."""
    summary = RunSummary()
    for event in events:
        summary.feed(event)
    return summary
