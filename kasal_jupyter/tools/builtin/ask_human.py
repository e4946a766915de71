"""Asking whoever watches the run, or comes to it later."""

from __future__ import annotations

from collections.abc import Sequence

from kasal_jupyter.tools.tool import Question, Tool, ToolContext, always

SECONDS, MAX_SECONDS = 3_600.0, 86_400.0
"""How long an answer is waited for: where nothing is said, and at the most."""

MAX_QUESTION = 4_000
"""Longest question, in characters."""

MAX_CHOICES = 20
"""Most answers to choose from."""


def _run(context: ToolContext, question: str, choices: Sequence[str] = (), timeout: float = SECONDS) -> str:
    if not question.strip() or len(question) > MAX_QUESTION:
        raise ValueError(f"question: a text of {MAX_QUESTION:,} characters at the most, please.")
    if len(choices) > MAX_CHOICES:
        raise ValueError(f"choices: {MAX_CHOICES} at the most, please.")
    offered = tuple(dict.fromkeys(choice.strip() for choice in choices))
    if "" in offered or len({choice.casefold() for choice in offered}) < len(offered):
        raise ValueError("choices: each must be a text of its own.")
    if not 1 <= timeout <= MAX_SECONDS:
        raise ValueError(f"timeout: between 1 and {MAX_SECONDS:,.0f} seconds, please.")
    return context.ask(Question(question.strip(), offered, timeout))


TOOL = Tool(
    name="ask_human",
    description="Asks the human who has started this work, and waits for the answer. For what only a human "
    "can know or decide: a missing fact, a choice, leave to go on.",
    category="human",
    parameters={
        "type": "object",
        "properties": {
            "question": {
                "type": "string",
                "description": "The question, which must be understood without anything else.",
                "minLength": 1,
                "maxLength": MAX_QUESTION,
                "examples": ["Shall I go on?"],
            },
            "choices": {
                "type": "array",
                "description": "Answers to choose from; without any, every text is one.",
                "items": {"type": "string", "minLength": 1, "maxLength": 200},
                "maxItems": MAX_CHOICES,
                "default": [],
            },
            "timeout": {
                "type": "number",
                "description": "Seconds to wait for the answer.",
                "minimum": 1,
                "maximum": MAX_SECONDS,
                "default": SECONDS,
            },
        },
        "required": ["question"],
        "additionalProperties": False,
    },
    function=_run,
    idempotent=always,
)
