"""The tools that agents are given for a frame: they look into it, and change nothing."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from kasal_jupyter.kernel.frames.frames import (
    SAMPLE_ROWS,
    cell_text,
    column_line,
    is_ordered,
    shape_text,
    top_values,
)
from kasal_jupyter.kernel.frames.row_filter import known_column, read_condition
from kasal_jupyter.kernel.functions.notebook_tools import NotebookTool, Table, make_tool
from kasal_jupyter.kernel.views.figures import counted
from kasal_jupyter.tools.confined_sql import StatementRefused, ask_frame

if TYPE_CHECKING:
    import narwhals as nw

MOST_ROWS = 1_000
"""Rows that an agent may ask for at once."""

MOST_DESCRIBED = 60
"""Columns that are described in one answer."""

Rows = Annotated[int, Field(ge=1, le=MOST_ROWS)]
Columns = Annotated[list[str] | None, Field(description="Names of the columns wanted; all, if left out.")]


class FrameTools:
    """What can be asked of one frame.

    Parameters
    ----------
    frame
        The frame.
    name
        What its input is called; in SQL, what the table is.
    """

    def __init__(self, frame: nw.DataFrame[Any], name: str) -> None:
        self._frame = frame
        self._name = name
        self._database = FrameDatabase(frame, name)

    def head(self, rows: Annotated[Rows, "How many rows."] = 10, columns: Columns = None) -> Table:
        """Give the first rows."""
        first = self._chosen(columns).head(rows)
        return Table(first.to_native(), f"The first {len(first):,} of {counted(len(self._frame), 'row')}.")

    def describe(self, column: Annotated[str | None, "One column; all of them, if left out."] = None) -> str:
        """Describe the columns: types, missing values, and mean, spread and quartiles of numbers."""
        names = [self._column(column)] if column else self._frame.columns
        lines = [self._figures(self._frame[name]) for name in names[:MOST_DESCRIBED]]
        if len(names) > MOST_DESCRIBED:
            lines.append(f"[{MOST_DESCRIBED} of {len(names):,} columns; ask for others by name]")
        return "\n".join([f"{self._name}: {shape_text(self._frame)}", *lines])

    def query(
        self,
        where: Annotated[
            str,
            "Which rows, such as: price > 10 and region in ['EU', 'US']. Comparisons joined by and, or, not; "
            "column names with blanks in `backticks`; == None for missing values. Empty for all rows.",
        ] = "",
        columns: Columns = None,
        sort_by: Annotated[str | None, "The column to sort by."] = None,
        descending: Annotated[bool, "Whether the largest come first."] = False,
        limit: Annotated[Rows, "Most rows to give."] = 20,
    ) -> Table:
        """Give the rows that meet a condition, sorted where that is asked for."""
        found = self._frame
        if where.strip():
            found = found.filter(read_condition(where, found.schema))
        if sort_by:
            found = found.sort(self._column(sort_by), descending=descending, nulls_last=True)
        return Table(
            self._chosen(columns, found).head(limit).to_native(),
            f"{counted(len(found), 'row')} of {len(self._frame):,} match.",
        )

    def value_counts(
        self, column: Annotated[str, "The column."], limit: Annotated[Rows, "Most values to give."] = 20
    ) -> Table:
        """Give a column's values and how often each occurs, the commonest first."""
        values = self._frame[self._column(column)]
        counts = _counted_texts(values) if _is_nested(values) else values.value_counts(sort=True)
        return Table(counts.head(limit).to_native(), f"{counted(len(counts), 'different value')}.")

    def sql(self, statement: Annotated[str, "One SELECT statement of DuckDB's SQL."]) -> Any:
        """Answer a question in SQL."""
        return self._database.select(statement)

    def _column(self, name: str) -> str:
        return known_column(name, self._frame.columns)

    def _chosen(self, columns: list[str] | None, frame: nw.DataFrame[Any] | None = None) -> nw.DataFrame[Any]:
        chosen = self._frame if frame is None else frame
        return chosen.select([self._column(name) for name in columns]) if columns else chosen

    def _figures(self, column: nw.Series[Any]) -> str:
        line = f"- {column_line(column)}"
        known = column.drop_nulls()
        if not known.dtype.is_numeric() or not len(known):
            return line if is_ordered(column) else f"{line}; {_different(known)}"
        quartiles = [known.quantile(part, interpolation="linear") for part in (0.25, 0.5, 0.75)]
        spread = known.std() if len(known) > 1 else 0.0
        figures = {"mean": known.mean(), "std": spread, "quartiles": quartiles}
        return "; ".join([line, *(f"{what} {_figure(value)}" for what, value in figures.items())])


def tools_of(frame: nw.DataFrame[Any], name: str, card: str | None) -> list[NotebookTool]:
    """Make a frame's tools, for all agents: ``NAME_head``, ``NAME_query`` and so on.

    Parameters
    ----------
    frame
        The frame.
    name
        What its input is called.
    card
        Its profile, where no text of the crew shows it: then a tool's description does.
    """
    prefix = re.sub(r"[^A-Za-z0-9_]", "_", name)
    prefix = (prefix if re.match(r"[A-Za-z_]", prefix) else f"data_{prefix}")[:48]
    asked = FrameTools(frame, prefix)
    functions: list[Callable[..., Any]] = [asked.head, asked.describe, asked.query, asked.value_counts]
    if has_duckdb():
        functions.append(asked.sql)
    about = f"Of the table {name} ({shape_text(frame)})."
    made = []
    for function in functions:
        told = f"{function.__doc__} {about}"
        if function.__name__ == "sql":
            told += f" The table is called {prefix}."
        if card is not None and function.__name__ == "describe":
            told += f"\n\n{card}"
        tool = make_tool(function, f"{prefix}_{function.__name__}", told, for_all=True)
        _add_examples(tool.definition.parameters["properties"], frame, prefix)
        made.append(tool)
    return made


