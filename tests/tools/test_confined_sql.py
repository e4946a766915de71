"""What SQL cannot reach, on the oldest DuckDB that is allowed and on the one that is installed."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import duckdb
import pytest

from kasal_jupyter.tools import confined_sql
from tests.tools.hostile_statements import HOSTILE

ROOT = Path(__file__).parents[2]

OLDEST = ROOT / ".ci" / "duckdb-oldest"
"""Where `.ci/run` has put it."""

CANARY = "kanarienvogel"
OWN_ROW = "own row"

QUERIES = tuple(
    each
    for each in HOSTILE
    if each.startswith(
        ("SELECT", "FROM", "WITH", "DESCRIBE", "SUMMARIZE", "SHOW", "TABLE", "VALUES", "UNPIVOT")
    )
    and ";" not in each
)
"""Those that look like one SELECT."""


@pytest.fixture(params=["installed", "oldest"])
def library(request):
    """Give the folder that a DuckDB is imported from, and its version."""
    if request.param == "installed":
        return Path(duckdb.__file__).parents[1], duckdb.__version__
    if not OLDEST.is_dir():
        how = "the oldest DuckDB is not there: .ci/run installs it"
        pytest.skip(how)
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [bound] = [each for each in extra["sql"] if each.startswith("duckdb>=")]
    return OLDEST, bound.removeprefix("duckdb>=")


@pytest.fixture
def ask(library, tmp_path):
    """Run statements in one process, with a canary outside; give what each said."""
    home, outside, folder = tmp_path / CANARY, tmp_path / "outside", tmp_path / "run"
    for each in (home, outside, folder):
        each.mkdir()
    (outside / "canary.csv").write_text(f"word\n{CANARY}\n{CANARY}|more\n")
    (outside / "canary.txt").write_text(CANARY)
    (outside / "canary.json").write_text(json.dumps([{"word": CANARY}]))
    (folder / "own.csv").write_text(f"a,word\n1,{OWN_ROW}\n")
    (folder / "link.csv").symlink_to(outside / "canary.csv")
    (folder / "linked").symlink_to(outside)
    path, version = library

    def asked(way, statements):
        told = tmp_path / "told"
        own = "data" if way.endswith("frame") else "'own.csv'"
        given = [
            each.replace("{own}", own).replace("{outside}", str(outside)).replace("{home}", str(home))
            for each in statements
        ]
        about = {
            "way": way,
            "statements": given,
            "canary": CANARY,
            "folder": str(folder),
            "outside": str(outside),
            "told": str(told),
        }
        ran = subprocess.run(
            [sys.executable, Path(__file__).with_name("statements_asked.py")],
            input=json.dumps(about),
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]),
                "CANARY": CANARY,
                "HOME": str(home),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        *said, last = [json.loads(line) for line in told.read_text().splitlines()]
        # Whichever it was ended the process, where it did not come to the end.
        assert ran.returncode == 0, (said[-1:], ran.stderr)
        assert last[1] == version
        made = {each.name for each in outside.iterdir()} - {"canary.csv", "canary.txt", "canary.json"}
        assert way == "open" or made == {"canary.parquet", "canary.db", "frame.db"}
        return dict(said)

    return asked


@pytest.mark.parametrize("way", ["through files", "through frame", "to files", "to frame"])
def test_no_statement_gives_or_tells_what_stands_outside(ask, way):
    statements = HOSTILE
    if way.startswith("to "):
        # The second wall alone, which needs only to hold what passes for a SELECT.
        statements = QUERIES
    said = ask(way, [*statements, "FROM {own}"])
    assert len(said) == len(statements) + 1
    assert {statement: text for statement, text in said.items() if CANARY in text} == {}
    # They are not refused for some other reason: what may be read is.
    [own] = [text for statement, text in said.items() if statement in ("FROM data", "FROM 'own.csv'")]
    assert OWN_ROW in own


def test_most_of_them_would_get_out_of_an_open_database(ask):
    said = ask("open", QUERIES)
    assert sum(CANARY in text for text in said.values()) >= 50


def test_whatever_stands_in_the_place_of_a_table_is_seen():
    kinds = "('table', 'table_macro')"
    found = duckdb.execute(
        f"SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN {kinds}"
    )
    names = {name for [name] in found.fetchall()}
    assert {"read_csv", "glob", "query"} <= names
    places = ", ".join(f'"{name}"(1)' for name in sorted(names))
    [[tree]] = duckdb.execute("SELECT json_serialize_sql(?::VARCHAR)", [f"SELECT * FROM {places}"]).fetchall()
    assert set(confined_sql._named(json.loads(tree)).functions) == names
