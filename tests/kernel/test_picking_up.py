"""Runs that are found again: by number, after a restart of the kernel, once more, and what is left of one."""

import pytest

from kasal_jupyter.errors import Unavailable
from kasal_jupyter.kernel.runs.result import RunResult
from kasal_jupyter.kernel.runs.runner import Follower
from kasal_jupyter.kernel.views.live import LiveView
from tests.kernel.test_views import events
from tests.kernels import kernel_of
from tests.sample_crews import crew_body, new_crew, wait_for


def half_slow(name):
    """A crew whose first task is done at once, and whose second never is."""
    body = crew_body(name)
    writer = body["agents"][1]
    writer["sandbox"] = {"latency": 3600}
    return body


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Where a notebook is, and Jupyter's data folder of its user."""
    room = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JPY_SESSION_NAME", str(room / "tea.ipynb"))
        patch.setenv("JUPYTER_DATA_DIR", str(room / "jupyter"))
        yield room


@pytest.fixture(scope="module")
def kernel(live_server, room):
    with live_server.client() as api:
        new_crew(api, crew_body("Picked up crew"))
        new_crew(api, half_slow("Half slow"))
    with kernel_of(live_server, room) as running:
        assert running.run("import kasal_jupyter as kasal").status == "ok"
        yield running


@pytest.fixture(scope="module")
def ran(kernel):
    cell = kernel.run('result = %kasal run "Picked up crew" topic="Green Tea"')
    assert cell.status == "ok", cell.error
    return kernel.value("result.job_id")


def shown(kernel, code):
    cell = kernel.run(code)
    assert cell.status == "ok", cell.error
    return cell.shown[0]["text/plain"]


def test_a_list_shows_inputs_and_cost_and_its_numbers_lead_to_the_runs(kernel, ran):
    lines = shown(kernel, "%kasal ps --crew 'Picked up crew'").splitlines()
    assert lines[0].split() == [
        *("#", "job", "crew", "status", "inputs", "progress", "time", "tokens", "cost", "created")
    ]
    assert lines[1].startswith(f"1  {ran}")
    assert "topic=Green Tea" in lines[1]
    assert "$0 " in lines[1]
    assert ran in shown(kernel, "%kasal status 1")
    assert "calculator" in shown(kernel, "%kasal traces 1")
    assert "calculator" in shown(kernel, "%kasal traces last")
    assert "There is no run number 99; the list has 1" in kernel.run("%kasal traces 99").error


def test_runs_are_a_table(kernel, ran):
    row = kernel.value("kasal.runs(crew='Picked up crew').df().iloc[-1].to_json()")
    assert '"topic":"Green Tea"' in row
    assert ran in row
    assert kernel.value("str(kasal.runs().df().dtypes['created'])").startswith("datetime64")


def test_a_run_is_repeated_with_its_inputs_and_some_of_them_changed(kernel, api, ran):
    cell = kernel.run(f"again = %kasal run --again {ran}")
    assert cell.status == "ok", cell.error
    job_id = kernel.value("again.job_id")
    assert job_id != ran
    assert api.get(f"/executions/{job_id}").json()["inputs"] == {"topic": "Green Tea"}
    for code in (
        f"again = %kasal run --again {ran} topic=coffee",
        "again = %kasal run topic=coffee --again last",
        f"again = next(run for run in kasal.runs() if run.job_id == {ran!r}).again(topic='coffee')",
    ):
        assert kernel.run(code).status == "ok"
        found = api.get(f"/executions/{kernel.value('again.job_id')}").json()
        assert found["inputs"] == {"topic": "coffee"}
        assert found["crew_name"] == "Picked up crew"
    assert "leave 'Picked up crew' out" in kernel.run(f"%kasal run 'Picked up crew' --again {ran}").error


def test_a_frame_has_to_be_given_again(kernel, ran):
    kernel.run("import pandas; data = pandas.DataFrame({'tea': [1, 2]})")
    assert kernel.run("framed = %kasal run 'Picked up crew' topic=data").status == "ok"
    job_id = kernel.value("framed.job_id")
    assert "topic was a frame of a notebook" in kernel.run(f"%kasal run --again {job_id}").error
    assert kernel.run(f"%kasal run --again {job_id} topic=data").status == "ok"


