"""``/agents`` and ``/tasks``: the reference's *Agent Management* and *Task Management*."""

from __future__ import annotations

from kasal_jupyter.api.crews import changed_by
from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.schemas.agents import (
    Agent,
    AgentCreate,
    AgentCreated,
    AgentList,
    AgentQuery,
    AgentSummary,
    AgentUpdate,
)
from kasal_jupyter.schemas.base import Updated
from kasal_jupyter.schemas.tasks import (
    Task,
    TaskCreate,
    TaskCreated,
    TaskDetails,
    TaskList,
    TaskQuery,
    TaskSummary,
    TaskUpdate,
)


class AgentsHandler(ApiHandler):
    """``GET /agents`` and ``POST /agents``."""

    tag = "Agent Management"
    message = "Invalid agent"

    @operation("List all agents", access="viewer", query=AgentQuery, answers={200: AgentList})
    async def get(self) -> None:
        """List agents; `search` looks in names, roles and goals."""
        query = self.query(AgentQuery)
        page = await list_page(
            self.parts.store.agents,
            query,
            {**self.caller.scope, "crew_id": query.crew_id},
            searched=("name", "role", "goal"),
        )
        agents = [_summary(agent) for agent in page.documents]
        await self.answer_with(
            lambda: AgentList.of(query, agents, page.total),
            size=LISTED * len(page.documents),
        )

    @operation(
        "Create new agent", access="editor", body=AgentCreate, answers={201: AgentCreated}, errors=(404,)
    )
    async def post(self) -> None:
        """Add an agent to a crew."""
        body = self.body(AgentCreate)
        self.crew(body.crew_id, field="crew_id")
        agent = await self.parts.members.add_agent(body, changed_by(self))
        self.answer(AgentCreated(id=agent.id), 201)


class AgentHandler(ApiHandler):
    """``GET``, ``PUT`` and ``DELETE /agents/{agent_id}``."""

    tag = "Agent Management"
    message = "Invalid agent"

    @operation("Get an agent", access="viewer", answers={200: Agent}, errors=(404,))
    async def get(self, agent_id: str) -> None:
        """Give an agent whole."""
        self.answer(self._agent(agent_id))

    @operation("Update an agent", access="editor", body=AgentUpdate, answers={200: Updated}, errors=(404,))
    async def put(self, agent_id: str) -> None:
        """Change what the body gives."""
        self._agent(agent_id)
        await self.parts.members.update_agent(agent_id, self.body(AgentUpdate), changed_by(self))
        self.answer(Updated(id=agent_id))

    @operation("Delete an agent", access="editor", answers={204: None}, errors=(404, 409))
    async def delete(self, agent_id: str) -> None:
        """Take an agent out of its crew; one that has tasks, or is the last, is kept (409)."""
        self._agent(agent_id)
        await self.parts.members.delete_agent(agent_id, changed_by(self))
        self.nothing()

    def _agent(self, agent_id: str) -> Agent:
        return self.own(self.parts.store.agents.get(agent_id), f"agent {agent_id}")


def _summary(agent: Agent) -> AgentSummary:
    return AgentSummary(
        id=agent.id,
        name=agent.name,
        crew_id=agent.crew_id,
        model=agent.model,
        status="ready",
        role=agent.role,
    )


# ``/tasks``: the reference's *Task Management*.


class TasksHandler(ApiHandler):
    """``GET /tasks`` and ``POST /tasks``."""

    tag = "Task Management"
    message = "Invalid task"

    @operation("List tasks", access="viewer", query=TaskQuery, answers={200: TaskList})
    async def get(self) -> None:
        """List tasks, each with how it fared in its crew's latest execution.

        `search` looks in names, descriptions and expected outputs.
        """
        query = self.query(TaskQuery)
        page = await list_page(
            self.parts.store.tasks,
            query,
            {**self.caller.scope, "crew_id": query.crew_id, "agent_id": query.agent_id},
            searched=("name", "description", "expected_output"),
        )
        states = await self.parts.runs.task_states({task.crew_id for task in page.documents})
        tasks = [
            TaskSummary(
                id=task.id,
                description=task.description,
                agent_id=task.agent_id,
                status=states.get(task.id, "created"),
                name=task.name,
                crew_id=task.crew_id,
            )
            for task in page.documents
        ]
        await self.answer_with(
            lambda: TaskList.of(query, tasks, page.total),
            size=LISTED * len(page.documents),
        )

    @operation("Create task", access="editor", body=TaskCreate, answers={201: TaskCreated}, errors=(404,))
    async def post(self) -> None:
        """Add a task to the end of its agent's crew."""
        body = self.body(TaskCreate)
        self.own(self.parts.store.agents.get(body.agent_id), f"agent {body.agent_id}", field="agent_id")
        task = await self.parts.members.add_task(body, changed_by(self))
        self.answer(TaskCreated(id=task.id), 201)


class TaskHandler(ApiHandler):
    """``GET``, ``PUT`` and ``DELETE /tasks/{task_id}``."""

    tag = "Task Management"
    message = "Invalid task"

    @operation("Get a task", access="viewer", answers={200: TaskDetails}, errors=(404,))
    async def get(self, task_id: str) -> None:
        """Give a task whole, with how it fared in its crew's latest execution."""
        task = self._task(task_id)
        states = await self.parts.runs.task_states([task.crew_id])
        self.answer(TaskDetails(**task.model_dump(), status=states.get(task_id, "created")))

    @operation("Update a task", access="editor", body=TaskUpdate, answers={200: Updated}, errors=(404, 409))
    async def put(self, task_id: str) -> None:
        """Change what the body gives."""
        self._task(task_id)
        await self.parts.members.update_task(task_id, self.body(TaskUpdate), changed_by(self))
        self.answer(Updated(id=task_id))

    @operation("Delete a task", access="editor", answers={204: None}, errors=(404, 409))
    async def delete(self, task_id: str) -> None:
        """Take a task out of its crew; one whose result others get is kept (409)."""
        self._task(task_id)
        await self.parts.members.delete_task(task_id, changed_by(self))
        self.nothing()

    def _task(self, task_id: str) -> Task:
        return self.own(self.parts.store.tasks.get(task_id), f"task {task_id}")
