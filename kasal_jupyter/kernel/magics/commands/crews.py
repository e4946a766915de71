"""`%kasal crew, crews, show, check, edit, history, rm, rename, copy`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kasal_jupyter.errors import InvalidRequest, NotFound, StoreError, nearest
from kasal_jupyter.kernel.crews.card import CrewCard, check_crew, stored_card
from kasal_jupyter.kernel.crews.stored_crews import (
    CREW_ID,
    NOTEBOOK,
    UNNAMED,
    checked_name,
    find_crew,
    rename,
    require_free,
)
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import Parser, add_crew, add_inputs, count, phrase, quoted
from kasal_jupyter.kernel.magics.notebook_values import read_inputs
from kasal_jupyter.kernel.session import Session, notebook_change
from kasal_jupyter.kernel.views.cards import Checked, Shown
from kasal_jupyter.kernel.views.figures import counted, moment_text

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.kernel.crews.history import Difference, History
    from kasal_jupyter.schemas.crews import ChangeQuery, CrewCreate, CrewDetails, CrewSummary, CrewVersionInfo
    from kasal_jupyter.schemas.executions import ExecutionStatus

CREW_HEADS = ("crew", "status", "agents", "version", "changed", "owner", "id")


def crew_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%%kasal crew``."""
    parser.add_argument("name", nargs="*", metavar="NAME", help="the crew's name; else the YAML's `name`")
    parser.add_argument(
        "--raw", action="store_true", help="leave {{name}} as it is, instead of filling in the variable"
    )
    parser.add_argument(
        "--force", action="store_true", help="write over what was changed elsewhere; its history keeps that"
    )
    parser.add_argument(
        "--as",
        dest="new_name",
        metavar="NEWNAME",
        type=phrase,
        help="make it a crew of another name, and keep both",
    )


def crew_command(session: Session, words: Namespace, cell: str | None) -> CrewCard:
    """Create or update a crew from the YAML in the cell."""
    from kasal_jupyter.formats.yaml_crew import load_crew

    name = " ".join(words.name) or None
    # An id stands for the crew that it is, of which there may be several of one name.
    into = session.crew(name) if name is not None and CREW_ID.fullmatch(name) else None
    values = None if words.raw else session.namespace
    try:
        # The cell's first line is the magic's: its lines are counted as the notebook counts them.
        body = load_crew(f"\n{cell or ''}", into.name if into is not None else name, values)
    except InvalidRequest as error:
        raise CellError(error.message, faults=error.faults) from None
    if words.new_name is not None:
        body, into = renamed(body, words.new_name), None
    put = session.put_crew(body, force=words.force, into=into)
    if put.replaced is not None:
        print(  # noqa: T201 - whoever did not mean to replace it is told
            f"Version {put.replaced.version} came from {_from_here(put.replaced)}; "
            f"`%kasal history {quoted(body.name)}` keeps it"
        )
    return stored_card(session.client, put.crew, put.verb)


def _from_here(version: CrewVersionInfo) -> str:
    """Say which cell a version comes from that was written over unasked."""
    if not version.origin or UNNAMED in version.origin:
        return "a notebook in this folder whose name its runner does not tell"
    return "another cell of this notebook"


def renamed(body: CrewCreate, name: str) -> CrewCreate:
    """Give a crew with another name.

    Raises
    ------
    CellError
        It cannot be a name.
    """
    return body.model_copy(update={"name": checked_name(name)})


