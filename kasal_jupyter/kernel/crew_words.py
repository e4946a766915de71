"""A crew's name among the words of a line: with blanks in it, it need not be in quotes.

``%kasal run Market research topic=tea`` is what people type. The longest name of a crew that the words
begin with is meant; quotes settle it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from kasal_jupyter.errors import nearest_word
from kasal_jupyter.kernel.command_line import Parser, Word, quoted
from kasal_jupyter.kernel.failure import CellError

if TYPE_CHECKING:
    from kasal_jupyter.kernel.session import Session

MOST_NAMED = 6
"""Crews that are named where none is given."""

MOST_WORDS = 40
"""Words that a name is looked for in."""


def with_crew_whole(parser: Parser, words: Sequence[Word], session: Session) -> list[Word]:
    """Give the words of a line with the crew's name as one of them.

    Parameters
    ----------
    parser
        Of the sub-command.
    words
        What stands behind it.
    session
        Its server is asked for the crews' names, only where that is needed.

    Raises
    ------
    CellError
        No crew is named, or none that there is; it says what to type.
    """
    found = list(words)
    positions = parser.positions
    if not positions or positions[0].dest != "crew":
        return found
    places = parser.places(found)
    if not places:
        if found and positions[0].nargs == "?":
            return found  # Something else may stand for it, such as another run.
        raise CellError(_which(parser, session))
    run = begun(found, places)
    if len(run) < 2:
        return found
    known = session.crew_names()
    whole = joined(found, run, known)
    if len(whole) < len(found):
        return whole
    if len(positions) == 1:
        # Nothing else can stand there: it is the name, of a crew that is misspelt or still to be made.
        return _joined(found, run, " ".join(found[place] for place in run))
    if found[run[0]] not in known:
        for length in range(len(run), 1, -1):
            name = " ".join(found[place] for place in run[:length])
            if near := nearest_word(name, known):
                rest = [word.raw for word in _joined(found, run[:length], near)]
                raise CellError(
                    f"There is no crew {name!r}; did you mean {near!r}? Then it is "
                    f"{parser.prog} {' '.join(rest)}"
                )
    return found


def begun(words: Sequence[Word], places: Sequence[int]) -> list[int]:
    """Give the words from the first on that may be one name: side by side, and neither quoted nor inputs."""
    run: list[int] = []
    for place in places[:MOST_WORDS]:
        word = words[place]
        if word.quoted or "=" in word or (run and place != run[-1] + 1):
            break
        run.append(place)
    return run


def joined(words: list[Word], run: Sequence[int], known: Collection[str]) -> list[Word]:
    """Give the words with the longest of the known names that they begin with as one; else as they are."""
    for length in range(len(run), 1, -1):
        name = " ".join(words[place] for place in run[:length])
        if name in known:
            return _joined(words, run[:length], name)
    return words


def _joined(words: Sequence[Word], run: Sequence[int], name: str) -> list[Word]:
    return [*words[: run[0]], Word(name, quoted(name)), *words[run[-1] + 1 :]]


def _which(parser: Parser, session: Session) -> str:
    """Say which crews there are, and what could be typed."""
    from kasal_jupyter.kernel.crew_card import run_words

    known = session.client.crews()
    if not known:
        return (
            f"{parser.prog} needs a crew, and there are none yet; %kasal demo makes one, %%kasal crew yours"
        )
    shown = ", ".join(quoted(each.name) for each in known[:MOST_NAMED])
    more = f" and {len(known) - MOST_NAMED} more, which %kasal crews lists" if len(known) > MOST_NAMED else ""
    takes_inputs = any(each.dest == "inputs" for each in parser.positions)
    first = run_words(session.client.crew(known[0].id)) if takes_inputs else quoted(known[0].name)
    return f"{parser.prog} needs a crew: {shown}{more}. For example: {parser.prog} {first}"
