"""Executions: the reference's *Execution Management*."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import TypedDict  # pydantic reads no other on Python 3.11

from kasal_jupyter.schemas.base import WHOLE, Document, Given, Listed, ListQuery, Model, Name, Query, called
from kasal_jupyter.schemas.cassettes import Cassette
from kasal_jupyter.schemas.datasets import RatingGiven, Thumb
from kasal_jupyter.schemas.people import AskedKind, OnTimeout
from kasal_jupyter.schemas.tasks import TaskState
from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.schemas.usage import Usage, UsageBreakdown

TIME_PATTERN = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"
"""A time as the reference writes it."""

RunState = Literal["queued", "running", "completed", "failed", "stopped", "interrupted"]
"""A run's state, as its events tell it."""

Status = Literal["queued", "running", "waiting_for_input", "completed", "failed", "stopped", "interrupted"]
"""An execution's: one that runs, and does nothing but wait for a person, is ``waiting_for_input``."""

Verb = Literal["run", "replay", "resume", "fork"]
"""What an execution is: a run of its own, an earlier one's record again, an earlier one that goes on, or one
that goes another way from some place on."""

KINDS: Mapping[str, frozenset[str]] = {
    "task": frozenset({"task_start", "task_complete", "task_skipped", "task_failed", "guardrail", "plan"}),
    "agent": frozenset({"agent_start", "agent_complete", "agent_failed"}),
    "llm": frozenset({"llm_call", "llm_chunk", "llm_response", "llm_failed", "llm_retry"}),
    "tool": frozenset(
        {
            *("tool_call", "tool_request", "tool_approved", "tool_result", "tool_failed"),
            *("input_request", "input_answer"),
        }
    ),
    "input_required": frozenset({"input_request"}),
    "memory": frozenset({"memory_recalled", "memory_stored"}),
    "status": frozenset({"execution_status"}),
    "error": frozenset({"error"}),
}
"""The types of event by kind."""

_KIND = f"({'|'.join(sorted(KINDS.keys() | frozenset().union(*KINDS.values())))})"

MOST_STEPS = 10_000
"""Events, or rows of a trace, that are given at once."""

ENDED: frozenset[str] = frozenset({"completed", "failed", "stopped", "interrupted"})
"""The states an execution never leaves."""


class Budget(Model):
    """What a run may use up: it ends before the model call that would pass a bound."""

    max_cost: float | None = Field(None, gt=0, le=1e6, description="US dollars.")
    max_tokens: Annotated[int, Field(ge=1, le=10**12), WHOLE] | None = Field(
        None, description="Tokens of all calls, in and out."
    )
    max_seconds: float | None = Field(None, gt=0, le=10**7, description="Seconds since the run began.")


