"""The rows that crews are compared on: of a frame, of a list, or of a dataset that is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kasal_jupyter.errors import nearest
from kasal_jupyter.kernel.crews.stored_crews import NOTEBOOK
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.frames.batch_frames import Plan, Table, plain_rows

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.datasets import Dataset, DatasetRow

EXPECTED = "expected"
"""The column that has what is expected, where no other is named."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows.

    Attributes
    ----------
    name
        What they are called, for people.
    inputs
        What each gives a crew.
    expected
        What is expected of each answer; None where nothing is.
    """

    name: str
    inputs: list[dict[str, Any]]
    expected: list[Any]

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def columns(self) -> list[str]:
        """The names of the inputs."""
        return list(dict.fromkeys(name for row in self.inputs for name in row))


def read_rows(client: Client, data: Any, expected: str | None = None, *, command: str = NOTEBOOK) -> Rows:
    """Read what crews are compared on.

    Parameters
    ----------
    client
        The server, which keeps datasets.
    data
        Rows, the name of a dataset, or what :func:`given_rows` takes.
    expected
        The column that has what is expected.
    command
        How commands begin where an error is read.

    Raises
    ------
    CellError
        It is none, has no rows, or a value of it cannot be sent.
    """
    if isinstance(data, str):
        found = find_dataset(client, data, command=command)
        kept = client.dataset_rows(found.id)
        rows = _kept_rows(found.name, kept)
    else:
        rows = data if isinstance(data, Rows) else given_rows(data, expected)
    if not len(rows):
        raise CellError(f"{rows.name} has no rows")
    return rows


def find_dataset(client: Client, word: str, *, command: str = NOTEBOOK) -> Dataset:
    """Give the dataset of a name or an id.

    Raises
    ------
    CellError
        There is none; with the nearest name.
    """
    known = client.datasets()
    found = [each for each in known if word in {each.id, each.name}] or client.datasets(word)
    if len(found) == 1:
        return found[0]
    if found:
        raise CellError(f"There are {len(found)} datasets {word!r}: {', '.join(each.id for each in found)}")
    near = nearest(word, [each.name for each in known]) or f"; `{command} dataset` lists them"
    raise CellError(f"There is no dataset {word!r}{near}")


def given_rows(data: Any, expected: str | None = None, name: str = "the table") -> Rows:
    """Read the rows of a frame (pandas, polars, pyarrow), or of a list of mappings.

    Parameters
    ----------
    data
        The frame, the list, or anything whose ``rows`` are those of a dataset.
    expected
        The column that has what is expected; by default one that is called so, where there is one.
    name
        What it is called, for errors.

    Raises
    ------
    CellError
        It is none, or a value of it cannot be sent; it names the row and the column.
    """
    kept: Sequence[DatasetRow] | None = getattr(data, "dataset_rows", None)
    if kept is not None:
        return _kept_rows(str(data.name), kept)
    if isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data):
        # A library's frame would hold it in columns of one kind each; here a row's value stays what it is.
        records = [{str(column): value for column, value in row.items()} for row in data]
        columns = list(dict.fromkeys(column for row in records for column in row))
        read = plain_rows(records, _all_of(columns), str, name)
    else:
        table = Table.of(data, name)
        columns = table.columns
        read = table.inputs(_all_of(columns))
    if expected is not None and expected not in columns:
        raise CellError(f"{name} has no column {expected!r}{nearest(expected, columns)}")
    answers = [row.pop(expected or EXPECTED, None) for row in read]
    return Rows(name, read, answers)


def _all_of(columns: Sequence[str]) -> Plan:
    return Plan({column: column for column in columns}, {})


def _kept_rows(name: str, kept: Sequence[DatasetRow]) -> Rows:
    return Rows(name, [row.inputs for row in kept], [row.expected for row in kept])


def inputs_for(rows: Rows, wanted: set[str], crew: str) -> list[dict[str, Any]]:
    """Give each row's inputs as far as a crew takes them.

    Raises
    ------
    CellError
        It takes one that the rows do not have.
    """
    if lacking := sorted(wanted.difference(rows.columns)):
        there = ", ".join(rows.columns) or "none"
        raise CellError(
            f"{crew} takes {', '.join(f'{{{each}}}' for each in lacking)}, which {rows.name} does not have; "
            f"it has {there}"
        )
    return [{name: value for name, value in row.items() if name in wanted} for row in rows.inputs]
