"""A process that runs statements, one after another, as the limited process does with each.

Whichever DuckDB stands first on its path is the one. It has canaries of its own: in its environment, among
its objects, and in an open file; it begins with those that are files of DuckDB's.
"""

import json
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

import duckdb

from kasal_jupyter.tools import confined_sql

canary_text = ""
canary_frame = None


def make_files(outside, canary):
    with duckdb.connect() as database:
        kept = f"(KV_METADATA {{k: '{canary}'}})"
        database.execute(f"COPY (SELECT '{canary}' AS word) TO '{outside}/canary.parquet' {kept}")
    with duckdb.connect(f"{outside}/canary.db") as database:
        database.execute(f"CREATE TABLE canary AS SELECT '{canary}' AS word")
    with duckdb.connect(f"{outside}/frame.db") as database:
        database.execute("CREATE TABLE data AS SELECT 1 AS a, 'own row' AS word")


def through_files(statement, folder, _outside):
    asked = {"statement": statement, "folder": folder, "readable": []}
    return confined_sql.answer_files(json.dumps(asked).encode()).decode()


def through_frame(statement, _folder, outside):
    with tempfile.TemporaryDirectory() as made:
        answer = f"{made}/answer.db"
        asked = {"statement": statement, "table": "data", "frame": f"{outside}/frame.db", "answer": answer}
        confined_sql.answer_frame(json.dumps(asked).encode())
        with duckdb.connect(answer, read_only=True) as database:
            return str(database.execute("FROM answer").fetchall())


@cache
def closed_over_files(folder):
    with confined_sql._told():
        database = confined_sql._open(":memory:")
        own = Path(folder, "own.csv").open("rb")  # noqa: SIM115 - as long as the process
        confined_sql._close_over_files(database, {"own.csv": confined_sql._handle_path(own, own.name)})
        return database, own


@cache
def closed_over_frame(outside):
    with confined_sql._told():
        database = confined_sql._open(f"{tempfile.mkdtemp()}/answer.db")
        confined_sql._close_over_frame(database, f"{outside}/frame.db", "data")
        return database


def to_files(statement, folder, _outside):
    """Ask the database itself, without a look at the statement before."""
    database, _own = closed_over_files(folder)
    return str(database.execute(statement).fetchall())


def to_frame(statement, _folder, outside):
    return str(closed_over_frame(outside).execute(statement).fetchall())


@cache
def open_database():
    return duckdb.connect(
        config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    )


def to_open(statement, _folder, _outside):
    """Ask where nothing keeps a statement: that shows whether it is worth asking."""
    return str(open_database().execute(statement).fetchall())


WAYS = {
    "through files": through_files,
    "through frame": through_frame,
    "to files": to_files,
    "to frame": to_frame,
    "open": to_open,
}


def main():
    global canary_text, canary_frame  # noqa: PLW0603 - DuckDB looks there
    about = json.load(sys.stdin)
    folder, outside = about["folder"], about["outside"]
    make_files(outside, about["canary"])
    os.chdir(folder)
    canary_text = about["canary"]
    canary_frame = duckdb.values([about["canary"]])
    with Path(outside, "canary.csv").open("rb") as handle, Path(about["told"]).open("w") as told:
        for statement in about["statements"]:
            numbered = statement.replace("{handle}", str(handle.fileno()))
            try:
                said = WAYS[about["way"]](numbered, folder, outside)
            except (ValueError, duckdb.Error) as error:
                said = f"refused: {error}"
            print(json.dumps([statement, said]), file=told, flush=True)
        print(json.dumps(["version", duckdb.__version__]), file=told)


if __name__ == "__main__":
    main()
