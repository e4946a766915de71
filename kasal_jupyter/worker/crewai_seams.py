"""Where CrewAI's behaviour is overridden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import crewai.task
from crewai.agents import agent_executor

# -- how an agent's work ends ---------------------------------------------------------------------------


def end_by(object_of: Callable[..., Any], last_answer: Callable[..., Any]) -> None:
    """Have CrewAI make a task's object, and an answer after the last turn, as ``worker/endings`` does.

    Both are looked up by their names in the modules that call them.
    """
    task: Any = crewai.task
    task.convert_to_model = object_of
    agent_executor.handle_max_iterations_exceeded = last_answer
