"""CrewAI's conditional task, whose condition is data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from crewai import Task
from crewai.tasks.conditional_task import ConditionalTask
from crewai.tasks.task_output import TaskOutput
from pydantic import PrivateAttr

from kasal_jupyter.schemas.tasks import TaskCondition
from kasal_jupyter.worker.crew.agent import CrewAgent
from kasal_jupyter.worker.crew.between_tasks import TaskPassedOver, publish
from kasal_jupyter.worker.crew.condition import unmet


class CrewConditionalTask(ConditionalTask):
    """A task that is done if what its condition asks holds of the last result.

    CrewAI shows it the result of whatever stands before it, an empty one where that was skipped. Here it
    looks at the last task that was done, so that of two tasks for two cases each sees the same result.
    """

    _when: TaskCondition = PrivateAttr()
    _before: Sequence[Task] = PrivateAttr(default=())
    _reason: str = PrivateAttr(default="")

    def look_at(self, condition: TaskCondition, before: Sequence[Task]) -> None:
        """Take the condition, and the tasks before this one in their order."""
        self._when, self._before = condition, before

    def should_execute(self, context: TaskOutput) -> bool:
        """Say whether the condition holds; see :meth:`ConditionalTask.should_execute`."""
        done = next((task for task in reversed(self._before) if task.output is not None), None)
        output = done.output if done is not None and done.output is not None else context
        reason = unmet(self._when, output.raw, _structured(output))
        self._reason = f"{done.name or 'the task before'}: {reason}" if done is not None and reason else ""
        return reason is None

    def get_skipped_task_output(self) -> TaskOutput:
        """Give the empty output that CrewAI goes on with, and tell the run's report."""
        agent = self.agent.display_name if isinstance(self.agent, CrewAgent) else None
        publish(self, TaskPassedOver(task_id=str(self.id), agent=agent, reason=self._reason))
        return super().get_skipped_task_output()


def _structured(output: TaskOutput) -> Any:
    return None if output.pydantic is None else json.loads(output.pydantic.model_dump_json())