def _add_examples(properties: dict[str, Any], frame: nw.DataFrame[Any], table: str) -> None:
    """Show what arguments look like, with the frame's own columns."""
    if not frame.columns:
        return
    ordered = next((name for name in frame.columns if frame[name].dtype.is_numeric()), None)
    common = next((name for name in frame.columns if not is_ordered(frame[name])), frame.columns[0])
    if "where" in properties and ordered is not None and frame[ordered].drop_nulls().len():
        middle = frame[ordered].mean()
        properties["where"]["examples"] = [f"{_written(ordered)} > {cell_text(middle)}"]
    if "column" in properties:
        properties["column"]["examples"] = [common]
    if "statement" in properties:
        properties["statement"]["examples"] = ["SELECT count(*) AS found FROM " + table]  # noqa: S608 - an example


def _written(column: str) -> str:
    """Write a column's name as a condition has it."""
    return column if column.isidentifier() else f"`{column}`"


def _is_nested(column: nw.Series[Any]) -> bool:
    """Say whether a column may hold lists or other objects, which not every library compares."""
    import narwhals as nw

    return column.dtype.is_nested() or column.dtype == nw.Object


def _counted_texts(column: nw.Series[Any]) -> nw.DataFrame[Any]:
    import narwhals as nw

    found = top_values(column, SAMPLE_ROWS)
    texts = {column.name: [text for text, _ in found], "count": [count for _, count in found]}
    return nw.from_dict(texts, backend=column.implementation)


def _different(column: nw.Series[Any]) -> str:
    return counted(column.len(), "value") if _is_nested(column) else f"{column.n_unique():,} different"


def _figure(value: Any) -> str:
    return "/".join(map(cell_text, value)) if isinstance(value, list) else cell_text(value)


# -- SQL ------------------------------------------------------------------------------------------------

# SQL on one frame by DuckDB, which sees that frame and nothing else.

_EXACT = ("HUGEINT", "UHUGEINT", "BIGINT", "UBIGINT", "INTEGER", "UINTEGER", "DECIMAL")
"""DuckDB's types that have more digits than a float, or none behind the point."""

__all__ = ["FrameDatabase", "StatementRefused", "has_duckdb"]


def has_duckdb() -> bool:
    """Say whether DuckDB is there."""
    return importlib.util.find_spec("duckdb") is not None


class FrameDatabase:
    """A frame as a table of a DuckDB file, which is made when the first statement comes.

    A limited process reads it and runs the statements: this one is the user's kernel, where an agent's SQL
    must not fill the memory. The table is the frame as it was then.

    Parameters
    ----------
    frame
        The frame.
    table
        What a statement calls it.
    """

    def __init__(self, frame: nw.DataFrame[Any], table: str) -> None:
        self._frame = frame
        self._table = table
        self._made: Path | None = None

    def select(self, statement: str) -> Any:
        """Run a SELECT statement.

        Parameters
        ----------
        statement
            SQL from an agent: only a single SELECT is run.

        Returns
        -------
        frame
            Of the same library as the given one; at most 10,000 rows.

        Raises
        ------
        StatementRefused
            It is something else than one SELECT, fails, or takes too much; with what DuckDB says.
        """
        import duckdb

        with tempfile.TemporaryDirectory(prefix="kasal-") as made:
            answer = Path(made) / "answer.db"
            ask_frame(statement, self._table, self._file(), answer)
            with duckdb.connect(str(answer), read_only=True) as database:
                return _native(database.table("answer"), self._frame)

    def _file(self) -> Path:
        """Give the file, with the frame in it."""
        import duckdb

        if self._made is not None:
            return self._made
        folder = tempfile.mkdtemp(prefix="kasal-")
        # With this object, or at the kernel's end.
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        file = Path(folder) / "frame.db"
        with duckdb.connect(str(file), config={"python_enable_replacements": "false"}) as database:
            database.register("frame given", self._frame.to_native())
            table = self._table.replace('"', '""')
            database.execute(f'CREATE TABLE "{table}" AS SELECT * FROM "frame given"')  # noqa: S608 - quoted
        self._made = file
        return file


def _native(relation: Any, frame: nw.DataFrame[Any]) -> Any:
    library = frame.implementation
    if library.is_polars():
        return relation.pl()
    if library.is_pyarrow():
        # DuckDB has renamed it.
        table = getattr(relation, "to_arrow_table", None) or relation.fetch_arrow_table
        return table()
    answer: Any = relation.df()
    # pandas' own way makes floats of long whole numbers, of decimals, and of whole numbers beside a NULL.
    long = [place for place, kind in enumerate(relation.types) if str(kind).startswith(_EXACT)]
    if long:
        import pandas as pd

        rows = relation.fetchall()
        for place in long:
            if answer.iloc[:, place].dtype.kind not in "iu":
                answer.isetitem(place, pd.Series([row[place] for row in rows], dtype=object))
    return answer
