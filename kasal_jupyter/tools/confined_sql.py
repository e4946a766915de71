"""SQL as models write it, on DuckDB: in a limited process, on the tables that it is given and no others.

A statement meets two DuckDBs. The first only takes it apart: it is closed from its beginning, binds nothing
and so reads nothing, and what it says can quote the statement alone. What the statement names is looked at
then: which tables it reads, and which functions stand in the place of a table; of these few are let through,
because one that takes a path, or an address in memory, is a way out. The second, closed as well once it has
its tables, runs the statement. Both live in a process that :func:`kasal_jupyter.confined.confined` starts.
This module is read there each time, and imports little.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from kasal_jupyter.confined import TooMuch, confined
from kasal_jupyter.hiding import beginning
from kasal_jupyter.tools.tool import MAX_CHARACTERS
from kasal_jupyter.tools.workspace import PathRefused, Workspace

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_SECONDS = 30.0
"""How long a statement may take: its process, its files, and its result included."""

MOST_MEMORY = 512 * 1024 * 1024
"""Bytes that a statement may take."""

MOST_ROWS = 200
"""Rows of a result that are given as text."""

MAX_CELL = 500
"""Most characters of a value in it."""

MOST_FRAME_ROWS = 10_000
"""Rows of a result that is a frame."""

READERS = {
    ".csv": "read_csv",
    ".tsv": "read_csv",
    ".txt": "read_csv",
    ".parquet": "read_parquet",
    ".json": "read_json_auto",
    ".jsonl": "read_json_auto",
    ".ndjson": "read_json_auto",
}
"""What reads a file, by the end of its name."""

TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "repeat", "unnest"})
"""What may stand in the place of a table: functions of their arguments alone."""

_MOST_FILES = 20

_ADDRESS_SPACE = 4 * 1024 * 1024 * 1024
"""Of the whole process. What DuckDB reserves and never uses differs by 700 MB between its versions."""

_OPTIONS: dict[str, Any] = {
    # No extensions, no secrets, and none of this process's variables.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "allow_persistent_secrets": "false",
    "temp_directory": "",
    # Below the limit of the process, so that DuckDB says itself what was too much.
    "max_memory": "400MB",
    "threads": 2,
}

_CLOSED = {**_OPTIONS, "enable_external_access": "false", "lock_configuration": "true"}


class StatementRefused(ValueError):
    """A statement that is not run, or that failed; the text tells the agent what may be written."""


def ask_files(statement: str, workspace: Workspace) -> str:
    """Run a SELECT statement on the files that it names, in a process of its own; give a table of Markdown.

    Raises
    ------
    ValueError
        It is something else than one SELECT, names a file that may not be read, fails, or takes too much.
    """
    asked = {"statement": statement, "folder": str(workspace.folder), "readable": list(workspace.readable)}
    return _confined("answer_files", asked).decode()


def ask_frame(statement: str, table: str, frame: Path, answer: Path) -> None:
    """Run a SELECT statement on the one table of a database file, in a process of its own.

    Parameters
    ----------
    statement
        SQL from an agent.
    table
        What the table is called, in the file and in the statement.
    frame
        The file, which is only read.
    answer
        The file of DuckDB's that is made: its table ``answer`` has the result, at most 10,000 rows.

    Raises
    ------
    StatementRefused
        It is something else than one SELECT, fails, or takes too much.
    """
    asked = {"statement": statement, "table": table, "frame": str(frame), "answer": str(answer)}
    try:
        _confined("answer_frame", asked)
    except ValueError as error:
        raise StatementRefused(str(error)) from None


def _confined(function: str, asked: dict[str, Any]) -> bytes:
    try:
        return confined(
            f"{__name__}:{function}", json.dumps(asked).encode(), seconds=MOST_SECONDS, memory=_ADDRESS_SPACE
        )
    except TooMuch as error:
        raise StatementRefused(f"{error}, and was ended.") from None


# -- in the limited process ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Named:
    """What a statement names."""

    tables: tuple[str, ...]
    functions: tuple[str, ...]


def answer_files(asked: bytes) -> bytes:
    """Be what :func:`ask_files` asks."""
    request = json.loads(asked)
    statement = request["statement"]
    with _told(), contextlib.ExitStack() as opened:
        named = _one_select(statement)
        folder = Path(request["folder"])
        files = _open_files(named.tables, Workspace(folder, request["readable"]), opened)
        database = opened.enter_context(_open(":memory:"))
        _close_over_files(database, {name: _handle_path(file, folder / name) for name, file in files.items()})
        return _markdown(database, statement).encode()


def answer_frame(asked: bytes) -> bytes:
    """Be what :func:`ask_frame` asks."""
    request = json.loads(asked)
    with _told(), contextlib.ExitStack() as opened:
        _one_select(request["statement"])
        database = opened.enter_context(_open(request["answer"]))
        _close_over_frame(database, request["frame"], request["table"])
        database.sql(request["statement"]).limit(MOST_FRAME_ROWS).create("answer")
    return b""


def _close_over_files(database: DuckDBPyConnection, paths: Mapping[str, str]) -> None:
    """Let a database read some files as tables of these names, and nothing else from then on."""
    listed = ", ".join(_text(path) for path in paths.values())
    database.execute(f"SET allowed_paths = [{listed}]")
    _close(database)
    for name, path in paths.items():
        reader = READERS[PurePosixPath(name).suffix.lower()]
        source = f"SELECT * FROM {reader}({_text(path)})"  # noqa: S608 - quoted
        database.execute(f"CREATE VIEW {_name(name)} AS {source}")


def _close_over_frame(database: DuckDBPyConnection, frame: str, table: str) -> None:
    """Let a database read the table of a database file, and nothing else from then on."""
    # A value is as long in its file as it will be in memory: the file's limit holds for whoever reads it.
    database.execute("PRAGMA force_compression = 'uncompressed'")
    database.execute(f"ATTACH {_text(frame)} AS given (READ_ONLY)")
    source = f"SELECT * FROM given.{_name(table)}"  # noqa: S608 - quoted
    database.execute(f"CREATE TEMP VIEW {_name(table)} AS {source}")
    _close(database)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell what DuckDB says against a statement, which knows nothing but what the statement may."""
    # DuckDB has folders of its own there, and tells where.
    os.environ["HOME"] = os.devnull
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        if os.strerror(errno.EFBIG) in str(error):
            raise ValueError("The result is too large; choose fewer columns or rows.") from error
        raise ValueError(f"DuckDB says: {beginning(str(error), 1_000)}") from error


