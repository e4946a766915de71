"""`%kasal map` in a real kernel: a crew over a frame, paused, gone on with, lost and found again."""

import signal

import pytest

from tests.kernels import kernel_of

CREW = """\
%%kasal crew {name} --force
agents:
  taster: {{role: Taster, goal: Taste, llm: sandbox, sandbox: {sandbox}, tools: [{tools}]}}
tasks:
  sip: {{description: "Taste {{topic}} in {{lang}}", expected_output: A word, agent: taster}}
"""


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        crew(running, "Tasting")
        running.run(
            "import kasal_jupyter as kasal, pandas as pd, polars as pl\n"
            "df = pd.DataFrame({'topic': ['tea', 'rum', 'tea', 'ale'], 'language': 'de'}, index=list('abcd'))"
        )
        yield running


def crew(kernel, name, sandbox="{}", tools=""):
    cell = kernel.run(CREW.format(name=name, sandbox=sandbox, tools=tools))
    assert cell.status == "ok", cell.error


def ok(cell):
    assert cell.status == "ok", cell.error
    return cell


def runs_of(api, name):
    found = api.get("/executions", params={"search": name, "per_page": 100}).json()["executions"]
    return [each for each in found if each["crew_name"] == name]


def test_a_crew_is_mapped_over_a_frame_and_the_same_again_costs_nothing(kernel, api):
    cell = kernel.run("%kasal map Tasting df --out tasted")
    assert "takes {lang}, and df has no such column; did you mean --columns lang=language?" in cell.error
    assert "no variable 'dff'; did you mean 'df'?" in kernel.run("%kasal map Tasting dff --out tasted").error
    assert "The rows come first" in kernel.run("%kasal map Tasting lang=de --out tasted").error
    assert runs_of(api, "Tasting") == []

    line = "%kasal map Tasting df --columns lang=language --out tasted --concurrency 2"
    cell = ok(kernel.run(line))
    html, text = cell.updates[-1]["text/html"], cell.updates[-1]["text/plain"]
    assert "✔ completed" in text
    assert "█ 100 %  4 rows" in text
    assert "4 completed" in html
    # It stands once under its cell.
    assert [each for each in cell.shown if "text/html" in each] == cell.shown[:1]
    for tag in ("<script", "<svg", "<button", "<progress"):
        assert tag not in html
    assert kernel.value("list(tasted.index)") == list("abcd")
    assert kernel.value("list(tasted.status)") == ["completed"] * 4
    assert all(
        f"Taste {topic} in de" in output
        for topic, output in kernel.value("list(zip(tasted.topic, tasted.output))")
    )
    jobs = kernel.value("list(tasted.job_id)")
    assert sorted(jobs) == sorted(each["job_id"] for each in runs_of(api, "Tasting"))

    # Rows are known by their inputs: another order, other columns, and another library are the same batch.
    ok(kernel.run("df2 = pl.from_pandas(df.iloc[::-1].assign(more=1))"))
    ok(kernel.run("%kasal map Tasting df2 --columns lang=language --out tasted"))
    assert kernel.value("type(tasted).__module__.startswith('polars')") is True
    assert sorted(kernel.value("tasted['job_id'].to_list()")) == sorted(jobs)
    ok(kernel.run(f"{line} --fresh --dedupe"))
    fresh = kernel.value("list(tasted.job_id)")
    assert len(set(fresh)) == 3
    assert not set(fresh) & set(jobs)
    assert fresh[0] == fresh[2]


def test_rows_that_fail_cost_only_themselves_and_are_done_again_apart(kernel):
    # A long row passes its own budget.
    ok(kernel.run("c = kasal.Crew.load('Tasting'); bound = {'max_tokens': 2_000}"))
    rows = "[{'topic': 'tea', 'lang': 'de'}, {'topic': 'rum ' * 9_000, 'lang': 'de'}]"
    cell = ok(kernel.run(f"done = c.map({rows}, out='some', run_budget=bound)"))
    text = cell.updates[-1]["text/plain"]
    assert "✖ row 1  BUDGET_EXCEEDED" in text
    assert "--retry-failed" in text
    assert "<details" in cell.updates[-1]["text/html"]
    assert kernel.value("list(done.frame.status)") == ["completed", "failed"]
    assert kernel.value("list(done.failed.index)") == [1]
    cell = ok(kernel.run(f"again = c.map({rows}, out='some', run_budget=bound, retry_failed=True)"))
    assert "1 row done again that had failed: 1 failed again" in cell.updates[-1]["text/plain"]
    assert kernel.value("[list(again.retried.index), again.id == done.id]") == [[1], True]
    assert kernel.value("[row.attempts for row in again.rows]") == [1, 2]
    # It is followed again, and waited for.
    ok(kernel.run("again.retry().wait()"))
    assert kernel.value("[row.attempts for row in again.rows]") == [1, 3]
    assert kernel.value("[name for name in dir(again) if name[0] != '_']") == [
        *("batch", "cost", "failed", "frame", "id", "lost", "pause", "resume", "retried", "retry", "rows"),
        *("status", "stop", "wait"),
    ]
    cell = kernel.run(f"c.map({rows}[1:], out='none', run_budget=bound)")
    assert cell.status == "error"
    assert "All 1 row of batch_" in cell.error


