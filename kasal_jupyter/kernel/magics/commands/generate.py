"""`%kasal generate`."""

from __future__ import annotations

from argparse import Namespace

from kasal_jupyter.errors import NotRunnable
from kasal_jupyter.kernel.crews.card import CrewCard, stored_card
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import Parser, phrase
from kasal_jupyter.kernel.magics.commands.files import as_cell
from kasal_jupyter.kernel.session import Session


def generate_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal generate``."""
    parser.add_argument("words", nargs="+", metavar="WORDS", help="what the crew is to do")
    parser.add_argument("--model", metavar="MODEL", help="the model that makes it, and that its agents use")
    parser.add_argument(
        "--name", metavar="NAME", type=phrase, help="the crew's name; else the model gives one"
    )
    parser.add_argument(
        "--input", metavar="NAME", action="append", default=[], help="an input that each run is to take"
    )
    parser.add_argument("--save", action="store_true", help="create the crew at once")
    parser.add_argument(
        "--force", action="store_true", help="save it over a crew of that name; its history keeps what it was"
    )
    parser.add_argument("--print", action="store_true", help="print the cell instead of adding it")


def generate_command(session: Session, words: Namespace, cell: str | None) -> CrewCard | None:
    """Have a model make a crew: as a new cell, as text, or at once."""
    del cell
    from pydantic import ValidationError

    from kasal_jupyter.schemas.exchange import CrewGenerate

    try:
        body = CrewGenerate(
            description=" ".join(words.words), model=words.model, name=words.name, inputs=words.input
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise CellError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    try:
        found = session.client.generate_crew(body)
    except NotRunnable as error:
        if words.model is not None or not any(fault.field == "model" for fault in error.faults):
            raise
        raise CellError(f"{error.message}; add --model NAME, one of those that %kasal models lists") from None
    session.note_job(found.job_ids[-1])
    if words.save:
        put = session.put_crew(found.crew, "generate", force=words.force)
        return stored_card(session.client, put.crew, put.verb)
    text = as_cell(found.crew)
    if words.print or not _add_cell(text):
        print(text)  # noqa: T201 - it is the answer
        return None
    print(  # noqa: T201 - it is the answer
        f"{found.crew.name}: made by {found.model}, not stored yet. Run the new cell to create it; "
        f"%kasal traces {found.job_ids[-1]} shows how it was made"
    )
    return None


def _add_cell(text: str) -> bool:
    """Put a cell below this one; give whether there is somebody who does it."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None or not hasattr(shell, "payload_manager"):
        return False
    shell.set_next_input(text)
    return True