def crews_command(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List the crews."""
    del words, cell
    found = session.client.crews()
    table = [list(CREW_HEADS), *map(crew_row, found)]
    if len({each.owner for each in found}) <= 1:
        owner = CREW_HEADS.index("owner")
        table = [[*row[:owner], *row[owner + 1 :]] for row in table]
    heads, *rows = table
    return Shown("" if rows else "No crews yet: %kasal demo makes one, %%kasal crew NAME yours", heads, rows)


def crew_row(crew: CrewSummary) -> list[str]:
    """Give a crew as a row of a list; see ``CREW_HEADS``."""
    agents, when = str(crew.agents_count), moment_text(crew.updated_at)
    return [crew.name, crew.status, agents, str(crew.version), when, crew.owner, crew.id]


show_arguments = add_crew


def show_command(session: Session, words: Namespace, cell: str | None) -> CrewCard:
    """Show a crew's card."""
    del cell
    return stored_card(session.client, session.crew(words.crew))


def check_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal check``."""
    add_crew(parser)
    add_inputs(parser)


def check_command(session: Session, words: Namespace, cell: str | None) -> Checked:
    """Check a crew with the inputs it would be run with."""
    del cell
    crew = session.crew(words.crew)
    inputs = read_inputs(words.inputs, session.notebook)
    if note := inputs.note():
        print(note)  # noqa: T201 - whoever meant a text is told
    return check_crew(session.client, crew, inputs.values)


edit_arguments = add_crew


def edit_command(session: Session, words: Namespace, cell: str | None) -> Any:
    """Open the editor, for a crew that is there or for a new one."""
    del cell
    from kasal_jupyter.kernel.editor import edit

    try:
        find_crew(session.client, words.crew)
    except NotFound:
        names = [each.name for each in session.client.crews()]
        begun = f"There is no crew {words.crew!r} yet; a new one is begun"
        print(f"{begun}{nearest(words.crew, names)}")  # noqa: T201 - whoever misspelt one is told
    return edit(session.client, words.crew, session.namespace)


def history_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal history``."""
    add_crew(parser)
    parser.add_argument(
        "--diff",
        nargs="+",
        type=count,
        metavar="N",
        help="compare version N with another, else the present one",
    )
    parser.add_argument("--restore", type=count, metavar="N", help="bring version N back, as a new version")


def history_command(session: Session, words: Namespace, cell: str | None) -> History | Difference | CrewCard:
    """List a crew's versions, compare two of them, or bring one back."""
    del cell
    from kasal_jupyter.kernel.crews.history import History, difference

    crew, client = session.crew(words.crew), session.client
    if words.diff and words.restore:
        raise CellError("One at a time: --diff or --restore")
    if words.diff and len(words.diff) > 2:
        raise CellError("--diff takes one version, or two")
    if words.diff:
        return difference(client, crew, *words.diff)
    if words.restore:
        client.restore_crew(crew.id, words.restore, present=crew.version, change=notebook_change("cell"))
        return stored_card(client, client.crew(crew.id), f"restored from version {words.restore}")
    return History(client, crew)


def rm_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal rm``."""
    parser.add_argument(
        "what", nargs="+", metavar="NAME|ID|JOB", help="crews by name or id, runs by their id"
    )


def rm_command(session: Session, words: Namespace, cell: str | None) -> None:
    """Delete crews and runs: all of them, or none where one is not there."""
    del cell
    found = [named(session.client, word) for word in words.what]
    for line in remove(session.client, found):
        print(line)  # noqa: T201 - it is the answer
    if session.last_job in words.what:
        session.last_job = None


def named(client: Client, word: str, *, command: str = NOTEBOOK) -> CrewDetails | ExecutionStatus | str:
    """Give the crew of a name or an id, or the run of an id; the id itself, where its document is damaged.

    Raises
    ------
    NotFound
        There is none.
    """
    is_run = word.startswith("job_")
    try:
        return client.execution(word) if is_run else find_crew(client, word, command=command)
    except NotFound:
        if not is_run:
            raise
        near = nearest(word, [each.job_id for each in client.executions(100)])
        raise NotFound(f"There is no run {word!r}{near or f'; `{command} ps` lists the latest'}") from None
    except StoreError:
        if not is_run and CREW_ID.fullmatch(word) is None:
            raise
        return word


def remove(client: Client, found: Sequence[CrewDetails | ExecutionStatus | str]) -> Iterator[str]:
    """Delete crews and runs that have ended, and say of each what is gone."""
    from kasal_jupyter.schemas.crews import CrewDetails

    for each in found:
        if isinstance(each, str):
            (client.delete_execution if each.startswith("job_") else client.delete_crew)(each)
            yield f"Deleted {each}, which could not be read any more"
        elif isinstance(each, CrewDetails):
            client.delete_crew(each.id)
            yield (
                f"Deleted {each.name} ({each.id}) with {counted(len(each.agents), 'agent')}, "
                f"{counted(len(each.tasks), 'task')}, its versions, memory and knowledge; its runs stay"
            )
        else:
            client.delete_execution(each.job_id)
            yield (
                f"Deleted {each.job_id}, a run of {each.crew_name}, with its trace and its files; "
                "what it has cost stays in the books"
            )


def _to_name(parser: Parser) -> None:
    add_crew(parser)
    parser.add_argument("new_name", metavar="NEWNAME", help="the new name")


rename_arguments = _to_name


def rename_command(session: Session, words: Namespace, cell: str | None) -> None:
    """Give a crew another name."""
    del cell
    crew = session.crew(words.crew)
    rename(session.client, crew, words.new_name, notebook_change("cell"))
    print(f"{crew.name} ({crew.id}) is called {words.new_name} now")  # noqa: T201 - it is the answer


copy_arguments = _to_name


def copy_command(session: Session, words: Namespace, cell: str | None) -> CrewCard:
    """Make a crew like another, under a name of its own."""
    del cell
    crew = session.crew(words.crew)
    made = copy_crew(session.client, crew, words.new_name, notebook_change("cell"))
    session.note_written(made)
    return stored_card(session.client, made, f"copied from {crew.name}")


def copy_crew(client: Client, crew: CrewDetails, name: str, change: ChangeQuery) -> CrewDetails:
    """Make a crew like another, under a name that none of one's own has; its memory does not go along.

    Raises
    ------
    CellError
        One has.
    """
    from kasal_jupyter.kernel.crews.crew import Crew

    require_free(client, name)
    # As objects: where a task is named by its id, the copy names its own.
    body = renamed(Crew.of(crew).definition(), name)
    return client.crew(client.create_crew(body, change).id)
