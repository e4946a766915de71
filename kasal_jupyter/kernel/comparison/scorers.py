"""How an answer is scored: by a Python function, or by what is expected of it.

A score is a number, higher is better; a yes or no counts as 1 or 0. What has no score is left out.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from kasal_jupyter.errors import nearest
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.views.clean import one_line
from kasal_jupyter.schemas.cassettes import re2_options

_NUMBER = r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+\b|[0-9]+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?"
"""A number in a text, thousands with commas or without."""

_FENCE = "```"

NAMES = ("exact", "contains", "regex", "numeric", "json")
"""The scores that have a name."""

CLOSE = 1e-9
"""How far two numbers may be apart that are the same."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is scored.

    Attributes
    ----------
    inputs
        What the crew was given.
    expected
        What is expected of its answer; None where nothing is.
    output
        Its answer.
    structured
        The same as JSON, where it gives such; else None.
    job_id
        The run.
    """

    inputs: dict[str, Any]
    expected: Any
    output: str
    structured: Any
    job_id: str


class NoScore(ValueError):
    """An answer that cannot be scored; the text says why."""


class Scorer(Protocol):
    """Scores answers one by one."""

    @property
    def name(self) -> str:
        """What it is called, for people."""

    @property
    def needs_expected(self) -> bool:
        """Whether it scores by what is expected."""

    def score(self, answer: Answer) -> float:
        """Score an answer.

        Raises
        ------
        NoScore
            It has none.
        """


@dataclass(frozen=True, slots=True)
class FunctionScore:
    """A function of the notebook's.

    It may take any of ``output``, ``expected``, ``inputs``, ``structured`` and ``job_id`` by name; else it is
    given the output, and what is expected where it takes two.
    """

    function: Callable[..., Any]
    needs_expected: bool = False

    @property
    def name(self) -> str:
        """The function's name."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def score(self, answer: Answer) -> float:
        """Call it; what it raises is why there is no score."""
        try:
            value = self._called(answer)
        except Exception as error:
            raise NoScore(f"{self.name} raised {type(error).__name__}: {error}") from error
        if hasattr(value, "item"):
            value = value.item()
        if isinstance(value, bool | int | float) and math.isfinite(value):
            return float(value)
        raise NoScore(f"{self.name} gave {one_line(repr(value), 60)}, which is no number")

    def _called(self, answer: Answer) -> Any:
        known = {name: getattr(answer, name) for name in Answer.__slots__}
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):
            return self.function(answer.output)
        needed = [each for each in parameters if each.default is each.empty and each.kind not in {2, 4}]
        named = {each.name: known[each.name] for each in parameters if each.name in known and each.kind != 0}
        if all(each.name in named for each in needed) and (named or not needed):
            return self.function(**named)
        return self.function(*(answer.output, answer.expected)[: len(needed)])


@dataclass(frozen=True, slots=True)
class Exact:
    """Whether an answer is what is expected, but for blanks around it; of a list, one of them."""

    name: str = "exact"
    needs_expected: bool = True

    def score(self, answer: Answer) -> float:
        """Compare the texts."""
        said = answer.output.strip()
        return float(any(said == _text(each).strip() for each in _options(answer)))


@dataclass(frozen=True, slots=True)
class Contains:
    """Whether what is expected stands in an answer, in capitals or not; of a list, all of them."""

    name: str = "contains"
    needs_expected: bool = True

    def score(self, answer: Answer) -> float:
        """Look for the texts."""
        said = answer.output.casefold()
        return float(all(_text(each).strip().casefold() in said for each in _options(answer)))


@dataclass(frozen=True, slots=True)
class Matches:
    """Whether a regular expression (RE2) is found in an answer: the one given, or the one expected."""

    pattern: str | None

    @property
    def name(self) -> str:
        """With its expression."""
        return "regex" if self.pattern is None else f"regex:{self.pattern}"

    @property
    def needs_expected(self) -> bool:
        """Only where none is given."""
        return self.pattern is None

    def score(self, answer: Answer) -> float:
        """Search it, in linear time: the answer is a model's."""
        pattern = self.pattern if self.pattern is not None else _text(_expected(answer))
        try:
            return float(compiled(pattern).search(answer.output.encode(errors="replace")) is not None)
        except ValueError as error:
            raise NoScore(str(error)) from None


