"""How much one user may have stored: bytes of documents, and crews."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kasal_jupyter.errors import QuotaExceeded
from kasal_jupyter.schemas.usage import Stored
from kasal_jupyter.store.catalog import (
    AGENTS,
    CREWS,
    KNOWLEDGE,
    MCP_SERVERS,
    MEMORIES,
    PASSAGES,
    TASKS,
    TOOLS,
    VERSION_BODIES,
    VERSIONS,
)
from kasal_jupyter.store.layer import Layer, Tables
from kasal_jupyter.store.versions import trim_versions

if TYPE_CHECKING:
    from kasal_jupyter.store.store import Store

T = TypeVar("T")

_OWNED = tuple(each.name for each in (CREWS, AGENTS, TASKS, TOOLS, MCP_SERVERS))
"""Tables whose documents name their owner."""

_OF_CREWS = tuple(each.name for each in (VERSIONS, VERSION_BODIES, KNOWLEDGE, PASSAGES, MEMORIES))
"""Tables whose documents are a crew's, and so its owner's."""

_USER_ID = "user_"


@dataclass(frozen=True, slots=True)
class Quota:
    """What each user may have stored; those who administer the server may have any amount.

    Only what a user asks for is refused: a run's end is always stored, with what its crew remembers.

    Attributes
    ----------
    most_bytes, most_crews
        The limits; 0: none.
    everybody
        Whether they hold for whoever is no Kasal user as well: in the sandbox, where all share one owner.
    """

    most_bytes: int = 0
    most_crews: int = 0
    everybody: bool = False

    def within(self, store: Store, layer: Callable[[], Layer], work: Callable[[], T]) -> T:
        """Do a change, and refuse it where an owner has more then than before, and too much.

        Parameters
        ----------
        store
            The store.
        layer
            Gives the changes that were made so far.
        work
            The change; this is called within its transaction.

        Raises
        ------
        QuotaExceeded
            It is refused.
        """
        result = work()
        if self.most_bytes or self.most_crews:
            changes = layer()
            for owner in _owners(store, changes):
                if self._holds_for(store, owner):
                    self._make_room(store, owner, changes)
                    self._require(owner, changes.below, changes)
        return result

    def _holds_for(self, store: Store, owner: str) -> bool:
        if not owner.startswith(_USER_ID):
            return self.everybody
        user = store.users.readable(owner)
        return user is None or user.role != "admin"

    def stored(self, store: Store, tables: Tables, owner: str) -> Stored:
        """Say how much an owner has stored, and may have."""
        holds = self._holds_for(store, owner)
        return Stored(
            bytes=used_bytes(tables, owner),
            most_bytes=(holds and self.most_bytes) or None,
            crews=len(tables.reader(CREWS.name).matching("owner", owner)),
            most_crews=(holds and self.most_crews) or None,
        )

    def _make_room(self, store: Store, owner: str, changes: Layer) -> None:
        """Have a crew's history yield to what the crew is to become, where there is no room for both."""
        if not self.most_bytes:
            return
        for crew_id in set(_written(changes, VERSIONS.name, "crew_id")):
            if (over := used_bytes(changes, owner) - self.most_bytes) > 0:
                trim_versions(store, crew_id, free=over)

    def _require(self, owner: str, before: Tables, after: Tables) -> None:
        used = used_bytes(after, owner)
        if self.most_bytes and used > self.most_bytes and used > used_bytes(before, owner):
            raise QuotaExceeded(
                f"Your crews with their versions, tools, knowledge and memories would take {used:,} bytes, "
                f"and may take {self.most_bytes:,}; delete some, or ask an administrator",
                used=used,
                limit=self.most_bytes,
            )
        crews = len(after.reader(CREWS.name).matching("owner", owner))
        if self.most_crews and crews > max(
            self.most_crews, len(before.reader(CREWS.name).matching("owner", owner))
        ):
            raise QuotaExceeded(
                f"You would have {crews:,} crews, and may have {self.most_crews:,}; "
                "delete some, or ask an administrator",
                used=crews,
                limit=self.most_crews,
            )


def used_bytes(tables: Tables, owner: str) -> int:
    """Give the bytes that an owner's documents have as they are stored.

    It reads running sums, one for each of the owner's crews.
    """
    crews = tables.reader(CREWS.name)
    place = crews.fields.index("id")
    used = sum(tables.reader(name).size(owner) for name in _OWNED)
    for doc_id in crews.matching("owner", owner):
        crew_id = crews.keys(doc_id)[place]
        used += sum(tables.reader(name).size(crew_id) for name in _OF_CREWS)
    return used


def _owners(store: Store, changes: Layer) -> set[str]:
    """Give the owners who have got something by some changes."""
    owners = {owner for name in _OWNED for owner in _written(changes, name, "owner")}
    for crew_id in {crew_id for name in _OF_CREWS for crew_id in _written(changes, name, "crew_id")}:
        if (crew := store.crews.readable(crew_id)) is not None:
            owners.add(crew.owner)
    return owners


def _written(changes: Layer, name: str, field: str) -> Iterator[str]:
    table = changes.changed(name)
    if table is None:
        return
    place = table.fields.index(field)
    for doc_id in table.put_rows.ids():
        if isinstance(value := table.put_rows.keys(doc_id)[place], str):
            yield value
