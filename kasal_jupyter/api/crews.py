"""``/crews``: the reference's *Crew Management*, and what a crew was before."""

from __future__ import annotations

import re
from functools import lru_cache

import orjson

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.crews.assembly import INVALID_CREW
from kasal_jupyter.crews.versions import Change, version_of
from kasal_jupyter.errors import Fault, InvalidRequest, NotFound
from kasal_jupyter.executions.dry_run import doubted_models, dry_run
from kasal_jupyter.formats.limited import Exchange
from kasal_jupyter.formats.outline import whole_body
from kasal_jupyter.places import SMALL, beside_loop
from kasal_jupyter.schemas.base import Updated
from kasal_jupyter.schemas.crews import (
    ChangeQuery,
    Crew,
    CrewCheck,
    CrewChecked,
    CrewConfiguration,
    CrewCreate,
    CrewCreated,
    CrewDetails,
    CrewList,
    CrewQuery,
    CrewRestored,
    CrewSummary,
    CrewUpdate,
    CrewVersionDetails,
    CrewVersionDiff,
    CrewVersionInfo,
    CrewVersionList,
    DiffQuery,
    Source,
    VersionQuery,
    WholeCrew,
)
from kasal_jupyter.store.repository import Repository

IF_MATCH = {"If-Match": "The crew's ETag as it was read: 412 if it was changed since."}

ETAG = {"ETag": "The crew's version, for `If-Match` and `If-None-Match`."}

REMEMBERED_PAGE = 100
"""So long may a page be that is remembered until a crew changes."""

_TAG = re.compile(r'"(\d{1,18})"')
"""A crew's ETag: its version."""


class CrewsHandler(ApiHandler):
    """``GET /crews`` and ``POST /crews``."""

    tag = "Crew Management"
    message = INVALID_CREW

    @operation("List all crews", access="viewer", query=CrewQuery, answers={200: CrewList})
    async def get(self) -> None:
        """List crews, the newest first where no other order is asked for.

        `search` looks in names and descriptions.
        """
        query = self.query(CrewQuery)
        if query.sort == "-created_at" and query.search is None and query.name is None:
            store, owner = self.parts.store, self.caller.only
            with store.one_look(self.seen):
                key = ("newest page", owner, query.page, query.per_page)
                if query.per_page > REMEMBERED_PAGE:
                    data = _newest(store.crews, query, owner)
                else:
                    data = store.crews.remembered(key, lambda: _newest(store.crews, query, owner))
            self.write_bytes(data)
            return
        page = await list_page(
            self.parts.store.crews,
            query,
            self.caller.scope,
            searched=("name", "description"),
            equal={"name": query.name},
        )
        crews = [_summary(crew) for crew in page.documents]
        self.answer(CrewList.of(query, crews, page.total))

    @operation(
        "Create new crew",
        access="editor",
        body=CrewCreate,
        query=ChangeQuery,
        answers={201: CrewCreated},
        answer_headers=ETAG,
    )
    async def post(self) -> None:
        """Create a crew, with its agents and tasks at once if they are given.

        `source` and `origin` are for its history: where the change comes from.
        """
        body, change = self.body(CrewCreate), changed_by(self, self.query(ChangeQuery))
        await self.parts.webhooks.require_allowed(body.webhook)
        await self.ask_once_more()
        whole = await self.parts.crews.create(body, self.caller.owner, change)
        crew = whole.crew
        self.set_header("ETag", etag(crew))
        self.answer(CrewCreated(id=crew.id, name=crew.name, status=crew.status), 201)


class CrewHandler(ApiHandler):
    """``GET``, ``PUT`` and ``DELETE /crews/{crew_id}``."""

    tag = "Crew Management"
    message = INVALID_CREW

    @operation(
        "Get crew details",
        access="viewer",
        answers={200: CrewDetails, 304: None},
        errors=(404,),
        headers={"If-None-Match": "The ETag of the crew as it is known: 304 if it has not changed."},
        answer_headers=ETAG,
    )
    async def get(self, crew_id: str) -> None:
        """Give a crew whole, and its version as `ETag`."""
        tag = etag(self.crew(crew_id))
        if tag in _tags(self.request.headers.get("If-None-Match", "")):
            self.set_header("ETag", tag)
            self.set_status(304)
            self.finish()
            return
        whole = await self.parts.crews.read(crew_id, self.caller.owner)
        self.set_header("ETag", etag(whole.crew))
        await self.answer_with(lambda: details_of(whole), size=whole.size)

    @operation(
        "Update crew configuration",
        access="editor",
        body=CrewUpdate,
        query=ChangeQuery,
        answers={200: Updated},
        errors=(404, 412),
        headers=IF_MATCH,
        answer_headers=ETAG,
    )
    async def put(self, crew_id: str) -> None:
        """Change what the body gives.

        A given list of agents or tasks replaces the whole list; agents and tasks keep their ids where the new
        list has the same id or name. `source` and `origin` are for its history: where the change comes from.
        """
        self.crew(crew_id)
        body, change = self.body(CrewUpdate), changed_by(self, self.query(ChangeQuery))
        await self.parts.webhooks.require_allowed(body.webhook)
        await self.ask_once_more()
        crew = await self.parts.crews.update(crew_id, body, change, version=expected_version(self))
        self.set_header("ETag", etag(crew))
        self.answer(Updated(id=crew_id))

    @operation("Delete crew", access="editor", answers={204: None}, errors=(404, 412), headers=IF_MATCH)
    async def delete(self, crew_id: str) -> None:
        """Delete a crew with its agents, tasks, versions, memory and knowledge; its past executions stay."""
        self.crew(crew_id)
        await self.parts.crews.delete(crew_id, version=expected_version(self))
        await self.parts.recall.drop(crew_id)
        self.nothing()


