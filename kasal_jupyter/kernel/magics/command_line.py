"""The words behind `%kasal`: split as a shell splits them, options as a shell takes them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from io import StringIO
from typing import Any, NoReturn, Self

from kasal_jupyter.errors import nearest, nearest_word
from kasal_jupyter.kernel.failure import CellError


class Word(str):
    """A word as a shell reads it, that remembers how it was written.

    Attributes
    ----------
    raw
        The word with its quotes: they tell a text from Python.
    """

    __slots__ = ("raw",)

    raw: str

    def __new__(cls, text: str, raw: str) -> Self:  # noqa: D102 - see the class
        word = super().__new__(cls, text)
        word.raw = raw
        return word

    @property
    def quoted(self) -> bool:
        """Whether it begins with a quote."""
        return self.raw[:1] in {"'", '"'}


@dataclass(frozen=True, slots=True)
class Line:
    """A line split into words.

    Attributes
    ----------
    words
        The whole words.
    last
        What stands behind the last blank, while the line is still being typed; empty behind a blank.
    open_quote
        The quote that ``last`` has not closed, or nothing.
    trouble
        Why the line is no whole one, or nothing.
    """

    words: list[Word]
    last: Word
    open_quote: str = ""
    trouble: str = ""


def scan(line: str) -> Line:
    """Split a line that is still being typed."""
    stream = StringIO(line)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[Word] = []
    while True:
        begin = stream.tell()
        try:
            text = lexer.get_token()
        except ValueError as error:
            # Where it is in the line: in a quote, behind a backslash; the type hints know nothing of it.
            state = vars(lexer)["state"]
            quote = state if state in {"'", '"'} else ""
            return Line(words, Word(lexer.token, line[begin:].lstrip()), quote, str(error))
        if text is None:
            break
        words.append(Word(text, line[begin : stream.tell()].strip()))
    if words and not line[-1:].isspace():
        return Line(words[:-1], words[-1])
    return Line(words, Word("", ""))


def split(line: str) -> list[Word]:
    """Split a line into words, with a shell's quotes.

    Raises
    ------
    CellError
        A quote is not closed.
    """
    found = scan(line)
    if found.trouble:
        if found.open_quote == "'" and found.last.raw.partition("'")[0][-1:].isalnum():
            raise CellError(f'{found.last.raw}: an apostrophe is a quote here; put "…" around the text')
        raise CellError(f"The line cannot be read: {found.trouble}; close the quote")
    return [*found.words, *([found.last] if found.last.raw else [])]


def quoted(text: str, quote: str = "") -> str:
    """Write a text as one word, in quotes where it needs them or where ``quote`` asks for them."""
    if not quote and text and all(char.isalnum() or char in "_-+./:@%," for char in text) and text[0] != "-":
        return text
    if quote == "'" and "'" not in text:
        return f"'{text}'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class WordsWanted(Exception):
    """`--help` was asked for; the text is what to show."""


class Parser(argparse.ArgumentParser):
    """A parser that raises what a cell can show, instead of ending the process.

    Options and words may be mixed, as a shell's commands mostly take them.
    """

    def __init__(self, prog: str, description: str, examples: Iterable[str] = ()) -> None:
        self.examples = tuple(examples)
        shown = "".join(f"\n  {example}" for example in self.examples)
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"for example:{shown}" if shown else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.add_argument("-h", "--help", action="store_true", help="show this")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Read the words.

        Raises
        ------
        WordsWanted
            They ask for help.
        CellError
            They cannot be read; it says what is wrong, and the nearest option where one is misspelt.
        """
        if self.wants_help(words):
            raise WordsWanted(self.format_help().rstrip())
        found, unknown = self.parse_known_intermixed_args(list(words))
        for word in unknown:
            if word.startswith("-"):
                name = word.partition("=")[0]
                self.error(f"there is no option {name}{self._hint(word)}")
            self.error(f"{str(word)!r} is one word too many{self._surplus(word)}")
        for name, value in vars(found).items():
            # How a word was written says something of Python alone; elsewhere a text is a plain one.
            if name not in {"inputs", "frame"}:
                setattr(found, name, _plain(value))
        return found

    def _hint(self, word: str) -> str:
        """Say what may have been meant by an option that there is not."""
        name = word.partition("=")[0]
        # The dashes, which all have, make short ones look alike.
        if (near := nearest_word(name, self.options, cutoff=0.7)) is not None:
            return f"; did you mean {near!r}?"
        if self.takes_inputs:
            return f"; an input is written without dashes: {name.lstrip('-')}=value"
        return f"; there are {', '.join(self.options)}"

    def _surplus(self, word: str) -> str:
        """Say what may have been meant by a word that nothing takes."""
        if f"--{word}" in self.options:
            return f"; did you mean --{word}?"
        named = [*self.positions, *(each for each in self.options.values() if each.nargs != 0)]
        return "; put quotes around a name with blanks" if named else ""

    @property
    def options(self) -> dict[str, argparse.Action]:
        """The options, by each way to write them."""
        return self._option_string_actions

    @property
    def positions(self) -> list[argparse.Action]:
        """What stands there without a dash, in order."""
        return self._get_positional_actions()

    @property
    def takes_inputs(self) -> bool:
        """Whether inputs may stand there."""
        return any(each.dest == "inputs" for each in self.positions)

    @staticmethod
    def wants_help(words: Sequence[str]) -> bool:
        """Say whether a line asks for help, whatever else stands in it."""
        return "-h" in words or "--help" in words

    def places(self, words: Sequence[Word]) -> list[int]:
        """Give which of some words are neither options nor what belongs to one."""
        found: list[int] = []
        takes: str | int | None = 0
        for place, word in enumerate(words):
            option = None if word.quoted else self.options.get(word.partition("=")[0])
            if option is not None:
                takes = 0 if "=" in word else option.nargs
            elif takes == 0:
                found.append(place)
            elif takes != "+":
                takes = 0
        return found

    def error(self, message: str) -> NoReturn:
        """Refuse the words."""
        _, lacking, names = message.partition("the following arguments are required: ")
        if lacking:
            shown = f": {self.examples[0]}" if self.examples else ""
            raise CellError(f"{self.prog} needs {names}, as in{shown}")
        end = "" if message.endswith("?") else "."
        raise CellError(f"{self.prog}: {message}{end} `{self.prog} --help` says how it is written")


