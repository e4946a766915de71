"""Datasets: rows that are kept by name, made of a frame, or of past runs that somebody has rated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kasal_jupyter.kernel.comparison.rows import find_dataset, given_rows
from kasal_jupyter.kernel.crews.stored_crews import NOTEBOOK
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.runs.result import table_of
from kasal_jupyter.kernel.session import the_session
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import one_line
from kasal_jupyter.kernel.views.figures import counted, moment_text
from kasal_jupyter.schemas.datasets import DatasetRow, RatedRuns, Thumb

if TYPE_CHECKING:
    import pandas as pd

    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.datasets import Dataset as Kept

SHOWN = 20
"""Rows of a dataset that are shown."""


class Dataset(Shown):
    """Rows that are kept by name, which crews are compared on.

    Attributes
    ----------
    id, name
        What it is called.
    dataset_rows
        The rows: ``inputs``, ``expected``, ``source_job``.
    """

    def __init__(self, kept: Kept, rows: Sequence[DatasetRow]) -> None:
        self.id, self.name = kept.id, kept.name
        self.dataset_rows = list(rows)
        names = list(dict.fromkeys(name for row in rows[:SHOWN] for name in row.inputs))
        more = f", the first {SHOWN} of them" if len(rows) > SHOWN else ""
        changed = moment_text(kept.updated_at)
        title = f"{one_line(kept.name, 200)}: {counted(len(rows), 'row')}{more}; changed {changed}"
        sources = any(row.source_job for row in rows[:SHOWN])
        heads = ["row", *names, "expected", *(["from"] if sources else [])]
        cells = [
            [
                str(place),
                *(one_line(str(row.inputs.get(name, "")), 80) for name in names),
                "" if row.expected is None else one_line(str(row.expected), 80),
                *([row.source_job or ""] if sources else []),
            ]
            for place, row in enumerate(rows[:SHOWN])
        ]
        super().__init__(title, heads, cells)

    def __len__(self) -> int:
        return len(self.dataset_rows)

    def df(self) -> pd.DataFrame:
        """Give one row a row: the inputs, ``expected``, and ``source_job``, the run that it is from.

        Raises
        ------
        CellError
            pandas is not installed in this kernel.
        """
        names = list(dict.fromkeys(name for row in self.dataset_rows for name in row.inputs))
        rows = [
            {name: row.inputs.get(name) for name in names}
            | {"expected": row.expected, "source_job": row.source_job}
            for row in self.dataset_rows
        ]
        return table_of(rows, (*names, "expected", "source_job"))


def load(client: Client, word: str, *, command: str = NOTEBOOK) -> Dataset:
    """Give a dataset by its name or id, with its rows."""
    kept = find_dataset(client, word, command=command)
    return Dataset(kept, client.dataset_rows(kept.id))


def keep(
    client: Client,
    name: str,
    rows: Sequence[DatasetRow] = (),
    rated: RatedRuns | None = None,
    *,
    replace: bool = False,
) -> Dataset:
    """Keep rows under a name.

    Raises
    ------
    CellError
        There is a dataset of that name, and it is not to be replaced.
    """
    there = client.datasets(name)
    if there and not replace:
        raise CellError(
            f"There is a dataset {name!r} already, with {counted(there[0].total, 'row')}; give another name, "
            "or have its rows replaced (--replace)"
        )
    made = (
        client.replace_dataset(there[0].id, rows, rated)
        if there
        else client.create_dataset(name, rows, rated)
    )
    return Dataset(made, client.dataset_rows(made.id))


def rows_of(data: Any, expected: str | None = None, name: str = "the table") -> list[DatasetRow]:
    """Give what :func:`~kasal_jupyter.kernel.comparison.rows.given_rows` reads as rows of a dataset."""
    read = given_rows(data, expected, name)
    return [
        DatasetRow(inputs=inputs, expected=answer)
        for inputs, answer in zip(read.inputs, read.expected, strict=True)
    ]


def list_datasets(client: Client, *, command: str = NOTEBOOK) -> Shown:
    """List the datasets."""
    found = client.datasets()
    rows = [[each.name, f"{each.total:,}", moment_text(each.updated_at), each.id] for each in found]
    title = "" if rows else f"There are no datasets yet; `{command} dataset NAME --rows` makes one"
    return Shown(title, ["dataset", "rows", "changed", "id"], rows)


def dataset(
    name: str,
    data: Any = None,
    *,
    expected: str | None = None,
    rated: bool = False,
    crew: str | None = None,
    thumb: Thumb | None = None,
    replace: bool = False,
) -> Dataset:
    """Give the dataset of a name; with rows, or of rated runs, make it.

    Parameters
    ----------
    name
        What it is called.
    data
        A DataFrame or a list of dictionaries: its columns are inputs.
    expected
        The column that has what is expected; by default one of that name.
    rated
        Whether it is made of past runs that somebody has rated, ``kasal.rate``. What is expected is the
        corrected answer, else, of a thumb up, what the run has answered; of runs with the same inputs, the
        one that was rated last counts.
    crew, thumb
        Of these, one crew's, and those of one thumb.
    replace
        Whether the rows take the place of those of a dataset of that name.

    Raises
    ------
    CellError
        There is none, or there is one already; or the rows cannot be kept.
    """
    session = the_session()
    if data is None and not rated:
        return load(session.client, name)
    rows = rows_of(data, expected) if data is not None else []
    runs = None
    if rated:
        runs = RatedRuns(crew_id=session.crew(crew).id if crew is not None else None, thumb=thumb)
    return keep(session.client, name, rows, runs, replace=replace)