@dataclass(frozen=True, slots=True)
class Numeric:
    """Whether the last number of an answer is the expected one, but for a tolerance."""

    absolute: float = 0.0
    relative: float = CLOSE
    name: str = "numeric"
    needs_expected: bool = True

    def score(self, answer: Answer) -> float:
        """Compare the numbers."""
        wanted = number_in(_text(_expected(answer)))
        if wanted is None:
            raise NoScore(f"{one_line(_text(answer.expected), 60)!r} is expected, which is no number")
        found = number_in(answer.output)
        return float(
            found is not None and math.isclose(found, wanted, rel_tol=self.relative, abs_tol=self.absolute)
        )


@dataclass(frozen=True, slots=True)
class JsonField:
    """Whether a field of an answer's JSON is the expected one.

    Attributes
    ----------
    path
        The field; behind dots, fields within it, and numbers for places in lists.
    """

    path: str
    needs_expected: bool = True

    @property
    def name(self) -> str:
        """With its field."""
        return f"json:{self.path}"

    def score(self, answer: Answer) -> float:
        """Compare the values: numbers as numbers, texts but for blanks around them."""
        wanted = _expected(answer)
        if isinstance(wanted, str):
            wanted = read_json(wanted, wanted)
        if isinstance(wanted, dict | list) and (whole := _at(wanted, self.path)) is not _NOTHING:
            wanted = whole
        given = answer.structured if answer.structured is not None else read_json(answer.output, None)
        found = _at(given, self.path)
        return float(found is not _NOTHING and _same(found, wanted))


def read_score(score: Any) -> Scorer:
    """Give what scores: a function, or one of the names, with what belongs to it behind a colon.

    ``exact``, ``contains``, ``regex``, ``regex:PATTERN``, ``numeric``, ``numeric:0.01`` (so much off),
    ``numeric:1%`` (so much of what is expected), ``json:FIELD``.

    Raises
    ------
    CellError
        It is none of these.
    """
    if not isinstance(score, str):
        if callable(score):
            return FunctionScore(score)
        raise CellError(f"score is a function, or one of {', '.join(NAMES)}, and not {type(score).__name__}")
    name, colon, argument = score.partition(":")
    match name:
        case "exact" if not colon:
            return Exact()
        case "contains" if not colon:
            return Contains()
        case "regex":
            try:
                compiled(argument)
            except ValueError as error:
                raise CellError(f"score={score!r}: {error}") from None
            return Matches(argument if colon else None)
        case "numeric":
            return _numeric(score, argument) if colon else Numeric()
        case "json" if argument:
            return JsonField(argument)
        case "json":
            raise CellError("Say which field of the JSON counts: score='json:FIELD'")
    there = f"; there are {', '.join(NAMES)}, and any function"
    raise CellError(f"There is no score {score!r}{nearest(name, NAMES) or there}")


@lru_cache(256)
def compiled(pattern: str) -> Any:
    """Give a regular expression that takes linear time.

    Raises
    ------
    ValueError
        It is none.
    """
    import re2  # type: ignore[import-untyped]

    try:
        return re2.compile(pattern.encode(), re2_options())
    except re2.error as error:
        reason = error.args[0] if error.args else error
        said = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"no regular expression (RE2): {said}") from None


def number_in(text: str) -> float | None:
    """Give the last number of a text, thousands with commas or without; None where there is none."""
    numbers = compiled(_NUMBER).findall(text.encode(errors="replace"))
    if not numbers:
        return None
    found = float(numbers[-1].replace(b",", b""))
    return found if math.isfinite(found) else None


def _numeric(score: str, argument: str) -> Numeric:
    share = argument.endswith("%")
    try:
        tolerance = float(argument.removesuffix("%"))
    except ValueError:
        tolerance = math.nan
    if not 0 <= tolerance < math.inf:
        raise CellError(f"score={score!r}: {argument!r} is no tolerance; write numeric:0.01 or numeric:1%")
    return Numeric(relative=tolerance / 100, name=score) if share else Numeric(tolerance, name=score)


def _expected(answer: Answer) -> Any:
    if answer.expected is None:
        raise NoScore("nothing is expected of it")
    return answer.expected


def _options(answer: Answer) -> list[Any]:
    expected = _expected(answer)
    return expected if isinstance(expected, list) else [expected]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_NOTHING = object()


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return _NOTHING
    return value


def read_json(text: str, otherwise: Any) -> Any:
    """Read JSON that may stand in a fence, as models like to write it."""
    body = text.strip()
    if body.startswith(_FENCE) and body.endswith(_FENCE):
        body = body.partition("\n")[2].removesuffix(_FENCE)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return otherwise


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=CLOSE)
    if isinstance(found, str) and isinstance(wanted, str):
        return found.strip() == wanted.strip()
    return bool(found == wanted)