def _open(path: str) -> DuckDBPyConnection:
    import duckdb

    database = duckdb.connect(path, config=_OPTIONS)
    # It would stand in the answer.
    database.execute("SET enable_progress_bar = false")
    # What DuckDB takes by itself, it has by now.
    _limit_memory()
    return database


def _close(database: DuckDBPyConnection) -> None:
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")


def _limit_memory() -> None:
    """Limit what this process may take from here on, where the system can do that."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
        most = pages * resource.getpagesize() + MOST_MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


@cache
def _closed() -> DuckDBPyConnection:
    import duckdb

    return duckdb.connect(":memory:", config=_CLOSED)


def _one_select(statement: str) -> _Named:
    """Take a statement apart; give what it names."""
    [[answer]] = _closed().execute("SELECT json_serialize_sql(?::VARCHAR)", [statement]).fetchall()
    tree = json.loads(answer)
    if tree.get("error_type") == "parser":
        raise ValueError(f"DuckDB says: {beginning(tree['error_message'], 1_000)}")
    if tree["error"] or len(tree["statements"]) != 1:
        raise ValueError("Only one SELECT statement is run, nothing that changes anything.")
    named = _named(tree)
    for function in named.functions:
        if function.lower() not in TABLE_FUNCTIONS:
            raise ValueError(
                f"{function}() is not for agents. Name the table itself, or the file: FROM 'sales.csv'."
            )
    return named


def _named(tree: Any) -> _Named:
    """Find the tables and the functions that a statement's tree names."""
    tables, functions = set(), set()
    ahead = [tree]
    while ahead:
        match ahead.pop():
            case dict() as node:
                if node.get("type") in ("BASE_TABLE", "SHOW_REF"):
                    tables.add(node["table_name"])
                elif node.get("type") == "TABLE_FUNCTION":
                    functions.add(node["function"].get("function_name", ""))
                ahead += node.values()
            case list() as nodes:
                ahead += nodes
            case _:
                pass
    return _Named(tuple(sorted(tables)), tuple(sorted(functions)))


def _open_files(
    names: Sequence[str], workspace: Workspace, opened: contextlib.ExitStack
) -> dict[str, IO[bytes]]:
    """Open the files among the tables that a statement names."""
    # Others are the database's own, or the statement's; DuckDB says so where they are neither.
    wanted = [name for name in names if _is_table(name)]
    if len(wanted) > _MOST_FILES:
        raise ValueError(f"A statement may name {_MOST_FILES} files at the most.")
    try:
        return {name: opened.enter_context(workspace.open(name)) for name in wanted}
    except PathRefused as error:
        entries = (each for each in workspace.entries(depth=3) if each.kind == "file")
        there = [each.path for each in entries if _is_table(each.path)][:_MOST_FILES]
        raise ValueError(f"{error} These can be queried: {', '.join(there) or 'none'}.") from error


def _is_table(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in READERS


def _handle_path(file: IO[bytes], path: Path) -> str:
    """Give the path of an open file: what was checked is what is read, wherever its name leads by now."""
    for handles in ("/proc/self/fd", "/dev/fd"):
        if Path(handles).is_dir():
            return f"{handles}/{file.fileno()}"
    return os.path.realpath(path)


def _text(value: str) -> str:
    escaped = value.replace("'", "''")
    return f"'{escaped}'"


def _name(value: str) -> str:
    escaped = value.replace('"', '""')
    return f'"{escaped}"'


def _markdown(database: DuckDBPyConnection, statement: str) -> str:
    answer = database.execute(statement)
    names = [column[0] for column in answer.description or ()]
    rows = answer.fetchmany(MOST_ROWS + 1)
    lines = [_line(names), _line(["---"] * len(names)), *(_line(row) for row in rows[:MOST_ROWS])]
    text = "\n".join(lines)
    if len(text) > MAX_CHARACTERS:
        return f"{text[:MAX_CHARACTERS]}\n[The result goes on; choose fewer columns or rows.]"
    if len(rows) > MOST_ROWS:
        return f"{text}\n[There are more rows; these are the first {MOST_ROWS}.]"
    return text if rows else f"{text}\n[No rows.]"


def _line(values: Sequence[Any]) -> str:
    return f"| {' | '.join(_cell(value) for value in values)} |"


def _cell(value: Any) -> str:
    return "" if value is None else beginning(str(value), MAX_CELL).replace("|", "\\|")
