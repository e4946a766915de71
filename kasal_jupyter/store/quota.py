"""How much one user may have stored: bytes of documents, and crews."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from kasal_jupyter.errors import QuotaExceeded
from kasal_jupyter.schemas.crews import MOST_VERSION_BYTES, MOST_VERSIONS
from kasal_jupyter.schemas.usage import Stored
from kasal_jupyter.store.collections import CREWS, LAYOUTS, VERSIONS
from kasal_jupyter.store.engine import Job

if TYPE_CHECKING:
    import sqlite3

    from kasal_jupyter.schemas.crews import Crew, CrewVersion, CrewVersionBody
    from kasal_jupyter.schemas.users import User
    from kasal_jupyter.store.repository import Repository

T = TypeVar("T")

_USER_ID = "user_"


class Counted(Protocol):
    """What is looked at of the store."""

    users: Repository[User]
    crews: Repository[Crew]
    crew_versions: Repository[CrewVersion]
    crew_version_bodies: Repository[CrewVersionBody]

    def read(self) -> AbstractContextManager[sqlite3.Connection]:
        """Give a connection that reads one moment."""


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

    def within(self, store: Counted, job: Callable[[], Job], work: Callable[[], T]) -> T:
        """Do a change, and refuse it where an owner has more then than before, and too much.

        Parameters
        ----------
        store
            The store.
        job
            Gives the change at hand, with what it has stored so far.
        work
            The change; this is called within its transaction.

        Raises
        ------
        QuotaExceeded
            It is refused.
        """
        result = work()
        if self.most_bytes or self.most_crews:
            for owner in _owners(store, job()):
                if self._holds_for(store, owner):
                    self._make_room(store, owner, job())
                    self._require(store, owner, job())
        return result

    def _holds_for(self, store: Counted, owner: str) -> bool:
        if not owner.startswith(_USER_ID):
            return self.everybody
        user = store.users.readable(owner)
        return user is None or user.role != "admin"

    def stored(self, store: Counted, owner: str) -> Stored:
        """Say how much an owner has stored, and may have."""
        holds = self._holds_for(store, owner)
        return Stored(
            bytes=used_bytes(store, owner),
            most_bytes=(holds and self.most_bytes) or None,
            crews=store.crews.count(owner=owner),
            most_crews=(holds and self.most_crews) or None,
        )

    def _make_room(self, store: Counted, owner: str, job: Job) -> None:
        """Have a crew's history yield to what the crew is to become, where there is no room for both."""
        if not self.most_bytes:
            return
        for crew_id in [value for table, value in job.written if table == VERSIONS.name]:
            if (over := used_bytes(store, owner, job) - self.most_bytes) > 0:
                trim_versions(store, crew_id, free=over)

    def _require(self, store: Counted, owner: str, job: Job) -> None:
        used = used_bytes(store, owner, job)
        if self.most_bytes and used > self.most_bytes and more_bytes(store, owner, job) > 0:
            raise QuotaExceeded(
                "Your crews with their versions, batches, tools, knowledge and memories would take "
                f"{used:,} bytes, and may take {self.most_bytes:,}; delete some, or ask an administrator",
                used=used,
                limit=self.most_bytes,
            )
        crews = store.crews.count(owner=owner)
        if self.most_crews and crews > self.most_crews and job.documents[CREWS.name, owner] > 0:
            raise QuotaExceeded(
                f"You would have {crews:,} crews, and may have {self.most_crews:,}; "
                "delete some, or ask an administrator",
                used=crews,
                limit=self.most_crews,
            )


_USED = """
SELECT ifnull((SELECT bytes FROM stored_bytes WHERE field = 'owner' AND value = :owner), 0)
    + ifnull((SELECT sum(bytes) FROM doc_crews JOIN stored_bytes ON field = 'crew_id' AND value = id
              WHERE owner = :owner), 0)
"""


def used_bytes(store: Counted, owner: str, job: Job | None = None) -> int:
    """Give the bytes that an owner's documents have as they are stored, with what a change has added.

    It reads running sums, one for each of the owner's crews.
    """
    with store.read() as connection:
        (used,) = connection.execute(_USED, {"owner": owner}).fetchone()
    return int(used) + (more_bytes(store, owner, job) if job else 0)


def more_bytes(store: Counted, owner: str, job: Job) -> int:
    """Give the bytes that a change has added to what an owner has stored."""
    more = 0
    for (table, value), size in job.bytes.items():
        whose = value if LAYOUTS[table].counted == "owner" else _owner_of(store, value)
        more += size if whose == owner else 0
    return more


def _owners(store: Counted, job: Job) -> set[str]:
    """Give the owners who have got something by a change."""
    found = {
        value if LAYOUTS[table].counted == "owner" else _owner_of(store, value)
        for table, value in job.written
    }
    return {owner for owner in found if owner is not None}


def _owner_of(store: Counted, crew_id: str) -> str | None:
    crew = store.crews.readable(crew_id)
    return None if crew is None else crew.owner


def trim_versions(store: Counted, crew_id: str, *, free: int = 0) -> None:
    """Let go of what is over the limits: the oldest, those last that executions were started with.

    Within a change of the store.

    Parameters
    ----------
    store
        The store.
    crew_id
        The crew.
    free
        Bytes that have to become free, besides; the newest version is kept all the same.
    """
    kept = store.crew_versions.find(order="created", crew_id=crew_id)
    count, size = len(kept), sum(each.size for each in kept)
    most = min(MOST_VERSION_BYTES, size - free)
    for each in sorted(kept[:-1], key=lambda each: (each.ran, each.version)):
        if count <= MOST_VERSIONS and size <= most:
            return
        store.crew_version_bodies.delete(each.id)
        store.crew_versions.delete(each.id)
        count, size = count - 1, size - each.size
