"""A frame's rows as the inputs of a batch, and what has come of a batch as columns beside them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from kasal_jupyter.errors import nearest, nearest_word
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.frames.frames import cell_text, is_frame, read_frame, row_values
from kasal_jupyter.kernel.plain_values import NotPlain, is_missing, plain
from kasal_jupyter.kernel.views.clean import one_line
from kasal_jupyter.kernel.views.figures import counted

if TYPE_CHECKING:
    import narwhals as nw

    from kasal_jupyter.schemas.batches import BatchRow

Kind = Literal["text", "count", "number", "any"]

RESULT_COLUMNS: dict[str, Kind] = {
    "output": "text",
    "status": "text",
    "error": "text",
    "tokens": "count",
    "cost": "number",
    "duration": "number",
    "job_id": "text",
}
"""What each row has beside its inputs; a structured output's fields stand behind ``output``."""

_MOST_NAMED = 6
"""Rows, columns or inputs that a message names."""


# -- which column is which input ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each input of a crew comes from.

    Attributes
    ----------
    columns
        Inputs by name, each with its column.
    same
        Inputs that are the same in each row.
    """

    columns: dict[str, str]
    same: dict[str, Any]


def plan_inputs(
    crew: str,
    wanted: Sequence[str],
    there: Sequence[str],
    *,
    source: str,
    columns: Mapping[str, str] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Plan:
    """Say where each input of a crew comes from: a column of its name, another that is named, or one value.

    Columns that the crew has no place for are not sent: they make no row another.

    Parameters
    ----------
    crew
        Its name, for errors.
    wanted
        The names of its placeholders.
    there
        The columns.
    source
        What the table is called, for errors.
    columns
        Columns of another name than their input: by input.
    values
        Inputs that are the same in each row.

    Raises
    ------
    CellError
        They do not fit; everything that does not is named, with what may have been meant.
    """
    named, same = dict(columns or {}), dict(values or {})
    if not wanted:
        raise CellError(
            f"{crew} has no {{placeholders}}, so each row of {source} would be the same run; write "
            "{name} where a row's value belongs"
        )
    faults = [_misnamed(name, column, wanted, there, source) for name, column in named.items()]
    faults += [
        f"{crew} has no input {name!r}{nearest(name, wanted) or f'; it takes {_listed(wanted)}'}"
        for name in same
        if name not in wanted
    ]
    faults += [f"{name} is given as a column and as one value" for name in same if name in named]
    said = {*named, *named.values(), *same, *there}
    missing = [name for name in wanted if name not in said]
    free = [each for each in there if each not in wanted and each not in named.values()]
    faults += [_missing(crew, name, free, source) for name in missing]
    if faults := [each for each in faults if each]:
        raise CellError("\n".join(faults))
    taken = {name: named.get(name, name) for name in wanted if name not in same}
    if not taken:
        raise CellError(
            f"No column of {source} is an input: each row would be the same run; leave out one of "
            f"{_listed(list(same))}, or name its column"
        )
    return Plan(taken, same)


def _misnamed(name: str, column: str, wanted: Sequence[str], there: Sequence[str], source: str) -> str:
    """Say what is wrong with a column that was named for an input; nothing where it fits."""
    if name in wanted and column in there:
        return ""
    if name in there and column in wanted:
        return f"{name}={column} is the other way round: the input comes first, {_pair(column, name)}"
    if name not in wanted:
        return f"There is no input {name!r}{nearest(name, wanted) or f'; there are {_listed(wanted)}'}"
    return f"{source} has no column {column!r}{nearest(column, there) or f'; it has {_listed(there)}'}"


def _missing(crew: str, name: str, free: Sequence[str], source: str) -> str:
    """Say that an input has no column, and how that is mended."""
    lower = {each.casefold(): each for each in free}
    near = lower.get(name.casefold()) or nearest_word(name, free) or (free[0] if len(free) == 1 else None)
    if near is not None:
        ways = f"did you mean --columns {_pair(name, near)}?"
    else:
        has = f"it has {_listed(free)}; --columns {name}=COLUMN names another, and " if free else ""
        ways = f"{has}{name}=VALUE is the same in each row"
    return f"{crew} takes {{{name}}}, and {source} has no such column; {ways}"


def _pair(name: str, column: str) -> str:
    return f"{name}={column}" if column.isidentifier() else f'"{name}={column}"'


def _listed(names: Sequence[str]) -> str:
    shown = [one_line(each, 60) for each in names[:_MOST_NAMED]]
    return ", ".join([*shown, f"{len(names) - len(shown)} more"] if len(names) > len(shown) else shown)


# -- rows -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Table:
    """What a crew is run over.

    Attributes
    ----------
    name
        What it is called, for errors.
    native
        The frame as it was given.
    columns
        The names of its columns; of a pandas index that says something as well.
    """

    name: str
    native: Any
    columns: list[str]
    _frame: nw.DataFrame[Any] = field(repr=False)

    @classmethod
    def of(cls, value: Any, name: str) -> Table:
        """Read a frame of any library, a column of one, or a list of mappings.

        Raises
        ------
        CellError
            It is none, or has no rows.
        """
        if type(value).__name__ == "LazyFrame":
            raise CellError(f"{name} is a LazyFrame, which has no rows yet; pass {name}.collect()")
        if isinstance(value, list | tuple) and value and all(isinstance(each, Mapping) for each in value):
            value = frame_of(list(value))
        if not is_frame(value):
            raise CellError(
                f"{name} is of the type {type(value).__name__}; give a DataFrame (pandas, polars, pyarrow), "
                "or a list of dictionaries"
            )
        frame = read_frame(value, name)
        if not frame.shape[0]:
            raise CellError(f"{name} has no rows")
        return cls(name, value, list(frame.columns), frame)

    def __len__(self) -> int:
        return int(self._frame.shape[0])

    def inputs(self, plan: Plan) -> list[dict[str, Any]]:
        """Give each row's inputs as JSON knows them; what is missing is null.

        Raises
        ------
        CellError
            A value cannot be sent; it names row and column.
        """
        part = self._frame[list(dict.fromkeys(plan.columns.values()))]
        names = list(part.columns)
        records = (dict(zip(names, row, strict=True)) for row in row_values(part))
        whole = {column for column in names if _counts_whole(part, column)}
        return plain_rows(records, plan, self.label, self.name, whole)

    def label(self, number: int) -> str:
        """Name a row: by its place from 0, and by its index where that says something else."""
        index = getattr(self.native, "index", None) if _is_pandas(self.native) else None
        label = index[number] if index is not None else number
        return str(number) if label is number or label == number else f"{number} (index {label!r})"

    def with_columns(self, columns: Mapping[str, tuple[Kind, list[Any]]]) -> Any:
        """Give the frame with more columns, of the same library, in its order and with its index.

        Parameters
        ----------
        columns
            By name, none of which it has: what they hold, and the values.
        """
        if _is_pandas(self.native):
            return _pandas_with(self.native, self.name, columns)
        import narwhals as nw

        backend = self._frame.implementation
        kinds = {"text": nw.String(), "count": nw.Int64(), "number": nw.Float64()}

        def series(name: str, kind: Kind, values: list[Any]) -> Any:
            if kind != "any":
                return nw.new_series(name, values, kinds[kind], backend=backend)
            try:
                return nw.new_series(name, values, backend=backend)
            except (TypeError, ValueError, OverflowError):
                # Of several kinds, which only Python can hold in one column.
                return nw.new_series(name, [_json(value) for value in values], nw.String(), backend=backend)

        made = [series(name, kind, values) for name, (kind, values) in columns.items()]
        return self._frame.with_columns(*made).to_native()


def with_rows(native: Any, which: Sequence[bool]) -> Any:
    """Give some rows of a frame, with their index."""
    if _is_pandas(native):
        import numpy as np

        return native[np.array(which, dtype=bool)]
    import narwhals as nw

    frame = nw.from_native(native, eager_only=True)
    return frame.filter(list(which)).to_native()


def frame_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Make a frame of a list of mappings, by the library that is in use, or is there."""
    import importlib.util

    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    data = {name: [row.get(name) for row in rows] for name in names}
    libraries = ("pandas", "polars", "pyarrow")
    found = [each for each in libraries if each in sys.modules]
    found += [each for each in libraries if importlib.util.find_spec(each) is not None]
    for library in found:
        if library == "pandas":
            import pandas as pd

            return pd.DataFrame(data)
        if library == "polars":
            import polars as pl

            return pl.DataFrame(data, strict=False)
        import pyarrow as pa

        return pa.table(data)
    raise CellError("A list of rows needs pandas, polars or pyarrow in this kernel: %pip install pandas")


