"""`%kasal crew, crews, show, check, edit`."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from kasal_jupyter.errors import InvalidRequest, nearest
from kasal_jupyter.kernel.cards import Checked, Shown
from kasal_jupyter.kernel.crew_card import CrewCard
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.figures import moment_text
from kasal_jupyter.kernel.notebook_values import read_inputs
from kasal_jupyter.kernel.session import Session

if TYPE_CHECKING:
    from kasal_jupyter.kernel.client import Client
    from kasal_jupyter.schemas.crews import CrewCreate, CrewDetails

HEADS = ["crew", "status", "agents", "created", "id"]


def crew_command(session: Session, words: Namespace, cell: str | None) -> CrewCard:
    """Create or update a crew from the YAML in the cell."""
    from kasal_jupyter.formats.yaml_crew import load_crew

    name = " ".join(words.name) or None
    values = None if words.raw else session.namespace
    try:
        # The cell's first line is the magic's: its lines are counted as the notebook counts them.
        body = load_crew(f"\n{cell or ''}", name, values)
    except InvalidRequest as error:
        raise CellError(error.message, faults=error.faults) from None
    crew, verb = put_crew(session.client, body)
    return CrewCard(crew, verb)


def put_crew(client: Client, body: CrewCreate) -> tuple[CrewDetails, str]:
    """Create a crew, or update the one of its name; give it, and which of both was done.

    Raises
    ------
    CellError
        There are several of that name.
    """
    known = client.crews(name=body.name)
    if len(known) > 1:
        ids = ", ".join(each.id for each in known)
        raise CellError(f"There are {len(known)} crews {body.name!r} ({ids}); rename or delete all but one")
    if known:
        client.update_crew(known[0].id, body)
        return client.crew(known[0].id), "updated"
    return client.crew(client.create_crew(body).id), "created"


def crews_command(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List the crews."""
    del words, cell
    found = session.client.crews()
    rows = [
        [each.name, each.status, str(each.agents_count), moment_text(each.created_at), each.id]
        for each in found
    ]
    return Shown("" if rows else "No crews yet: %kasal demo makes one, %%kasal crew NAME yours", HEADS, rows)


def show_command(session: Session, words: Namespace, cell: str | None) -> CrewCard:
    """Show a crew's card."""
    del cell
    return CrewCard(session.crew(words.crew))


def check_command(session: Session, words: Namespace, cell: str | None) -> Checked:
    """Check a crew with the inputs it would be run with."""
    del cell
    crew = session.crew(words.crew)
    inputs = read_inputs(words.inputs, session.notebook)
    if note := inputs.note():
        print(note)  # noqa: T201 - whoever meant a text is told
    return check_crew(session.client, crew, inputs.values)


def check_crew(client: Client, crew: CrewDetails, values: dict[str, Any]) -> Checked:
    """Check a crew with the values, and with the notebook's tools, that a run would take along."""
    from kasal_jupyter.kernel.inputs import read_values

    given = read_values(values, crew)
    return Checked(crew.name, client.check(crew.id, given.inputs, given.definitions))


def edit_command(session: Session, words: Namespace, cell: str | None) -> Any:
    """Open the editor, for a crew that is there or for a new one."""
    del cell
    from kasal_jupyter.kernel.editor import edit

    known = session.client.crews()
    names = [each.name for each in known]
    if words.crew not in {*names, *(each.id for each in known)}:
        begun = f"There is no crew {words.crew!r} yet; a new one is begun"
        print(f"{begun}{nearest(words.crew, names)}")  # noqa: T201 - whoever misspelt one is told
    return edit(session.client, words.crew, session.namespace)
