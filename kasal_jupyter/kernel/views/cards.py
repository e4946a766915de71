"""What sub-commands show: lists, and the answer to a check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from kasal_jupyter.kernel.crews.plan import field_by_name
from kasal_jupyter.kernel.views.clean import clean, one_line
from kasal_jupyter.kernel.views.figures import cost_text, counted, duration_text
from kasal_jupyter.schemas.crews import CrewChecked, CrewDetails
from kasal_jupyter.schemas.executions import CrewRemark
from kasal_jupyter.schemas.usage import Estimate, Range

WHOLE = 28
"""Characters of a cell that are kept on one line."""


class Shown:
    """Something to look at, as HTML and as text.

    Parameters
    ----------
    title
        A line above the rows; may be empty.
    heads
        The columns.
    rows
        The cells, as text.
    opens
        The column whose cells open at a click, and what to: for each row, lines that can be typed about it.
    """

    def __init__(
        self,
        title: str,
        heads: Sequence[str],
        rows: Sequence[Sequence[str]],
        opens: tuple[str, Sequence[Sequence[str]]] | None = None,
    ) -> None:
        self.title = title
        self.opens = opens
        self.heads = heads
        self.rows = [[one_line(cell, 400) for cell in row] for row in rows]

    def __repr__(self) -> str:
        if not self.rows:
            return clean(self.title)
        table = [list(self.heads), *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.heads))]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        return "\n".join([clean(self.title), *lines] if self.title else lines)

    def _repr_html_(self) -> str:
        cell = "text-align:left;padding:2px 12px 2px 0;vertical-align:top"
        # Where the browser has to break lines, it shall be in the columns with much text.
        styles = [
            cell if any(len(text) > WHOLE for text in column) else f"{cell};white-space:nowrap"
            for column in zip(self.heads, *self.rows, strict=True)
        ]
        heads = "".join(
            f'<th style="{style};opacity:.6;font-weight:normal">{escape(head)}</th>'
            for style, head in zip(styles, self.heads, strict=True)
        )
        rows = "".join(
            "<tr>"
            + "".join(
                f'<td style="{style}">{self._cell(place, column, text)}</td>'
                for column, (style, text) in enumerate(zip(styles, row, strict=True))
            )
            + "</tr>"
            for place, row in enumerate(self.rows)
        )
        title = f"<div style='font-weight:600'>{escape(clean(self.title))}</div>" if self.title else ""
        if not self.rows:
            return f"<div>{title}</div>"
        return f"<div>{title}<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"

    def _cell(self, row: int, column: int, text: str) -> str:
        if self.opens is None or self.heads[column] != self.opens[0]:
            return escape(text)
        # It needs no kernel, and no trust. A click on a line selects all of it, where styles are kept.
        lines = "".join(
            f'<div><code style="user-select:all;white-space:nowrap">{escape(line)}</code></div>'
            for line in self.opens[1][row]
        )
        return f'<details><summary style="cursor:pointer">{escape(text)}</summary>{lines}</details>'


ESTIMATE_HEADS = ["a run takes", "median", "from", "to"]
"""The columns of an estimate."""


def estimate_rows(estimate: Estimate) -> list[list[str]]:
    """Give what a run may take as rows, from the crew's past runs; none where there are none."""
    if not estimate.runs:
        return []
    measures: list[tuple[str, Range | None, Callable[[float], str]]] = [
        ("time", estimate.seconds, duration_text),
        ("tokens", estimate.tokens, lambda tokens: f"{tokens:,.0f}"),
        ("cost", estimate.cost, cost_text),
    ]
    return [
        [what, *(write(value) for value in (range_.median, range_.low, range_.high))]
        if range_ is not None
        else [what, "unknown", "", ""]
        for what, range_, write in measures
    ]


def expected_text(answer: CrewChecked) -> str:
    """Say how long a run may take, and from what that is known: past runs, or a guess that is called one."""
    seconds = answer.estimate.seconds
    if seconds is not None:
        runs = answer.estimate.runs
        which = "its last run" if runs == 1 else f"its last {runs} runs"
        return f"{which} took {'about ' if runs > 1 else ''}{duration_text(seconds.median)}"
    # A tenth of a second would look like a measurement.
    guess = duration_text(answer.estimated_duration).replace(".0 s", " s")
    return f"no run of it tells yet how long it takes (guessed from the number of its tasks: about {guess})"


def remark_line(remark: CrewRemark, crew: CrewDetails | None) -> str:
    """Write what is worth knowing of a run that keeps it from nothing."""
    field = remark.field if crew is None else field_by_name(remark.field, crew)
    return f"{field}: {remark.remark}"


class Checked(Shown):
    """Whether a crew could run now, and what keeps it from that.

    Attributes
    ----------
    runnable
        Whether it could.
    faults
        What keeps it from that, each with its ``field`` and its ``reason``.
    estimated_duration
        Seconds that a run may take: from the crew's own past runs where there are any, else a guess by the
        number of its tasks; ``estimate`` tells which.
    estimate
        ``tokens``, ``cost`` (US dollars) and ``seconds`` that a run may take, each with its ``median`` and
        the bounds of most past ``runs``; None where they do not tell.
    """

    def __init__(self, crew: CrewDetails, answer: CrewChecked) -> None:
        name = clean(crew.name)
        self.runnable = answer.runnable
        self.faults = answer.faults
        self.estimated_duration = answer.estimated_duration
        self.estimate = answer.estimate
        if not answer.runnable:
            title = f"✖ {name} cannot run yet: {counted(len(answer.faults), 'fault')}"
        elif any(each.doubt for each in answer.remarks):
            title = f"◷ {name} can be started, and may not work; {expected_text(answer)}"
        else:
            title = f"✔ {name} can run; {expected_text(answer)}"
        title = " · ".join([title, *(remark_line(each, crew) for each in answer.remarks)])
        if answer.faults:
            rows = [[field_by_name(each.field, crew), each.reason] for each in answer.faults]
            super().__init__(title, ["field", "what is wrong"], rows)
            return
        super().__init__(title, ESTIMATE_HEADS, estimate_rows(answer.estimate))

    def __bool__(self) -> bool:
        return self.runnable
