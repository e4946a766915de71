"""``/crews``: the reference's *Crew Management*."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.paging import read_page
from kasal_jupyter.schemas.crews import (
    Crew,
    CrewConfiguration,
    CrewCreate,
    CrewCreated,
    CrewDetails,
    CrewList,
    CrewSummary,
    CrewUpdate,
    CrewUpdated,
)
from kasal_jupyter.store.assembly import INVALID_CREW


class CrewsHandler(ApiHandler):
    """``GET /crews`` and ``POST /crews``."""

    message = INVALID_CREW

    async def get(self) -> None:
        """List crews, newest first; ``?name=`` gives those of exactly that name."""
        page = read_page(self)
        name = self.get_query_argument("name", None)
        crews = self.parts.store.crews
        if name is None:
            found = crews.page(
                order="newest", offset=page.offset, limit=page.per_page, owner=self.caller.owner
            )
            shown, total = found.documents, found.total
        else:
            named = [
                crew for crew in crews.find(order="newest", owner=self.caller.owner) if crew.name == name
            ]
            shown, total = named[page.offset : page.offset + page.per_page], len(named)
        self.answer(CrewList(crews=[self._summary(crew) for crew in shown], total=total, page=page.page))

    async def post(self) -> None:
        """Create a crew."""
        whole = await self.parts.crews.create(self.body(CrewCreate), self.caller.owner)
        self.answer(CrewCreated(id=whole.crew.id, name=whole.crew.name, status=whole.status()), 201)

    def _summary(self, crew: Crew) -> CrewSummary:
        agents = self.parts.store.agents.count(crew_id=crew.id)
        tasks = self.parts.store.tasks.count(crew_id=crew.id)
        return CrewSummary(
            id=crew.id,
            name=crew.name,
            status="active" if agents and tasks else "configuring",
            agents_count=agents,
            created_at=crew.created_at,
        )


class CrewHandler(ApiHandler):
    """``GET``, ``PUT`` and ``DELETE /crews/{crew_id}``."""

    message = INVALID_CREW

    async def get(self, crew_id: str) -> None:
        """Give a crew whole."""
        whole = self.parts.crews.whole(crew_id)
        crew = whole.crew
        self.answer(
            CrewDetails(
                id=crew.id,
                name=crew.name,
                description=crew.description,
                status=whole.status(),
                agents=whole.agents,
                tasks=whole.tasks,
                configuration=CrewConfiguration(process=crew.process, manager_model=crew.manager_model),
                version=crew.version,
                created_at=crew.created_at,
                updated_at=crew.updated_at,
            )
        )

    async def put(self, crew_id: str) -> None:
        """Change a crew."""
        await self.parts.crews.update(crew_id, self.body(CrewUpdate))
        self.answer(CrewUpdated(id=crew_id))

    async def delete(self, crew_id: str) -> None:
        """Delete a crew with its agents and tasks."""
        await self.parts.crews.delete(crew_id)
        self.nothing()