def plain_rows(
    records: Iterable[Mapping[str, Any]],
    plan: Plan,
    label: Callable[[int], str],
    source: str,
    whole: Container[str] = (),
) -> list[dict[str, Any]]:
    """Give each row's inputs as JSON knows them.

    Parameters
    ----------
    records
        The rows: values by column; what is left out is missing.
    plan
        Where the inputs come from.
    label, source
        Names a row by its number, and says what the table is called, for errors.
    whole
        Columns of whole numbers that are held as floats.

    Raises
    ------
    CellError
        A value cannot be sent; it names row and column.
    """
    same = {name: _plain_value(value, name) for name, value in plan.same.items()}
    rows = []
    for number, record in enumerate(records):
        inputs = {}
        for name, column in plan.columns.items():
            try:
                inputs[name] = _plain_cell(record.get(column), "its value", whole=column in whole)
            except NotPlain as error:
                raise CellError(f"Row {label(number)}, column {column!r} of {source}: {error}") from None
        rows.append(inputs | same)
    return rows


def _plain_value(value: Any, name: str) -> Any:
    try:
        return _plain_cell(value, name)
    except NotPlain as error:
        raise CellError(str(error)) from None


def _plain_cell(value: Any, name: str, *, whole: bool = False) -> Any:
    if is_missing(value) or (isinstance(value, float) and math.isnan(value)):
        return None
    if is_frame(value):
        raise NotPlain(
            f"{name} is a {type(value).__name__}; frames in rows get no tools: put what matters into columns"
        )
    return int(value) if whole else plain(_without_nan(value), name)


