"""What the form shows of a crew: its fields, their labels, and where they stand in the crew's YAML.

What they may hold is said by the API's own models; nothing here checks a value. What the form does not show
stays in the YAML as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel

from kasal_jupyter.schemas.agents import AgentFields, ModelSettings, SandboxSettings
from kasal_jupyter.schemas.crews import CrewFields, Process
from kasal_jupyter.schemas.people import People
from kasal_jupyter.schemas.tasks import TaskCondition, TaskFields
from kasal_jupyter.schemas.webhooks import Webhook

Kind = Literal["crew", "agents", "tasks"]
"""The crew itself, or one of its lists."""

Control = Literal[
    "line",
    "text",
    "model",
    "models",
    "tools",
    "agent",
    "manager",
    "context",
    "switch",
    "number",
    "choice",
    "lines",
    "json",
]
"""How a field is edited."""

EMPTY: list[str] = []
"""Set to a field, this very object is a list that is empty and stands there; another is none at all."""

SPELLINGS = {
    "model": ("llm", "model"),
    "manager_model": ("manager_llm", "manager_model"),
    "planning_model": ("planning_llm", "planning_model"),
}
"""How YAML may write a field; the first where it is not there yet."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field of the form.

    Attributes
    ----------
    key
        Its name in the API, with a dot before a field of a part: ``settings.temperature``.
    label
        What the form calls it.
    control
        How it is edited.
    required
        Whether it stays in the YAML when it is empty.
    choices
        What a ``choice`` may be.
    default
        What holds where it is not given.
    hint
        What may be written there, in a word or two.
    """

    key: str
    label: str
    control: Control
    required: bool = False
    choices: tuple[str, ...] = ()
    default: Any = None
    hint: str = ""

    def path(self, member: Mapping[str, Any]) -> list[str]:
        """Give the keys that lead to it, from the crew or from its agent or task.

        CrewAI writes a model with its settings as a mapping, which then has the settings too.
        """
        head, _, rest = self.key.partition(".")
        if head == "model" and isinstance(member.get("llm"), dict):
            return ["llm", "model"]
        if head == "settings" and isinstance(member.get("llm"), dict):
            return ["llm", rest]
        names = SPELLINGS.get(head, (head,))
        written = next((name for name in names if name in member), names[0])
        return [written, *([rest] if rest else [])]


CREW = (
    FieldSpec("name", "Name", "line", required=True),
    FieldSpec("process", "Process", "choice", choices=get_args(Process), default="sequential"),
    FieldSpec("description", "Description", "text"),
)

CREW_MANAGER = (
    FieldSpec("manager_agent", "Managed by", "manager"),
    FieldSpec("manager_model", "Manager's model", "model", hint="of CrewAI's own manager"),
    FieldSpec("planning", "Plan before the tasks", "switch", default=False),
    FieldSpec("planning_model", "Planner's model", "model", hint="the manager's, or the default"),
)

CREW_MORE = (
    FieldSpec("memory", "Remember what happened in its runs", "switch", default=False),
    FieldSpec("needs_approval", "Calls a person is asked about first (one a line)", "lines"),
    FieldSpec("people.may_answer", "Who may answer besides the owner (one a line)", "lines"),
    FieldSpec("people.timeout", "Seconds that an answer is waited for", "number", default=86_400.0),
    FieldSpec(
        "people.on_timeout",
        "Where nobody answers",
        "choice",
        choices=get_args(People.model_fields["on_timeout"].annotation),
        default=People.model_fields["on_timeout"].default,
    ),
    FieldSpec("webhook.url", "Report runs to (address)", "line", hint="https://…"),
    FieldSpec("webhook.events", "Events that are reported (one a line)", "lines"),
)

AGENT = (
    FieldSpec("model", "Model", "model", hint="the server's default"),
    FieldSpec("role", "Role", "text", required=True),
    FieldSpec("goal", "Goal", "text", required=True),
    FieldSpec("backstory", "Backstory", "text"),
    FieldSpec("tools", "Tools", "tools"),
)

AGENT_MORE = (
    FieldSpec("max_iter", "Most model calls for a task", "number"),
    FieldSpec("max_execution_time", "Most seconds for a task", "number"),
    FieldSpec("fallbacks", "Models to ask where this one cannot answer", "models"),
    FieldSpec("needs_approval", "Calls a person is asked about first (one a line)", "lines"),
    FieldSpec("settings.temperature", "Temperature", "number", hint="0 to 2"),
    FieldSpec("settings.top_p", "Top p", "number", hint="above 0, to 1"),
    FieldSpec("settings.max_tokens", "Most tokens of an answer", "number"),
    FieldSpec("settings.seed", "Seed", "number"),
    FieldSpec("settings.timeout", "Seconds for a call", "number"),
    FieldSpec("settings.stop", "Stop at (one a line)", "lines"),
    FieldSpec("settings.stream", "Answers arrive in pieces", "switch", default=True),
    FieldSpec("allow_delegation", "May hand work to other agents", "switch", default=False),
)

AGENT_SANDBOX = (
    FieldSpec("sandbox.latency", "Seconds before an answer", "number", default=0.0),
    FieldSpec("sandbox.answer_words", "Words of an answer", "number", default=40),
    FieldSpec("sandbox.fail_at", "Call that fails", "number"),
    FieldSpec("sandbox.refusals", "Results its guardrail refuses first", "number", default=0),
    FieldSpec(
        "sandbox.tool_calls",
        "Tools are called",
        "choice",
        choices=get_args(SandboxSettings.model_fields["tool_calls"].annotation),
        default=SandboxSettings.model_fields["tool_calls"].default,
    ),
)

TASK = (
    FieldSpec("agent", "Agent", "agent"),
    FieldSpec("description", "What to do", "text", required=True),
    FieldSpec("expected_output", "Expected output", "text", required=True),
    FieldSpec("context", "Builds on", "context"),
)

TASK_MORE = (
    FieldSpec("tools", "Tools of this task alone", "tools"),
    FieldSpec("async_execution", "The next task does not wait for it", "switch", default=False),
    FieldSpec("output_schema", "JSON schema of the result", "json"),
    FieldSpec("output_file", "File that the result is written to", "line", hint="report.md"),
)

TASK_CHECK = (
    FieldSpec(
        "guardrail", "What the result must be like", "text", hint="in words; the agent's model checks it"
    ),
    FieldSpec("guardrail_max_retries", "Times it is done again", "number", default=3),
    FieldSpec("human_input", "A person reviews the result", "switch", default=False),
)

TASK_CONDITION = (
    FieldSpec("condition.contains", "The result before it contains", "line"),
    FieldSpec("condition.lacks", "It does not contain", "line"),
    FieldSpec("condition.matches", "It matches (RE2)", "line"),
    FieldSpec("condition.field", "Look at this field alone", "line", hint="of a structured result"),
    FieldSpec("condition.equals", "It equals (JSON)", "json"),
)

FIELDS: dict[Kind, tuple[FieldSpec, ...]] = {
    "crew": (*CREW, *CREW_MANAGER, *CREW_MORE),
    "agents": (*AGENT, *AGENT_MORE, *AGENT_SANDBOX),
    "tasks": (*TASK, *TASK_MORE, *TASK_CHECK, *TASK_CONDITION),
}

_MODELS: dict[Kind, dict[str, type[BaseModel]]] = {
    "crew": {"": CrewFields, "people": People, "webhook": Webhook},
    "agents": {"": AgentFields, "settings": ModelSettings, "sandbox": SandboxSettings},
    "tasks": {"": TaskFields, "condition": TaskCondition},
}
"""The API's models by the part that they describe."""

_WHOLE = re.compile(r"[-+]?[0-9]+")


def about(kind: Kind, key: str) -> str:
    """Give what the API says of a field, as a sentence; may be empty."""
    part, _, name = key.rpartition(".")
    field = _MODELS[kind][part].model_fields.get(name)
    return (field.description or "") if field is not None else ""


def number_of(text: str) -> int | float | str | None:
    """Read what was typed into a number's field; what is no number stays a text, for the API to refuse."""
    text = text.strip()
    if not text:
        return None
    if _WHOLE.fullmatch(text):
        return int(text) if len(text) < 20 else text
    try:
        return float(text)
    except ValueError:
        return text


def fits(spec: FieldSpec, value: Any) -> bool:
    """Say whether a field's control can show a value, right or wrong."""
    if value is None or spec.control == "json":
        return True
    if spec.control in {"tools", "models", "context", "lines"}:
        return isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value)
    if spec.control == "switch":
        return isinstance(value, bool)
    return not isinstance(value, (list, dict))
