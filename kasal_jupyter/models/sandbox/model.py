"""The sandbox model: a policy that answers like an LLM, offline and always the same.

It pretends to nothing: every answer begins with ``[sandbox]``. An agent's tools are
called once per task each, with arguments made from their schemas; a manager hands its
task to the coworker whose role fits best, and answers with the coworker's result; an
answer quotes what the tools and the context gave. As a planner it plans the same three
steps for each task; as a guardrail it accepts, unless the settings say otherwise.

No CrewAI here: the worker adapts this to CrewAI's LLM class.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.models.sandbox.crew import is_crew_request, made_crew
from kasal_jupyter.models.sandbox.values import Hints, make_value
from kasal_jupyter.schemas.agents import SandboxSettings

MARK = "[sandbox]"
"""What every answer begins with."""

CHARACTERS_PER_TOKEN = 4
"""How tokens are counted: the usual estimate for English, rounded up."""

_QUOTE = 240
"""Most characters quoted from a tool's result or the context."""

_DELEGATION = {"task", "context", "coworker"}
_QUESTION = {"question", "context", "coworker"}


@dataclass(frozen=True, slots=True)
class SandboxCall:
    """One call of a tool."""

    id: str
    name: str
    arguments: str
    """JSON."""


@dataclass(frozen=True, slots=True)
class SandboxReply:
    """What the model says: a text, or the tools it wants called."""

    text: str = ""
    calls: tuple[SandboxCall, ...] = ()

    @property
    def completion_tokens(self) -> int:
        """Tokens of the reply."""
        return count_tokens(self.text) + sum(count_tokens(call.name + call.arguments) for call in self.calls)


@dataclass(frozen=True, slots=True)
class SandboxRequest:
    """One call of the model.

    Attributes
    ----------
    messages
        As the chat API takes them.
    tools
        The API's function schemas: all the agent may call, in ReAct mode too.
    response_schema
        The JSON schema of the answer, where there is one.
    inputs
        The run's inputs.
    settings
        How the model behaves for this agent.
    refused
        Whether it refuses what it is shown as a guardrail.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    response_schema: Mapping[str, Any] | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    settings: SandboxSettings = field(default_factory=SandboxSettings)
    refused: bool = False

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the messages and the tools' schemas."""
        return sum(count_tokens(message_text(message)) for message in self.messages) + sum(
            count_tokens(compact_json(tool)) for tool in self.tools
        )


def count_tokens(text: str) -> int:
    """Count a text's tokens: its characters by four, rounded up."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def answer(request: SandboxRequest) -> SandboxReply:
    """Give the model's reply. The same request gets the same reply, always."""
    transcript = read_transcript(request.messages)
    said = role_answer(transcript.prompt, refused=request.refused)
    if said is not None:
        return _said(compact_json(said), transcript)
    used = {use.name for use in transcript.uses}
    if not transcript.last_word:
        for tool in request.tools:
            function = tool.get("function", tool)
            if function["name"] not in used and not _is_question(function, request.tools):
                return _call(function, transcript, request)
    if is_crew_request(transcript.task):
        text = made_crew(transcript.task)
    elif request.response_schema is not None:
        text = compact_json(make_value(request.response_schema, _hints(transcript, request)))
    else:
        text = _plain_answer(transcript, request)
    return _said(text, transcript)


def _said(text: str, transcript: Transcript) -> SandboxReply:
    if transcript.react:
        return SandboxReply(f"Thought: I now know the final answer\nFinal Answer: {text}")
    return SandboxReply(text)


def _call(function: Mapping[str, Any], transcript: Transcript, request: SandboxRequest) -> SandboxReply:
    schema = function.get("parameters") or {}
    if _is_delegation(function):
        arguments = {
            "task": transcript.task,
            "context": transcript.context or _headline(transcript.task),
            "coworker": _fitting(coworkers_of(function.get("description", "")), transcript.task),
        }
    else:
        made = make_value(schema, _hints(transcript, request))
        arguments = made if isinstance(made, dict) else {}
    name, written = function["name"], compact_json(arguments)
    if request.settings.tool_calls == "react":
        return SandboxReply(f"Thought: I need {name} for this.\nAction: {name}\nAction Input: {written}")
    digest = hashlib.sha256(f"{transcript.role}{transcript.task}{name}{written}".encode()).hexdigest()
    return SandboxReply(calls=(SandboxCall(f"call_{digest[:12]}", name, written),))