def _without_nan(value: Any) -> Any:
    """Give a nested value with null for what is no number: frames have no other word for what is missing."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return value


def _counts_whole(frame: nw.DataFrame[Any], column: str) -> bool:
    """Say whether a column holds whole numbers, which pandas makes floats of where one is missing."""
    import narwhals as nw

    series = frame[column]
    if not frame.implementation.is_pandas_like() or series.dtype != nw.Float64:
        return False
    there = series.drop_nulls()
    return 0 < len(there) < len(series) and all(
        math.isfinite(value) and abs(value) < 2**53 and value == int(value) for value in there
    )


def missing_note(rows: Iterable[Mapping[str, Any]], source: str) -> str | None:
    """Say in which inputs rows have no value; None where all have."""
    lacking: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            if value is None:
                lacking[name] = lacking.get(name, 0) + 1
    if not lacking:
        return None
    said = ", ".join(f"{counted(number, 'row')} without {name}" for name, number in lacking.items())
    return f"{source} has {said}: there the crew reads None"


# -- results --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ResultColumns:
    """What has come of a batch's rows, by column.

    Attributes
    ----------
    taken
        Names that a column of the input has.
    renamed
        What is called otherwise because of that: the name that was meant, and the column's.
    """

    taken: set[str]
    renamed: list[tuple[str, str]] = field(default_factory=list)

    def of(self, rows: Sequence[BatchRow]) -> dict[str, tuple[Kind, list[Any]]]:
        """Give the columns, in their order."""
        fields = list(
            dict.fromkeys(
                str(name) for row in rows if isinstance(row.structured, dict) for name in row.structured
            )
        )
        fixed = {name: self._free(name, "batch") for name in RESULT_COLUMNS}
        found: dict[str, tuple[Kind, list[Any]]] = {
            fixed["output"]: ("text", [row.output for row in rows]),
            **{
                self._free(name, "output", fixed): (
                    "any",
                    _of_one_kind([_field(row.structured, name) for row in rows]),
                )
                for name in fields
            },
        }
        others: dict[str, list[Any]] = {
            "status": [row.status for row in rows],
            "error": [row.failure for row in rows],
            # What another row's run has used is counted there: a column's sum is what the batch has used.
            "tokens": [0 if row.status == "shared" else row.tokens for row in rows],
            "cost": [0.0 if row.status == "shared" else row.cost for row in rows],
            "duration": [row.duration for row in rows],
            "job_id": [row.job_id for row in rows],
        }
        return found | {fixed[name]: (RESULT_COLUMNS[name], values) for name, values in others.items()}

    def _free(self, name: str, prefix: str, others: Mapping[str, str] | None = None) -> str:
        """Give a name that no other column has."""
        there = self.taken.union(others.values() if others else ())
        if name not in there:
            return name
        found = f"{prefix}.{name}"
        while found in there:
            found = f"{found}_"
        self.renamed.append((name, found))
        return found

    def note(self, source: str) -> str | None:
        """Say which columns are called otherwise; None where none is."""
        if not self.renamed:
            return None
        said = ", ".join(f"{meant} is {called}" for meant, called in self.renamed)
        return f"Beside {source}'s own columns, {said}"


def _field(structured: Any, name: str) -> Any:
    return structured.get(name) if isinstance(structured, dict) else None


def _of_one_kind(values: list[Any]) -> list[Any]:
    """Give numbers as of one kind: a model that means 1.0 writes 1."""
    kinds = {type(value) for value in values if value is not None}
    return [None if each is None else float(each) for each in values] if kinds == {int, float} else values


def _pandas_with(native: Any, name: str, columns: Mapping[str, tuple[Kind, list[Any]]]) -> Any:
    import pandas as pd

    frame = native.to_frame(name if native.name is None else native.name) if native.ndim == 1 else native
    frame = frame.copy(deep=False)
    for called, (kind, values) in columns.items():
        # By place: an index may have the same label twice.
        match kind:
            case "count":
                frame[called] = pd.array(values, dtype="Int64")
            case "number":
                frame[called] = pd.array(values, dtype="float64")
            case _:
                # With the frame's own index, for assignment goes by it, and then by place again.
                series = pd.Series(values, dtype=object).infer_objects()
                frame[called] = series.array
    return frame


def _is_pandas(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series)


def json_line(record: Mapping[str, Any]) -> str:
    """Write a row as a line of JSON."""
    return f"{json.dumps(record, ensure_ascii=False, default=cell_text)}\n"


def _json(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


# -- rows without a library -----------------------------------------------------------------------------


def rows_of(columns: Mapping[str, tuple[Kind, list[Any]]]) -> Iterator[dict[str, Any]]:
    """Give columns as rows."""
    names = list(columns)
    for values in zip(*(values for _, values in columns.values()), strict=True):
        yield dict(zip(names, values, strict=True))


def csv_cell(value: Any) -> str:
    """Write a value into a CSV file; what is missing is nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else cell_text(value)
