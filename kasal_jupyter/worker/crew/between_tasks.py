"""What happens between a run's tasks: its plan, the tasks that are skipped, what guardrails say of a result.

CrewAI has no events for these, or has them without what one wants to know. So they are published like its
own, where they happen, and read by the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crewai.events.stream_context import publish_stream_event

from kasal_jupyter.schemas.spec import RunTask
from kasal_jupyter.worker.crew.spans import Spans


@dataclass(frozen=True, slots=True)
class PlanMade:
    """The planner has made a plan.

    Attributes
    ----------
    steps
        What it says of each task, by CrewAI's id of it.
    """

    steps: dict[str, str]
    type: str = "kasal_plan"


@dataclass(frozen=True, slots=True)
class TaskPassedOver:
    """A task's condition did not hold."""

    task_id: str
    """CrewAI's."""
    agent: str | None
    """Who would have done it."""
    reason: str
    type: str = "kasal_task_skipped"


@dataclass(frozen=True, slots=True)
class ResultChecked:
    """A guardrail has looked at a task's result."""

    accepted: bool
    feedback: str
    attempt: int
    type: str = "kasal_guardrail"


def publish(source: object, event: PlanMade | TaskPassedOver | ResultChecked) -> None:
    """Tell the run's report."""
    publish_stream_event(source, event)


def course_readers(tasks: Mapping[str, RunTask], spans: Spans) -> dict[str, Callable[[Any, Any], None]]:
    """Give what a report reads these events with, by their types.

    Parameters
    ----------
    tasks
        The run's tasks, by CrewAI's ids.
    spans
        What the events belong to.
    """

    def plan(_source: object, event: PlanMade) -> None:
        steps = [{"task_id": tasks[task].id, "plan": text} for task, text in event.steps.items()]
        spans.emit({"type": "plan", "steps": steps})

    def skipped(_source: object, event: TaskPassedOver) -> None:
        task = tasks[event.task_id]
        spans.emit_closed(
            "task",
            {"type": "task_skipped", "reason": event.reason},
            task_id=task.id,
            task=task.title(),
            agent=event.agent,
        )

    def checked(_source: object, event: ResultChecked) -> None:
        if span := spans.innermost("task"):
            spans.add(
                span,
                {
                    "type": "guardrail",
                    "accepted": event.accepted,
                    "feedback": event.feedback,
                    "attempt": event.attempt,
                },
            )

    return {"kasal_plan": plan, "kasal_task_skipped": skipped, "kasal_guardrail": checked}
