"""The server's crews by name or id, and bringing one there so that nobody else's change is lost in silence.

Whoever writes a crew says where from: the notebook or the file. A crew whose newest version comes from
somewhere else is not written over unless that is asked for; it is compared, and both are named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kasal_jupyter.errors import Conflict, InvalidRequest, NotFound, PreconditionFailed, nearest
from kasal_jupyter.kernel.crews.history import Difference, place_of, where_from
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.views.clean import one_line
from kasal_jupyter.kernel.views.figures import counted, moment_text

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.crews import ChangeQuery, CrewCreate, CrewDetails, CrewSummary, CrewVersionInfo

NOTEBOOK = "%kasal"
TERMINAL = "jupyter kasal"
"""How commands begin, for what is said of them."""

UNNAMED = "a notebook without a name"
"""Stands for a notebook's name where its runner tells none."""

_KIN = ({"cell", "python"}, {"terminal", "import"})
"""Sources that are one, where the notebook or the file is the same."""

_MOST_TRIES = 5
"""How often a change is tried that others' changes overtake."""

CREW_ID = re.compile(r"crew_[0-9a-z]{4,40}")


# -- which crew is meant ---------------------------------------------------------------------------------


def find_crew(client: Client, word: str, *, command: str = NOTEBOOK) -> CrewDetails:
    """Give the crew of a name or an id; of several of a name, one's own where that is one.

    Parameters
    ----------
    client
        The server.
    word
        The name or the id.
    command
        How commands begin where the answer is read.

    Raises
    ------
    NotFound
        There is none; with the nearest name.
    InvalidRequest
        There are several, which are told apart.
    """
    if CREW_ID.fullmatch(word):
        try:
            return client.crew(word)
        except NotFound:
            # A crew may be called so.
            pass
    if (found := _one_of(client, client.crews(name=word), word, command)) is not None:
        return client.crew(found.id)
    names = [each.name for each in client.crews()]
    raise NotFound(f"There is no crew {word!r}{nearest(word, names) or f'; `{command} crews` lists them'}")


def own_crew(client: Client, name: str, *, command: str = NOTEBOOK) -> CrewDetails | None:
    """Give one's own crew of a name; None where there is none, whatever others have.

    Raises
    ------
    InvalidRequest
        There are several, which are told apart.
    """
    named = client.crews(name=name)
    own = [each for each in named if each.owner == client.owner] if named else []
    found = _one_of(client, own, name, command)
    return client.crew(found.id) if found is not None else None


def _one_of(client: Client, crews: Sequence[CrewSummary], name: str, command: str) -> CrewSummary | None:
    own = [each for each in crews if each.owner == client.owner] if len(crews) > 1 else crews
    if len(crews) > 1 and len(own) != 1:
        said = (
            f"There are {len(crews)} crews {name!r}; say which by its id, or give one another name: "
            f"{command} rename ID NEWNAME"
        )
        raise InvalidRequest("\n".join([said, *(f"  {told_apart(each)}" for each in crews)]))
    return own[0] if own else None


def told_apart(crew: CrewSummary) -> str:
    """Write a crew's id with what tells it from another of its name."""
    agents = counted(crew.agents_count, "agent")
    return f"{crew.id}  {agents}, version {crew.version} of {moment_text(crew.updated_at)}, {crew.owner}'s"


# -- writing one -----------------------------------------------------------------------------------------


class ChangedElsewhere(CellError):
    """A crew is not written over: its newest version comes from elsewhere.

    Attributes
    ----------
    crew
        What the server has.
    difference
        What would change of it.
    """

    status = 412
    code = "PRECONDITION_FAILED"

    def __init__(self, message: str, crew: CrewDetails, difference: Difference) -> None:
        super().__init__(message)
        self.crew = crew
        self.difference = difference


@dataclass(frozen=True, slots=True)
class Put:
    """What has become of a crew that was written.

    Attributes
    ----------
    crew
        The crew as the server has it.
    verb
        What was done.
    replaced
        The version before, where it comes from another cell of the same notebook, as far as that is known.
    """

    crew: CrewDetails
    verb: Literal["created", "updated", "unchanged"]
    replaced: CrewVersionInfo | None = None


@dataclass(frozen=True, slots=True)
class Hand:
    """Whose hand writes.

    Attributes
    ----------
    change
        What the history is told: what the change comes from, and which notebook or file that is.
    known
        The version that is known to be this hand's, where one is.
    trusting
        Whether versions of the same notebook or file are its own as well; else :attr:`known` alone is.
    force
        Whether to write over what comes from elsewhere.
    ways
        What can be done where it is not.
    """

    change: ChangeQuery
    known: int | None = None
    trusting: bool = True
    force: bool = False
    ways: str = "Add --force to write over it, or --as NEWNAME to keep both"

    def wrote(self, version: CrewVersionInfo) -> bool:
        """Say whether a version comes from this hand."""
        if version.version == self.known:
            return True
        source = self.change.source
        kin = next((each for each in _KIN if source in each), set())
        place, mine = place_of(version.origin), place_of(self.change.origin)
        # Before a folder stood for it, a notebook without a name was told by nothing.
        same = place == mine or (not place and mine.endswith(UNNAMED))
        return self.trusting and version.source in kin and same

    @property
    def called(self) -> str:
        """What it is, for people."""
        if self.change.source == "generate":
            return "what was generated"
        return "this notebook" if self.change.source in {"cell", "python"} else "this file"


