"""What runs have used, as a table: `%kasal usage` and `kasal.usage()`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.figures import counted, size_text, spent_text

if TYPE_CHECKING:
    import pandas as pd

    from kasal_jupyter.client.client import Client
    from kasal_jupyter.kernel.views.usage_plot import UsagePlot
    from kasal_jupyter.schemas.usage import GroupBy, Stored, UsageGroup, UsageList, UsageTotal


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
    """

    def __init__(self, answer: UsageList, by: Callable[[GroupBy], UsageList] | None = None) -> None:
        self._answer, self._by = answer, by
        self.groups: list[UsageGroup] = answer.groups
        self.whole: UsageTotal = answer.whole
        self.since, self.until = answer.since, answer.until
        self.stored: Stored = answer.stored
        whole = answer.whole
        title = (
            f"{answer.since} to {answer.until}: {counted(whole.runs, 'run')}, "
            f"{counted(whole.llm_calls, 'model call')}, {counted(whole.total_tokens, 'token')}, "
            f"{spent_text(whole)}; stored now: {stored_text(answer.stored)}"
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
        from kasal_jupyter.kernel.views.usage_plot import UsagePlot

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
