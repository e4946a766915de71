"""The stored crew behind a draft: how it is opened, storing it, and what somebody else has made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import InvalidRequest, KasalError, NotFound, PreconditionFailed
from kasal_jupyter.formats.yaml_crew import dump_crew, load_crew
from kasal_jupyter.formats.yaml_edit import read_plain, rewrite
from kasal_jupyter.kernel.crews import stored_crews
from kasal_jupyter.kernel.editor.draft import Draft, Ids, before_lists
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import split
from kasal_jupyter.kernel.session import notebook_change
from kasal_jupyter.schemas.crews import CrewCreate, CrewDetails


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored crew, as a draft begins with it.

    Attributes
    ----------
    details
        What the server gave.
    text
        Its YAML, with the comments that are known here.
    """

    details: CrewDetails
    text: str

    @property
    def crew(self) -> CrewCreate | None:
        """The crew as a draft would have it; None where YAML cannot say it without a fault."""
        try:
            return load_crew(self.text)
        except InvalidRequest:
            return None

    @property
    def ids(self) -> Ids:
        """The ids of its agents and tasks, by their names in the YAML."""
        return ids_of(self.details)


class Overtaken(KasalError):
    """Somebody else has changed the crew since it was read.

    Attributes
    ----------
    theirs
        What it is now; None where it was deleted.
    """

    status = 412
    code = "PRECONDITION_FAILED"

    def __init__(self, message: str, theirs: CrewDetails | None) -> None:
        super().__init__(message)
        self.theirs = theirs


def ids_of(details: CrewDetails) -> Ids:
    """Give the ids of a crew's agents and tasks, by their names in its YAML."""
    ids: dict[Any, str] = {("agents", agent.name): agent.id for agent in details.agents}
    return ids | {
        ("tasks", task.name or f"task_{number}"): task.id for number, task in enumerate(details.tasks, 1)
    }


def text_of(details: CrewDetails, known: str | None = None) -> str:
    """Give a stored crew's YAML.

    Parameters
    ----------
    details
        The crew.
    known
        YAML of an earlier state of it, whose comments and layout are to be kept.
    """
    plain = dump_crew(details)
    if known is None:
        return plain
    try:
        if same_crew(known, plain):
            return known
        return rewrite(known, _by_name_first(read_plain(known), read_plain(plain)))
    except InvalidRequest:
        return plain


def same_crew(one: str, other: str) -> bool:
    """Say whether two texts are the same crew; a text with a fault is none."""
    try:
        return load_crew(one) == load_crew(other)
    except InvalidRequest:
        return False


def check_unchanged(client: Client, stored: Stored) -> None:
    """See whether the stored crew is still the one that was read.

    Raises
    ------
    Overtaken
        It is another one, or was deleted.
    """
    try:
        now = client.crew(stored.details.id)
    except NotFound:
        raise Overtaken("The crew was deleted on the server", None) from None
    if now.version != stored.details.version:
        raise Overtaken("The crew was changed on the server", now)


def save(client: Client, draft: Draft, stored: Stored | None) -> Stored:
    """Store a draft that has no faults.

    Parameters
    ----------
    client
        The server.
    draft
        The crew; it learns its agents' and tasks' ids.
    stored
        What it must still be on the server; None to make a new one.

    Raises
    ------
    Overtaken
        Somebody else has changed or deleted it; nothing was stored.
    KasalError
        The server refuses the crew, or does not answer.
    """
    assert draft.crew is not None
    if stored is None:
        crew_id = client.create_crew(draft.crew, notebook_change("editor")).id
    else:
        crew_id = stored.details.id
        body = with_ids(draft.crew, draft.state.ids, stored.ids)
        try:
            client.update_crew(
                crew_id, body, version=stored.details.version, change=notebook_change("editor")
            )
        except PreconditionFailed:
            raise Overtaken("The crew was changed on the server", client.crew(crew_id)) from None
        except NotFound:
            raise Overtaken("The crew was deleted on the server", None) from None
    details = client.crew(crew_id)
    draft.renew_ids(ids_of(details))
    return Stored(details, draft.text)


