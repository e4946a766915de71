"""SQL on one frame by DuckDB, which sees that frame and nothing else."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kasal_jupyter.tools.confined_sql import StatementRefused, ask_frame

if TYPE_CHECKING:
    import narwhals as nw

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
