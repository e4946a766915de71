"""SQL on one frame by DuckDB, which sees that frame and nothing else."""

from __future__ import annotations

import importlib.util
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import narwhals as nw

MOST_ROWS = 10_000
"""Rows of a result; the agent is told where there are more."""

MOST_SECONDS = 30.0
"""How long a statement may take."""

_CONFINED: dict[str, Any] = {
    # No files, no network, no extensions, and none of the notebook's other variables.
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "max_memory": "1GB",
}


class StatementRefused(ValueError):
    """A statement that is not run; the text tells the agent what may be written."""


def has_duckdb() -> bool:
    """Say whether DuckDB is there."""
    return importlib.util.find_spec("duckdb") is not None


def select(frame: nw.DataFrame[Any], table: str, statement: str) -> Any:
    """Run a SELECT statement on a frame.

    Parameters
    ----------
    frame
        The frame.
    table
        What the statement calls it.
    statement
        SQL from an agent: only a single SELECT is run, in a database of its own that holds the frame alone.

    Returns
    -------
    frame
        Of the same library as the given one; at most 10,000 rows.

    Raises
    ------
    StatementRefused
        It is something else than one SELECT, or takes too long.
    duckdb.Error
        What DuckDB says against it.
    """
    import duckdb

    with duckdb.connect(":memory:", config=_CONFINED) as database:
        database.register(table, frame.to_native())
        database.execute("SET lock_configuration = true")
        found = database.extract_statements(statement)
        if [each.type for each in found] != [duckdb.StatementType.SELECT]:
            raise StatementRefused("Only one SELECT statement is run, nothing that changes anything")
        clock = threading.Timer(MOST_SECONDS, database.interrupt)
        clock.daemon = True
        clock.start()
        try:
            relation = database.sql(statement).limit(MOST_ROWS)
            return _native(relation, frame.implementation)
        except duckdb.InterruptException:
            raise StatementRefused(f"It took longer than {MOST_SECONDS:g} seconds, and was ended") from None
        finally:
            clock.cancel()


def _native(relation: Any, library: nw.Implementation) -> Any:
    if library.is_polars():
        return relation.pl()
    if library.is_pyarrow():
        # DuckDB has renamed it.
        table = getattr(relation, "to_arrow_table", None) or relation.fetch_arrow_table
        return table()
    return relation.df()