def with_ids(crew: CrewCreate, ids: Ids, there: Ids) -> CrewCreate:
    """Give the crew with the ids that its members have on the server, renamed ones too."""
    known = set(there.values())

    def identity(kind: Any, name: str | None) -> dict[str, str | None]:
        found = ids.get((kind, name or ""))
        return {"id": found if found in known else None}

    return crew.model_copy(
        update={
            "agents": [each.model_copy(update=identity("agents", each.name)) for each in crew.agents],
            "tasks": [each.model_copy(update=identity("tasks", each.name)) for each in crew.tasks],
        }
    )


def _by_name_first(known: Mapping[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Give what is wanted in the order in which the known text has its fields, members in their own order."""

    def ordered(old: Any, new: Any, *, depth: int) -> Any:
        if not isinstance(new, dict):
            return new
        if not isinstance(old, dict):
            old = {}
        # Agents and tasks stand in the crew's order; everything else as it was written.
        kept = [key for key in old if key in new]
        keys = [*new] if depth == 1 else before_lists(kept, new) if depth == 0 else [*kept, *new]
        return {key: ordered(old.get(key), new[key], depth=depth + 1) for key in dict.fromkeys(keys)}

    result: dict[str, Any] = ordered(known, wanted, depth=0)
    return result


# -- how it begins --------------------------------------------------------------------------------------

# How the editor begins: the stored crew's YAML with the comments this notebook knows, or a new crew's.

TEMPLATE = """\
name: New crew
process: sequential
agents:
  writer:
    role: Writer
    goal: Write about {topic}, clearly and in few words
    llm: sandbox
tasks:
  draft:
    description: Write three sentences about {topic}
    expected_output: Three sentences
    agent: writer
"""
"""What a new crew begins as: it can run at once, without a key."""

_texts: dict[tuple[str, str], str] = {}
"""The YAML of the crews that were saved by an editor of this kernel: the server keeps no comments."""


def find_crew(client: Client, word: str) -> CrewDetails | None:
    """Give the crew of a name or an id; None where there is none.

    Raises
    ------
    CellError
        There are several of that name.
    """
    try:
        return stored_crews.find_crew(client, word)
    except NotFound:
        return None
    except InvalidRequest as error:
        raise CellError(error.message) from None


def opened(client: Client, details: CrewDetails) -> Stored:
    """Give a stored crew with its YAML: an editor's, a cell's of this notebook, or one made for it."""
    remembered = _texts.get((client.url, details.id))
    known = [remembered] if remembered else []
    plain = text_of(details)
    candidates = [*known, *(_named(cell, details.name) for cell in _cells(details.name))]
    best = next((text for text in candidates if same_crew(text, plain)), None)
    if best is None and candidates:
        best = text_of(details, candidates[0])
    return Stored(details, best or plain)


def remember(client: Client, stored: Stored) -> None:
    """Keep a crew's YAML for the next editor of this kernel."""
    _texts[client.url, stored.details.id] = stored.text


def new_text(name: str) -> str:
    """Give the YAML of a new crew."""
    return rewrite(TEMPLATE, {**read_plain(TEMPLATE), "name": name})


def _cells(name: str) -> Iterator[str]:
    """Give the YAML of this notebook's cells that have made a crew of that name, the latest first."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    history = shell.history_manager if shell is not None else None
    ran: Iterable[str] = history.input_hist_raw if history is not None else ()
    for cell in reversed(list(ran)):
        head, _, body = cell.strip().partition("\n")
        if not head.startswith("%%kasal"):
            continue
        try:
            words = [str(word) for word in split(head)]
        except CellError:
            continue
        if words[:2] == ["%%kasal", "crew"] and body.strip():
            given = " ".join(words[2:])
            if given == name or (not given and _name_in(body) == name):
                yield body


def _name_in(body: str) -> object:
    try:
        return read_plain(body).get("name")
    except InvalidRequest:
        return None


def _named(text: str, name: str) -> str:
    """Give a cell's YAML with the crew's name in it, which stood in the cell's first line."""
    try:
        values = read_plain(text)
    except InvalidRequest:
        return text
    return text if values.get("name") == name else rewrite(text, {"name": ..., **values} | {"name": name})
