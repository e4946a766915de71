"""``/crews/{crew_id}/knowledge``: files and texts that a crew was given to know."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.memory.knowledge import INVALID_KNOWLEDGE, read_source
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.schemas.knowledge import (
    KnowledgeCreate,
    KnowledgeSource,
    PassageDetails,
    PassageQuery,
    SourceDetails,
    SourceList,
    SourceQuery,
    WholeSource,
)


class KnowledgeResource(ApiHandler):
    """What the resources of a crew's knowledge share."""

    tag = "Knowledge"
    message = INVALID_KNOWLEDGE

    def crew(self, crew_id: str) -> Crew:
        """Give the crew that is meant."""
        return self.own(self.parts.store.crews.get(crew_id), f"crew {crew_id}")


class KnowledgeHandler(KnowledgeResource):
    """``GET`` and ``POST /crews/{crew_id}/knowledge``."""

    @operation(
        "List a crew's knowledge",
        access="viewer",
        query=SourceQuery,
        answers={200: SourceList},
        errors=(404,),
    )
    async def get(self, crew_id: str) -> None:
        """List the files and texts that a crew was given; `search` looks in their names."""
        query = self.query(SourceQuery)
        self.crew(crew_id)
        page = await list_page(self.parts.store.knowledge, query, {"crew_id": crew_id}, searched=("name",))
        sources = [_details(source) for source in page.documents]
        await self.answer_with(
            lambda: SourceList(sources=sources, total=page.total, page=query.page, per_page=query.per_page),
            size=LISTED * len(page.documents),
        )

    @operation(
        "Give a crew something to know",
        access="editor",
        body=KnowledgeCreate,
        answers={201: SourceDetails},
        errors=(404,),
    )
    async def post(self, crew_id: str) -> None:
        """Give a crew a text or a file: its agents are shown the passages that are near to their tasks.

        It takes plain text, Markdown, CSV, JSON, HTML and PDF. A source of the same name is replaced. The
        crew need not have `memory`.
        """
        body = self.body(KnowledgeCreate)
        crew = self.crew(crew_id)
        source = await read_source(body, self.parts.confined, self.caller.owner)
        await self.ask_once_more()
        stored = await self.parts.knowledge.add(
            crew_id, body.name, source.media_type, source.text, source.passages
        )
        # Now, rather than when the first run waits for it.
        await self.parts.recall.bring_up_to_date(crew)
        self.answer(_details(stored), status=201)


class SourceHandler(KnowledgeResource):
    """``GET`` and ``DELETE /crews/{crew_id}/knowledge/{source_id}``."""

    @operation(
        "Get a source of a crew's knowledge",
        access="viewer",
        query=PassageQuery,
        answers={200: WholeSource},
        errors=(404,),
    )
    async def get(self, crew_id: str, source_id: str) -> None:
        """Give a source with its text, in the passages that it is recalled in; `search` looks in them."""
        query = self.query(PassageQuery)
        self.crew(crew_id)
        source = self.parts.knowledge.get(crew_id, source_id)
        page = await list_page(
            self.parts.store.passages, query, {"source_id": source.held_by}, searched=("content",)
        )
        await self.answer_with(
            lambda: WholeSource(
                **source.model_dump(include={"id", "name", "media_type", "characters", "created_at"}),
                passages=[PassageDetails(id=each.id, content=each.content) for each in page.documents],
                total=page.total,
                page=query.page,
                per_page=query.per_page,
            ),
            size=LISTED * len(page.documents),
        )

    @operation("Delete a source of a crew's knowledge", access="editor", answers={204: None}, errors=(404,))
    async def delete(self, crew_id: str, source_id: str) -> None:
        """Take a source away from a crew: nothing of it is recalled any more."""
        self.crew(crew_id)
        await self.parts.knowledge.delete(crew_id, source_id)
        self.nothing()


def _details(source: KnowledgeSource) -> SourceDetails:
    return SourceDetails(**source.model_dump(include=set(SourceDetails.model_fields)))
