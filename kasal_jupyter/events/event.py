"""Events: what happens in an execution, one JSON object each.

The same object is a line of the run's journal, a message on the WebSocket and
what the notebook draws. ``task_start``, ``task_complete`` and ``error`` are the
reference's (*WebSocket Events*); the rest is ours.

A *span* is a timed part of a run: a task, an agent's work on it, a model call, a
tool call. One event opens it and another closes it, both with its ``span_id``;
``parent_id`` is the span around it, ``None`` for a task::

    opens        closes                           adds to it
    task_start   task_complete  | task_failed     guardrail
    agent_start  agent_complete | agent_failed    memory_recalled
    llm_call     llm_response   | llm_failed      llm_chunk, llm_retry
    tool_call    tool_result    | tool_failed     tool_request, tool_approved

``input_request`` and ``input_answer`` add to the span of whatever asks a person: a tool call, or an agent
whose result is reviewed.

``task_skipped`` opens and closes its span in one; ``llm_retry`` comes after the end of the
call it is about.

A run's process writes its events without ``seq`` and ``job_id``; the server adds
them as it appends to the journal. ``seq`` counts 1, 2, 3 … without a gap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NotRequired, TypeGuard, get_args, get_origin

from typing_extensions import TypedDict, get_type_hints  # pydantic reads no others on Python 3.11

from kasal_jupyter.schemas.executions import EditKind, RunState, Verb
from kasal_jupyter.schemas.people import AskedKind, OnTimeout


class EventBase(TypedDict):
    """What every event carries."""

    seq: NotRequired[int]
    job_id: NotRequired[str]
    time: str
    """UTC with microseconds, see :func:`kasal_jupyter.schemas.base.utc_now_precise`."""
    cut: NotRequired[int]
    """How many characters, and items of lists, were left out of its texts, which say so themselves."""


class SpanEvent(EventBase):
    """What every event of a span carries."""

    span_id: int
    parent_id: int | None
    task_id: str | None
    task: str | None
    """The task's title."""
    agent: str | None
    """The agent's name."""


class Edited(TypedDict):
    """What a user has put in the place of what was asked or answered, by forking a run."""

    call: str
    """The call's key, as it was."""
    what: EditKind
    by: str


class Editable(TypedDict):
    """What the events carry that have a text which a user may have changed."""

    edited: NotRequired[Edited]
    """Whose text it is: a model's last prompt, its answer, or a tool's result."""


class Keyed(TypedDict):
    """What the events that begin a recorded call carry."""

    key: NotRequired[str]
    """Which call it is, whatever run it is in: ``version:digest:ordinal``.

    The digest is of the task, the agent and all that is asked; the ordinal counts, from 1, the calls of the
    run that ask the same.
    """


class Answering(Keyed):
    """What the events that end a recorded call carry: its key, unless it has ended without an answer."""

    recorded: NotRequired[bool]
    """Whether the answer is an earlier run's: what it took then is saved now."""


class TokenUsage(TypedDict):
    """Tokens of one model call, as its provider counts them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: NotRequired[int]
    """Of the prompt's, those that the provider had read before, which cost less."""
    cache_write_tokens: NotRequired[int]
    """Of the prompt's, those that it has kept for the next calls, which cost more."""
    reasoning_tokens: NotRequired[int]


class FailureDetails(TypedDict, total=False):
    """What decides about what comes after a model's failure; what is usual is left out."""

    passing: bool
    """Whether the same call may well succeed a little later."""
    wait: float
    """Seconds that the provider asks to wait."""
    setting: str
    """What the model, or its server, does not take."""
    unpaid: bool
    """Whether the provider had done nothing yet."""
    tries: int
    """How often a model is asked at the most that fails like this."""
    unreadable: bool
    """Whether its answer was not in the form that was asked for."""


class ErrorInfo(TypedDict):
    """Why something failed: a code such as ``RATE_LIMIT`` and a readable sentence."""

    code: str
    message: str


