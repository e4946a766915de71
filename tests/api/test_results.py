"""Results of any size: lists give excerpts, what is cut says so, and the whole is there for whoever asks."""

import json
import time

import pytest

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.client.stream import open_socket
from kasal_jupyter.errors import Unavailable
from kasal_jupyter.worker.process.sizes import MOST_RESULT, left_out
from tests.cli.conftest import Terminal
from tests.kernels import kernel_of
from tests.sample_crews import crew_body, new_crew, slow_crew, start, wait_for
from tests.server import start_server
from tests.servers.openai_server import OpenAIServer, Reply
from tests.servers.proxy_server import Proxy

LONG = 'Prices: 17 € \U0001f600 "quoted" \\ \x07 and\nso on. ' * 9_000
"""More than a document holds, of characters that take one to four bytes, and such as JSON escapes."""

SHORT = "s" * 1_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that runs one execution at a time."""
    running = start_server(
        tmp_path_factory.mktemp("results"), "--KasalApp.max_running=1", "--ServerApp.allow_remote_access=True"
    )
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


@pytest.fixture(scope="module")
def stopped(api):
    """A run that was stopped behind its first task, with inputs of which nothing uses one."""
    body = crew_body("Half done")
    body["agents"][1]["sandbox"] = {"latency": 3600}
    inputs = {"topic": "tea", "topci": "coffee"}
    accepted = api.post("/executions", json={"crew_id": new_crew(api, body), "inputs": inputs}).json()
    job_id = accepted["job_id"]
    end = time.monotonic() + 60
    while api.get(f"/executions/{job_id}").json()["progress"] < 50:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert api.get(f"/executions/{job_id}").json()["partial_result"] is None
    assert api.post(f"/executions/{job_id}/stop").json()["status"] == "stopped"
    return accepted


def test_of_a_run_that_was_stopped_there_is_what_it_had(server, api, stopped, tmp_path):
    job_id = stopped["job_id"]
    rows = api.get(f"/executions/{job_id}/traces", params={"kind": "task_complete"}).json()["traces"]
    assert len(rows) == 1
    told = api.get(f"/executions/{job_id}").json()
    assert (told["status"], told["result"], told["result_truncated"]) == ("stopped", None, False)
    assert told["partial_result"].startswith("[sandbox]")
    assert api.get(f"/executions/{job_id}/result").json()["partial_result"] == told["partial_result"]
    listed = {each["job_id"]: each for each in api.get("/executions").json()["executions"]}
    assert listed[job_id]["partial_result"] == told["partial_result"]

    terminal = Terminal(tmp_path)
    connected = ("--url", server.url, "--token", server.token)
    for command in ("result", "wait"):
        status, out, err = terminal.run(command, job_id, *connected)
        assert (status, out.strip()) == (130, told["partial_result"].strip()), command
        assert f"{job_id} is stopped" in err
    out = terminal.run("status", job_id, *connected)[1]
    assert "So far:" in out
    assert told["partial_result"].strip() in out
    with kernel_of(server, tmp_path) as kernel:
        cell = kernel.run(f"%kasal result {job_id}")
        assert cell.shown[0]["text/plain"] == told["partial_result"]
        assert cell.text.strip() == f"{job_id} is stopped. What there is of it:"
        assert kernel.run(f"%kasal result {job_id} -o left").status == "ok"
        found = kernel.value(
            "(lambda run: [left, run.output, run.partial])(__import__('kasal_jupyter').runs()[0])"
        )
        assert found == [told["partial_result"], told["partial_result"], True]


def test_what_is_worth_knowing_of_a_run_is_told_as_it_starts_and_stays(api, stopped):
    remarks = [
        {
            "field": "inputs.topci",
            "remark": "Nothing in the crew uses it; did you mean 'topic'?",
            "doubt": False,
        }
    ]
    assert stopped["remarks"] == remarks
    assert api.get(f"/executions/{stopped['job_id']}").json()["remarks"] == remarks


def test_an_answer_is_shown_as_it_is_read(server, api, tmp_path):
    said = "# Prices\n\n| tea | price |\n|---|---|\n| green | $3$ |\n\n<script>alert(1)</script>"
    with OpenAIServer(Reply(said)) as models, kernel_of(server, tmp_path) as kernel:
        given = {"base_url": models.url, "api_key": "sk-0123456789abcdef"}
        assert api.put("/providers/table", json=given).is_success
        agent = {"role": "Teller", "goal": "Tell", "model": "table/m", "settings": {"stream": False}}
        task = {"name": "t", "description": "Tell {topic}", "expected_output": "All of it", "agent": "Teller"}
        crew_id = new_crew(api, {"name": "Table", "memory": False, "agents": [agent], "tasks": [task]})
        job_id = wait_for(api, start(api, crew_id))["job_id"]
        html = kernel.run(f"%kasal result {job_id}").shown[0]["text/html"]
    assert html.startswith('<div class="tex2jax_ignore mathjax_ignore">')
    assert "<table" in html
    assert "<script" not in html
    assert 'class="mathjax_process' in html or "mathjax_process" in html


@pytest.mark.parametrize("scheme", ["http", "socks", "socks5"])
def test_events_of_a_server_elsewhere_come_through_the_proxy(monkeypatch, server, ended, scheme):
    port = int(server.url.split(":")[2].split("/")[0])
    elsewhere = f"kasal.test:{port}"
    with Proxy(port) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url(scheme))
        client = Client(Connection(f"http://{elsewhere}/a%40b", server.token))
        assert [event["type"] for event in client.follow(ended[0]["job_id"])][-1] == "execution_status"
        client.close()
        assert proxy.asked == [f"{'CONNECT' if scheme == 'http' else 'SOCKS'} {elsewhere}"]


def test_a_proxy_that_refuses_is_a_lost_connection_and_one_that_cannot_be_asked_is_named(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(OSError, match=r"(?i)proxy|refused"):
        open_socket(Connection("http://kasal.test", "t"))
    monkeypatch.setenv("ALL_PROXY", "https://ada:s3cret@proxy.test")
    with pytest.raises(
        Unavailable, match=r"its address has to begin with http; or name .* in NO_PROXY"
    ) as no:
        open_socket(Connection("http://kasal.test", "t"))
    assert "s3cret" not in str(no.value)