def put_crew(client: Client, body: CrewCreate, hand: Hand, stored: CrewDetails | None) -> Put:
    """Create a crew, or update one; a crew that is the same already is left alone.

    Parameters
    ----------
    client
        The server.
    body
        The crew.
    hand
        Whose hand writes it.
    stored
        The crew to update, as a rule one's own of the name; None to create one.

    Raises
    ------
    ChangedElsewhere
        Its newest version comes from elsewhere; nothing was written.
    """
    if stored is None:
        return Put(client.crew(client.create_crew(body, hand.change).id), "created")
    for _ in range(_MOST_TRIES):
        if is_same(stored, body):
            return Put(stored, "unchanged")
        latest = require_own(client, body, hand, stored)
        try:
            # Whoever has changed it since it was read is not written over unseen.
            client.update_crew(stored.id, body, version=stored.version, change=hand.change)
        except PreconditionFailed:
            stored = client.crew(stored.id)
            continue
        unsure = latest is not None and (not latest.origin or place_of(latest.origin).endswith(UNNAMED))
        another = latest if latest is not None and (unsure or latest.origin != hand.change.origin) else None
        return Put(client.crew(stored.id), "updated", another)
    raise Conflict(f"{body.name!r} is being changed elsewhere all the time; try again")


def rename(client: Client, crew: CrewDetails, name: str, change: ChangeQuery) -> None:
    """Give a crew another name, which none of one's own has.

    Raises
    ------
    CellError
        One has.
    """
    from kasal_jupyter.schemas.crews import CrewUpdate

    require_free(client, name, but=crew.id)
    changed = CrewUpdate(name=checked_name(name))
    client.update_crew(crew.id, changed, version=crew.version, change=change)


def require_free(client: Client, name: str, but: str = "") -> None:
    """Refuse a name that another of one's own crews has.

    Raises
    ------
    CellError
        One has.
    """
    taken = [each.id for each in client.crews(name=name) if each.owner == client.owner and each.id != but]
    if taken:
        raise CellError(f"There is a crew {name!r} already ({', '.join(taken)}); choose another name")


def checked_name(name: str) -> str:
    """Give what can be a crew's name.

    Raises
    ------
    CellError
        It cannot.
    """
    from pydantic import TypeAdapter, ValidationError

    from kasal_jupyter.schemas.base import Name

    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise CellError(f"{name!r} is no name for a crew: one line, 200 characters at the most") from None


def require_own(client: Client, body: CrewCreate, hand: Hand, stored: CrewDetails) -> CrewVersionInfo | None:
    """Give the newest version of a crew that a hand may write over; None where that was not asked.

    Raises
    ------
    ChangedElsewhere
        It comes from elsewhere.
    """
    if hand.force or stored.version == hand.known:
        return None
    versions = client.crew_versions(stored.id)
    latest = next((each for each in versions if each.version == stored.version), None)
    if latest is not None and hand.wrote(latest):
        return latest
    mine = next((each.version for each in versions if hand.wrote(each)), None)
    by = _told(latest) if latest is not None else "before there was a history"
    if mine is None:
        since = f"{hand.called} has not written any version of it"
    else:
        since = f"{hand.called} last wrote version {mine}" if hand.trusting else f"it was version {mine} here"
    name = one_line(stored.name, 80)
    raise ChangedElsewhere(
        f"{name!r} was changed elsewhere: it is at version {stored.version} ({by}), and {since}. "
        f"{hand.ways}; its history keeps version {stored.version} either way",
        stored,
        Difference(
            f"What would change of version {stored.version} of {name}",
            _yaml(stored),
            _yaml(body),
            (f"version {stored.version}, as it is stored", "what would be written"),
        ),
    )


def is_same(stored: CrewDetails, body: CrewCreate) -> bool:
    """Say whether a stored crew is the one of a body."""
    return _yaml(stored) == _yaml(body)


def _told(version: CrewVersionInfo) -> str:
    """Say what a version comes from, whose it is, and of when."""
    return f"{where_from(version)}, {version.author}, {moment_text(version.created_at)}"


def _yaml(crew: CrewDetails | CrewCreate) -> str:
    from kasal_jupyter.formats.yaml_crew import dump_crew

    return dump_crew(crew)
