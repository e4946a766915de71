"""``/crews/{crew_id}/versions``: what a crew was, what has changed, and the way back."""

from __future__ import annotations

from kasal_jupyter.api.crews import ETAG, IF_MATCH, changed_by, details_of, etag, expected_version
from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.crews.versions import version_of, whole_version
from kasal_jupyter.errors import NotFound
from kasal_jupyter.formats.limited import Exchange
from kasal_jupyter.formats.outline import whole_body
from kasal_jupyter.places import SMALL, beside_loop
from kasal_jupyter.schemas.crews import (
    ChangeQuery,
    Crew,
    CrewRestored,
    CrewVersionDetails,
    CrewVersionDiff,
    CrewVersionInfo,
    CrewVersionList,
    DiffQuery,
    VersionQuery,
    WholeCrew,
)

_SHOWN = set(CrewVersionInfo.model_fields)


class VersionResource(ApiHandler):
    """What the resources of a crew's versions share."""

    tag = "Crew Management"
    message = "Invalid version"

    def whole(self, crew: Crew, version: int) -> WholeCrew:
        """Give a crew as it was in a version, or is."""
        if crew.version == version:
            return self.parts.crews.whole(crew.id)
        return whole_version(self.parts.store, crew.id, version)

    def size(self, crew: Crew) -> int:
        """Give how many agents and tasks a version may have: of one that is stored whole, nobody knows."""
        return max(self.parts.crews.size(crew.id), SMALL + 1 if crew.version > 1 else 0)


class VersionsHandler(VersionResource):
    """``GET /crews/{crew_id}/versions``."""

    @operation(
        "List a crew's versions",
        access="viewer",
        query=VersionQuery,
        answers={200: CrewVersionList},
        errors=(404,),
    )
    async def get(self, crew_id: str) -> None:
        """List what each change has made of a crew: who made it, when, and from where; the newest first.

        `search` looks in authors, sources and origins.
        """
        query = self.query(VersionQuery)
        self.crew(crew_id)
        page = await list_page(
            self.parts.store.crew_versions,
            query,
            {"crew_id": crew_id},
            searched=("author", "source", "origin"),
        )
        versions = [CrewVersionInfo(**each.model_dump(include=_SHOWN)) for each in page.documents]
        await self.answer_with(
            lambda: CrewVersionList.of(query, versions, page.total),
            size=LISTED * len(page.documents),
        )


class VersionHandler(VersionResource):
    """``GET /crews/{crew_id}/versions/{version}``."""

    @operation("Get a crew's version", access="viewer", answers={200: CrewVersionDetails}, errors=(404,))
    async def get(self, crew_id: str, version: str) -> None:
        """Give a crew whole, as it was in one of its versions."""
        crew, number = self.crew(crew_id), number_of(version)
        about = version_of(self.parts.store, crew_id, number)

        def details() -> CrewVersionDetails:
            found = details_of(self.whole(crew, number))
            return CrewVersionDetails(**about.model_dump(include=_SHOWN), crew=found)

        await self.answer_with(details, size=self.size(crew))


class VersionDiffHandler(VersionResource):
    """``GET /crews/{crew_id}/versions/{version}/diff``."""

    @operation(
        "Compare two of a crew's versions",
        access="viewer",
        query=DiffQuery,
        answers={200: CrewVersionDiff},
        errors=(404,),
    )
    async def get(self, crew_id: str, version: str) -> None:
        """Say what changes from a version to another, by default to the present one, line by line."""
        crew, number = self.crew(crew_id), number_of(version)
        to = self.query(DiffQuery).to or crew.version
        before, after = await beside_loop(
            lambda: [whole_body(self.whole(crew, each)) for each in (number, to)],
            size=self.size(crew),
            owner=self.caller.owner,
        )
        exchange = Exchange(self.parts.confined, self.caller.owner)
        diff = await exchange.compare(before, after, names=(f"version {number}", f"version {to}"))
        self.answer(CrewVersionDiff(version=number, to=to, diff=diff))


class VersionRestoreHandler(VersionResource):
    """``POST /crews/{crew_id}/versions/{version}/restore``."""

    @operation(
        "Restore a crew's version",
        access="editor",
        query=ChangeQuery,
        answers={200: CrewRestored},
        errors=(404, 412),
        headers=IF_MATCH,
        answer_headers=ETAG,
    )
    async def post(self, crew_id: str, version: str) -> None:
        """Bring a crew back to one of its versions; that becomes a new version, and the ones between stay."""
        crew, number = self.crew(crew_id), number_of(version)
        whole = await beside_loop(
            lambda: self.whole(crew, number), size=self.size(crew), owner=self.caller.owner
        )
        await self.parts.webhooks.require_allowed(whole.crew.webhook)
        change = changed_by(self, self.query(ChangeQuery), "restore", restored=number)
        await self.ask_once_more()
        crew = await self.parts.crews.restore(crew_id, number, change, version=expected_version(self))
        self.set_header("ETag", etag(crew))
        self.answer(CrewRestored(id=crew_id, version=crew.version, restored=number))


def number_of(version: str) -> int:
    """Give the number in a path.

    Raises
    ------
    NotFound
        It is none.
    """
    if not (version.isascii() and version.isdecimal() and len(version) < 10):
        raise NotFound(f"There is no version {version}; versions are numbers from 1")
    return int(version)
