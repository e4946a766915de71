"""What a comparison comes to: each arm's figures, how they differ, and that in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kasal_jupyter.kernel.comparison.arms import Ran
from kasal_jupyter.kernel.comparison.statistics import (
    LEVEL,
    Difference,
    Estimate,
    averaged,
    difference,
    estimate,
    least_differing,
    level_of_each,
)
from kasal_jupyter.kernel.views.figures import cost_text, counted, duration_text

Runs = Sequence[Sequence[Ran]]
"""An arm's runs: of each row, its repeats."""

Scores = Sequence[Sequence[float | None]]
"""Their scores; None where a run has failed, no number where an answer has no score."""


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """What one arm comes to.

    Attributes
    ----------
    label
        What it is called.
    score
        Its mean score, where a run that has failed counts as 0.
    completed
        The same of the runs that have completed alone.
    cost
        US dollars of a run.
    seconds
        How long a run takes that completes.
    runs, failed, unscored
        How many there were, have failed, and have an answer without a score.
    spent
        US dollars of all; None where one's is not known.
    yes_or_no
        Whether each answer's score is a yes or a no.
    """

    label: str
    score: Estimate | None
    completed: Estimate | None
    cost: Estimate | None
    seconds: Estimate | None
    runs: int
    failed: int
    unscored: int
    spent: float | None
    yes_or_no: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """How an arm differs from the first, within each row.

    Attributes
    ----------
    first, second
        What they are called.
    score
        By how much the second scores higher, where a run that has failed counts as 0.
    completed
        The same, where those are left out.
    cost, seconds
        By how much a run of it costs more, and takes longer where it completes.
    failed
        How many runs of both have failed.
    """

    first: str
    second: str
    score: Difference | None
    completed: Difference | None
    cost: Difference | None
    seconds: Difference | None
    failed: int


def arm_figures(label: str, runs: Runs, scores: Scores, *, seed: int = 0) -> ArmFigures:
    """Work out what an arm comes to."""
    every = [run for row in runs for run in row]
    known = [score for row in scores for score in row if score is not None and not math.isnan(score)]
    costs = [run.cost for run in every]
    return ArmFigures(
        label=label,
        score=estimate(averaged(scores, 0.0), seed=seed, shares=True),
        completed=estimate(averaged(scores), seed=seed, shares=True),
        cost=estimate(averaged(_costs(runs)), seed=seed),
        seconds=estimate(averaged(_seconds(runs)), seed=seed),
        runs=len(every),
        failed=sum(not run.completed for run in every),
        unscored=sum(score is not None and math.isnan(score) for row in scores for score in row),
        spent=None if None in costs else math.fsum(cost or 0.0 for cost in costs),
        yes_or_no=all(score in {0.0, 1.0} for score in known),
    )


def pairs_of(
    labels: Sequence[str], runs: Sequence[Runs], scores: Sequence[Scores], seed: int = 0
) -> list[Pair]:
    """Compare each arm with the first; of several, all intervals hold together at the level that is said."""
    level = level_of_each(len(labels) - 1)

    def compared(
        of: Callable[[int], Scores], instead: float | None, other: int, *, shares: bool = False
    ) -> Difference | None:
        one, two = averaged(of(0), instead), averaged(of(other), instead)
        return difference(one, two, level=level, seed=seed, shares=shares)

    return [
        Pair(
            first=labels[0],
            second=labels[other],
            score=compared(scores.__getitem__, 0.0, other, shares=True),
            completed=compared(scores.__getitem__, None, other, shares=True),
            cost=compared(lambda arm: _costs(runs[arm]), None, other),
            seconds=compared(lambda arm: _seconds(runs[arm]), None, other),
            failed=sum(not run.completed for arm in (0, other) for row in runs[arm] for run in row),
        )
        for other in range(1, len(labels))
    ]


def _costs(runs: Runs) -> Scores:
    return [[run.cost for run in row] for row in runs]


def _seconds(runs: Runs) -> Scores:
    return [[run.seconds if run.completed else None for run in row] for row in runs]


# -- in words -------------------------------------------------------------------------------------------


def score_text(value: float) -> str:
    """Write a score, or a difference of two: with the digits that tell it apart."""
    text = f"{value:.3f}" if abs(value) < 9.9995 else f"{value:,.1f}"
    return "0.000" if text == "-0.000" else text


def interval_text(found: Estimate, write: Callable[[float], str] = score_text) -> str:
    """Write an interval: ``0.610 to 0.790``; where there is none, that one row tells of itself alone."""
    if found.low is None or found.high is None:
        return "of one row alone"
    return f"{write(found.low)} to {write(found.high)}"


