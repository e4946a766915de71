"""The versions of crews, kept beside them: each change of a crew adds one, in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kasal_jupyter.errors import NotFound
from kasal_jupyter.schemas.crews import (
    MOST_VERSION_BYTES,
    MOST_VERSIONS,
    Crew,
    CrewVersion,
    CrewVersionBody,
    Source,
    WholeCrew,
)
from kasal_jupyter.store.quota import trim_versions

if TYPE_CHECKING:
    from kasal_jupyter.store.store import Store


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes a crew, and from where.

    Attributes
    ----------
    author
        Who, for people to read.
    source
        What the change comes from: a cell, the editor …
    origin
        Which notebook or file that is, where that is known.
    restored
        The version that is brought back by it.
    """

    author: str
    source: Source = "api"
    origin: str | None = None
    restored: int | None = None


def version_id(crew_id: str, version: int) -> str:
    """Give the id of a version's documents."""
    return f"{crew_id}@{version}"


def version_of(store: Store, crew_id: str, version: int) -> CrewVersion:
    """Give what is known of a version.

    Raises
    ------
    NotFound
        The crew has none of this number, or it is not kept any more.
    """
    with store.snapshot():
        found = store.crew_versions.get(version_id(crew_id, version))
        crew = store.crews.get(crew_id)
    if found is None and crew is not None and crew.version == version:
        # Made before versions were kept.
        return _before(crew)
    if found is None:
        raise _no_version(crew_id, version)
    return found


def whole_version(store: Store, crew_id: str, version: int) -> WholeCrew:
    """Give a crew as it was in a version, whose number is not its present one.

    Raises
    ------
    NotFound
        The crew has none of this number, or it is not kept any more.
    """
    body = store.crew_version_bodies.get(version_id(crew_id, version))
    if body is None:
        raise _no_version(crew_id, version)
    return body.whole()


def keep_version(store: Store, whole: WholeCrew, change: Change, before: WholeCrew | None = None) -> None:
    """Keep what a change has made of a crew, within that change.

    Parameters
    ----------
    store
        The store.
    whole
        The crew as it is now.
    change
        Who has changed it, and from where.
    before
        The crew as it was: it is kept as well where it was made before versions were.
    """
    if before is not None and not store.crew_versions.has(version_id(before.crew.id, before.crew.version)):
        _insert(store, before, _before(before.crew))
    crew = whole.crew
    _insert(
        store,
        whole,
        CrewVersion(
            id=version_id(crew.id, crew.version),
            crew_id=crew.id,
            version=crew.version,
            created_at=crew.updated_at,
            author=change.author,
            source=change.source,
            origin=change.origin,
            restored=change.restored,
            size=0,
        ),
    )
    if before is not None:
        trim_versions(store, crew.id)


def note_run(store: Store, whole: WholeCrew) -> None:
    """Note that an execution is started with a version, within a change: such versions are kept longest."""
    crew = whole.crew
    known = store.crew_versions.readable(version_id(crew.id, crew.version))
    if known is None:
        if store.crews.has(crew.id):
            _insert(store, whole, _before(crew).model_copy(update={"ran": True}))
    elif not known.ran:
        store.crew_versions.replace(known.model_copy(update={"ran": True}))


def forget_versions(store: Store, crew_id: str) -> None:
    """Delete the versions of a crew, within a change."""
    store.crew_version_bodies.delete_where(crew_id=crew_id)
    store.crew_versions.delete_where(crew_id=crew_id)


def _insert(store: Store, whole: WholeCrew, about: CrewVersion) -> None:
    body = CrewVersionBody.model_construct(
        id=about.id, crew_id=about.crew_id, crew=whole.crew, agents=whole.agents, tasks=whole.tasks
    )
    store.crew_version_bodies.insert(body)
    store.crew_versions.insert(about.model_copy(update={"size": len(body.model_dump_json())}))


def _before(crew: Crew) -> CrewVersion:
    """Say of a version that was made before they were kept what the crew itself tells."""
    return CrewVersion(
        id=version_id(crew.id, crew.version),
        crew_id=crew.id,
        version=crew.version,
        created_at=crew.updated_at,
        author=crew.owner,
        source="unknown",
        size=0,
    )


def _no_version(crew_id: str, version: int) -> NotFound:
    return NotFound(
        f"Crew {crew_id} has no version {version}, or it is not kept any more: {MOST_VERSIONS} are, and "
        f"{MOST_VERSION_BYTES:,} bytes of them"
    )
