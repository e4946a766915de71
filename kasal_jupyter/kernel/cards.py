"""What sub-commands show: lists, and the answer to a check."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from kasal_jupyter.kernel.clean import clean, one_line
from kasal_jupyter.kernel.figures import counted, duration_text
from kasal_jupyter.schemas.crews import CrewChecked


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
    """

    def __init__(self, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.title = title
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
        heads = "".join(
            f'<th style="{cell};opacity:.6;font-weight:normal">{escape(head)}</th>' for head in self.heads
        )
        rows = "".join(
            "<tr>" + "".join(f'<td style="{cell}">{escape(text)}</td>' for text in row) + "</tr>"
            for row in self.rows
        )
        title = f"<div style='font-weight:600'>{escape(clean(self.title))}</div>" if self.title else ""
        if not self.rows:
            return f"<div>{title}</div>"
        return f"<div>{title}<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"


class Checked(Shown):
    """Whether a crew could run now, and what keeps it from that.

    Attributes
    ----------
    runnable
        Whether it could.
    faults
        What keeps it from that, each with its ``field`` and its ``reason``.
    estimated_duration
        Seconds that a run may take, from the crew's own past runs where there are any.
    """

    def __init__(self, name: str, answer: CrewChecked) -> None:
        self.runnable = answer.runnable
        self.faults = answer.faults
        self.estimated_duration = answer.estimated_duration
        about = duration_text(answer.estimated_duration)
        title = (
            f"✔ {name} can run; it may take about {about}"
            if answer.runnable
            else f"✖ {name} cannot run yet: {counted(len(answer.faults), 'fault')}"
        )
        rows = [[each.field, each.reason] for each in self.faults]
        super().__init__(title, ["field", "what is wrong"], rows)

    def __bool__(self) -> bool:
        return self.runnable
