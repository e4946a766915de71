"""Names among the words of a line: with blanks in them, they need not be in quotes.

``%kasal run Market research topic=tea`` is what people type. Where other words may follow, the longest name
of a crew that they begin with is meant; behind an option, all up to the next one. Quotes settle it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from kasal_jupyter.errors import nearest_word
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import Parser, Word, phrase, quoted

if TYPE_CHECKING:
    from kasal_jupyter.kernel.session import Session

MOST_NAMED = 6
"""Crews that are named where none is given."""

MOST_WORDS = 40
"""Words that a name is looked for in."""


def with_names_whole(parser: Parser, words: Sequence[Word], session: Session) -> list[Word]:
    """Give the words of a line with each name as one of them.

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
    found = _with_phrases(parser, list(words))
    positions = parser.positions
    if positions and positions[0].dest == "what":
        return _with_each(found, session)
    if not positions or positions[0].dest != "crew":
        return found
    places = parser.places(found)
    if not places:
        if found and positions[0].nargs == "?":
            return found  # Something else may stand for it, such as another run.
        raise CellError(which_crew(session, parser.prog, inputs=parser.takes_inputs))
    run = begun(found, places)
    if len(run) < 2:
        return found
    known = session.crew_names()
    whole = joined(found, run, known)
    if len(whole) < len(found):
        # What is left behind the crew's name is the new one.
        new = begun(whole, parser.places(whole)[1:]) if positions[-1].dest == "new_name" else []
        return _joined(whole, new, " ".join(whole[place] for place in new)) if len(new) > 1 else whole
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


def _with_phrases(parser: Parser, words: list[Word]) -> list[Word]:
    """Put together what stands behind an option that takes several words.

    Where a word that the command needs is still to come, it takes one: ``import --name Tea tea.yaml``.
    """
    positions = parser.positions
    needed = bool(positions) and positions[0].nargs not in {"?", "*"}
    takes_job = any(each.dest == "job" for each in positions)

    def goes_on(word: Word) -> bool:
        if word.quoted or word.startswith("-") or "=" in word:
            return False
        return not (takes_job and (word.startswith("job_") or word == "last" or word.isdecimal()))

    found: list[Word] = []
    waiting = deque(words)
    while waiting:
        word = waiting.popleft()
        found.append(word)
        option = None if word.quoted else parser.options.get(word)
        if option is None or option.type is not phrase or (needed and not parser.places(found)):
            continue
        said: list[Word] = []
        while waiting and goes_on(waiting[0]):
            said.append(waiting.popleft())
        found += said if len(said) < 2 else [_joined(said, range(len(said)), " ".join(said))[0]]
    return found


def _with_each(words: list[Word], session: Session) -> list[Word]:
    """Put the names of several crews together."""
    found = words
    if sum(not (word.quoted or word.startswith("job_")) for word in words) > 1:
        known, place = session.crew_names(), 0
        while place < len(found):
            found = joined(found, begun(found, range(place, len(found))), known)
            place += 1
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


def which_crew(session: Session, command: str, *, inputs: bool) -> str:
    """Say which crews there are, and what could be typed behind a command, that takes inputs or not."""
    from kasal_jupyter.kernel.crews.card import run_words

    known = session.client.crews()
    if not known:
        return f"{command} needs a crew, and there are none yet; %kasal demo makes one, %%kasal crew yours"
    shown = ", ".join(quoted(each.name) for each in known[:MOST_NAMED])
    more = f" and {len(known) - MOST_NAMED} more, which %kasal crews lists" if len(known) > MOST_NAMED else ""
    first = run_words(session.client.crew(known[0].id)) if inputs else quoted(known[0].name)
    return f"{command} needs a crew: {shown}{more}. For example: {command} {first}"
