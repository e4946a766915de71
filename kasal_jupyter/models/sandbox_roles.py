"""What the sandbox model says in two roles that are not an agent's at work: the planner, and the guardrail.

The marks are those of the prompts that the worker sends in these roles.
"""

from __future__ import annotations

import re
from typing import Any

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
