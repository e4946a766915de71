"""`sql_query`: DuckDB on the workspace's files, which reads what a statement names and nothing else."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import duckdb
import pytest

from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.tools.builtin import sql_query
from kasal_jupyter.tools.catalog import find_tool
from kasal_jupyter.tools.tool import ToolContext


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "run"
    (folder / "sub").mkdir(parents=True)
    (folder / "sales.csv").write_text("tea,price\ngreen,10\nblack,5\noolong,\n", encoding="utf-8")
    (folder / "sub" / "cups.jsonl").write_text('{"tea": "green", "cups": 2}\n{"tea": "black", "cups": 3}\n')
    (folder / "rows.json").write_text(json.dumps([{"a": 1}, {"a": 2}]), encoding="utf-8")
    duckdb.sql(f"COPY (SELECT 42 AS answer) TO '{folder / 'one.parquet'}'")
    return ToolContext(folder)


@pytest.fixture
def query(context):
    return lambda statement: find_tool("sql_query").run(context, statement=statement)


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("SELECT * FROM 'sales.csv' WHERE price > 5", ["| green | 10 |"]),
        ('SELECT tea FROM "sales.csv" WHERE price IS NULL', ["| oolong |"]),
        ("FROM 'one.parquet'", ["| 42 |"]),
        ("SELECT sum(a) FROM 'rows.json'", ["| 3 |"]),
        (
            (
                "SELECT s.tea, price * cups FROM 'sales.csv' s "
                "JOIN 'sub/cups.jsonl' c ON s.tea = c.tea ORDER BY 1"
            ),
            ["| black | 15 |", "| green | 20 |"],
        ),
        ("WITH x AS (SELECT 6 AS n) SELECT n * 7 FROM x", ["| 42 |"]),
        ("SELECT 'a|b' AS c, NULL AS d, 'two\nlines' AS e", ["| a\\|b |  | two lines |"]),
        ("SELECT 1 AS x WHERE false", ["[No rows.]"]),
        ("SELECT count(*) FROM './sub/../sales.csv'", ["| 3 |"]),
    ],
)
def test_files_are_queried_like_tables(query, statement, rows):
    assert query(statement).splitlines()[2:] == rows


def test_columns_are_told(query):
    assert "| tea | VARCHAR |" in query("DESCRIBE 'sales.csv'")
    assert "| price | BIGINT |" in query("SUMMARIZE 'sales.csv'")


def test_results_are_bounded(query):
    lines = query("SELECT range, repeat('x', 600) FROM range(1000)").splitlines()
    assert "The result goes on" in lines[-1] or "first 200" in lines[-1]
    assert sum(map(len, lines)) < 60_000
    assert "first 200" in query("SELECT * FROM range(201)")
    assert "first 200" not in query("SELECT * FROM range(200)")


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO 'x.csv'",
        "CREATE TABLE x AS SELECT 1",
        "SELECT 1; SELECT 2",
        "SET enable_external_access = true",
        "ATTACH 'x.db'",
        "INSTALL httpfs",
        "PRAGMA version",
        "",
        "-- nothing",
    ],
)
def test_only_one_select_is_run(query, context, statement):
    before = sorted(context.folder.rglob("*"))
    with pytest.raises(ValueError, match=r"Only one SELECT|DuckDB says"):
        query(statement)
    assert sorted(context.folder.rglob("*")) == before


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM '../secret.csv'",
        "SELECT * FROM 'link.csv'",
        "SELECT * FROM 'linked/secret.csv'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv('../secret.csv')",
        "SELECT * FROM read_text('link.csv')",
        "SELECT * FROM read_blob('/proc/self/environ')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM 'http://127.0.0.1:1/x.csv'",
        "SELECT * FROM read_csv('https://example.com/x.csv')",
        "SELECT * FROM 's3://bucket/x.parquet'",
        "SELECT getenv('HOME')",
        "SELECT * FROM context",
        "SELECT * FROM 'absent.csv'",
        "SELECT * FROM 'output.log'",
        "SELECT * FROM read_text('sales.csv')",
    ],
)
def test_nothing_else_is_read(query, context, statement):
    outside = context.folder.parent
    (outside / "secret.csv").write_text("secret\n1\n", encoding="utf-8")
    (context.folder / "link.csv").symlink_to(outside / "secret.csv")
    (context.folder / "linked").symlink_to(outside)
    (context.folder / "output.log").write_text("printed")
    with pytest.raises(ValueError, match=r"outside|no file|DuckDB says") as refused:
        query(statement)
    assert "root:" not in str(refused.value)


def test_what_can_be_queried_is_told(query):
    with pytest.raises(
        ValueError, match=r"no file or folder 'sale\.csv'.* one\.parquet, rows\.json, sales\.csv"
    ):
        query("SELECT * FROM 'sale.csv'")


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe")
def test_a_pipe_holds_nobody_up(query, context):
    os.mkfifo(context.folder / "pipe.csv")
    with pytest.raises(ValueError, match="no ordinary file"):
        query("SELECT * FROM 'pipe.csv'")


def test_files_that_the_deployer_allows_are_queried_too(context, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "a.csv").write_text("x\n5\n", encoding="utf-8")
    allowed = replace(context, settings=RunToolSettings(folders=[str(shared)]))
    assert "| 5 |" in find_tool("sql_query").run(allowed, statement=f"SELECT * FROM '{shared}/a.csv'")


def test_what_takes_too_long_is_ended(query, monkeypatch):
    monkeypatch.setattr(sql_query, "MOST_SECONDS", 0.2)
    with pytest.raises(ValueError, match=r"longer than 0\.2 seconds"):
        query("SELECT sum(a.range * b.range) FROM range(10000000) a, range(100000) b")


def test_without_duckdb_it_says_what_to_install():
    code = (
        "import sys; sys.modules['duckdb'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'duckdb' else find(name, *more)\n"
        "from kasal_jupyter.tools.catalog import find_tool\n"
        "from kasal_jupyter.schemas.spec import RunToolSettings\n"
        "print(find_tool('sql_query').unavailable(RunToolSettings()))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == 'sql_query needs DuckDB: pip install "kasal-jupyter[sql]"'
