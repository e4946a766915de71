"""What a run's result gives: figures, tables, JSON, a page."""

import json
import subprocess
import sys
import threading

import pandas as pd
import pytest

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.runs.result import RunResult
from tests.kernel.test_views import HOSTILE, deep, events


def result_of(steps):
    result = RunResult("job_1")
    for event in steps:
        result.feed(event)
    return result


@pytest.fixture
def result():
    return result_of(events())


def test_the_result_tells_what_came_out_of_the_run(result):
    assert result.crew == "Market research"
    assert result.status == "completed"
    assert result.output == "Tea fell 4 %."
    assert result.cost == 0.0012
    assert (result.usage.total_tokens, result.usage.llm_calls, result.usage.tool_calls) == (120, 1, 1)
    assert result.duration == 9.0
    assert [task.name for task in result.tasks] == ["Find the facts"]
    assert result.frames == {}


def test_df_has_one_row_a_task(result):
    table = result.df()
    assert list(table.columns)[:6] == ["task", "agent", "state", "start", "duration", "prompt_tokens"]
    row = table.iloc[0]
    assert (row.task, row.agent, row.state, row.duration) == ("Find the facts", "Analyst", "completed", 7.0)
    assert row.start == pd.Timestamp("2026-11-24T12:00:03Z")
    assert (row.tokens, row.cost, row.llm_calls, row.tool_calls) == (120, 0.0012, 1, 1)
    assert row.result == "Tea fell 4 %."


def test_df_lists_tasks_that_did_not_begin():
    steps = events()[:2]
    steps[0]["tasks"].append({"id": "task_2", "title": "Report", "agent": "Writer", "context": ["task_1"]})
    table = result_of(steps).df()
    assert list(table.state) == ["created", "created"]
    assert table.start.isna().all()
    assert table.duration.dtype == "float64"


def test_spans_has_one_row_a_span_parents_first(result):
    table = result.spans().set_index("span_id")
    assert list(table.kind) == ["task", "agent", "llm", "tool"]
    assert list(table.depth) == [0, 1, 2, 2]
    assert table.parent_id.isna().tolist() == [True, False, False, False]
    assert table.loc[
        3, ["model", "duration", "prompt_tokens", "completion_tokens", "cost", "text"]
    ].tolist() == [
        "gpt-4",
        1.0,
        100,
        20,
        0.0012,
        "Tea fell 4 %.",
    ]
    assert table.loc[4, ["tool", "state", "error"]].tolist() == ["sql", "failed", "no such table"]
    assert table.loc[4, "arguments"] == {"query": "Tea fell 4 %."}
    assert table.start.dtype == "datetime64[us, UTC]" or str(table.start.dt.tz) == "UTC"


def test_spans_of_a_run_that_has_none_yet_have_their_types():
    table = RunResult("job_1").spans()
    assert len(table) == 0
    assert table.duration.dtype == "float64"
    assert str(table.start.dt.tz) == "UTC"


def test_an_unknown_cost_is_missing_in_a_table_and_not_nothing():
    steps = events()
    del steps[5]["cost"]
    assert result_of(steps).cost is None
    assert result_of(steps).df().cost.isna().tolist() == [True]


def test_what_a_tool_says_is_not_made_a_date_or_a_number():
    table = result_of(events(tool_result="2026-11-24", extra_calls=2)).spans()
    assert table.result.dropna().tolist()[-2:] == ["2026-11-24", "2026-11-24"]


def test_spans_of_agents_that_delegate_as_deep_as_they_like():
    assert result_of(deep(1_500)).spans().depth.max() == 1_498


def test_without_pandas_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        "from kasal_jupyter.kernel.runs.result import RunResult\n"
        "result = RunResult('job_1'); repr(result); result.to_json(); result.to_otel()\n"
        "try: result.df()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("CellError ")
    assert "pip install pandas" in run.stdout


def test_the_result_needs_no_pandas_until_a_table_is_asked_for():
    code = "import sys, kasal_jupyter.kernel.runs.result; print('pandas' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_json_holds_the_run_and_can_be_folded_again(result):
    told = json.loads(result.to_json())
    assert (told["job_id"], told["crew"], told["status"]) == ("job_1", "Market research", "completed")
    assert told["usage"]["cost"] == 0.0012
    assert repr(result_of(told["events"])) == repr(result)


def test_a_page_is_whole_and_needs_nothing_else(result, tmp_path):
    for event in events(answer="word " * 100_000)[:6]:
        result.feed(event | {"span_id": 90} if "span_id" in event else event)
    path = result.to_html(tmp_path / "trace.html")
    page = path.read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("word ") == 100_000
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert [file.name for file in tmp_path.iterdir()] == ["trace.html"]


def test_a_page_takes_the_place_of_an_older_one(result, tmp_path):
    path = tmp_path / "trace.html"
    path.write_text("older")
    assert result.to_html(str(path)) == path
    assert "Market research" in path.read_text()


def test_a_page_that_cannot_be_written_says_so_and_leaves_nothing(result, tmp_path):
    with pytest.raises(CellError, match=r"cannot be written to .*nowhere.*No such file or directory"):
        result.to_html(tmp_path / "nowhere" / "trace.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CellError, match="Is a directory"):
        result.to_html(tmp_path / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_pages_title_is_data(tmp_path):
    steps = events()
    steps[0]["crew_name"] = f"</title>{HOSTILE}"
    page = result_of(steps).to_html(tmp_path / "trace.html").read_text()
    assert page.count("</title>") == 1
    assert "<script" not in page


def test_a_long_runs_view_links_to_its_events_where_the_server_is_known():
    result = RunResult("job_1", "http://127.0.0.1:8888/user/ada%40b/")
    for event in events(extra_calls=1_200):
        result.feed(event)
    link = 'href="http://127.0.0.1:8888/user/ada%40b/v1/executions/job_1/events"'
    assert link in result.bundle()["text/html"]
    result.server_url = 'http://evil/"><script>'
    assert "<script" not in result.bundle()["text/html"]


def test_the_result_may_be_looked_at_while_another_thread_feeds_it():
    result = RunResult("job_1")
    steps = events(extra_calls=1_500)
    faults = []

    def look():
        try:
            while result.status != "completed":
                repr(result)
                result.spans()
        except RuntimeError as fault:
            faults.append(fault)

    looker = threading.Thread(target=look)
    looker.start()
    for event in steps:
        result.feed(event)
    looker.join()
    assert faults == []
