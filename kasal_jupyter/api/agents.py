"""``/agents``: the reference's *Agent Management*."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.paging import read_page
from kasal_jupyter.schemas.agents import AgentCreate, AgentCreated, AgentList, AgentSummary


class AgentsHandler(ApiHandler):
    """``GET /agents`` and ``POST /agents``."""

    message = "Invalid agent"

    async def get(self) -> None:
        """List agents; ``?crew_id=`` gives one crew's."""
        page = read_page(self)
        crew_id = self.get_query_argument("crew_id", None)
        criteria = {"owner": self.caller.owner} | ({"crew_id": crew_id} if crew_id else {})
        found = self.parts.store.agents.page(
            order="created", offset=page.offset, limit=page.per_page, **criteria
        )
        self.answer(
            AgentList(
                agents=[
                    AgentSummary(
                        id=agent.id,
                        name=agent.name,
                        crew_id=agent.crew_id,
                        model=agent.model,
                        status="ready",
                        role=agent.role,
                    )
                    for agent in found.documents
                ],
                total=found.total,
                page=page.page,
            )
        )

    async def post(self) -> None:
        """Add an agent to a crew."""
        agent = await self.parts.crews.add_agent(self.body(AgentCreate), self.caller.owner)
        self.answer(AgentCreated(id=agent.id), 201)