def _plain_answer(transcript: Transcript, request: SandboxRequest) -> str:
    delegations = {
        function["name"] for tool in request.tools if _is_delegation(function := tool.get("function", tool))
    }
    for use in transcript.uses:
        if use.name in delegations and use.result:
            return f"{MARK} {use.result.removeprefix(MARK).strip()}"
    sentences = [f'{transcript.role} on "{_headline(transcript.task)}":']
    sentences += [f"{use.name} says: {_quoted(use.result)}." for use in transcript.uses if use.result]
    if transcript.context:
        sentences.append(f"The context says: {_quoted(transcript.context.replace(MARK, ''))}.")
    if given := ", ".join(f"{name} = {_quoted(str(value), 40)}" for name, value in request.inputs.items()):
        sentences.append(f"It was asked for {given}.")
    if len(sentences) == 1:
        sentences.append("done, with nothing to look up.")
    words = " ".join(sentences).split()
    most = request.settings.answer_words
    return f"{MARK} {' '.join(words[:most])}{' …' if len(words) > most else ''}"


def _hints(transcript: Transcript, request: SandboxRequest) -> Hints:
    return Hints(inputs=request.inputs, text=f"{MARK} {_headline(transcript.task)}")


def _headline(text: str) -> str:
    """Give a text's first sentence, at most 80 characters."""
    line = re.split(r"(?<=[.!?])\s|\n", text.strip(), maxsplit=1)[0].rstrip(".!?:")
    return line if len(line) <= 80 else f"{line[:79].rstrip()}…"


def _quoted(text: str, most: int = _QUOTE) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def _properties(function: Mapping[str, Any]) -> set[str]:
    return set((function.get("parameters") or {}).get("properties", {}))


def _is_delegation(function: Mapping[str, Any]) -> bool:
    return _properties(function) == _DELEGATION


