"""Writing to a terminal, or to whatever stands in its place.

All that comes from agents, models and tools is cleaned before it comes here: rich prints a text as it is,
and so would a terminal act on it.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Literal

from rich import box
from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.kernel.views.clean import one_line
from kasal_jupyter.kernel.views.view_text import columns_of
from kasal_jupyter.whole_file import write_whole

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
    "waiting_for_input": "yellow",
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
    """Colours for the lines of a trace, by the signs of :mod:`kasal_jupyter.kernel.views.rows`."""

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


def write_file(path: Path, data: bytes, *, new: bool = False) -> None:
    """Write a file that a command was told to, whole or not at all.

    Raises
    ------
    InvalidRequest
        It cannot be written there; or something is there, and it had to be ``new``.
    """
    try:
        write_whole(path, data, new=new)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}") from None


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


# Output that is not UTF-8: what it has no letters for is written as JSON writes it, and ends no answer.
#
# A file that is written there is read as UTF-8 again, so it is written in ASCII, in its own format's way.

Kind = Literal["yaml", "json", "html"]

ERRORS = "kasal.escape"
"""The name of what is done about letters that a stream cannot write."""


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Give ``\u20ac`` for a euro sign: a line of JSON that is printed stays one, whatever stands in it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end


def lose_nothing() -> None:
    """Have the process's output take any text."""
    codecs.register_error(ERRORS, _escaped)
    for stream in (sys.stdout, sys.stderr):
        # What stands in for it in a notebook or a test may take any text already.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors=ERRORS)


def print_file(text: str, kind: Kind) -> None:
    """Write what is read again to the output: in ASCII, where that is not UTF-8."""
    sys.stdout.write(text if _is_utf8(sys.stdout.encoding) else _in_ascii(text, kind))
    sys.stdout.flush()


def _is_utf8(encoding: str | None) -> bool:
    # What stands in for the output in a test has none.
    return encoding is None or codecs.lookup(encoding).name == "utf-8"


def _in_ascii(text: str, kind: Kind) -> str:
    if text.isascii():
        return text
    if kind == "yaml":
        from kasal_jupyter.formats.yaml_crew import ascii_yaml

        return ascii_yaml(text)
    # Beyond ASCII, JSON has nothing but what is in its texts.
    return text.encode("ascii", "xmlcharrefreplace" if kind == "html" else ERRORS).decode("ascii")
