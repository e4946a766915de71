"""`sql_query`: DuckDB on the workspace's files, which reads what a statement names and nothing else."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import duckdb
import pytest

from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.tools import confined_sql
from kasal_jupyter.tools.tool import ToolContext, find_tool

pytestmark = pytest.mark.usefixtures("lent")


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
    ("statement", "reason"),
    [
        ("COPY (SELECT 1) TO 'x.csv'", "Only one SELECT"),
        ("SELECT 1; SELECT 2", "Only one SELECT"),
        ("SELECT FROM WHERE", "DuckDB says: .*syntax error"),
        ("SELECT nothing FROM 'sales.csv'", "DuckDB says: Binder Error"),
        ("SELECT * FROM read_text('sales.csv')", "read_text.. is not for agents"),
        ("SELECT * FROM 'link.csv'", "outside"),
        (
            "select * from read_csv('{secret}', header=true, delim='|') natural join (select 1 as q)",
            "read_csv.. is not for agents",
        ),
    ],
)
def test_what_is_refused_is_refused_with_a_reason(query, context, statement, reason):
    secret = context.folder.parent / "secret.csv"
    secret.write_text("kanarienvogel\n1\n", encoding="utf-8")
    (context.folder / "link.csv").symlink_to(secret)
    (context.folder / "output.log").write_text("printed")
    before = sorted(context.folder.rglob("*"))
    with pytest.raises(ValueError, match=reason) as refused:
        query(statement.format(secret=secret))
    assert "kanarienvogel" not in str(refused.value)
    assert sorted(context.folder.rglob("*")) == before


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


@pytest.mark.skipif(sys.platform != "linux", reason="memory cannot be limited")
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT length(repeat('x', 1500000000))",
        "SELECT length(list(repeat('x', 1000000) || range)::VARCHAR) FROM range(2000)",
        "SELECT count(DISTINCT range) FROM range(100000000)",
        "SELECT length(string_agg(repeat('x', 100000), '')) FROM range(20000)",
        "SELECT range FROM range(length(repeat('x', 1500000000)))",
    ],
)
def test_what_takes_too_much_memory_is_refused(query, statement):
    with pytest.raises(ValueError, match=r"(?i)memory"):
        query(statement)


def test_hundreds_of_megabytes_are_no_trouble(query, context):
    path = context.folder / "much.csv"
    duckdb.sql(f"COPY (SELECT range AS n, hash(range) AS h, range % 7 AS d FROM range(4000000)) TO '{path}'")
    assert path.stat().st_size > 100_000_000
    assert "| 4000000 | 3999999 |" in query("SELECT count(*), max(n) FROM 'much.csv'")
    counts = query("SELECT d, count(*) AS often, min(h) FROM 'much.csv' GROUP BY d ORDER BY d").splitlines()
    assert len(counts) == 9


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT sum(a.range * b.range) FROM range(10000000) a, range(100000) b",
        # It is the parser that takes long here.
        "SELECT " + "(" * 9_000 + "1" + ")" * 9_000,
    ],
)
def test_what_takes_too_long_is_ended(query, monkeypatch, statement):
    monkeypatch.setattr(confined_sql, "MOST_SECONDS", 1.0)
    with pytest.raises(ValueError, match=r"longer than 1 seconds|too much|more memory|DuckDB says"):
        query(statement)


def test_without_duckdb_it_says_what_to_install():
    code = (
        "import sys; sys.modules['duckdb'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'duckdb' else find(name, *more)\n"
        "from kasal_jupyter.tools.tool import find_tool\n"
        "from kasal_jupyter.schemas.spec import RunToolSettings\n"
        "print(find_tool('sql_query').unavailable(RunToolSettings()))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == 'sql_query needs DuckDB: pip install "kasal-jupyter[sql]"'
