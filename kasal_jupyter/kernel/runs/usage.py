"""What runs have used, as a table and drawn: `%kasal usage` and `kasal.usage()`."""

from __future__ import annotations

import base64
import io
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import day, one_of, phrase
from kasal_jupyter.kernel.session import the_session
from kasal_jupyter.kernel.views import html_parts as parts
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import counted, size_text, spent_text
from kasal_jupyter.schemas.allowances import LimitState
from kasal_jupyter.schemas.usage import GroupBy, UsageGroup, UsageList

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.usage import GroupBy, Stored, UsageTotal


def add_usage_options(parser: ArgumentParser) -> None:
    """Have a parser take which use is meant."""
    groups = get_args(GroupBy)
    parser.add_argument(
        "--by",
        metavar="WHAT",
        type=one_of(groups),
        help=f"what it is told apart by: {', '.join(groups)}; by default day",
    )
    parser.add_argument("--crew", metavar="NAME", type=phrase, help="one crew's, by its name or id")
    parser.add_argument(
        "--since", metavar="DAY", type=day, help="the first day, 2024-01-15; by default 30 days are shown"
    )
    parser.add_argument("--until", metavar="DAY", type=day, help="the last day; by default today")


class UsageTable(Shown):
    """What was used, a row a group.

    Attributes
    ----------
    groups
        The groups: ``key``, ``name``, ``runs``, ``llm_calls``, ``total_tokens``, ``cost`` and more.
    whole
        All of them together.
    since, until
        The first and the last day.
    stored
        What is stored now: ``bytes``, ``crews``; ``most_bytes`` and ``most_crews`` are None for any number.
    limits
        What may be spent a day and a month, as far as that is bounded: ``period``, ``max_cost``, ``cost``,
        ``reserved``, ``ends_at``.
    """

    def __init__(self, answer: UsageList, by: Callable[[GroupBy], UsageList] | None = None) -> None:
        self._answer, self._by = answer, by
        self.groups: list[UsageGroup] = answer.groups
        self.whole: UsageTotal = answer.whole
        self.since, self.until = answer.since, answer.until
        self.stored: Stored = answer.stored
        self.limits: list[LimitState] = answer.limits
        whole = answer.whole
        title = (
            f"{answer.since} to {answer.until}: {counted(whole.runs, 'run')}, "
            f"{counted(whole.llm_calls, 'model call')}, {counted(whole.total_tokens, 'token')}, "
            f"{spent_text(whole)}; stored now: {stored_text(answer.stored)}"
            f"{''.join(map(limit_text, answer.limits))}"
        )
        super().__init__(title, usage_heads(answer), usage_rows(answer))

    @property
    def cost(self) -> float | None:
        """US dollars in all; None where one call's is unknown: then it is ``whole.cost_at_least`` or more."""
        return self.whole.cost

    def plot(self, by: GroupBy | None = None) -> UsagePlot:
        """Draw cost and tokens as bars: with matplotlib where it is installed, else in HTML.

        Parameters
        ----------
        by
            What is told apart; by default day, model and crew, each in a chart of its own, or what this
            table tells apart where that is something else than days.

        Returns
        -------
        UsagePlot
            A notebook shows it; ``.figure`` is matplotlib's, to be saved.
        """
        mine = self._answer.group_by
        wanted: list[GroupBy] = ["day", "model", "crew"] if mine == "day" else [mine]
        if by is not None:
            wanted = [by]
        ask = self._by
        return UsagePlot([self._answer if each == mine or ask is None else ask(each) for each in wanted])

    def df(self) -> pd.DataFrame:
        """Give the groups as a table.

        Returns
        -------
        pandas.DataFrame
            ``key``, ``name``, ``crew_name``, ``runs``, ``prompt_tokens``, ``completion_tokens``,
            ``total_tokens``, ``llm_calls``, ``tool_calls``, ``cost`` (US dollars; missing where unknown),
            ``cost_at_least``, ``unknown_costs``.

        Raises
        ------
        CellError
            pandas is not installed in this kernel.
        """
        try:
            import pandas as pd
        except ImportError:
            raise CellError("pandas is not installed in this kernel; `%pip install pandas`") from None
        columns = ["key", "name", "crew_name", "runs", "prompt_tokens", "completion_tokens", "total_tokens"]
        columns += ["llm_calls", "tool_calls", "cost", "cost_at_least", "unknown_costs"]
        frame = pd.DataFrame([each.model_dump() for each in self.groups], columns=columns)
        return frame.astype({"cost": float})


