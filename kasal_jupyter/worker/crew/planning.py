"""A crew that plans before its tasks, with the run's own model."""

from __future__ import annotations

from typing import Any

from crewai import Task
from crewai.llms.base_llm import BaseLLM
from crewai.utilities.planning_handler import PlannerTaskPydanticOutput

from kasal_jupyter.models.sandbox.model import PLANNED_TASK
from kasal_jupyter.worker.crew.agent import CrewAgent
from kasal_jupyter.worker.crew.task import PlanMade, publish
from kasal_jupyter.worker.crewai_seams import PlannersTexts, SeamedCrew
from kasal_jupyter.worker.process.failures import AnswerUnreadable, ModelFailed

PLANNER = "Planner"
"""What the trace calls the agent that plans."""

_NO_PLAN = "The planning model's answer is no plan"


class PlannedCrew(SeamedCrew):
    """CrewAI's crew, which tells the run's report of its plan."""

    def plan(self) -> None:
        """Plan, and tell of it."""
        assert isinstance(self.planning_llm, BaseLLM), "CrewAI would ask a model of OpenAI's"
        plans = Planner(self.tasks, self.planning_llm).plans()
        for task in self.tasks:
            if plan := plans.get(str(task.id)):
                task.description += f"\n\nThe plan for this task:\n{plan}"
        publish(self, PlanMade(plans))


class Planner(PlannersTexts):
    """CrewAI's planner, as an agent of ours: without retries, and told of tools by their names."""

    def __init__(self, tasks: list[Task], llm: BaseLLM) -> None:
        super().__init__(tasks=tasks, planning_agent_llm=llm)

    def plans(self) -> dict[str, str]:
        """Make a plan; give what it says of each task, by CrewAI's id of it.

        Raises
        ------
        ModelFailed
            The model's answer is no plan.
        """
        plan = self._planned()
        found: dict[str, str] = {}
        for step in plan.list_of_plans_per_task:
            if step.task_number <= len(self.tasks) and step.plan.strip():
                found.setdefault(str(self.tasks[step.task_number - 1].id), step.plan.strip())
        return found

    def _planned(self) -> PlannerTaskPydanticOutput:
        task = self.planners_task(self._agent(), self._tasks())
        try:
            plan = task.execute_sync().pydantic
        except AnswerUnreadable as error:
            raise ModelFailed(f"{_NO_PLAN}: {error}", code="PLANNING_FAILED") from error
        if not isinstance(plan, PlannerTaskPydanticOutput):
            raise ModelFailed(_NO_PLAN, code="PLANNING_FAILED")
        return plan

    def _agent(self) -> CrewAgent:
        texts = self.planner()
        return CrewAgent(
            display_name=PLANNER,
            role=texts.role,
            goal=texts.goal,
            backstory=texts.backstory,
            llm=self.planning_agent_llm,
            max_retry_limit=0,
            cache=False,
            verbose=False,
        )

    def _tasks(self) -> str:
        """Describe the tasks; CrewAI's own summary has each tool as Python prints it, addresses included."""
        return "".join(
            "\n\n"
            + "\n".join(
                [
                    f"{PLANNED_TASK.format(number)} - {task.description}",
                    f"Expected output: {task.expected_output}",
                    f"Agent: {task.agent.role} ({task.agent.goal})" if task.agent else "Agent: any",
                    f"Tools: {', '.join(_tools(task)) or 'none'}",
                ]
            )
            for number, task in enumerate(self.tasks, 1)
        )


def _tools(task: Task) -> list[Any]:
    tools = task.tools or (task.agent.tools if task.agent else None) or []
    return [tool.name for tool in tools]
