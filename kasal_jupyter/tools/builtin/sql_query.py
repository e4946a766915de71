"""SQL on the files that a run's tools can read, by DuckDB, which sees those that a statement names alone."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from kasal_jupyter.tools.tool import Tool, ToolContext
from kasal_jupyter.tools.wording import MAX_CHARACTERS, beginning
from kasal_jupyter.tools.workspace import Entry, PathRefused, Workspace

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from kasal_jupyter.schemas.spec import RunToolSettings

MOST_ROWS = 200
"""Rows of a result that are given."""

MAX_CELL = 500
"""Most characters of a value that are given."""

MOST_SECONDS = 30.0
"""How long a statement may take."""

_MOST_FILES = 20

_CONFINED: dict[str, Any] = {
    # No network, no extensions, none of this process's variables, and no files but those of `_confine`.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "allow_persistent_secrets": "false",
    "temp_directory": "",
    "max_memory": "512MB",
    "threads": 2,
}

_READERS = {
    ".csv": "read_csv",
    ".tsv": "read_csv",
    ".txt": "read_csv",
    ".parquet": "read_parquet",
    ".json": "read_json_auto",
    ".jsonl": "read_json_auto",
    ".ndjson": "read_json_auto",
}


def _unavailable(_settings: RunToolSettings) -> str | None:
    if importlib.util.find_spec("duckdb") is None:
        return 'sql_query needs DuckDB: pip install "kasal-jupyter[sql]"'
    return None


def _run(context: ToolContext, statement: str) -> str:
    import duckdb

    with duckdb.connect(":memory:", config=_CONFINED) as database, contextlib.ExitStack() as opened:
        try:
            found = database.extract_statements(statement)
            if [each.type for each in found] != [duckdb.StatementType.SELECT]:
                raise ValueError("Only one SELECT statement is run, nothing that changes anything.")
            files = _open_files(database, statement, Workspace.of(context), opened)
            _confine(database, files)
            return _result(database, statement)
        except duckdb.InterruptException:
            raise ValueError(f"It took longer than {MOST_SECONDS:g} seconds, and was ended.") from None
        except duckdb.Error as error:
            raise ValueError(f"DuckDB says: {beginning(str(error), 1_000)}") from error


def _open_files(
    database: DuckDBPyConnection, statement: str, workspace: Workspace, opened: contextlib.ExitStack
) -> dict[str, IO[bytes]]:
    """Open the files that a statement names as its tables."""
    names = sorted(database.get_table_names(statement))
    if len(names) > _MOST_FILES:
        raise ValueError(f"A statement may name {_MOST_FILES} files at the most.")
    files: dict[str, IO[bytes]] = {}
    for name in names:
        if PurePosixPath(name).suffix.lower() not in _READERS:
            # One of the database's own, or of the statement's; DuckDB says so where it is neither.
            continue
        try:
            files[name] = opened.enter_context(workspace.open(name))
        except PathRefused as error:
            there = [each.path for each in workspace.entries(depth=3) if _is_table(each)][:_MOST_FILES]
            raise ValueError(f"{error} These can be queried: {', '.join(there) or 'none'}.") from error
    return files


def _is_table(entry: Entry) -> bool:
    return entry.kind == "file" and PurePosixPath(entry.path).suffix.lower() in _READERS


def _confine(database: DuckDBPyConnection, files: dict[str, IO[bytes]]) -> None:
    """Make a view of each file, and let the database reach nothing else from then on."""
    paths = {name: _handle_path(file) for name, file in files.items()}
    listed = ", ".join(_quoted(path) for path in paths.values())
    database.execute(f"SET allowed_paths = [{listed}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    for name, path in paths.items():
        reader = _READERS[PurePosixPath(name).suffix.lower()]
        identifier = name.replace('"', '""')
        database.execute(
            f'CREATE VIEW "{identifier}" AS SELECT * FROM {reader}({_quoted(path)})'  # noqa: S608 - quoted
        )


def _handle_path(file: IO[bytes]) -> str:
    """Give the path of an open file: what was checked is what is read, wherever its name leads by now."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        if Path(folder).is_dir():
            return f"{folder}/{file.fileno()}"
    return os.path.realpath(file.name)


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def _result(database: DuckDBPyConnection, statement: str) -> str:
    clock = threading.Timer(MOST_SECONDS, database.interrupt)
    clock.daemon = True
    clock.start()
    try:
        answer = database.execute(statement)
        names = [column[0] for column in answer.description or ()]
        rows = answer.fetchmany(MOST_ROWS + 1)
    finally:
        clock.cancel()
    lines = [_line(names), _line(["---"] * len(names)), *(_line(row) for row in rows[:MOST_ROWS])]
    text = "\n".join(lines)
    if len(text) > MAX_CHARACTERS:
        return f"{text[:MAX_CHARACTERS]}\n[The result goes on; choose fewer columns or rows.]"
    if len(rows) > MOST_ROWS:
        return f"{text}\n[There are more rows; these are the first {MOST_ROWS}.]"
    return text if rows else f"{text}\n[No rows.]"


def _line(values: Any) -> str:
    return f"| {' | '.join(_cell(value) for value in values)} |"


def _cell(value: Any) -> str:
    return "" if value is None else beginning(str(value), MAX_CELL).replace("|", "\\|")


TOOL = Tool(
    name="sql_query",
    description="Runs a SELECT statement of DuckDB's SQL on CSV, Parquet and JSON files, and gives the rows "
    "as a table. A file is named like a table, by its path in quotes: SELECT * FROM 'sales.csv' LIMIT 5. "
    "DESCRIBE 'sales.csv' and SUMMARIZE 'sales.csv' tell its columns.",
    category="data",
    parameters={
        "type": "object",
        "properties": {
            "statement": {
                "type": "string",
                "description": "One SELECT statement.",
                "minLength": 1,
                "maxLength": 20_000,
                "examples": ["SELECT 6 * 7 AS answer"],
            }
        },
        "required": ["statement"],
        "additionalProperties": False,
    },
    function=_run,
    unavailable=_unavailable,
)
