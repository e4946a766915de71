"""A comparison as it is shown: tables, sentences, the rows that differ most, and score against cost."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kasal_jupyter.kernel.comparison.figures import (
    ArmFigures,
    estimate_text,
    interval_text,
    score_text,
)
from kasal_jupyter.kernel.comparison.statistics import LEVEL, Estimate
from kasal_jupyter.kernel.views import html_parts as parts
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import clean, escape, one_line
from kasal_jupyter.kernel.views.figures import cost_text, counted, duration_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kasal_jupyter.kernel.comparison.arms import Standing
    from kasal_jupyter.kernel.comparison.comparison import Comparison

COLOURS = (parts.BLUE, parts.ORANGE, parts.GREEN, "#8d6cf0", parts.RED, parts.GREY)

SHOWN = 5
"""Rows that differ most that are shown."""

CLICK = ". A click on a row gives what shows why"


def comparison_text(comparison: Comparison) -> str:
    """Give a comparison as text."""
    lines = [_title(comparison), repr(_arms(comparison))]
    lines += [clean(each) for each in [*comparison.words, *_notes(comparison)]]
    if comparison.disagreements and comparison.pairs:
        lines += ["", repr(_furthest(comparison))]
        command = comparison.asked.command
        lines += [f"  {_diff(each.jobs, command)}" for each in comparison.disagreements[:SHOWN] if each.jobs]
    return "\n".join(lines)


def comparison_html(comparison: Comparison) -> str:
    """Give a comparison as HTML that needs no kernel and no trust."""
    said = "".join(
        f'<div style="margin:2px 0{";font-weight:600" if _decides(each) else ""}">{escape(clean(each))}</div>'
        for each in comparison.words
    )
    notes = "".join(parts.remark(each) for each in _notes(comparison))
    rows = ""
    if comparison.disagreements and comparison.pairs:
        rows = f'<div style="margin-top:10px">{_furthest(comparison, CLICK)._repr_html_()}</div>'
    return (
        f'<div style="{parts.CARD}" role="group" aria-label="Comparison of crews" {parts.NO_FORMULAS}>'
        f'<div style="font-weight:600;margin-bottom:4px">{escape(_title(comparison))}</div>'
        f"{_arms(comparison)._repr_html_()}"
        f'<div style="margin-top:8px">{said}</div>{rows}<div style="margin-top:8px">{notes}</div></div>'
    )


def progress_text(standings: Mapping[str, Standing]) -> str:
    """Say in a line how far each arm has come."""
    return " · ".join(
        f"{one_line(label, 60)}: {each.done:,} of {counted(each.total, 'run')}"
        + (f", {each.failed:,} failed" if each.failed else "")
        + (f", {cost_text(each.cost)}" if each.cost else "")
        for label, each in standings.items()
    )


def _title(comparison: Comparison) -> str:
    asked = comparison.asked
    runs = sum(arm.runs for arm in comparison.arms)
    each = f", each {asked.repeats} times" if asked.repeats > 1 else ""
    spent = f", {cost_text(comparison.spent)}" if comparison.spent != 0 else ""
    return (
        f"{counted(len(asked.rows), 'row')}{each}: {counted(runs, 'run')}{spent}; score: {asked.scorer.name}"
    )


ARM_HEADS = ["crew", "score", "completed alone", "cost a run", "time a run", "runs", "failed"]
"""The columns of the arms."""


def arm_rows(arms: Sequence[ArmFigures]) -> list[list[str]]:
    """Give the arms as rows of text."""
    return [
        [
            arm.label,
            estimate_text(arm.score),
            estimate_text(arm.completed),
            _cost(arm),
            estimate_text(arm.seconds, duration_text),
            f"{arm.runs:,}",
            f"{arm.failed:,}",
        ]
        for arm in arms
    ]


def _arms(comparison: Comparison) -> Shown:
    rows, heads = arm_rows(comparison.arms), list(ARM_HEADS)
    if not any(arm.failed for arm in comparison.arms):
        # It would say the same twice.
        place = heads.index("completed alone")
        rows = [[*row[:place], *row[place + 1 :]] for row in rows]
        heads.pop(place)
    return Shown("", heads, rows)


def _cost(arm: ArmFigures) -> str:
    if arm.cost is None:
        return "unknown"
    if arm.cost.value == 0 == arm.spent:
        return cost_text(0.0)
    return estimate_text(arm.cost, cost_text) + ("" if arm.spent is not None else ", some unknown")


def _decides(sentence: str) -> bool:
    return sentence.startswith("Not decided") or " scores " in sentence.partition(":")[0]


def _notes(comparison: Comparison) -> list[str]:
    asked, judged = comparison.asked, comparison.judged
    notes = list(comparison.remarks)
    if judged is not None:
        failed = f", {judged.failed:,} without scores" if judged.failed else ""
        runs = counted(sum(job is not None for job in judged.jobs), "run")
        cost = "at a cost that is not known" if judged.cost is None else f"for {cost_text(judged.cost)}"
        notes.append(
            f"The judge: {runs}{failed}, {cost}, not counted above; seed of the order: {judged.seed}"
        )
    failing = [run.error for arm in comparison.runs_of for row in arm for run in row if run.error]
    if failing:
        common = max(set(failing), key=failing.count)
        notes.append(f"Runs that failed, most often with: {one_line(common, 300)}")
    several = f", all {len(comparison.pairs)} at once" if len(comparison.pairs) > 1 else ""
    repeats = "repeats averaged within a row, " if asked.repeats > 1 else ""
    notes.append(
        f"In parentheses: {LEVEL:.0%} intervals{several} ({repeats}bootstrap over rows, seed {asked.seed}). "
        "A run that failed scores 0."
    )
    return notes


def _furthest(comparison: Comparison, more_words: str = "") -> Shown:
    """List the rows in which scores are furthest apart, each with the line that shows what was different."""
    found = comparison.disagreements[:SHOWN]
    heads = ["row", *(arm.label for arm in comparison.arms), "inputs", "expected"]
    asked = comparison.asked
    rows = [
        [
            str(each.row),
            *("" if score is None else score_text(score) for score in each.scores),
            one_line(", ".join(f"{name}={value}" for name, value in asked.rows.inputs[each.row].items()), 80),
            "" if asked.rows.expected[each.row] is None else one_line(str(asked.rows.expected[each.row]), 60),
        ]
        for each in found
    ]
    lines = [[_diff(each.jobs, asked.command)] if each.jobs else ["no run of both"] for each in found]
    more = len(comparison.disagreements) - len(found)
    title = "Where they disagree most"
    title += f"; {counted(more, 'more row', 'more rows')} differ" if more else ""
    return Shown(title + more_words, heads, rows, opens=("row", lines))


def _diff(jobs: tuple[str, str], command: str) -> str:
    return f"{command} diff {jobs[0]} {jobs[1]}"


# -- the plot -------------------------------------------------------------------------------------------


class ScorePlot:
    """Score against cost, with intervals; against time where nothing has cost anything.

    Attributes
    ----------
    points
        Each arm's label, what is drawn to the right, and its score.
    across
        What is drawn to the right: ``cost`` or ``seconds``.
    """

    def __init__(self, comparison: Comparison) -> None:
        arms = comparison.arms
        costs = all(arm.cost is not None for arm in arms) and any(
            arm.cost is not None and arm.cost.value > 0 for arm in arms
        )
        self.across = "cost" if costs else "seconds"
        self.points: list[tuple[str, Estimate, Estimate]] = []
        for arm in arms:
            right = arm.cost if costs else arm.seconds
            if right is not None and arm.score is not None:
                self.points.append((arm.label, right, arm.score))

    @property
    def figure(self) -> Figure | None:
        """The drawing, to be saved (``.savefig(path)``) or changed; None where matplotlib is not there."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return None
        figure = Figure(figsize=(7, 4), layout="constrained")
        _draw(figure.subplots(), self)
        return figure

    def __repr__(self) -> str:
        write: Callable[[float], str] = cost_text if self.across == "cost" else duration_text
        lines = [f"score against {'cost' if self.across == 'cost' else 'time'} a run"]
        lines += [
            f"{one_line(label, 40)}: {score_text(score.value)} ({interval_text(score)}) for "
            f"{write(right.value)} ({interval_text(right, write)})"
            for label, right, score in self.points
        ]
        return "\n".join(lines)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        del include, exclude
        bundle: dict[str, Any] = {"text/plain": repr(self)}
        if (figure := self.figure) is None:
            return bundle
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=110)
        return bundle | {"image/png": base64.b64encode(drawn.getvalue()).decode()}


def _draw(axes: Axes, plot: ScorePlot) -> None:
    for place, (label, right, score) in enumerate(plot.points):
        colour = COLOURS[place % len(COLOURS)]
        axes.errorbar(
            right.value,
            score.value,
            xerr=_ends(right),
            yerr=_ends(score),
            fmt="o",
            color=colour,
            ecolor=colour,
            elinewidth=1.2,
            capsize=3,
            markersize=7,
            # A name with dollars is no formula.
            label=one_line(label, 60).replace("$", r"\$"),
        )
    dollars = plot.across == "cost"
    axes.set_xlabel("cost of a run, US dollars" if dollars else "time of a run, seconds", fontsize=9)
    axes.set_ylabel("score", fontsize=9)
    axes.set_title(f"Score against {'cost' if dollars else 'time'}", fontsize=10, loc="left")
    axes.set_xlim(left=0)
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.2)
    axes.legend(fontsize=8, frameon=False, loc="best")


def _ends(found: Estimate) -> list[list[float]] | None:
    if found.low is None or found.high is None:
        return None
    return [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
