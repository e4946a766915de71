"""Crews compared on the same rows: run, scored, and what comes of it, as a notebook holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kasal_jupyter.kernel.comparison.arms import Arm, Ran, Standing, read_arms, require_runnable, run_arms
from kasal_jupyter.kernel.comparison.figures import ArmFigures, Pair, arm_figures, pair_words, pairs_of
from kasal_jupyter.kernel.comparison.judge import Case, Judge, Judged, judge_cases, read_judge
from kasal_jupyter.kernel.comparison.rows import EXPECTED, Rows, inputs_for, read_rows
from kasal_jupyter.kernel.comparison.scorers import Answer, NoScore, Scorer, read_score
from kasal_jupyter.kernel.comparison.statistics import (
    LEVEL,
    averaged,
    level_of_each,
    required_statistics,
)
from kasal_jupyter.kernel.crews.stored_crews import NOTEBOOK
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.runs.result import Drawn, table_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from kasal_jupyter.client.client import Client
    from kasal_jupyter.kernel.comparison.view import ScorePlot
    from kasal_jupyter.schemas.executions import Budget

MOST_RUNS = 100_000
"""Runs of a comparison."""

MOST_DISAGREEMENTS = 10
"""Rows that are shown, of those in which the arms' scores are furthest apart."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be compared, and how.

    Attributes
    ----------
    arms
        The crews.
    rows
        The rows.
    scorer
        What scores the answers.
    repeats
        How often each row is run by each crew.
    seed
        What lots are drawn with.
    command
        How commands begin where what comes of it is read.
    """

    arms: list[Arm]
    rows: Rows
    scorer: Scorer | Judge
    repeats: int
    seed: int = 0
    command: str = NOTEBOOK


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A row in which scores are far apart.

    Attributes
    ----------
    row
        Its place, from 0.
    scores
        Each arm's, averaged; a run that has failed counts as 0. None where there is none.
    jobs
        Of the two arms furthest apart, the runs that are.
    """

    row: int
    scores: list[float | None]
    jobs: tuple[str, str] | None


