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
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.models.sandbox.crew import is_crew_request, made_crew
from kasal_jupyter.models.sandbox.transcript import (
    Transcript,
    compact_json,
    coworkers_of,
    message_text,
    read_transcript,
)
from kasal_jupyter.models.sandbox.values import Hints, make_value
from kasal_jupyter.schemas.agents import SandboxSettings

MARK = "[sandbox]"
"""What every answer begins with."""

CONTEXT_WINDOW = 200_000
"""Tokens the model takes: more than any test needs, so that nothing is summarised away."""

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