class TaskPlan(TypedDict):
    """A task as the first event announces it."""

    id: str
    title: str
    agent: str | None
    context: list[str]
    """Ids of the tasks whose results it gets."""


class ExecutionStatusEvent(EventBase):
    """The run's state changed. The first event is ``queued``, the last an ended state."""

    type: Literal["execution_status"]
    status: RunState
    crew_id: NotRequired[str]
    """On ``queued``, as are the next eight."""
    crew_name: NotRequired[str]
    crew_version: NotRequired[int | None]
    """The version of the crew that runs; null where the crew is stored nowhere."""
    process: NotRequired[str]
    tasks: NotRequired[list[TaskPlan]]
    inputs: NotRequired[dict[str, Any]]
    verb: NotRequired[Verb]
    """Left out where it is a run of its own."""
    parent: NotRequired[str]
    """The run whose answers it takes; a job id."""
    at: NotRequired[int]
    """Of a fork: the event of its parent that it begins at."""
    edits: NotRequired[list[Edited]]
    """What users have changed of it; the texts stand where they are used."""
    result: NotRequired[str]
    """On ``completed``; on ``failed``, what the last task that was done has given. A very long one is cut."""
    result_file: NotRequired[str]
    """Where the whole result is in the run's folder, where it is longer."""
    error: NotRequired[ErrorInfo]
    """On ``failed`` and ``interrupted``; on ``stopped`` where that was not its caller's own wish."""
    resuming: NotRequired[bool]
    """On ``interrupted``: another execution is about to go on with it; its status tells which."""


class TaskStart(SpanEvent):
    """A task began."""

    type: Literal["task_start"]


class TaskComplete(SpanEvent):
    """A task ended well."""

    type: Literal["task_complete"]
    result: str
    structured: NotRequired[Any]
    """The result as JSON, where the task has an ``output_schema``."""
    remark: NotRequired[str]
    """What is wrong with the answer that it is: it was cut off, say."""


class TaskSkipped(SpanEvent):
    """A task was not done: its condition did not hold."""

    type: Literal["task_skipped"]
    reason: str


class Guardrail(SpanEvent):
    """A task's result was checked, in its task's span; where it is refused, the task is done again."""

    type: Literal["guardrail"]
    accepted: bool
    feedback: str
    attempt: int
    """Counted from 1."""


class TaskStep(TypedDict):
    """What a plan says of one task."""

    task_id: str | None
    plan: str


class Plan(EventBase):
    """The crew's planner has made a plan."""

    type: Literal["plan"]
    steps: list[TaskStep]


class TaskFailed(SpanEvent):
    """A task ended badly; an ``error`` event follows."""

    type: Literal["task_failed"]
    error: ErrorInfo


class AgentStart(SpanEvent):
    """An agent began to work on a task, or on what another agent delegated to it."""

    type: Literal["agent_start"]
    prompt: str
    quotes: NotRequired[list[int]]
    """What stands in the prompt besides, see :mod:`kasal_jupyter.events.prompts`."""
    tools: list[str]


class AgentComplete(SpanEvent):
    """An agent gave its answer."""

    type: Literal["agent_complete"]
    result: str


class AgentFailed(SpanEvent):
    """An agent gave up."""

    type: Literal["agent_failed"]
    error: ErrorInfo


class LlmCall(SpanEvent, Keyed, Editable):
    """A model is asked."""

    type: Literal["llm_call"]
    model: str
    messages: list[dict[str, Any]]
    """Those that no earlier call of the run has; all, where there is no ``whole``."""
    whole: NotRequired[list[list[int]]]
    """All that is asked, in runs of messages, see :mod:`kasal_jupyter.events.prompts`."""
    tools: list[str]
    """Names of the tools offered with the call."""
    settings: NotRequired[dict[str, Any]]
    free: NotRequired[bool]
    """Whether it costs nothing, whatever becomes of it: the sandbox is asked."""


class LlmChunk(SpanEvent):
    """A piece of a streamed answer; pieces that come within 50 ms are sent as one."""

    type: Literal["llm_chunk"]
    text: str