def test_an_interrupt_pauses_it_and_the_cell_run_again_goes_on(kernel, api):
    crew(kernel, "Slow tasting", "{latency: 0.7}")
    line = "%kasal map Slow tasting df[1:] lang=fr --out slow --concurrency 1"
    cell = kernel.start(line)
    kernel.until(lambda: any("1 completed" in each["text/plain"] for each in cell.updates))
    kernel.interrupt()
    kernel.until(lambda: cell.ended)
    assert "BatchFailed: batch_" in cell.error
    assert "is paused" in cell.error
    assert "Run the cell again to go on" in cell.error
    assert "slow has what there is of it" in cell.error
    assert kernel.value("list(slow.status)")[0] == "completed"
    listed = kernel.run("%kasal batches")
    assert "paused" in listed.shown[-1]["text/plain"]
    assert "is paused" in kernel.run("%kasal batches set slow --concurrency 3 --budget 2").text
    assert (
        "at most 3 at the same time, budget $2.00"
        in kernel.run("%kasal batches set slow --concurrency 3 --budget 2").text
    )
    ok(kernel.run(line))
    assert kernel.value("list(slow.status)") == ["completed"] * 3
    assert len(runs_of(api, "Slow tasting")) == 3


def test_a_budget_that_is_used_up_pauses_it_and_a_larger_one_goes_on(kernel):
    line = "%kasal map Tasting df lang=it --out tight --concurrency 2 --max-tokens"
    cell = kernel.run(f"{line} 250")
    assert "is paused: BUDGET_EXCEEDED: " in cell.error
    assert "run the cell again with a larger budget" in cell.error
    assert "BUDGET_EXCEEDED" in cell.updates[-1]["text/html"]
    ok(kernel.run(f"{line} 25000"))
    assert kernel.value("list(tight.status)") == ["completed"] * 4


def test_a_kernel_that_dies_loses_nothing(kernel, live_server, api, tmp_path):
    crew(kernel, "Lost tasting", "{latency: 0.7}")
    rows = "[{'topic': f't{each}', 'lang': 'de'} for each in range(6)]"
    cell = f"import kasal_jupyter as kasal\nlost = kasal.Crew.load('Lost tasting').map({rows}, bg=True)"
    with kernel_of(live_server, tmp_path) as other:
        ok(other.run(cell))
        other.until(lambda: other.value("lost.batch.counts.completed") > 0)
        other.manager.signal_kernel(signal.SIGKILL)
    ok(kernel.run(cell))
    ok(kernel.run("lost.wait()"))
    assert kernel.value("list(lost.frame.status)") == ["completed"] * 6
    assert kernel.value("{row.attempts for row in lost.rows} == {1}") is True
    assert len(runs_of(api, "Lost tasting")) == 6
    kernel.until(lambda: "✔ completed" in kernel.run("print(repr(lost))").text)


def test_rows_call_the_notebooks_functions_one_after_the_other(kernel):
    ok(
        kernel.run(
            "import threading\nasked, busy = [], threading.Lock()\n"
            "@kasal.tool\ndef stock(what: str = 'x') -> int:\n    'How much there is.'\n"
            "    assert busy.acquire(blocking=False)\n    asked.append(what)\n    busy.release()\n"
            "    return 40"
        )
    )
    crew(kernel, "Stocked tasting", tools="stock")
    cell = ok(kernel.run('%kasal map "Stocked tasting" df lang=de --out stocked'))
    assert "✔ completed" in cell.updates[-1]["text/plain"]
    assert kernel.value("len(asked)") == 4
    assert kernel.value("list(stocked.error)") == [None] * 4


def test_batches_are_shown_and_told_what_to_do(kernel):
    cell = ok(kernel.run("%kasal batches show tasted -o shown"))
    assert "✔ completed" in cell.shown[-1]["text/plain"]
    assert kernel.value("list(shown.columns)")[:2] == ["topic", "lang"]
    assert "did you mean 'tasted'?" in kernel.run("%kasal batches show tastid").error
    assert "did you mean 'pause'?" in kernel.run("%kasal batches pawse tasted").error
    assert "there is nothing to pause" in kernel.run("%kasal batches pause tasted").error
    assert "has failed" in kernel.run("%kasal batches retry tasted").error
    assert "Say what is other from now on" in kernel.run("%kasal batches set tasted").error
    assert "is deleted; its runs stay" in kernel.run("%kasal batches rm tasted").text
