"""`jupyter kasal map` and `batches`, as somebody types them who has no Jupyter server."""

import csv
import json
import os
import signal

import pyarrow.parquet as pq
import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals and terminals")

ROWS = 'topic,id\n"tea, green",007\n"two\nlines",8\n'


def test_a_files_rows_come_back_with_what_came_of_them_in_each_format(terminal):
    terminal.write("rows.csv", ROWS)
    status, out, err = terminal.run("map", "crew.yaml", "rows.csv", "-o", "results.csv")
    assert (status, out) == (0, ""), err
    assert "crew crew: created" in err or "crew crew: unchanged" in err
    assert "✔ completed" in err
    assert "2 rows in results.csv" in err
    with (terminal.folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(each["topic"], each["id"]) for each in rows] == [("tea, green", "007"), ("two\nlines", "8")]
    assert all(each["status"] == "completed" and each["output"].startswith("[sandbox]") for each in rows)

    # The same again is the same batch, whatever it is written into.
    status, out, _ = terminal.run("map", "crew", "rows.csv", "-q", "-o", "results.parquet")
    assert (status, out) == (0, "")
    table = pq.read_table(terminal.folder / "results.parquet")
    assert table["job_id"].to_pylist() == [each["job_id"] for each in rows]
    words = ("map", "crew", "results.parquet", "--columns", "topic=id", "-o", "out.jsonl", "--name", "ids")
    status, _, err = terminal.run(*words)
    assert status == 0, err
    assert "Beside results.parquet's own columns, output is batch.output" in err
    lines = [json.loads(line) for line in (terminal.folder / "out.jsonl").read_text().splitlines()]
    assert [each["batch.status"] for each in lines] == ["completed"] * 2
    status, out, _ = terminal.run("map", "crew", "out.jsonl", "--columns", "topic=id", "-q", "--name", "ids")
    assert json.loads(out.splitlines()[0])["batch.job_id_"] == lines[0]["batch.job_id"]

    listed = json.loads(terminal.run("batches", "--json")[1])
    assert [each["name"] for each in listed] == ["ids", "crew"]
    assert terminal.run("batches", "results", "ids", "-o", "raw.csv")[0] == 0
    assert "completed" in (terminal.folder / "raw.csv").read_text()
    assert terminal.run("batches", "wait", "ids")[0] == 0
    assert "nothing to pause" in terminal.run("batches", "pause", listed[0]["id"])[2]
    assert "is deleted" in terminal.run("batches", "rm", "ids")[1]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "topic,id\nx\n", "a.csv, line 2: it has 1 value, and the header 2 columns"),
        ("a.csv", "topic,topic\nx,y\n", "several columns called 'topic'"),
        ("a.csv", "topic\n", "a.csv has no rows"),
        ("a.csv", 'topic\n"x\n', "a.csv, line 2:"),
        ("a.csv", "Topic\nx\n", "did you mean --columns topic=Topic?"),
        ("a.jsonl", '{"topic": "x"}\n[1]\n', "a.jsonl, line 2: it is no object"),
        ("a.jsonl", '{"topic": \n', "a.jsonl, line 1:"),
        ("a.txt", "x", "ends with .csv, .jsonl or .parquet"),
    ],
)
def test_rows_that_cannot_be_read_are_told_by_their_line(terminal, name, text, said):
    terminal.write(name, text)
    status, _, err = terminal.run("map", "crew.yaml", name)
    assert status in {1, 2}
    assert said in err


def test_rows_that_fail_are_told_and_are_the_exit_status(terminal):
    terminal.write("rows.csv", ROWS)
    status, _, err = terminal.run("map", "failing.yaml", "rows.csv", "-o", "failed.csv")
    assert status == 1
    assert "✖ row 0  " in err
    assert "--retry-failed does only those again" in err
    assert (terminal.folder / "failed.csv").read_text().count(",failed,") == 2


@posix
def test_ctrl_c_pauses_it_and_writes_what_there_is(terminal):
    terminal.write("rows.csv", ROWS)
    status, shown = terminal.screen(
        "map", "slow.yaml", "rows.csv", "-o", "part.csv", keys=[("running", b"\x03")]
    )
    assert status == 128 + signal.SIGINT
    assert "0 %" in shown
    assert "paused" in shown
    with (terminal.folder / "part.csv").open(newline="") as file:
        assert {each["status"] for each in csv.DictReader(file)} <= {"running", "waiting"}
    assert terminal.run("batches", "stop", "last")[0] == 0


@posix
def test_a_server_that_is_killed_loses_no_row(terminal):
    terminal.write(
        "tenths.yaml", (terminal.folder / "crew.yaml").read_text().replace("answer_words: 6", "latency: 0.5")
    )
    terminal.write("many.csv", "topic\n" + "".join(f"tea {each}\n" for each in range(10)))
    process = terminal.start("map", "tenths.yaml", "many.csv", "-o", "whole.csv", "--concurrency", "3")
    line = ""
    while not (" of 10 rows" in line and "  0 of" not in line):
        line = process.stderr.readline()
        assert line, "it ended early"
    (server,) = json.loads(terminal.run("server", "list", "--json")[1])
    os.kill(server["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    with (terminal.folder / "whole.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [each["status"] for each in rows] == ["completed"] * 10
    assert len({each["job_id"] for each in rows}) == 10