class RequestedToolCall(TypedDict):
    """A tool call as a model asks for it."""

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""
    read: NotRequired[str]
    """JSON, as it was read, where the model wrote something else."""
    fault: NotRequired[str]
    """Why the arguments could not be read, so that the tool was not called."""


class LlmResponse(SpanEvent, Answering, Editable):
    """A model answered."""

    type: Literal["llm_response"]
    model: str
    text: str | None
    tool_calls: list[RequestedToolCall]
    usage: TokenUsage | None
    """None where the provider sent none: unknown, not zero."""
    cost: NotRequired[float | None]
    """US dollars, by the model's price on the day; None where tokens or price are unknown."""
    finish_reason: str | None
    reasoning: NotRequired[str]
    """What the model thought before, where the provider tells it apart."""
    remark: NotRequired[str]
    """What is wrong with the answer: it was cut off, or its stream ended without a finish."""


class LlmFailed(SpanEvent, Answering):
    """A model call failed; CrewAI may try again, as a new span."""

    type: Literal["llm_failed"]
    model: str
    error: ErrorInfo
    usage: NotRequired[TokenUsage | None]
    """What it took all the same, where the provider has counted it."""
    cost: NotRequired[float | None]
    """US dollars: 0.0 where the provider had done nothing yet, None where nobody knows what it costs."""
    failure: NotRequired[FailureDetails]


class LlmRetry(SpanEvent):
    """A failed call will be made again, or another model will be asked; it has the failed call's span."""

    type: Literal["llm_retry"]
    model: str
    """The model that is asked next."""
    attempt: int
    """Counted from 1: the first retry of this model is 2."""
    wait: float
    """Seconds until then."""
    error: ErrorInfo
    """Why."""


class ToolCall(SpanEvent, Keyed):
    """A tool is called."""

    type: Literal["tool_call"]
    tool: str
    arguments: dict[str, Any]


class ToolRequest(SpanEvent):
    """A tool that the run's client brought is called: the client is to answer.

    It stands within the span of the ``tool_call``, which the answer closes like any other.
    """

    type: Literal["tool_request"]
    call_id: str
    tool: str
    arguments: dict[str, Any]


class InputRequest(SpanEvent, Keyed):
    """A person is asked, within the span of what asks; whoever may answer for the run answers."""

    type: Literal["input_request"]
    call_id: str
    question: str
    choices: list[str]
    """Answers to choose from; empty where any text is one. Beside those of a review or an approval, any other
    text is one as well."""
    timeout: float
    """Seconds until nobody is waited for any more."""
    kind: NotRequired[AskedKind]
    """Left out where it is an agent's own question."""
    on_timeout: NotRequired[OnTimeout]
    """What counts as the answer where there is none in time; left out, the agent is told so."""
    output: NotRequired[str]
    """On a review: the task's result."""
    tool: NotRequired[str]
    """On an approval, as are the next three: which call is to be made."""
    arguments: NotRequired[dict[str, Any]]
    digest: NotRequired[str]
    """Of the arguments: an answer counts for these alone."""
    crew_version: NotRequired[int]
    """The crew's, for which alone an approval counts."""


class InputAnswer(SpanEvent, Answering):
    """A person has answered, or the time for that is over; of several answers this is the one that counts."""

    type: Literal["input_answer"]
    call_id: str
    result: NotRequired[str]
    """The answer: of a review or an approval ``approve``, ``reject``, or what is to be different."""
    error: NotRequired[str]
    """Why there is none."""
    arguments: NotRequired[dict[str, Any]]
    """On an approval: what the call is made with, where that was changed."""
    by: str | None
    """Who has answered; None where nobody has in time."""


class ToolApproved(SpanEvent):
    """A call that a person was asked about is made now."""

    type: Literal["tool_approved"]
    tool: str
    arguments: dict[str, Any]
    """What it is made with."""


