"""What the sandbox model reads out of the messages an agent sends it.

CrewAI's prompts are text; the few marks used here are those of its English prompt file
(``translations/en.json``). Where one is missing the part is simply empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