@dataclass(frozen=True, slots=True)
class OneOf:
    """A reader of an option's value that answers a misspelt one with the nearest.

    Attributes
    ----------
    values
        The values there are; completion offers them.
    many
        Whether several may stand there, separated by commas.
    """

    values: tuple[str, ...]
    many: bool = False

    def __call__(self, text: str) -> str:
        """Read a value."""
        for part in text.split(",") if self.many else [text]:
            if part.strip() not in self.values:
                hint = nearest(part.strip(), self.values) or f"; there are {', '.join(self.values)}"
                raise argparse.ArgumentTypeError(f"there is no {part.strip()!r}{hint}")
        return text


def one_of(known: Iterable[str], *, many: bool = False) -> OneOf:
    """Give a reader of one of these values, or of several."""
    return OneOf(tuple(known), many)


def count(text: str) -> int:
    """Read a whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def day(text: str) -> str:
    """Read a day, as every moment is shown: ``2024-01-15``."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; write one as 2024-01-15") from None


def phrase(text: str) -> str:
    """Read a name or a text of several words, which need no quotes; see ``crew_words``."""
    return text


def bound(text: str) -> float:
    """Read a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Word) else value


def raw_of(word: str) -> Word:
    """Give a word of the line with its quotes; one that came another way has none."""
    return word if isinstance(word, Word) else Word(word, word)


def add_crew(parser: Parser) -> None:
    """Have a parser take a crew."""
    parser.add_argument("crew", metavar="NAME", help="the crew's name or id")


def add_job(parser: Parser) -> None:
    """Have a parser take a run."""
    parser.add_argument(
        "job",
        nargs="?",
        metavar="JOB",
        help="a job id, its number in the latest list, or last; else the latest of this notebook",
    )


def add_inputs(parser: Parser) -> None:
    """Have a parser take inputs."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="name=value",
        help="an input: a text, a variable of the notebook or an expression of them. In quotes it is a text; "
        "$name is always the variable, $$ a dollar",
    )


def add_optional(what: str, help_text: str) -> Callable[[Parser], None]:
    """Have a parser take a name that may be left out."""

    def add(parser: Parser) -> None:
        parser.add_argument(what, nargs="?", metavar="NAME", help=help_text)

    return add