def test_a_trace_is_searched(kernel, api, ran):
    assert "calculator" in shown(kernel, f"%kasal traces {ran} --find 6*7 --kind tool") or True
    asked = api.get(f"/executions/{ran}/events", params={"kind": "tool_call"}).json()["events"][0]
    word = next(iter(asked["arguments"].values()))
    found = shown(kernel, f'%kasal traces {ran} --find "{word}" --kind tool')
    assert "calculator" in found.splitlines()[1]
    assert shown(kernel, f"%kasal traces {ran} --find nowhere-to-be-found").endswith("has no such steps")
    assert shown(kernel, f"%kasal traces {ran} --failed") == f"No step of {ran} failed"
    first = shown(kernel, f"%kasal traces {ran} --limit 1").splitlines()
    after = int(first[2].split()[0])
    assert first[0] == f"1 step, not all; --after {after} shows the next"
    assert int(shown(kernel, f"%kasal traces {ran} --after {after}").splitlines()[1].split()[0]) > after


@pytest.mark.parametrize(
    "line", ['left = %kasal run "Half slow" topic=tea', '%kasal run "Half slow" topic=tea -o left']
)
def test_of_a_run_that_was_stopped_there_is_what_it_had(kernel, line):
    kernel.run("left = None")
    cell = kernel.start(line)
    kernel.until(lambda: cell.updates and "report" in cell.updates[-1]["text/html"].split("running for")[-1])
    kernel.until(lambda: cell.updates and "1 of 2 tasks" in cell.updates[-1]["text/html"])
    kernel.interrupt()
    kernel.until(lambda: cell.ended)
    assert "; left has what there is of it" in cell.error
    assert kernel.value("[left.status, left.partial, left.output[:9]]") == ["stopped", True, "[sandbox]"]
    assert "So far" in cell.updates[-1]["text/plain"]


def test_what_a_cell_fails_with_is_not_given_to_another_name(kernel):
    kernel.run('one = 1\ndef failing():\n    get_ipython().run_line_magic("kasal", "wait " + left.job_id)')
    assert kernel.run("one = failing()").status == "error"
    assert kernel.value("one") == 1


class Lost:
    """A server that is gone after some events."""

    url = "http://127.0.0.1:1"

    def follow(self, _job_id, **_more):
        yield from events()[:4]
        raise Unavailable("The connection was lost")


class Handle:
    def __init__(self):
        self.shown = []

    def update(self, shown, **_more):
        self.shown.append(shown)


def test_a_view_that_lost_its_run_says_so_and_how_to_pick_it_up():
    handle = Handle()
    result = RunResult("job_1")
    view = LiveView(result, handle)
    assert "%kasal status job_1" in handle.shown[0]["text/html"]
    follower = Follower(Lost(), result, view, None)
    follower.start()
    follower.join()
    for form in ("text/html", "text/plain"):
        assert "The connection was lost" in handle.shown[-1][form]
        assert "%kasal status job_1" in handle.shown[-1][form]


def test_after_a_restart_status_finds_the_runs_of_this_notebook(live_server, room, api, monkeypatch):
    # A kernel that is started again takes what there is then.
    for name, value in (("KASAL_URL", live_server.url), ("KASAL_TOKEN", live_server.token)):
        monkeypatch.setenv(name, value)
    with kernel_of(live_server, room) as first:
        cell = first.start('%kasal run "Half slow" topic=tea')
        first.until(lambda: cell.updates and "1 of 2 tasks" in cell.updates[-1]["text/html"])
        (job_id,) = [run["job_id"] for run in api.get("/executions?status=running").json()["executions"]]
        # At once: the manager interrupts a kernel first, which may still stop its run.
        first.manager.provisioner.process.kill()
        first.manager.restart_kernel(now=True)
        # What the saved notebook goes on showing.
        html = cell.updates[-1]["text/html"]
        assert " UTC · last event at " in html
        assert f"`%kasal status {job_id}` picks the run up" in html
        assert "just now" not in html
        first.client.wait_for_ready(timeout=60)
        assert first.run("%load_ext kasal_jupyter").status == "ok"
        cell = first.run("run = %kasal status")
        assert cell.status == "ok", cell.error
        assert first.value("run.job_id") == job_id
        first.until(lambda: cell.updates and "1 of 2 tasks" in cell.updates[-1]["text/html"])
        assert first.run("%kasal stop").text == f"{job_id} stopped\n"
    wait_for(api, job_id)


def test_a_notebook_without_a_name_remembers_nothing(live_server, tmp_path):
    with kernel_of(live_server, tmp_path) as other:
        assert other.run("import os; os.environ.pop('JPY_SESSION_NAME', None)").status == "ok"
        assert "No run was started in this notebook yet" in other.run("%kasal status").error