class ExecutionCreate(Model):
    """The body of ``POST /executions``."""

    crew_id: str
    inputs: dict[str, Any] = Field(
        default_factory=dict, max_length=1_000, description="Values for the crew's {placeholders}."
    )
    tools: list[ClientTool] = Field(
        default_factory=list, max_length=64, description="Tools that whoever starts the run answers for."
    )
    budget: Budget | None = Field(None, description="What the run may use up.")
    once: bool = Field(
        False,
        description="Whether a run that was asked for the same answers for this one: nothing is run then.",
    )
    cassette: Cassette | None = Field(
        None, description="The cassette that the run is recorded for, or takes its answers from."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.once and self.cassette is not None:
            raise ValueError("A run takes its answers from a cassette or, with once, from an earlier one")
        return self


class ExecutionChange(Model):
    """What is other in an execution than in the one whose record it uses."""

    model: Name | None = Field(
        None, description="The model that is asked from now on, in the place of all that the crew names."
    )
    budget: Budget | None = Field(
        None, description="Bounds that change, null for none; what was spent before does not count."
    )
    tools: list[ClientTool] = Field(
        default_factory=list,
        max_length=64,
        description="Tools that whoever goes on with the run answers for, by their names in the place of "
        "those that it was started with.",
    )


class ExecutionResume(ExecutionChange):
    """The body of ``POST /executions/{job_id}/resume``: what is other than it was; it may be empty."""

    inputs: dict[str, Any] = Field(
        default_factory=dict, max_length=1_000, description="Inputs that change; the others stay."
    )


EditKind = Literal["prompt", "answer", "result"]

EDITS: tuple[EditKind, ...] = ("prompt", "answer", "result")
"""What can be changed of a step."""


MOST_EDITED = 200_000
"""Characters of a text that a fork puts in the place of another: as many as an event has of one."""


class ExecutionFork(ExecutionChange):
    """The body of ``POST /executions/{job_id}/fork``: where it begins, and what is changed there."""

    span: Annotated[int, Field(ge=1, le=10**12), WHOLE] = Field(
        description="The step, by its span's id: a call of a model or a tool, an agent's work, or a task."
    )
    prompt: Given[str] = Field(
        None,
        min_length=1,
        max_length=MOST_EDITED,
        description="What a model is asked in the place of the last message that is the user's.",
    )
    answer: Given[str] = Field(
        None,
        max_length=MOST_EDITED,
        description="A model's answer; of a task, or an agent's work, what has come of it.",
    )
    result: Given[str] = Field(None, max_length=MOST_EDITED, description="What a tool has given.")
    dry_run: bool = Field(False, description="Whether nothing is started: the answer says what would be.")

    @property
    def what(self) -> EditKind | None:
        """What is changed at the place."""
        return next((what for what in EDITS if getattr(self, what) is not None), None)

    @property
    def text(self) -> str:
        """What stands there then."""
        return str(getattr(self, self.what)) if self.what is not None else ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(getattr(self, what) is not None for what in EDITS) > 1:
            raise ValueError("Change one of prompt, answer and result at a time; a fork can be forked")
        return self


class ForkEstimate(Model):
    """What a fork may take, by what it has taken to go on from there in the run that it is of."""

    calls: int = Field(description="Calls of models that are made.")
    cost: float | None = Field(description="US dollars that they have cost; null where that is not known.")
    at_least: bool = Field(description="Whether the run ended before its time: nobody knows what comes then.")


class ForkPreview(Model):
    """The answer of ``POST /executions/{job_id}/fork`` with ``dry_run``."""

    span: int = Field(description="The call that it would begin at, by its span's id.")
    at: int = Field(description="The event that begins it.")
    kind: Literal["model", "tool"]
    name: str = Field(description="The model, or the tool.")
    task: str | None
    agent: str | None
    estimate: ForkEstimate
    prompt: str | None = Field(None, description="What a model was asked last; null where it is very long.")
    answer: str | None = Field(None, description="What it has answered, if that was a text.")
    result: str | None = Field(None, description="What a tool has given.")


class ToolAnswer(Model):
    """The body of ``POST /executions/{job_id}/tool_calls/{call_id}``: a result, or why there is none."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["result"]}, {"required": ["error"]}]}
    )

    result: Given[str] = Field(None, description="What the agent is given.")
    error: Given[str] = Field(None, description="What went wrong, for the agent.")
    arguments: Given[dict[str, Any]] = Field(
        None, description="With the approval of a call: what it is made with in the place of its arguments."
    )

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.result is None) == (self.error is None):
            raise ValueError("Give either a result or an error")
        return self


class ToolAnswered(Model):
    """The answer of ``POST /executions/{job_id}/tool_calls/{call_id}``."""

    call_id: str
    status: Literal["answered"] = "answered"


class CrewRemark(Model):
    """Something that a run does otherwise than one might think."""

    field: str
    remark: str = Field(description="E.g. that nothing uses an input, or that a model's successor answers.")
    doubt: bool = Field(
        False, description="Whether it may keep a run from working: a model that nobody is known to serve."
    )


class ExecutionAccepted(Model):
    """The answer of ``POST /executions``."""

    job_id: str
    status: Literal["queued"] = "queued"
    estimated_duration: int = Field(description="Seconds, from the crew's own past runs where there are any.")
    remarks: list[CrewRemark] = Field(
        default_factory=list, description="What keeps nothing from running, and is worth knowing."
    )


class ExecutionBegun(ExecutionAccepted):
    """The answer of ``POST /executions/{job_id}/replay`` and of ``…/resume``."""

    verb: Verb
    parent: str = Field(description="The execution whose record is used.")
    attempt: int = Field(description="Which attempt at the run it is, from 1; a replay is none of its own.")


class ExecutionForked(ExecutionBegun):
    """The answer of ``POST /executions/{job_id}/fork``."""

    at: int = Field(description="The event of its parent that it begins at.")
    estimate: ForkEstimate


class Calls(Model):
    """How a run's calls of models and tools were answered."""

    recorded: int = Field(0, ge=0, description="Calls that an earlier run's record has answered.")
    live: int = Field(0, ge=0, description="Calls that were made.")
    saved: float | None = Field(
        0.0, description="US dollars that the recorded ones have cost when they were made; null: not known."
    )


class FailedCall(Model):
    """The call that a run has failed at, or was cut off in."""

    call: str = Field(description="What is asked by it, as a digest: equal in all attempts at the run.")
    words: str = Field(description="Whom, and in which task.")


Recorded = TypedDict(
    "Recorded",
    {
        "from": Annotated[str, Field(description="The execution that answers.")],
        "age_seconds": Annotated[int, Field(description="How long ago it has ended; 0 while it goes on.")],
        "saved": Annotated[
            float | None, Field(description="US dollars that it has cost; null where that is not known.")
        ],
    },
)
"""Which earlier run answers for one that was asked for with ``once``."""


class ExecutionError(Model):
    """Why an execution failed."""

    code: str
    message: str
    task: str | None = None


class StopRequest(Document):
    """A request to the server that runs an execution: to stop it."""

    id: str = Field(description="The execution.")
    server: str = Field(description="Which server is asked.")
    reason: ExecutionError | None = Field(None, description="Why, where nobody has asked for it.")
    created_at: str


class OpenQuestion(Model):
    """What a person is asked and nobody has answered yet; see ``input_request``."""

    call_id: str
    agent: str | None
    question: str
    choices: list[str] = Field(description="Answers to choose from; empty where any text is one.")
    timeout: float = Field(description="Seconds from asked_at until nobody is waited for any more.")
    asked_at: str
    kind: AskedKind = Field(
        "question",
        description="An agent's own question, the review of a task's result, or the approval of a call. "
        "Beside approve and reject, the last two take any other text.",
    )
    on_timeout: OnTimeout | None = Field(
        None, description="What counts as the answer then; null: the agent is told that nobody has answered."
    )
    task: str | None = None
    output: str | None = Field(None, description="The result that is reviewed.")
    tool: str | None = Field(None, description="The tool that is to be called.")
    arguments: dict[str, Any] | None = Field(None, description="What it is to be called with.")
    digest: str | None = Field(None, description="Of the arguments.")
    crew_version: int | None = Field(None, description="The crew's, for which alone an approval counts.")


class PendingQuestion(OpenQuestion):
    """A question, and the execution that asks it."""

    job_id: str
    crew_name: str


class QuestionQuery(ListQuery):
    """The query of ``GET /questions``."""

    sort: Literal["asked_at", "-asked_at"] = "asked_at"


class QuestionList(Listed[PendingQuestion], alias_generator=called("questions")):
    """The answer of ``GET /questions``: the oldest first."""


class Execution(Document):
    """An execution's summary as it is stored. It derives from the journal and can be rebuilt from it."""

    id: str
    crew_id: str
    crew_name: str
    owner: str
    server: str = Field(description="The server process that runs it.")
    status: Status
    progress: int = Field(ge=0, le=100, description="Percent of tasks done; 100 only at completion.")
    current_task: str | None = None
    crew_version: int | None = Field(None, description="The version of the crew that it runs.")
    inputs: dict[str, Any]
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    duration: float | None = Field(None, description="Seconds from start to end.")
    result: str | None = None
    result_file: str | None = Field(
        None, description="Where in its folder the whole result is, where this is cut."
    )
    partial_result: str | None = Field(
        None, description="Of one that ended before its time: what its last task that was done gave."
    )
    remarks: list[CrewRemark] = Field(default_factory=list, description="What it was accepted with.")
    questions: list[OpenQuestion] = Field(default_factory=list, description="What waits for an answer.")
    may_answer: list[str] = Field(
        default_factory=list, description="Who may answer them besides the owner, by name."
    )
    error: ExecutionError | None = None
    usage: Usage = Field(default_factory=Usage)
    usage_by: UsageBreakdown = Field(default_factory=UsageBreakdown)
    budget: Budget | None = None
    models: list[str] = Field(default_factory=list, description="Those its crew named as it was accepted.")
    booked: str | None = Field(
        None, description="The day on which the books have it; null before its end, but for a replay."
    )
    task_states: dict[str, TaskState] = Field(
        default_factory=dict, description="How each task fared, by its id."
    )
    estimated_duration: int = Field(0, ge=0, description="Seconds, as it was guessed when it was accepted.")
    verb: Verb = "run"
    parent: str | None = Field(None, description="The execution whose record it uses.")
    at: int | None = Field(None, description="Of a fork: the event of its parent that it begins at.")
    attempt: int = Field(1, ge=1, description="Which attempt at its run it is.")
    calls: Calls = Field(default_factory=Calls)
    failed_at: FailedCall | None = None
    to_resume: bool = Field(
        False, description="Whether a server is to go on with it, since a crash of its own has cut it off."
    )
    resumed_by: str | None = Field(None, description="The execution that goes on with it: the latest.")
    rating: RatingGiven | None = Field(None, description="What somebody makes of it.")
    thumb: Thumb | None = Field(None, description="The rating's.")
    imported_at: str | None = Field(None, description="When it was brought here, where it ran elsewhere.")
    idempotency_key: str | None = Field(None, description="The owner and the key it was asked for with.")
    request_digest: str | None = Field(None, description="Of what was asked for with that key.")
    batch: str | None = Field(None, description="The batch that it is a row of.")
    schedule: str | None = Field(None, description="The schedule that has started it.")


class ExecutionQuery(ListQuery):
    """The query of ``GET /executions``."""

    crew_id: str | None = Field(None, description="One crew's executions.")
    status: Status | None = Field(None, description="Those in one state.")
    thumb: Thumb | None = Field(None, description="Those that are rated so.")
    batch: str | None = Field(None, description="The rows of one batch.")
    schedule: str | None = Field(None, description="Those that one schedule has started.")
    since: str | None = Field(
        None, pattern=TIME_PATTERN, description="Those accepted at this time or later, 2024-01-15T10:30:00Z."
    )
    until: str | None = Field(None, pattern=TIME_PATTERN, description="Those accepted before this time.")
    sort: Literal["created_at", "-created_at", "duration", "-duration", "crew_name", "-crew_name"] = (
        "-created_at"
    )


class ExecutionStatus(Model):
    """The answer of ``GET /executions/{job_id}``."""

    job_id: str
    status: Status
    progress: int
    current_task: str | None
    started_at: str | None
    crew_id: str
    crew_name: str
    crew_version: int | None = Field(
        None, description="The version of the crew that it runs; null where it has none."
    )
    created_at: str
    ended_at: str | None
    duration: float | None
    inputs: dict[str, Any]
    result: str | None = Field(
        description="At most 256,000 characters, in a list 1,000; /executions/{job_id}/result gives all."
    )
    result_truncated: bool = Field(False, description="Whether the result, or the partial one, goes on.")
    partial_result: str | None = Field(
        None,
        description="Where it ended before its time and has no result: what its last task that was done "
        "gave, of the same length at the most.",
    )
    remarks: list[CrewRemark] = Field(
        default_factory=list, description="What was worth knowing of it as it was accepted."
    )
    questions: list[OpenQuestion] = Field(description="What agents ask humans and nobody has answered yet.")
    error: ExecutionError | None
    usage: Usage
    budget: Budget | None = Field(description="What it may use up, as it was asked for.")
    queue_position: int | None = Field(
        None,
        description="While it waits: its place in its server's line, from 1. Owners come in turn.",
    )
    verb: Verb = Field("run", description="What it is: a run of its own, or one that uses an earlier record.")
    parent: str | None = Field(None, description="The execution whose record it uses.")
    at: int | None = Field(None, description="Of a fork: the event of its parent that it begins at.")
    attempt: int = Field(1, description="Which attempt at its run it is: each resumption is one more.")
    resumed_by: str | None = Field(None, description="The execution that goes on with it, where one does.")
    calls: Calls = Field(
        default_factory=Calls, description="How many calls a record has answered, and what that has saved."
    )
    rating: RatingGiven | None = Field(None, description="What somebody makes of it, where it is rated.")
    imported_at: str | None = Field(None, description="When it was imported, where it ran elsewhere.")
    batch: str | None = Field(None, description="The batch that it is a row of.")
    schedule: str | None = Field(None, description="The schedule that has started it.")


class ExecutionRecorded(ExecutionStatus):
    """The answer of ``POST /executions`` with ``once``, where an earlier run answers for it."""

    recorded: Recorded


class ExecutionStopped(Model):
    """The answer of ``POST /executions/{job_id}/stop``."""

    job_id: str
    status: Status


class TraceRow(Model):
    """One row of ``GET /executions/{job_id}/traces``."""

    timestamp: str
    agent: str | None
    action: str
    result: str
    seq: int
    type: str
    task_id: str | None
    duration_ms: float | None
    remark: str | None = Field(
        None, description="What else there is to know, e.g. that an answer is cut off."
    )


class ExecutionResult(Model):
    """The answer of ``GET /executions/{job_id}/result``."""

    job_id: str
    status: Status
    result: str | None
    partial_result: str | None = Field(
        None,
        description="Where it ended before its time, without a result: what its last finished task gave.",
    )
    error: ExecutionError | None
    usage: Usage
    usage_by: UsageBreakdown
    duration: float | None
    calls: Calls = Field(default_factory=Calls, description="As its status has them.")


class CursorQuery(Query):
    """Which part of a run's events or trace is asked for."""

    after: int = Field(0, ge=0, le=10**12, description="The seq of the last one already known.")
    limit: int = Field(
        MOST_STEPS, ge=1, le=MOST_STEPS, description="Most to give at once; a stream has no limit."
    )
    kind: str | None = Field(
        None,
        max_length=100,
        description="Kinds or types of event, separated by commas.",
        # Not checked as a pattern: the filter's own error names the kinds there are.
        json_schema_extra={"pattern": f"^ *{_KIND}? *(, *{_KIND}? *)*$"},
    )
    agent: str | None = Field(None, max_length=200, description="One agent's, by its name.")
    task: str | None = Field(None, max_length=200, description="One task's, by its id or its name.")
    find: str | None = Field(
        None,
        max_length=200,
        description="Those with this text, in capitals or not; a row's own, not its prompt's.",
    )
    failed: bool = Field(False, description="Those that failed.")


class EventsQuery(CursorQuery):
    """Which part of a run's events is asked for, and in which form."""

    expand: bool = Field(
        False,
        description="Whether each model call comes with all that it was asked, and not with what is new.",
    )


class TraceRows(Model):
    """The answer of ``GET /executions/{job_id}/traces``."""

    traces: list[TraceRow]
    next: int | None = Field(description="What to give as after for the rows behind these; null at the end.")


class EventPage(Model):
    """The answer of ``GET /executions/{job_id}/events``."""

    # The union itself is made of this module's types, and shall not be checked again for each answer.
    events: list[dict[str, Any]] = Field(json_schema_extra={"items": {"$ref": "#/components/schemas/Event"}})
    next: int | None = Field(
        description="What to give as after for the events behind these; null at the end."
    )


class ExecutionList(Listed[ExecutionStatus], alias_generator=called("executions")):
    """The answer of ``GET /executions``."""


# Artifacts: the files that a run has written.


class ArtifactInfo(Model):
    """A file in a run's folder."""

    name: str = Field(description="Its path below the run's folder, with slashes.")
    size: int = Field(description="Bytes.")
    media_type: str = Field(description="By the name's ending.")
    modified: str


class ArtifactQuery(ListQuery):
    """The query of ``GET /executions/{job_id}/artifacts``."""

    format: Literal["json", "zip"] | None = Field(
        None, description="zip: all files in one archive, as `Accept: application/zip` asks for as well."
    )
    sort: Literal["name", "-name", "size", "-size", "modified", "-modified"] = "name"


class ArtifactList(Listed[ArtifactInfo], alias_generator=called("artifacts")):
    """The answer of ``GET /executions/{job_id}/artifacts``."""