def usage_table(
    client: Client,
    by: GroupBy = "day",
    *,
    since: str | None = None,
    until: str | None = None,
    **only: str | None,
) -> UsageTable:
    """Ask a server what runs have used, and give the table.

    Parameters
    ----------
    client
        The server.
    by
        What it is told apart by.
    since, until
        The first and the last day, ``2024-01-15``; by default the last 30 days.
    **only
        ``crew_id``, ``user``.
    """

    def ask(by: GroupBy) -> UsageList:
        return client.usage(by, since=since, until=until, **only)

    return UsageTable(ask(by), ask)


def stored_text(stored: Stored) -> str:
    """Write how much is stored: ``1.2 MB of 200.0 MB``, ``1.2 MB`` where any amount may be."""
    most = "" if stored.most_bytes is None else f" of {size_text(stored.most_bytes)}"
    return size_text(stored.bytes) + most


def limit_text(limit: LimitState) -> str:
    """Write how a limit stands, behind other figures."""
    reserved = f" and ${limit.reserved:.4g} reserved" if limit.reserved else ""
    return (
        f"; ${limit.cost:.4g} of ${limit.max_cost:g} spent this {limit.period}{reserved}, until "
        f"{limit.ends_at[:10]}"
    )


def usage_heads(answer: UsageList) -> list[str]:
    """Give the columns of a table of usage."""
    heads: list[str] = [answer.group_by]
    if answer.group_by in {"agent", "task"}:
        heads.append("crew")
    if answer.group_by in {"day", "crew", "user"}:
        heads.append("runs")
    # Tools are no model's.
    calls = ["model calls"] if answer.group_by == "model" else ["model calls", "tool calls"]
    return [*heads, *calls, "tokens in", "tokens out", "cost"]


def usage_rows(answer: UsageList) -> list[list[str]]:
    """Give its rows, as text."""
    rows = []
    for each in answer.groups:
        row = [each.name or "(none)"]
        if answer.group_by in {"agent", "task"}:
            row.append(each.crew_name or "")
        if each.runs is not None:
            row.append(f"{each.runs:,}")
        calls = [each.llm_calls] if answer.group_by == "model" else [each.llm_calls, each.tool_calls]
        counts = (*calls, each.prompt_tokens, each.completion_tokens)
        rows.append([*row, *(f"{count:,}" for count in counts), spent_text(each)])
    return rows


MOST_BARS = 12
"""Models, crews and the like that are told apart; the others are one bar."""

MOST_DAYS = 92
"""Days that are drawn with those between them on which nothing was used."""

MOST_TICKS = 8
"""Days that are named below a chart."""

WIDTH = 24
"""Characters of the longest bar."""

Measure = Literal["cost", "tokens"]
"""What bars are drawn of."""

_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class Bar:
    """What one day, model or crew has used.

    Attributes
    ----------
    cost
        US dollars, as far as they are known.
    spent
        The same in words: a part may be unknown.
    """

    name: str
    cost: float
    tokens: int
    spent: str