class Comparison(Drawn):
    """How crews fare on the same rows; a notebook shows it as tables, sentences and a plot.

    Attributes
    ----------
    arms
        What each comes to: ``label``, ``score``, ``completed``, ``cost``, ``seconds`` (each with ``value``,
        ``low`` and ``high``), ``runs``, ``failed``, ``unscored``, ``spent``.
    pairs
        How each but the first differs from the first, within the rows: ``score``, ``completed``, ``cost``,
        ``seconds``, each with ``value``, ``low``, ``high``, ``decided``, ``needed`` and ``p``.
    words
        The same in sentences.
    judged
        What the judge has said, and what it has cost; None where there is none.
    remarks
        What is worth knowing of the scores.
    """

    def __init__(
        self,
        asked: Asked,
        runs: list[list[list[Ran]]],
        scores: list[list[list[float | None]]],
        judged: Judged | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        self.asked, self.judged, self.remarks = asked, judged, list(remarks)
        self.runs_of, self._scores = runs, scores
        labels = [arm.label for arm in asked.arms]
        self.arms: list[ArmFigures] = [
            arm_figures(label, runs[place], scores[place], seed=asked.seed)
            for place, label in enumerate(labels)
        ]
        self.pairs: list[Pair] = pairs_of(labels, runs, scores, asked.seed)

    @property
    def words(self) -> list[str]:
        """What the comparison says, in sentences."""
        level = level_of_each(len(self.pairs))
        return [sentence for pair in self.pairs for sentence in pair_words(pair, level)]

    @property
    def decided(self) -> bool:
        """Whether it is decided of each which scores higher, it or the first."""
        return bool(self.pairs) and all(pair.score is not None and pair.score.decided for pair in self.pairs)

    @property
    def spent(self) -> float | None:
        """US dollars that all runs have cost, the judge's apart; None where one's is not known."""
        costs = [arm.spent for arm in self.arms]
        return None if None in costs else math.fsum(cost or 0.0 for cost in costs)

    @cached_property
    def disagreements(self) -> list[Disagreement]:
        """The rows in which scores are furthest apart, the furthest first."""
        means = [averaged(scores, 0.0) for scores in self._scores]
        found = []
        for row in range(len(self.asked.rows)):
            known = [(float(mean[row]), arm) for arm, mean in enumerate(means) if not math.isnan(mean[row])]
            if not known or min(known)[0] == max(known)[0]:
                continue
            lowest, highest = min(known)[1], max(known)[1]
            scores = [None if math.isnan(mean[row]) else float(mean[row]) for mean in means]
            pair = self._job(lowest, row, min), self._job(highest, row, max)
            # The one that is listed first is the first of the two.
            first, second = pair if lowest < highest else pair[::-1]
            found.append(Disagreement(row, scores, (first, second) if first and second else None))
        found.sort(key=lambda each: -_spread(each.scores))
        return found

    def _job(self, arm: int, row: int, which: Callable[..., tuple[float, int]]) -> str | None:
        """Give the run of a row whose score says most of it."""
        scores = self._scores[arm][row]
        jobs = [run.job_id for run in self.runs_of[arm][row]]
        known = [
            (0.0 if score is None else score, place)
            for place, score in enumerate(scores)
            if jobs[place] is not None and not (score is not None and math.isnan(score))
        ]
        return jobs[which(known)[1]] if known else None

    def df(self) -> pd.DataFrame:
        """Give one row an arm.

        Returns
        -------
        pandas.DataFrame
            ``crew``, ``score`` with its ends ``score_low`` and ``score_high``, the same of ``completed``,
            ``cost`` (US dollars a run) and ``seconds``, ``runs``, ``failed``, ``unscored``, ``spent``.
        """
        rows = []
        for arm in self.arms:
            row: dict[str, Any] = {"crew": arm.label}
            for name in ("score", "completed", "cost", "seconds"):
                found = getattr(arm, name)
                row |= {
                    name: found and found.value,
                    f"{name}_low": found and found.low,
                    f"{name}_high": found and found.high,
                }
            counts = {name: getattr(arm, name) for name in ("runs", "failed", "unscored", "spent")}
            rows.append(row | counts)
        return table_of(rows, tuple(rows[0]))

    def runs(self) -> pd.DataFrame:
        """Give one row a run.

        Returns
        -------
        pandas.DataFrame
            ``row`` (from 0), ``repeat``, ``crew``, ``job_id``, ``status``, ``score``, ``output``,
            ``expected``, ``error``, ``cost``, ``duration``.
        """
        rows = [
            {
                "row": row,
                "repeat": repeat,
                "crew": arm.label,
                "job_id": run.job_id,
                "status": run.status,
                "score": self._scores[place][row][repeat],
                "output": run.output,
                "expected": self.asked.rows.expected[row],
                "error": run.error,
                "cost": run.cost,
                "duration": run.seconds,
            }
            for place, arm in enumerate(self.asked.arms)
            for row, repeats in enumerate(self.runs_of[place])
            for repeat, run in enumerate(repeats)
        ]
        return table_of(rows, tuple(rows[0]))

    def plot(self) -> ScorePlot:
        """Draw score against cost, with intervals: with matplotlib where it is installed, else as text."""
        from kasal_jupyter.kernel.comparison.view import ScorePlot

        return ScorePlot(self)

    @property
    def figure(self) -> Figure | None:
        """The drawing, to be saved; None where matplotlib is not there."""
        return self.plot().figure

    def to_json(self) -> str:
        """Give it as JSON: the arms, how they differ, in words, and the rows that are furthest apart."""
        judged = self.judged
        return json.dumps(
            {
                "score": self.asked.scorer.name,
                "rows": len(self.asked.rows),
                "repeats": self.asked.repeats,
                "level": LEVEL,
                "seed": self.asked.seed,
                "arms": [asdict(arm) for arm in self.arms],
                "pairs": [asdict(pair) for pair in self.pairs],
                "words": self.words,
                "decided": self.decided,
                "spent": self.spent,
                "judge": judged
                and {
                    "runs": sum(job is not None for job in judged.jobs),
                    "failed": judged.failed,
                    "cost": judged.cost,
                    "seed": judged.seed,
                },
                "remarks": self.remarks,
                "disagreements": [asdict(each) for each in self.disagreements[:MOST_DISAGREEMENTS]],
            },
            ensure_ascii=False,
        )

    def __repr__(self) -> str:
        from kasal_jupyter.kernel.comparison.view import comparison_text

        return comparison_text(self)

    def _repr_html_(self) -> str:
        from kasal_jupyter.kernel.comparison.view import comparison_html

        return comparison_html(self)

    def draw(self, draw: Callable[[dict[str, Any]], object]) -> None:
        """Draw it under the cell that runs, with its plot; as the cell's value it is not drawn again."""
        from IPython.display import display

        draw({"text/plain": repr(self), "text/html": self._repr_html_()})
        plot = self.plot()
        if plot.points and plot.figure is not None:
            display(plot)  # type: ignore[no-untyped-call]
        self.drawn()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if not self.drawn_here:
            self.draw(lambda shown: display(shown, raw=True))  # type: ignore[no-untyped-call]


def _spread(scores: Sequence[float | None]) -> float:
    known = [score for score in scores if score is not None]
    return max(known) - min(known)


def read_asked(
    client: Client,
    crews: Sequence[Any],
    data: Any,
    score: Any,
    *,
    expected: str | None = None,
    repeats: int = 1,
    models: Sequence[str] = (),
    seed: int = 0,
    command: str = NOTEBOOK,
) -> Asked:
    """Read what is to be compared, and refuse what cannot be, before anything has cost something.

    Raises
    ------
    CellError
        It cannot be; the message says why.
    """
    required_statistics()
    scorer = score if isinstance(score, Judge) else read_score(score)
    rows = read_rows(client, data, expected, command=command)
    arms = read_arms(client, crews, models, command=command)
    if not arms:
        raise CellError("Name the crews that are compared")
    for arm in arms:
        inputs_for(rows, arm.inputs, arm.label)
    if (
        not isinstance(scorer, Judge)
        and scorer.needs_expected
        and all(each is None for each in rows.expected)
    ):
        raise CellError(
            f"{scorer.name} goes by what is expected, and {rows.name} says nothing of that: its column is "
            f"called {EXPECTED!r}, or named with expected (--expected)"
        )
    runs = repeats * len(rows) * len(arms)
    if not 1 <= runs <= MOST_RUNS:
        raise CellError(f"A comparison has 1 to {MOST_RUNS:,} runs, and this would have {runs:,}")
    return Asked(arms, rows, scorer, repeats, seed, command)


def carry_out(
    client: Client,
    asked: Asked,
    *,
    concurrency: int | None = None,
    budget: Budget | None = None,
    fresh: bool = False,
    told: Callable[[Mapping[str, Standing]], None] = lambda _: None,
    origin: str | None = None,
) -> Comparison:
    """Run what is to be compared, score it, and give what comes of it.

    Parameters
    ----------
    client
        The server.
    asked
        What is to be compared.
    concurrency
        Runs of all crews together that go on at the same time.
    budget
        What each run may use up.
    fresh
        Whether all is run, whatever was run already for the same rows.
    told
        Told how far each has come, by its label; the judge's is ``judge``.
    origin
        Where a judging crew that is made comes from, for its history.
    """
    judge = asked.scorer if isinstance(asked.scorer, Judge) else None
    judging = read_judge(client, judge, len(asked.arms), origin=origin) if judge is not None else None
    labels = [arm.label for arm in asked.arms]
    rows = [
        [row for row in inputs_for(asked.rows, arm.inputs, arm.label) for _ in range(asked.repeats)]
        for arm in asked.arms
    ]
    for arm, given in zip(asked.arms, rows, strict=True):
        require_runnable(client, arm, given[0])
    if judging is not None:
        require_runnable(client, judging, dict.fromkeys(judging.inputs, "…"))
    ran = run_arms(
        client,
        asked.arms,
        rows,
        concurrency=concurrency,
        budget=budget,
        fresh=fresh,
        told=lambda standings: told(dict(zip(labels, standings, strict=True))),
    )
    runs = [_by_row(each, asked.repeats) for each in ran]
    if judge is None or judging is None:
        return Comparison(asked, runs, *_scored(asked, runs))
    cases = [
        Case(
            asked.rows.inputs[row],
            asked.rows.expected[row],
            [arm[row][repeat].output if arm[row][repeat].completed else None for arm in runs],
        )
        for row in range(len(asked.rows))
        for repeat in range(asked.repeats)
    ]
    judged = judge_cases(
        client,
        judge,
        judging,
        cases,
        concurrency=concurrency,
        budget=budget,
        fresh=fresh,
        told=lambda standings: told({"judge": standings[0]}),
    )
    return Comparison(asked, runs, _judged_scores(asked, runs, judged), judged)


def _by_row(runs: Sequence[Ran], repeats: int) -> list[list[Ran]]:
    return [list(runs[place : place + repeats]) for place in range(0, len(runs), repeats)]


def _judged_scores(
    asked: Asked, runs: list[list[list[Ran]]], judged: Judged
) -> list[list[list[float | None]]]:
    def score(arm: int, row: int, repeat: int) -> float | None:
        if not runs[arm][row][repeat].completed:
            return None
        found = judged.scores[row * asked.repeats + repeat][arm]
        return math.nan if found is None else found

    return [
        [[score(arm, row, repeat) for repeat in range(asked.repeats)] for row in range(len(asked.rows))]
        for arm in range(len(asked.arms))
    ]


def _scored(
    asked: Asked, runs: list[list[list[Ran]]]
) -> tuple[list[list[list[float | None]]], None, list[str]]:
    """Score each answer; give what is to be said of those that have no score.

    Raises
    ------
    CellError
        None has.
    """
    assert not isinstance(asked.scorer, Judge)
    scorer, why, without, answers = asked.scorer, dict[str, int](), 0, 0

    def score(run: Ran, row: int) -> float | None:
        nonlocal without, answers
        if not run.completed:
            return None
        answers += 1
        rows = asked.rows
        answer = Answer(
            rows.inputs[row], rows.expected[row], run.output or "", run.structured, run.job_id or ""
        )
        try:
            return scorer.score(answer)
        except NoScore as error:
            without += 1
            why[str(error)] = why.get(str(error), 0) + 1
            return math.nan

    scores = [[[score(run, row) for run in repeats] for row, repeats in enumerate(arm)] for arm in runs]
    first = max(why, key=lambda text: why[text], default="")
    if answers and without == answers:
        raise CellError(f"No answer has a score: {first}")
    said = [f"{without:,} of {answers:,} answers have no score, and are left out: {first}"] if without else []
    return scores, None, said