class CrewCheckHandler(ApiHandler):
    """``POST /crews/{crew_id}/check``."""

    tag = "Crew Management"
    message = "Invalid check"

    @operation(
        "Check whether a crew can run",
        access="editor",
        body=CrewCheck,
        answers={200: CrewChecked},
        errors=(404,),
    )
    async def post(self, crew_id: str) -> None:
        """Check a crew as *Start crew execution* does, without starting or storing anything.

        `faults` has everything that keeps it from running, each with the field that it is about.
        """
        body = self.body(CrewCheck)
        self.crew(crew_id)
        # What has just ended tells of the next run as well.
        await self.parts.runs.put_away(crew_id)
        runs, whole = self.parts.runs, await self.parts.crews.read(crew_id, self.caller.owner)
        doubted = await doubted_models(runs, whole)
        await self.answer_with(
            lambda: dry_run(runs, whole, body.inputs, body.tools, doubted), size=whole.size + len(body.inputs)
        )


def expected_version(handler: ApiHandler) -> int | None:
    """Give the version that the crew must still have; None where the client asks for none."""
    text = handler.request.headers.get("If-Match", "*").strip()
    if text == "*":
        return None
    if (tag := _TAG.fullmatch(text)) is None:
        reason = 'Send the ETag that GET /crews/{crew_id} gave, e.g. "3", or *'
        raise InvalidRequest("Invalid header", faults=[Fault("If-Match", reason)])
    return int(tag[1])


def changed_by(
    handler: ApiHandler,
    query: ChangeQuery | None = None,
    source: Source | None = None,
    restored: int | None = None,
) -> Change:
    """Say who changes a crew by a request, and from where: as the query says where that is not known."""
    query = query or ChangeQuery()
    return Change(handler.caller.author, source or query.source, query.origin, restored)


def etag(crew: Crew) -> str:
    """Give a crew's ETag (RFC 9110, section 8.8.3): a strong one, its version."""
    return f'"{crew.version}"'


def _tags(header: str) -> list[str]:
    # A cache on the way may have made a weak tag of a strong one; to read again, that is good enough.
    return [tag.strip().removeprefix("W/") for tag in header.split(",")]


def _summary(crew: Crew) -> CrewSummary:
    return CrewSummary(
        id=crew.id,
        name=crew.name,
        status=crew.status,
        agents_count=crew.agents_count,
        created_at=crew.created_at,
        updated_at=crew.updated_at,
        version=crew.version,
        owner=crew.owner,
    )


def _newest(crews: Repository[Crew], query: CrewQuery, owner: str | None) -> bytes:
    """Give a page of an owner's crews, or everybody's, as JSON."""
    scope = {} if owner is None else {"owner": owner}
    bodies, total = crews.bodies(
        _summary_bytes, newest=True, offset=query.offset, limit=query.per_page, **scope
    )
    return b'{"crews":[%b],"total":%d,"page":%d,"per_page":%d}' % (
        b",".join(bodies),
        total,
        query.page,
        query.per_page,
    )


@lru_cache(maxsize=10_000)
def _summary_bytes(body: bytes) -> bytes:
    """Give the summary of a stored crew as JSON: each is made once, until the crew changes."""
    return _summary(Crew.model_validate(orjson.loads(body))).model_dump_json().encode()


def details_of(whole: WholeCrew) -> CrewDetails:
    """Give a crew as the API shows it whole."""
    crew = whole.crew
    return CrewDetails(
        id=crew.id,
        name=crew.name,
        description=crew.description,
        status=crew.status,
        agents=whole.agents,
        tasks=whole.tasks,
        configuration=CrewConfiguration(**crew.model_dump(include=set(CrewConfiguration.model_fields))),
        version=crew.version,
        owner=crew.owner,
        created_at=crew.created_at,
        updated_at=crew.updated_at,
    )


# ``/crews/{crew_id}/versions``: what a crew was, what has changed, and the way back.

_SHOWN = set(CrewVersionInfo.model_fields)


class VersionResource(ApiHandler):
    """What the resources of a crew's versions share."""

    tag = "Crew Management"
    message = "Invalid version"

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
            found = details_of(self.parts.crews.in_version(crew.id, number))
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
            lambda: [whole_body(self.parts.crews.in_version(crew.id, each)) for each in (number, to)],
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
            lambda: self.parts.crews.in_version(crew.id, number),
            size=self.size(crew),
            owner=self.caller.owner,
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
