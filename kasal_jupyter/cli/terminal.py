"""Writing to a terminal, or to whatever stands in its place.

All that comes from agents, models and tools is cleaned before it comes here: rich prints a text as it is,
and so would a terminal act on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO

from rich import box
from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from kasal_jupyter.kernel.clean import one_line
from kasal_jupyter.kernel.view_text import columns_of

WIDEST = 10_000
"""Columns of what is no terminal: nothing is cut there, a program may read it."""

CELL = 40
"""Characters of a cell, at the most, on a terminal."""

GAP = 2
"""Spaces between two columns of a table."""

STATE_STYLES = {
    "completed": "green",
    "failed": "red",
    "stopped": "yellow",
    "interrupted": "yellow",
    "running": "cyan",
    "queued": "dim",
}

_THEME = Theme(
    {
        "trace.branch": "dim",
        "trace.task": "bold",
        "trace.llm": "cyan",
        "trace.tool": "magenta",
        "trace.agent": "blue",
        "trace.done": "green",
        "trace.failed": "red",
        "trace.stopped": "yellow",
        "trace.bar": "cyan",
    }
)


class TraceHighlighter(RegexHighlighter):
    """Colours for the lines of a trace, by the signs of :mod:`kasal_jupyter.kernel.rows`."""

    base_style = "trace."
    highlights = [  # noqa: RUF012 - as rich declares it
        r"^(?P<branch>[│├└─ ]+)",
        r"(?P<task>▣ \S+)",
        r"(?P<llm>◆ \S+)",
        r"(?P<tool>● \S+)",
        r"(?P<agent>◉ \S+)",
        r"(?P<done>✔( completed)?)",
        r"(?P<failed>✖.*)",
        r"(?P<stopped>■.*)",
        r"^   (?P<failed>[A-Z_]+: .*)",
        r"▕(?P<bar>[ █▏▎▍▌▋▊▉]*)▏",
    ]


def console_of(file: IO[str]) -> Console:
    """Give a console for a stream: coloured and as wide as it is where that is a terminal, else plain.

    ``NO_COLOR`` turns the colours off, as https://no-color.org has it.
    """
    terminal = file.isatty()
    return Console(
        file=file,
        theme=_THEME,
        markup=False,
        emoji=False,
        highlight=False,
        force_terminal=terminal,
        width=None if terminal else WIDEST,
    )


def print_rows(
    console: Console, heads: Sequence[str], rows: Iterable[Sequence[str]], *, spare: Sequence[str] = ()
) -> None:
    """Print a table; the cells may hold anything.

    Parameters
    ----------
    console
        Where to.
    heads, rows
        The columns' names, and the cells.
    spare
        The columns that a narrow terminal can do without, the first to go first.
    """
    terminal = console.is_terminal
    cells = [[one_line(cell, CELL if terminal else 0) for cell in row] for row in rows]
    shown = list(range(len(heads)))
    widths = [max(map(columns_of, column)) for column in zip(heads, *cells, strict=True)]
    for head in spare:
        if sum(widths[place] + GAP for place in shown) > console.width:
            shown.remove(heads.index(head))
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, padding=(0, GAP, 0, 0))
    table.show_edge = False
    for place in shown:
        table.add_column(heads[place], no_wrap=True, overflow="ellipsis")
    for row in cells:
        table.add_row(*(Text(row[place], style=STATE_STYLES.get(row[place], "")) for place in shown))
    console.print(table)
