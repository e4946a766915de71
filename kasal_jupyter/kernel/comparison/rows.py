"""The rows that crews are compared on: of a frame, of a list, or of a dataset that is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kasal_jupyter.errors import nearest
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.plain_values import NotPlain, is_missing, plain

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


def read_rows(client: Client, data: Any, expected: str | None = None, name: str = "the rows") -> Rows:
    """Read what crews are compared on.

    Parameters
    ----------
    client
        The server, which keeps datasets.
    data
        The name of a dataset, or what :func:`given_rows` takes.
    expected
        The column that has what is expected.
    name
        What the rows are called, for errors.

    Raises
    ------
    CellError
        It is none, has no rows, or a value of it cannot be sent.
    """
    if isinstance(data, str):
        found = find_dataset(client, data)
        kept = client.dataset_rows(found.id)
        rows = Rows(found.name, [row.inputs for row in kept], [row.expected for row in kept])
    else:
        rows = given_rows(data, expected, name)
    if not len(rows):
        raise CellError(f"{rows.name} has no rows")
    return rows


def find_dataset(client: Client, word: str) -> Dataset:
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
    near = nearest(word, [each.name for each in known]) or "; %kasal dataset lists them"
    raise CellError(f"There is no dataset {word!r}{near}")


def given_rows(data: Any, expected: str | None = None, name: str = "the rows") -> Rows:
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
        return Rows(str(data.name), [row.inputs for row in kept], [row.expected for row in kept])
    table = _table(data, name)
    columns = list(dict.fromkeys(column for row in table for column in row))
    if expected is not None and expected not in columns:
        raise CellError(f"{name} has no column {expected!r}{nearest(expected, columns)}")
    wanted = expected or EXPECTED
    inputs, answers = [], []
    for number, row in enumerate(table):
        read = {column: _value(value, number, column, name) for column, value in row.items()}
        answers.append(read.pop(wanted, None))
        inputs.append(read)
    return Rows(name, inputs, answers)


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


def _table(data: Any, name: str) -> list[dict[str, Any]]:
    if isinstance(data, list | tuple):
        if not all(isinstance(row, Mapping) for row in data):
            raise CellError(f"{name}: a list of rows has a dictionary for each")
        return [{str(column): value for column, value in row.items()} for row in data]
    from kasal_jupyter.kernel.frames.frames import is_frame, read_frame

    if not is_frame(data):
        raise CellError(
            f"{name} is of the type {type(data).__name__}; give a DataFrame, a list of dictionaries, or the "
            "name of a dataset"
        )
    return list(read_frame(data, name).iter_rows(named=True))


def _value(value: Any, row: int, column: str, name: str) -> Any:
    if is_missing(value) or (isinstance(value, float) and value != value):  # noqa: PLR0124 - a frame's NaN
        return None
    try:
        return plain(value, column)
    except NotPlain as error:
        raise CellError(f"Row {row} of {name}: {error}") from None
