"""How the editor begins: the stored crew's YAML with the comments this notebook knows, or a new crew's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import InvalidRequest, NotFound
from kasal_jupyter.formats.yaml_edit import read_plain, rewrite
from kasal_jupyter.kernel.crews import stored_crews
from kasal_jupyter.kernel.editor.saving import Stored, same_crew, text_of
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import split
from kasal_jupyter.schemas.crews import CrewDetails

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