class Remembered(TypedDict):
    """A memory, or a piece of the crew's knowledge."""

    id: str
    type: Literal["short_term", "long_term", "knowledge"]
    content: str
    category: NotRequired[str | None]
    """A long-term memory's; the source's name for knowledge."""
    score: NotRequired[float]
    """How near it is to what was asked, 0 to 1."""
    when: NotRequired[str]
    """When it was stored; a recalled one's."""


class MemoryRecalled(SpanEvent, Answering):
    """What an agent was reminded of before it began, in its span; empty where nothing was near."""

    type: Literal["memory_recalled"]
    query: str
    memories: list[Remembered]
    duration_ms: float
    remark: NotRequired[str]
    """Why words were compared, where another embedder is set."""


class MemoryStored(EventBase):
    """What the crew will remember of this run."""

    type: Literal["memory_stored"]
    memories: list[Remembered]
    remark: NotRequired[str]
    """Why nothing was learnt, where the model that was to distil the run failed."""


class ToolResult(SpanEvent, Answering, Editable):
    """A tool answered."""

    type: Literal["tool_result"]
    tool: str
    result: str
    given: NotRequired[str]
    """What the tool itself gave, where the agent was told more."""


class ToolFailed(SpanEvent, Answering):
    """A tool raised; the agent is told, and may go on."""

    type: Literal["tool_failed"]
    tool: str
    error: ErrorInfo


class Damaged(EventBase):
    """What stood here cannot be read any more: a crash or a disk has damaged the line."""

    type: Literal["damaged"]


class ErrorEvent(EventBase):
    """The run failed: what the reference's *Error* event says."""

    type: Literal["error"]
    message: str
    code: str
    task_id: NotRequired[str | None]
    agent: NotRequired[str | None]


Event = (
    ExecutionStatusEvent
    | TaskStart
    | TaskComplete
    | TaskSkipped
    | TaskFailed
    | Guardrail
    | Plan
    | AgentStart
    | AgentComplete
    | AgentFailed
    | LlmCall
    | LlmChunk
    | LlmResponse
    | LlmFailed
    | LlmRetry
    | ToolCall
    | ToolRequest
    | InputRequest
    | InputAnswer
    | ToolApproved
    | ToolResult
    | ToolFailed
    | MemoryRecalled
    | MemoryStored
    | Damaged
    | ErrorEvent
)
"""Any event, told apart by its ``type``."""

OPENING: frozenset[str] = frozenset({"task_start", "agent_start", "llm_call", "tool_call"})
COMPLETING: frozenset[str] = frozenset({"task_complete", "agent_complete", "llm_response", "tool_result"})
FAILING: frozenset[str] = frozenset({"task_failed", "agent_failed", "llm_failed", "tool_failed"})

AFTER_END: frozenset[str] = frozenset(
    {"llm_call", "llm_chunk", "llm_response", "llm_failed", "llm_retry", "memory_stored"}
)
"""What may follow a run's end: its result is there, and what the crew will remember is being distilled."""


def _required(kind: type) -> frozenset[str]:
    # Their own __required_keys__ know nothing of what is NotRequired: annotations are texts here.
    hints = get_type_hints(kind, include_extras=True)
    origins: dict[str, object] = {name: get_origin(hint) for name, hint in hints.items()}
    return frozenset(name for name, origin in origins.items() if origin is not NotRequired)


@cache
def _all_required() -> Mapping[str, frozenset[str]]:
    # At the first event: to resolve them all takes 10 ms.
    return {get_args(get_type_hints(each)["type"])[0]: _required(each) for each in get_args(Event)}


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def is_event(value: object) -> TypeGuard[Event]:
    """Say whether something is an event: whatever reads one may rely on its fields.

    Their types are not looked at, and of a type that is not known nothing is required: another version's.
    """
    if not isinstance(value, dict):
        return False
    kind, time = value.get("type"), value.get("time")
    if not isinstance(kind, str) or not isinstance(time, str) or not _TIME.fullmatch(time):
        return False
    return _all_required().get(kind, frozenset()) <= value.keys()
