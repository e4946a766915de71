"""``/tasks``: the reference's *Task Management*."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.paging import read_page
from kasal_jupyter.schemas.tasks import TaskCreate, TaskCreated, TaskList, TaskSummary


class TasksHandler(ApiHandler):
    """``GET /tasks`` and ``POST /tasks``."""

    message = "Invalid task"

    async def get(self) -> None:
        """List tasks, each with how it fared in its crew's latest run; ``?crew_id=`` gives one crew's."""
        page = read_page(self)
        crew_id = self.get_query_argument("crew_id", None)
        criteria = {"owner": self.caller.owner} | ({"crew_id": crew_id} if crew_id else {})
        found = self.parts.store.tasks.page(
            order="created", offset=page.offset, limit=page.per_page, **criteria
        )
        states: dict[str, str] = {}
        for each in {task.crew_id for task in found.documents}:
            states |= await self.parts.runs.task_states(each)
        self.answer(
            TaskList.model_validate(
                {
                    "tasks": [
                        TaskSummary.model_validate(
                            {
                                "id": task.id,
                                "description": task.description,
                                "agent_id": task.agent_id,
                                "status": states.get(task.id, "created"),
                                "name": task.name,
                                "crew_id": task.crew_id,
                            }
                        )
                        for task in found.documents
                    ],
                    "total": found.total,
                    "page": page.page,
                }
            )
        )

    async def post(self) -> None:
        """Add a task to its agent's crew."""
        task = await self.parts.crews.add_task(self.body(TaskCreate), self.caller.owner)
        self.answer(TaskCreated(id=task.id), 201)
