"""Which of two is better, by the same rows: means with intervals, differences, and whether they decide.

The unit is the row, not the run: runs of one row are alike, so a row's repeats are averaged before anything
else. Two crews are compared by the differences within each row, since rows differ more than crews do.

Intervals of means are drawn by the bootstrap over rows (BCa), widened for few rows as Hesterberg has it
("What Teachers Should Know About the Bootstrap", 2015, section 3.1): without that, ten rows cover 90% where
95% is said. Shares of yes and no have Wilson's interval, and their differences McNemar's exact test besides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kasal_jupyter.kernel.failure import CellError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

LEVEL = 0.95
"""How many of many intervals hold what they are about."""

POWER = 0.8
"""How often the rows that are said to decide would, if the difference is what it looks like."""

RESAMPLES = 9_999

MOST_DRAWN = 20_000_000
"""Numbers that a bootstrap draws: of very many rows, fewer resamples do."""

MOST_BCA = 2_000
"""Rows beyond which there is nothing left to correct, and the correction would cost their square."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over rows.

    Attributes
    ----------
    value
        The mean.
    low, high
        The ends of its interval; None where one row tells nothing of others.
    rows
        How many rows it is of.
    """

    value: float
    low: float | None
    high: float | None
    rows: int


@dataclass(frozen=True, slots=True)
class Difference(Estimate):
    """By how much the second is higher than the first, over the rows that both have.

    Attributes
    ----------
    higher, lower
        The rows in which it is; in the others they are alike.
    p
        McNemar's exact p-value, where each row is a yes or a no; else None.
    decided
        Whether the rows say which is higher: the interval does not hold 0, enough rows differ for any exact
        test to say so, and McNemar's agrees where there is one.
    needed
        How many rows like these would decide it, if the difference is what it looks like; None where they
        look alike, or it is decided.
    """

    higher: int
    lower: int
    p: float | None
    decided: bool
    needed: int | None


def least_differing(level: float = LEVEL) -> int:
    """Give the rows that must differ: if all of fewer went one way, it would still be chance too often."""
    return math.ceil(math.log2(2 / (1 - level)))


def averaged(scores: Sequence[Sequence[float | None]], instead: float | None = None) -> Numbers:
    """Average each row's repeats.

    Parameters
    ----------
    scores
        A row's, of each repeat; None where it has failed, and no number where it could not be scored: that is
        left out.
    instead
        What stands in the place of what has failed; where it is None as well, that is left out too.

    Returns
    -------
    numpy.ndarray
        One number a row; not a number, where nothing is left of it.
    """
    import numpy as np

    return np.array([_mean(row, instead) for row in scores], dtype=float)


def _mean(row: Sequence[float | None], instead: float | None) -> float:
    known = [instead if each is None else each for each in row]
    left = [each for each in known if each is not None and not math.isnan(each)]
    return math.fsum(left) / len(left) if left else math.nan


def estimate(
    values: Numbers, *, level: float = LEVEL, seed: int = 0, shares: bool = False
) -> Estimate | None:
    """Give the mean over rows with its interval; None where no row has a value.

    ``shares`` says that rows which are all 0 or 1 are a no or a yes.
    """
    import numpy as np

    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, high = (
        _share_interval(known, level) if shares and _yes_or_no(known) else _interval(known, level, seed)
    )
    if low is not None and known.min() >= 0:
        # What is never below 0 is not so on average.
        low = max(low, 0.0)
    return Estimate(float(known.mean()), low, high, int(known.size))


def difference(
    first: Numbers, second: Numbers, *, level: float = LEVEL, seed: int = 0, shares: bool = False
) -> Difference | None:
    """Compare two by the rows that both have; None where there is none.

    Parameters
    ----------
    first, second
        Averaged values, in the same order of rows.
    level
        The interval's; of several comparisons at once, see :func:`level_of_each`.
    seed
        What the bootstrap's lot is drawn with.
    shares
        Whether rows which are all 0 or 1 are a no or a yes.
    """
    import numpy as np

    both = ~(np.isnan(first) | np.isnan(second))
    one, other = first[both], second[both]
    if not one.size:
        return None
    # What is alike but for rounding is alike: 0.1 + 0.2 is not better than 0.3.
    changes = np.where(np.isclose(one, other, rtol=1e-12, atol=1e-12), 0.0, other - one)
    low, high = _interval(changes, level, seed)
    higher, lower = int((changes > 0).sum()), int((changes < 0).sum())
    p = mcnemar(higher, lower) if shares and _yes_or_no(one) and _yes_or_no(other) else None
    decided = (
        low is not None
        and high is not None
        and (low > 0 or high < 0)
        and higher + lower >= least_differing(level)
        and (p is None or p <= 1 - level)
    )
    needed = None if decided else _needed(changes, level)
    return Difference(float(changes.mean()), low, high, int(one.size), higher, lower, p, decided, needed)


def level_of_each(comparisons: int, level: float = LEVEL) -> float:
    """Give the level of each of several comparisons, for all to hold at once (Bonferroni)."""
    return 1 - (1 - level) / max(1, comparisons)


def mcnemar(one_way: int, other_way: int) -> float:
    """Give the exact p-value of so many rows going one way and so many the other, two-sided."""
    differing = one_way + other_way
    return float(_stats().binomtest(one_way, differing, 0.5).pvalue) if differing else 1.0


def _needed(changes: Numbers, level: float) -> int | None:
    """Give the rows with which such differences would be told from none, with the power that is named."""
    stats = _stats()
    mean, rows = abs(float(changes.mean())), int(changes.size)
    differing = int((changes != 0).sum())
    if mean == 0:
        return None
    spread = float(changes.std(ddof=1)) if rows > 1 else 0.0
    quantiles = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(POWER))
    by_spread = math.ceil((quantiles * spread / mean) ** 2)
    by_test = math.ceil(least_differing(level) * rows / differing)
    return max(by_spread, by_test, rows + 1)


def _interval(values: Numbers, level: float, seed: int) -> tuple[float | None, float | None]:
    import numpy as np

    stats, rows = _stats(), int(values.size)
    mean = float(values.mean())
    if rows < 2:
        return None, None
    if np.ptp(values) == 0:
        return mean, mean
    if rows < least_differing():
        # Resampled, so few reach no further than themselves.
        reach = float(stats.t.ppf((1 + level) / 2, rows - 1) * values.std(ddof=1) / math.sqrt(rows))
        return mean - reach, mean + reach
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=max(999, min(RESAMPLES, MOST_DRAWN // rows)),
        batch=max(1, 2_000_000 // rows),
        vectorized=True,
        confidence_level=_widened(level, rows),
        method="BCa" if rows <= MOST_BCA else "percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _widened(level: float, rows: int) -> float:
    """Give the level at which the bootstrap of few rows covers what it should."""
    stats = _stats()
    reach = math.sqrt(rows / (rows - 1)) * stats.t.ppf((1 + level) / 2, rows - 1)
    return float(1 - 2 * stats.norm.cdf(-reach))


def _share_interval(values: Numbers, level: float) -> tuple[float, float]:
    found = _stats().binomtest(int(values.sum()), int(values.size)).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def _yes_or_no(values: Numbers) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def required_statistics() -> None:
    """Refuse where scipy is not there, before anything has cost something.

    Raises
    ------
    CellError
        It is not installed; the message says what to install.
    """
    _stats()


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError:
        raise CellError(
            'To compare needs scipy, which is not installed here; `%pip install "kasal-jupyter[compare]"`'
        ) from None
    return stats