def estimate_text(found: Estimate | None, write: Callable[[float], str] = score_text) -> str:
    """Write a mean with its interval: ``0.700 (0.610 to 0.790)``; empty where there is none."""
    return "" if found is None else f"{write(found.value)} ({interval_text(found, write)})"


@dataclass(frozen=True, slots=True)
class _Words:
    does: str
    more: str
    less: str
    write: Callable[[float], str]


_COST = _Words("costs", "more", "less", cost_text)
_TIME = _Words("takes", "longer", "less time", duration_text)


def pair_words(pair: Pair, level: float = LEVEL) -> list[str]:
    """Say in sentences how an arm differs from the first: in scores, then in cost and time."""
    if pair.score is None:
        return [f"{pair.second} and {pair.first} have no row in which both have a score."]
    said = [_score_words(pair, pair.score, level)]
    if pair.failed and (more := _completed_words(pair, pair.score)):
        said.append(more)
    said += [
        _more_words(pair, found, words)
        for found, words in ((pair.cost, _COST), (pair.seconds, _TIME))
        if found is not None and (found.value or found.higher or found.lower)
    ]
    return said


def _score_words(pair: Pair, found: Difference, level: float) -> str:
    higher = "higher" if found.value > 0 else "lower"
    by = f"by {score_text(abs(found.value))}"
    test = f"; McNemar's exact test: p = {p_text(found.p)}" if found.p is not None else ""
    rows = counted(found.rows, "row")
    if found.decided:
        return (
            f"{pair.second} scores {higher} than {pair.first}, {by} "
            f"({_size(found, score_text)}), over {rows}{test}."
        )
    if found.value == 0:
        return f"Not decided: {pair.second} and {pair.first} score alike over {rows}{test}."
    looks = (
        f"Not decided: {pair.second} scores {higher} than {pair.first} {by}, and {_why(found, level)}{test}."
    )
    return f"{looks} {needed_words(found)}".rstrip()


def _why(found: Difference, level: float) -> str:
    if found.low is None or found.high is None:
        return "one row tells nothing of others"
    if found.low <= 0 <= found.high:
        return f"the interval of that, {interval_text(found)}, holds 0"
    if found.higher + found.lower < (least := least_differing(level)):
        differing = counted(found.higher + found.lower, "row differs", "rows differ")
        return f"only {differing}: of fewer than {least}, chance can make all go one way"
    return "the exact test does not rule chance out"


def needed_words(found: Difference) -> str:
    """Say how many rows would decide a comparison; empty where none would, or it is decided."""
    if found.needed is None:
        return ""
    if found.needed > 1_000_000:
        return "More than a million rows like these would be needed to decide it."
    return (
        f"About {_round(found.needed):,} rows like these would decide it, four times out of five, if the "
        "difference is what it looks like."
    )


def _completed_words(pair: Pair, found: Difference) -> str:
    """Say what changes where the runs that have failed are left out."""
    failed = f"{counted(pair.failed, 'run')} that failed {'counts' if pair.failed == 1 else 'count'} as 0"
    other = pair.completed
    if other is None:
        return f"The {failed}; without them no row is left."
    what = f"{'+' if other.value >= 0 else ''}{score_text(other.value)} ({interval_text(other)})"
    same = other.decided == found.decided and (not found.decided or (other.value > 0) == (found.value > 0))
    if same:
        return f"The {failed}; left out, the difference is {what}, and the answer the same."
    verdict = "it is decided" if other.decided else "it is not decided"
    return f"It hangs on failures: the {failed}; left out, the difference is {what}, and {verdict}."


def _more_words(pair: Pair, found: Difference, words: _Words) -> str:
    """Say whether a run of the second costs more, or takes longer."""
    difference = words.write(abs(found.value))
    way = words.more if found.value > 0 else words.less
    if not found.decided:
        either = f"{words.does} {words.more} or {words.less}"
        return (
            f"Whether {pair.second} {either} than {pair.first} is not decided "
            f"({difference} {way} a run in these)."
        )
    size = _size(found, words.write)
    return f"{pair.second} {words.does} {difference} {way} a run than {pair.first} ({size})."


def _size(found: Difference, write: Callable[[float], str]) -> str:
    """Write the interval of a difference that is decided, by its size."""
    if found.low is None or found.high is None:
        return ""
    low, high = sorted((abs(found.low), abs(found.high)))
    return f"{write(low)} to {write(high)}"


def p_text(p: float) -> str:
    """Write a p-value: ``0.031``, ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _round(rows: int) -> int:
    """Give two digits of a number of rows: it is no more exact than that; rounded up."""
    unit: int = 10 ** max(0, len(str(rows)) - 2)
    return -(-rows // unit) * unit
