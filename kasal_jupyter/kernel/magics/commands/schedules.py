"""`%kasal schedule`: crews that are run by the clock."""

from __future__ import annotations

from argparse import Namespace

from kasal_jupyter.kernel.magics.command_line import Parser, add_inputs
from kasal_jupyter.kernel.magics.notebook_values import read_inputs
from kasal_jupyter.kernel.runs.schedules import (
    add_schedule_options,
    done_with,
    schedule_of,
    schedule_shown,
    schedules_table,
)
from kasal_jupyter.kernel.session import Session
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import clean


def schedule_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal schedule``."""
    parser.add_argument("crew", nargs="?", metavar="NAME", help="the crew to run; else all are listed")
    add_inputs(parser)
    add_schedule_options(parser)


def schedule_command(session: Session, words: Namespace, cell: str | None) -> Shown | None:
    """List schedules, begin one, or do something with one."""
    del cell
    client = session.client
    if (done := done_with(client, words)) is not None:
        said, schedule = done
        if not said:
            return schedule_shown(schedule)
        print(clean(said))  # noqa: T201 - it is the answer
        return None
    if words.crew is None:
        return schedules_table(client.schedules())
    crew = session.crew(words.crew)
    inputs = read_inputs(words.inputs, session.notebook)
    if note := inputs.note():
        print(note)  # noqa: T201 - whoever meant a text is told
    return schedule_shown(client.add_schedule(schedule_of(words, crew.id, crew.name, inputs.values)))
