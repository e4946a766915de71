"""What sub-commands show: a crew's card, lists."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from kasal_jupyter.kernel.clean import clean, one_line
from kasal_jupyter.schemas.crews import CrewDetails


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
        self.rows = [[one_line(cell, 200) for cell in row] for row in rows]

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


def crew_card(crew: CrewDetails, verb: str) -> Shown:
    """Show a crew: its tasks in order, who does them and what they build on."""
    agents = {agent.id: agent for agent in crew.agents}
    names = {task.id: task.title() for task in crew.tasks}
    rows = []
    for number, task in enumerate(crew.tasks, 1):
        agent = agents.get(task.agent_id or "")
        rows.append(
            [
                str(number),
                task.title(),
                agent.name if agent else "(the manager chooses)",
                (agent.model or "default") if agent else "",
                ", ".join([*(agent.tools if agent else []), *task.tools]),
                ", ".join(names.get(entry, entry) for entry in task.context),
            ]
        )
    title = f"{crew.name}: {verb}, {crew.configuration.process}, {crew.status} ({crew.id})"
    return Shown(title, ["", "task", "agent", "model", "tools", "builds on"], rows)
