"""How often the intervals of comparisons hold what is true, and how often they decide what is not so.

``python benchmarks/compare.py`` prints, for samples of which the truth is known, the share of 95% intervals
of a difference that hold it, and, where there is no difference, the share that are called decided.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from kasal_jupyter.kernel.comparison.statistics import difference

Numbers = np.ndarray
Draw = Callable[[np.random.Generator, int], tuple[Numbers, Numbers]]


def alike(rng: np.random.Generator, rows: int) -> tuple[Numbers, Numbers]:
    """Draw scores that are distributed normally."""
    one = rng.normal(size=rows)
    return one, one + rng.normal(size=rows)


def skewed(rng: np.random.Generator, rows: int) -> tuple[Numbers, Numbers]:
    """Draw differences as costs and times have them: mostly small, some large."""
    one = rng.normal(size=rows)
    return one, one + rng.exponential(size=rows) - 1


def yes_or_no(rng: np.random.Generator, rows: int) -> tuple[Numbers, Numbers]:
    """Draw answers of which seven of ten are right."""
    return (rng.random(rows) < 0.7).astype(float), (rng.random(rows) < 0.7).astype(float)


def repeated(rng: np.random.Generator, rows: int) -> tuple[Numbers, Numbers]:
    """Draw a yes or no, three times a row, whose rows are not equally hard."""
    hard = rng.beta(2, 2, size=rows)
    return rng.binomial(3, hard) / 3, rng.binomial(3, hard) / 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    tiny = parser.parse_args().tiny
    samples = 10 if tiny else 2_000
    draws: list[Draw] = [alike, skewed, yes_or_no, repeated]
    for draw in draws:
        for rows in (10,) if tiny else (10, 20, 50, 200):
            rng = np.random.default_rng(1)
            held = decided = 0
            for seed in range(samples):
                one, other = draw(rng, rows)
                found = difference(one, other, seed=seed, shares=draw is yes_or_no)
                assert found is not None
                assert found.low is not None
                assert found.high is not None
                held += found.low <= 0 <= found.high
                decided += found.decided
            name = draw.__name__.replace("_", " ")
            print(
                f"{name}, {rows} rows: {held / samples:.1%} hold it, {decided / samples:.1%} decided wrongly"
            )


if __name__ == "__main__":
    main()