def _is_question(function: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether a tool asks a coworker what another tool delegates anyway."""
    return _properties(function) == _QUESTION and any(
        _is_delegation(tool.get("function", tool)) for tool in tools
    )


def _fitting(coworkers: list[str], task: str) -> str:
    """Give the coworker whose role shares most word stems with the task; the first, where none does."""
    words = _stems(task)
    return max(coworkers, key=lambda role: len(words & _stems(role)), default="")


def _stems(text: str) -> set[str]:
    """Give the beginnings of a text's longer words, so that *research* meets *Researcher*."""
    return {word[:4] for word in re.findall(r"\w{4,}", text.lower())}


# What the sandbox model says in two roles that are not an agent's at work: the planner, and the guardrail.
#
# The marks are those of the prompts that the worker sends in these roles.

GUARDRAIL = "Ensure the following task result complies with the given guardrail."
"""What a guardrail's question begins with."""

GUARDRAIL_RULE = "Guardrail:"
GUARDRAIL_RESULT = "Task result:"

PLANNING = "Based on these tasks summary:"
"""What CrewAI's planner is asked with."""

PLANNED_TASK = "Task Number {}"
"""How the planner's summary counts the tasks."""

_PLANNED = re.compile(r"^[ \t]*" + PLANNED_TASK.format(r"(\d+)") + r" - (.*)$", re.MULTILINE)

_STEPS = (
    "1. Read the task and what earlier tasks have given.",
    "2. Use the tools that the agent has, once each.",
    "3. Answer in the form that is expected.",
)


def role_answer(prompt: str, *, refused: bool = False) -> dict[str, Any] | None:
    """Give what the model answers to a planner's or a guardrail's prompt; None to any other.

    Parameters
    ----------
    prompt
        The user's message.
    refused
        Whether a guardrail refuses what it is shown.
    """
    if prompt.startswith(GUARDRAIL):
        feedback = "[sandbox] refused, as its settings say" if refused else None
        return {"valid": not refused, "feedback": feedback}
    if PLANNING in prompt and (tasks := _PLANNED.findall(prompt)):
        return {
            "list_of_plans_per_task": [
                {"task_number": int(number), "task": text.strip(), "plan": "\n".join(_STEPS)}
                for number, text in tasks
            ]
        }
    return None


# What the sandbox model reads out of the messages an agent sends it.
#
# CrewAI's prompts are text; the few marks used here are those of its English prompt file
# (``translations/en.json``). Where one is missing the part is simply empty.

_TASK = "Current Task:"
_EXPECTED = "This is the expected criteria for your final answer:"
_CONTEXT = "This is the context you're working with:"
_AFTER_TASK = (
    _EXPECTED,
    _CONTEXT,
    "Format your final answer according to the following OpenAPI schema:",
    "Begin! This is VERY important to you",
    "Provide your complete response:",
)
_AFTER_CONTEXT = (
    "Begin! This is VERY important to you",
    "Provide your complete response:",
    "\n\nFormat your final",
)
_MEMORIES = "\n# Relevant memories\n"
_ROLE = "You are "
_COWORKERS = "coworkers: "
_LAST_WORD = "absolute best final answer"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool the agent has called in this task, and what it said."""

    name: str
    result: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """The messages of one model call, understood.

    Attributes
    ----------
    prompt
        The user's message that it is all about.
    role
        The agent's role.
    task
        The task's description.
    context
        Results of earlier tasks, or what a coworker was given along.
    uses
        The tools called so far in this task.
    react
        Whether the prompt asks for ReAct text.
    last_word
        Whether the agent must answer now, its iterations being used up.
    """

    prompt: str
    role: str
    task: str
    context: str
    uses: tuple[ToolUse, ...]
    react: bool
    last_word: bool


def read_transcript(messages: Sequence[Mapping[str, Any]]) -> Transcript:
    """Read the messages of a model call.

    Parameters
    ----------
    messages
        As the chat API takes them: role, content, tool calls.
    """
    system = "\n".join(message_text(message) for message in messages if message.get("role") == "system")
    users = [message_text(message) for message in messages if message.get("role") == "user"]
    prompt = next((text for text in users if _TASK in text), users[0] if users else "")
    # What the crew remembers is quoted last, and may hold any of the marks.
    prompt = prompt.split(_MEMORIES, 1)[0]
    after_task = prompt.split(_TASK, 1)[-1]
    context = prompt.split(_CONTEXT, 1)[1] if _CONTEXT in prompt else ""
    return Transcript(
        prompt=prompt,
        role=_role(system) or _role(prompt) or "Agent",
        task=_before(after_task, _AFTER_TASK),
        context=_before(context, _AFTER_CONTEXT),
        uses=tuple(_uses(messages)),
        react="Action Input:" in system or "Action Input:" in prompt,
        last_word=bool(messages) and _LAST_WORD in message_text(messages[-1]),
    )


def message_text(message: Mapping[str, Any]) -> str:
    """Give a message's text, also of one made of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return ""


def coworkers_of(description: str) -> list[str]:
    """Give the roles that CrewAI's delegation tool names in its description."""
    roles, ended, _rest = description.partition(_COWORKERS)[2].partition("\n")
    return [role.strip() for role in roles.split(",")] if roles and ended else []


def _role(text: str) -> str:
    """Give the role that an agent is told to have; empty where it is told none."""
    for line in text.split("\n"):
        role, ended, _rest = line.partition(_ROLE)[2].partition(".")
        if ended and role.strip():
            return role.strip()
    return ""


def _before(text: str, marks: Sequence[str]) -> str:
    for mark in marks:
        text = text.split(mark, 1)[0]
    return text.strip()


def _uses(messages: Sequence[Mapping[str, Any]]) -> list[ToolUse]:
    results = {
        message.get("tool_call_id"): message_text(message)
        for message in messages
        if message.get("role") == "tool"
    }
    uses = []
    for message in messages:
        if message.get("role") != "assistant":
            continue
        uses += [
            ToolUse(_function(call).get("name", ""), results.get(call.get("id"), ""))
            for call in message.get("tool_calls") or ()
        ]
        uses += _react_uses(message_text(message))
    return uses


def _react_uses(text: str) -> Iterator[ToolUse]:
    """Give the tools that a text in the ReAct form has called, with what was observed."""
    for step in f"\n{text}".split("\nThought:"):
        name, called, rest = step.partition("Action:")[2].partition("\nAction Input:")
        if called and name.strip():
            yield ToolUse(name.strip(), rest.partition("\nObservation:")[2].strip())


def _function(call: Any) -> Mapping[str, Any]:
    function = call.get("function", {}) if isinstance(call, Mapping) else {}
    return function if isinstance(function, Mapping) else {}


def compact_json(value: Any) -> str:
    """Write a value as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)
