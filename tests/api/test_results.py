"""Results of any size: lists give excerpts, what is cut says so, and the whole is there for whoever asks."""

import json

import pytest

from kasal_jupyter.worker.sizes import MOST_RESULT, left_out
from tests.cli.conftest import Terminal
from tests.crews import new_crew, slow_crew, start, wait_for
from tests.kernels import kernel_of
from tests.server import start_server
from tests.servers.openai_server import OpenAIServer, Reply

LONG = 'Prices: 17 € \U0001f600 "quoted" \\ \x07 and\nso on. ' * 9_000
"""More than a document holds, of characters that take one to four bytes, and such as JSON escapes."""

SHORT = "s" * 1_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that runs one execution at a time."""
    running = start_server(tmp_path_factory.mktemp("results"), "--KasalApp.max_running=1")
    yield running
    running.close()


@pytest.fixture(scope="module")
def api(server):
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def ended(api):
    """Two runs that have ended: one with a short result, and one with a very long one."""
    with OpenAIServer(Reply(SHORT), Reply(LONG)) as models:
        given = {"base_url": models.url, "api_key": "sk-0123456789abcdef"}
        assert api.put("/providers/big", json=given).is_success
        agent = {"role": "Teller", "goal": "Tell", "model": "big/m", "settings": {"stream": False}}
        task = {"name": "t", "description": "Tell {topic}", "expected_output": "All of it", "agent": "Teller"}
        crew_id = new_crew(api, {"name": "Tellers", "memory": False, "agents": [agent], "tasks": [task]})
        found = [wait_for(api, start(api, crew_id)) for _ in range(2)]
    assert [each["status"] for each in found] == ["completed"] * 2, found[1]["error"]
    return found


@pytest.fixture(scope="module")
def whole(api, ended):
    """The long result, as the run's own file has it."""
    text = api.get(f"/executions/{ended[1]['job_id']}/artifacts/result.txt").content.decode()
    assert text.strip() == LONG.strip()
    return text


def test_a_list_has_excerpts_and_says_which(api, ended):
    listed = {each["job_id"]: each for each in api.get("/executions").json()["executions"]}
    short, long = (listed[each["job_id"]] for each in ended)
    assert (short["result"].strip(), short["result_truncated"]) == (SHORT, False)
    assert (short["result"], short["result_truncated"]) == (ended[0]["result"], False)
    assert (long["result"], long["result_truncated"]) == (ended[1]["result"][:1_000], True)


def test_a_status_says_that_a_very_long_result_goes_on(ended, whole):
    long = ended[1]
    assert long["result_truncated"] is True
    assert long["result"] == f"{whole[:MOST_RESULT]}\n{left_out(len(whole) - MOST_RESULT)}"
    assert ended[0]["result_truncated"] is False


def test_the_result_itself_is_whole(api, ended, whole):
    answer = api.get(f"/executions/{ended[1]['job_id']}/result")
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert told["result"] == whole
    short = api.get(f"/executions/{ended[0]['job_id']}/result").json()
    assert told.keys() == short.keys()
    assert short["result"].strip() == SHORT
    assert told["usage"]["total_tokens"] == 25


def test_the_last_event_and_the_trace_say_what_is_left_out(api, ended, whole):
    events = api.get(f"/executions/{ended[1]['job_id']}/events").json()["events"]
    assert events[-1]["result_file"] == "result.txt"
    assert events[-1]["cut"] == len(whole) - MOST_RESULT
    rows = api.get(f"/executions/{ended[1]['job_id']}/traces").json()["traces"]
    assert max(len(row["result"]) for row in rows) <= 1_100_000


def test_a_notebook_and_a_terminal_have_all_of_it(server, ended, whole, tmp_path):
    job_id = ended[1]["job_id"]
    with kernel_of(server, tmp_path) as kernel:
        drawn = kernel.run(f"run = %kasal wait {job_id}\nrun")
        assert drawn.status == "ok", drawn.error
        shown = [*drawn.shown, *drawn.updates][-1]
        assert all(f"`%kasal result {job_id}` gives all of it" in text for text in shown.values())
        # In Python, and where a variable takes it.
        assert kernel.value("len(run.output)") == len(whole)
        assert (
            kernel.run(f"%kasal result {job_id} -o kept").text.strip()
            == f"kept has {len(whole):,} characters"
        )
        assert kernel.value("kept == run.output == json.loads(run.to_json())['output']") is True
        cell = kernel.run(f"%kasal result {job_id}")
        assert f"the first 200,000 of {len(whole):,} characters are shown" in cell.shown[-1]["text/plain"]
        assert len(cell.shown[-1]["text/html"]) < 800_000
        short = kernel.run(f"%kasal result {ended[0]['job_id']}").shown[-1]["text/plain"]
        assert short.strip() == SHORT
        assert "that is no name for a variable" in kernel.run(f"%kasal result {job_id} -o 1x").error

    terminal = Terminal(tmp_path)
    connected = ("--url", server.url, "--token", server.token)
    expected = whole.replace("\x07", "␇").strip()
    for command in ("result", "wait"):
        status, out, _ = terminal.run(command, job_id, *connected)
        assert (status, out.strip()) == (0, expected), command
    assert json.loads(terminal.run("result", job_id, "--json", *connected)[1])["result"] == whole
    _, out, err = terminal.run("status", job_id, *connected)
    assert left_out(len(whole) - MOST_RESULT) in out
    assert f"`jupyter kasal result {job_id}` prints all of it" in err


def test_where_a_run_stands_in_the_line_is_shown_while_it_waits(server, api, tmp_path):
    crew_id = new_crew(api, slow_crew())
    jobs = [start(api, crew_id) for _ in range(3)]
    with kernel_of(server, tmp_path) as kernel:
        cell = kernel.start(f"%kasal status {jobs[2]}")
        kernel.until(lambda: any("number 2 in the queue" in each["text/html"] for each in cell.updates))
        assert "number 2 in the queue" in cell.updates[-1]["text/plain"]
        # It moves up when the one before it goes.
        assert api.post(f"/executions/{jobs[1]}/stop").is_success
        kernel.until(lambda: "number 1 in the queue" in cell.updates[-1]["text/html"])
        assert api.post(f"/executions/{jobs[0]}/stop").is_success
        kernel.until(lambda: "running" in cell.updates[-1]["text/plain"])
        assert "in the queue" not in cell.updates[-1]["text/html"]
        assert api.post(f"/executions/{jobs[2]}/stop").is_success


def test_a_result_whose_file_is_gone_is_told_as_far_as_it_is_known(server, api, ended):
    job_id = ended[1]["job_id"]
    [file] = server.folder.rglob(f"{job_id}/**/result.txt")
    file.unlink()
    told = api.get(f"/executions/{job_id}/result").json()["result"]
    assert told == ended[1]["result"]
    assert told.endswith("characters left out]")