class UsagePlot:
    """Cost and tokens as bars, a chart a grouping; a notebook shows it as the value of a cell.

    Attributes
    ----------
    charts
        The bars by what they are told apart by: ``day``, ``model``, ``crew`` …
    """

    def __init__(self, answers: Sequence[UsageList]) -> None:
        first = answers[0]
        self.title = f"{first.since} to {first.until}: {spent_text(first.whole)}"
        self.title += f", {counted(first.whole.total_tokens, 'token')}"
        self.charts: dict[str, list[Bar]] = {answer.group_by: bars_of(answer) for answer in answers}

    @property
    def figure(self) -> Figure | None:
        """The drawing, to be saved (``.savefig(path)``) or changed; None where matplotlib is not there."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return None
        charts = self.charts.items()
        heights = [
            max(1.6, 0.6 + 0.3 * len(bars)) if by != "day" else 2.4 for by, bars in self.charts.items()
        ]
        # Where nothing is known to have cost anything, the title says so, and what there is has the room.
        costs = any(bar.cost for bars in self.charts.values() for bar in bars)
        measures: list[Measure] = ["cost", "tokens"] if costs else ["tokens"]
        figure = Figure(figsize=(10, sum(heights) + 0.5), layout="constrained")
        figure.suptitle(self.title.replace("$", r"\$"), fontsize=11)
        rows = figure.subplots(
            len(heights), len(measures), squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for (by, bars), row in zip(charts, rows, strict=True):
            for axes, measure in zip(row, measures, strict=True):
                _draw(axes, by, bars, measure)
        return figure

    def __repr__(self) -> str:
        lines = [self.title]
        for by, bars in self.charts.items():
            lines += ["", f"by {by}" + ("" if bars else ": nothing")]
            lines += _chart_lines(bars)
        return "\n".join(lines)

    def html(self) -> str:
        """Give the charts as HTML; not by IPython's name for it, which would win over the picture."""
        charts = "".join(_chart_html(by, bars) for by, bars in self.charts.items())
        return (
            f'<div style="{parts.CARD}" role="group" aria-label="What runs have used">'
            f'<div style="font-weight:600">{escape(self.title)}</div>{charts}</div>'
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        del include, exclude
        bundle: dict[str, Any] = {"text/plain": repr(self)}
        figure = self.figure
        if figure is None:
            return bundle | {"text/html": self.html()}
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=110)
        return bundle | {"image/png": base64.b64encode(drawn.getvalue()).decode()}


def bars_of(answer: UsageList) -> list[Bar]:
    """Give the bars of one grouping: days in their order without a gap, else what costs most first."""
    if answer.group_by == "day":
        return _days([_bar(each) for each in answer.groups])
    groups = sorted(answer.groups, key=lambda each: (-each.cost_at_least, -each.total_tokens))
    bars = [_bar(each) for each in groups[:MOST_BARS]]
    if others := groups[MOST_BARS:]:
        cost = sum(each.cost_at_least for each in others)
        unknown = any(each.cost is None for each in others)
        bars.append(
            Bar(
                f"{len(others)} others",
                cost,
                sum(each.total_tokens for each in others),
                f"at least ${cost:,.2f}" if unknown else f"${cost:,.2f}",
            )
        )
    return bars


def bars_most(bars: Sequence[Bar]) -> Bar:
    """Give the most of everything: what the longest bars stand for."""
    return Bar("", max(bar.cost for bar in bars), max(bar.tokens for bar in bars), "")


def bar_text(value: float, most: float) -> str:
    """Draw a bar of characters; whatever is above nothing can be seen."""
    eighths = round(value / most * WIDTH * 8) if most > 0 else 0
    if value > 0:
        eighths = max(1, eighths)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _bar(group: UsageGroup) -> Bar:
    name = group.name or "(none)"
    if group.crew_name:
        name += f" · {group.crew_name}"
    return Bar(one_line(name, 40), group.cost_at_least, group.total_tokens, spent_text(group))


def _days(bars: list[Bar]) -> list[Bar]:
    if not bars:
        return []
    known = {bar.name: bar for bar in bars}
    first, last = (date.fromisoformat(bar.name) for bar in (bars[0], bars[-1]))
    if (last - first).days >= MOST_DAYS:
        return bars
    days = ((first + timedelta(days=day)).isoformat() for day in range((last - first).days + 1))
    return [known.get(day) or Bar(day, 0.0, 0, "") for day in days]


def _chart_lines(bars: Sequence[Bar]) -> Iterator[str]:
    if not bars:
        return
    most = bars_most(bars)
    name = max(len(bar.name) for bar in bars)
    spent = max(len(bar.spent) for bar in bars)
    tokens = max(len(f"{bar.tokens:,}") for bar in bars)
    for bar in bars:
        cost = f"{bar.spent:>{spent}} {bar_text(bar.cost, most.cost):<{WIDTH}}"
        used = f"{bar.tokens:>{tokens},} {bar_text(bar.tokens, most.tokens)}"
        yield f"{bar.name:<{name}}  {cost}  {used}".rstrip()


def _chart_html(by: str, bars: Sequence[Bar]) -> str:
    head = f'<div style="margin-top:10px;{parts.MUTED}">by {escape(by)}{"" if bars else ": nothing"}</div>'
    if not bars:
        return head
    most = bars_most(bars)
    cell = "text-align:left;padding:0 10px 0 0;white-space:nowrap;font-size:12px;line-height:1.35"
    figure = f"{cell};text-align:right;font-variant-numeric:tabular-nums"
    rows = "".join(
        f'<tr><th scope="row" style="{cell};font-weight:normal">{escape(bar.name)}</th>'
        f'<td style="{figure}">{escape(bar.spent)}</td>'
        f'<td style="{cell};color:{parts.BLUE}" aria-hidden="true">{bar_text(bar.cost, most.cost)}</td>'
        f'<td style="{figure}">{bar.tokens:,}</td>'
        f'<td style="{cell};color:{parts.GREEN}" aria-hidden="true">{bar_text(bar.tokens, most.tokens)}</td>'
        "</tr>"
        for bar in bars
    )
    heads = "".join(
        f'<th scope="col" style="{style};{parts.MUTED};font-weight:normal">{text}</th>'
        for text, style in ((escape(by), cell), ("cost", figure), ("", cell), ("tokens", figure), ("", cell))
    )
    return f"{head}<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _draw(axes: Axes, by: str, bars: Sequence[Bar], what: Measure) -> None:
    """Draw a chart: days upright from left to right, names one below the other, where they can be read."""
    values = [bar.cost if what == "cost" else bar.tokens for bar in bars]
    colour = parts.BLUE if what == "cost" else parts.GREEN
    axes.set_title(f"{what} by {by}{', US dollars' if what == 'cost' else ''}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    # A name with dollars is no formula.
    names = [bar.name.replace("$", r"\$") for bar in bars]
    if by == "day":
        axes.bar(range(len(bars)), values, color=colour, width=0.7)
        step = max(1, -(-len(bars) // MOST_TICKS))
        axes.set_xticks(range(0, len(bars), step), [name[5:] for name in names[::step]])
        # A single day is a bar as well, and no wall.
        axes.set_xlim(-0.6, max(len(bars), 6) - 0.4)
    else:
        drawn = axes.barh(range(len(bars)), values, color=colour, height=0.7)
        # In words, for a part of a cost may be unknown.
        said = [bar.spent.replace("$", r"\$") if what == "cost" else f"{bar.tokens:,}" for bar in bars]
        axes.bar_label(drawn, said, padding=3, fontsize=8)
        axes.margins(x=0.2)
        axes.set_yticks(range(len(bars)), names)
        axes.set_ylim(max(len(bars), 3) - 0.4, -0.6)
        axes.locator_params(axis="x", nbins=5)
    if not any(values):
        # Nothing is drawn of nothing, and its axis would be in fractions of it.
        axes.text(0.5, 0.5, "0", transform=axes.transAxes, ha="center", va="center")
        (axes.yaxis if by == "day" else axes.xaxis).set_ticks([])


def usage(
    by: GroupBy = "day", *, crew: str | None = None, since: str | None = None, until: str | None = None
) -> UsageTable:
    """Say what your runs have used, and what it cost; an admin's answer has everybody's.

    Parameters
    ----------
    by
        What it is told apart by: ``day``, ``crew``, ``model``, ``agent``, ``task``; for admins also ``user``.
    crew
        One crew's, by its name or id.
    since, until
        The first and the last day, ``2024-01-15``; by default the last 30 days.

    Returns
    -------
    UsageTable
        A notebook shows it as a table; ``.df()`` gives it as one, ``.whole`` the sums.
    """
    session = the_session()
    crew_id = session.crew(crew).id if crew is not None else None
    return usage_table(session.client, by, since=since, until=until, crew_id=crew_id)
