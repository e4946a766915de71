"""MCP servers in real runs: the sandbox model calls the tools of real servers, stdio and HTTP."""

import json
import os
import signal
import sys
import time

import psutil
import pytest

from kasal_jupyter.hiding import plain_environment
from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.schemas.spec import RunModel
from kasal_jupyter.tools.mcp_listing import RemoteTool, list_tools
from kasal_jupyter.warden import MARK
from kasal_jupyter.worker.process.setup import SWITCHES
from tests.engine import agent, crew, task
from tests.servers.endpoint_server import endpoint_server, redirect, reply
from tests.servers.mcp_server import HOSTILE_TOOLS, McpNotes, http_mcp_server, stdio

SECRET = "s3cret-of-the-mcp-server"

PARAMETERS = {
    "add": {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "examples": [2]},
            "b": {"type": "integer", "examples": [3]},
            "note_it": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["a", "b"],
    },
    "slow": {
        "type": "object",
        "properties": {"seconds": {"type": "number", "examples": [600]}},
        "required": ["seconds"],
    },
}
"""Of the tools that take something, as the server lists them."""


def served(name, fields, *tools, **more):
    """Describe a server and those of its tools that a run uses, which agents call ``<name>_<tool>``."""
    remote = [
        RemoteTool(name=tool, parameters=PARAMETERS.get(tool, {"type": "object", "properties": {}}))
        for tool in tools
    ]
    return RunMcpServer(name=name, tools=list_tools(name, remote).tools, **{**fields, **more})


def spec_of(folder, servers, agents=None, allowed=("127.0.0.1",), process="sequential", **sandbox):
    """Describe a run: by default of one agent, with all the servers' tools."""
    names = [tool.name for server in servers for tool in server.tools]
    agents = agents or [agent("Clerk", tools=names, sandbox=sandbox)]
    tasks = [
        task(
            f"t{place}",
            each["id"],
            "Do the work",
            async_execution=len(agents) > 1 and place < len(agents) - 1,
        )
        for place, each in enumerate(agents)
    ]
    spec = crew(folder, agents, tasks, allowed_hosts=list(allowed))
    return spec.model_copy(update={"mcp_servers": servers})


@pytest.fixture
def notes(tmp_path):
    return McpNotes(tmp_path / "notes")


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """The server on loopback."""
    with http_mcp_server(tmp_path_factory.mktemp("web") / "notes") as running:
        yield running


def failures(record):
    return [event["error"]["message"] for event in record.of("tool_failed")]


def results(record):
    return {event["tool"]: event["result"] for event in record.of("tool_result")}


def gone(pid):
    """Wait until a process is no more."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("style", ["native", "react"])
def test_one_session_a_run_however_many_calls_and_agents(engine, tmp_path, notes, style):
    server = served("calc", stdio(notes.path), "add", "process")
    agents = [
        agent(role, tools=["calc_add", "calc_process"], sandbox={"tool_calls": style})
        for role in ("First", "Second", "Third")
    ]
    record = engine.run(spec_of(tmp_path / "run", [server], agents))
    assert record.end["status"] == "completed"
    assert failures(record) == []
    assert results(record)["calc_add"] == "5"
    # What may be left out was left out.
    assert notes.lines("call add") == ["2 3 None"] * 3
    assert len(notes.lines("call process")) == 3
    assert len(notes.lines("session")) == 1
    (pid,) = notes.lines("process")
    assert results(record)["calc_process"] == pid
    assert gone(int(pid))


def test_the_same_over_http(engine, tmp_path, web):
    before = len(web.notes.lines("session"))
    server = served("web", {"transport": "http", "url": web.url}, "add", "process")
    agents = [agent(role, tools=["web_add", "web_process"]) for role in ("First", "Second")]
    record = engine.run(spec_of(tmp_path / "run", [server], agents))
    assert record.end["status"] == "completed"
    assert failures(record) == []
    assert results(record) == {"web_add": "5", "web_process": str(web.process.pid)}
    assert len(web.notes.lines("session")) == before + 1


def test_calls_of_two_agents_go_on_at_the_same_time_in_one_session(engine, tmp_path, notes):
    server = served("calc", stdio(notes.path), "meet")
    agents = [agent(role, tools=["calc_meet"]) for role in ("First", "Second")]
    record = engine.run(spec_of(tmp_path / "run", [server], [*agents, agent("Last")]))
    assert record.end["status"] == "completed"
    assert [event["result"] for event in record.of("tool_result")] == ["both are here"] * 2
    assert len(notes.lines("session")) == 1


def test_what_tools_give_is_made_text(engine, tmp_path, notes):
    server = served("odd", stdio(notes.path), "refuse", "huge", "picture", "nothing")
    record = engine.run(spec_of(tmp_path / "run", [server]))
    assert record.end["status"] == "completed"
    assert failures(record) == ["Error executing tool refuse: no such ticket"]
    given = results(record)
    assert given["odd_nothing"] == '{"result": null}'
    assert given["odd_picture"] == "Here it is:\n[An image, 1,000 bytes of image/png, which is not shown.]"
    assert given["odd_huge"].startswith("hhh")
    assert given["odd_huge"].endswith("[The answer goes on; this is its beginning.]")
    assert len(given["odd_huge"]) < 51_000


def test_a_server_that_hangs_is_given_up_and_the_run_goes_on(engine, tmp_path, notes):
    server = served("calc", stdio(notes.path), "slow", "add", timeout=0.5)
    record = engine.run(spec_of(tmp_path / "run", [server]))
    assert record.end["status"] == "completed"
    assert failures(record) == ["calc did not answer within 0.5 seconds"]
    # Once, and the session is still good.
    assert len(notes.lines("call slow")) == 1
    assert results(record)["calc_add"] == "5"
    assert len(notes.lines("session")) == 1


@pytest.mark.parametrize("style", ["native", "react"])
def test_a_server_that_dies_is_started_again_for_the_next_call_and_no_call_is_done_twice(
    engine, tmp_path, notes, style
):
    server = served("calc", stdio(notes.path), "die", "add")
    record = engine.run(spec_of(tmp_path / "run", [server], tool_calls=style))
    assert record.end["status"] == "completed"
    (failure,) = failures(record)
    assert failure == "calc has ended in the midst of the call; whether it was done is not known"
    assert len(notes.lines("call die")) == 1
    assert results(record)["calc_add"] == "5"
    assert len(notes.lines("process")) == 2


def test_a_server_that_is_not_there_fails_its_calls_in_words(engine, tmp_path, notes):
    gone_server = served("gone", {"transport": "stdio", "command": "no-such-program"}, "add")
    silent = served("silent", {"transport": "http", "url": "http://127.0.0.1:9/mcp"}, "add")
    calc = served("calc", stdio(notes.path), "add")
    record = engine.run(spec_of(tmp_path / "run", [gone_server, silent, calc]))
    assert record.end["status"] == "completed"
    assert failures(record)[0] == "There is no program 'no-such-program' to start"
    assert failures(record)[1].startswith("The connection to 127.0.0.1 failed")
    assert results(record) == {"calc_add": "5"}


def test_stopping_a_run_leaves_nothing_of_the_server(engine, tmp_path, notes):
    server = served("calc", stdio(notes.path), "slow")
    record = engine.launch(spec_of(tmp_path / "run", [server]))
    notes.wait_for("call slow")
    pid = int(notes.wait_for("process"))
    # In the run's own group, so that whatever kills the one kills the other.
    assert os.getpgid(pid) == record.handle.pid
    engine.stop(record)
    assert gone(pid)


def test_nor_does_killing_its_process(engine, tmp_path, notes):
    server = served("calc", stdio(notes.path), "slow")
    record = engine.launch(spec_of(tmp_path / "run", [server]))
    notes.wait_for("call slow")
    os.kill(record.handle.pid, signal.SIGKILL)
    record.exited.result(60)
    assert gone(int(notes.wait_for("process")))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans come back to nobody here")
@pytest.mark.parametrize("end", ["stop", "kill", "by itself"])
def test_nor_is_a_process_left_that_has_detached_itself_in_every_way(engine, tmp_path, notes, end):
    server = served("calc", stdio(notes.path, "detaching"), "add" if end == "by itself" else "slow")
    record = engine.launch(spec_of(tmp_path / "run", [server]))
    pid = int(notes.wait_for("detached"))
    if end != "by itself":
        notes.wait_for("call slow")
        assert psutil.pid_exists(pid)
        engine.stop(record) if end == "stop" else os.kill(record.handle.pid, signal.SIGKILL)
    record.exited.result(60)
    assert gone(pid)


def test_a_program_has_few_variables_and_its_secrets_are_seen_by_nobody(engine, tmp_path, notes):
    env = {"API_TOKEN": SECRET, "MODE": "thorough", "VERBOSE_KEY": "1"}
    server = served("calc", stdio(notes.path), "environment", "add", env=env)
    record = engine.run(spec_of(tmp_path / "run", [server]))
    lines = dict(line.split("=", 1) for line in results(record)["calc_environment"].splitlines())
    assert lines["API_TOKEN"] == "[secret]"
    # Neither words of any text nor what is short are taken for secrets.
    assert (lines["MODE"], lines["VERBOSE_KEY"]) == ("thorough", "1")
    assert set(lines) - set(env) <= {
        *plain_environment(),
        *plain_environment(SWITCHES),
        "LC_CTYPE",
        MARK,
    }
    left = b"".join([*record.raw, *(path.read_bytes() for path in (tmp_path / "run").rglob("*"))])
    assert SECRET.encode() not in left
    assert b"a line on standard error" in (tmp_path / "run" / "output.log").read_bytes()


def test_headers_go_to_the_server_and_are_seen_by_nobody(engine, tmp_path, web):
    fields = {"transport": "http", "url": f"{web.url}?api_key=quite-secret-too&page=1"}
    server = served(
        "web", fields, "headers", headers={"Authorization": f"Bearer {SECRET}", "X-Team": "blue-team-1"}
    )
    record = engine.run(spec_of(tmp_path / "run", [server]))
    lines = dict(line.split(": ", 1) for line in results(record)["web_headers"].splitlines())
    assert lines["authorization"] in {"[secret]", "Bearer [secret]"}
    assert lines["accept-encoding"] == "identity"
    assert lines["user-agent"].startswith("kasal-jupyter/")
    left = b"".join([*record.raw, *(path.read_bytes() for path in (tmp_path / "run").rglob("*"))])
    for secret in (SECRET, "quite-secret-too", "blue-team-1"):
        assert secret.encode() not in left


def test_an_answer_without_end_is_cut_and_the_session_goes_on(engine, tmp_path, web):
    before = len(web.notes.lines("session"))
    server = served("web", {"transport": "http", "url": web.url}, "enormous", "add")
    record = engine.run(spec_of(tmp_path / "run", [server]))
    assert failures(record) == ["127.0.0.1 answers with more than 10,000,000 bytes"]
    assert results(record) == {"web_add": "5"}
    assert len(web.notes.lines("session")) == before + 1


def test_a_program_that_says_too_much_is_given_up(engine, tmp_path, notes):
    server = served("calc", stdio(notes.path), "enormous", "add")
    record = engine.run(spec_of(tmp_path / "run", [server]))
    (failure,) = failures(record)
    assert failure.startswith("calc has ended in the midst of the call")
    assert results(record) == {"calc_add": "5"}


def test_this_machine_is_out_of_reach_unless_allowed(engine, tmp_path, web):
    server = served("web", {"transport": "http", "url": web.url}, "add")
    record = engine.run(spec_of(tmp_path / "run", [server], allowed=()))
    (failure,) = failures(record)
    assert failure.startswith("127.0.0.1 is this machine; only public hosts may be called")
    # What an admin has named may be called.
    free = server.model_copy(update={"guarded": False})
    spec = spec_of(tmp_path / "free", [free], allowed=())
    assert results(engine.run(spec)) == {"web_add": "5"}
    # So it is where a user has named a model's address, which all look-ups of the process are held to.
    own = RunModel(name="own", provider="openai", model="own", base_url="https://example.com", guarded=True)
    named = {"models": {**spec.models, "own": own}}
    assert results(engine.run(spec.model_copy(update=named))) == {"web_add": "5"}
    record = engine.run(spec.model_copy(update={**named, "mcp_servers": [server]}))
    assert results(record) == {}


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_elsewhere_is_not_followed(engine, tmp_path, status):
    with endpoint_server() as inner, endpoint_server() as outer:
        outer.replies["/mcp"] = redirect(f"{inner.url}/inside?token=abc", status)
        server = served(
            "web", {"transport": "http", "url": f"{outer.url}/mcp"}, "add", headers={"X-Key": SECRET}
        )
        record = engine.run(spec_of(tmp_path / "run", [server]))
        assert inner.asked == []
    (failure,) = failures(record)
    assert failure == "127.0.0.1 redirects to 127.0.0.1, which is not followed; register that address"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply("<html>", content_type="text/html"), "answers with text/html, so that it is no MCP server"),
        (reply("[]", content_type="application/json"), "answers with JSON that is no MCP: []"),
        (reply("", 202), "takes the request without an answer"),
        (reply("who are you?", 401), "answers 401 Unauthorized: who are you?"),
        (reply("data: {}\n\n", content_type="text/event-stream"), "ended its answer before it was whole"),
        (
            reply(b"\x1f\x8b", content_type="application/json", Content_Encoding="gzip"),
            "answers in an encoding nobody asked for",
        ),
    ],
)
def test_what_is_no_mcp_server_is_said_at_once(engine, tmp_path, answer, words):
    with endpoint_server() as server:
        server.replies["/mcp"] = answer
        spec = spec_of(
            tmp_path / "run", [served("web", {"transport": "http", "url": f"{server.url}/mcp"}, "add")]
        )
        record = engine.run(spec)
    (failure,) = failures(record)
    assert words in failure


@pytest.mark.parametrize("style", ["native", "react"])
def test_hostile_names_and_schemas(engine, tmp_path, notes, style):
    remote = [
        RemoteTool(name=each["name"], description=each.get("description", ""), parameters=each["inputSchema"])
        for each in HOSTILE_TOOLS
    ]
    listing = list_tools("h", remote)
    server = served("h", stdio(notes.path, "hostile")).model_copy(update={"tools": listing.tools})
    record = engine.run(spec_of(tmp_path / "run", [server], tool_calls=style))
    assert record.end["status"] == "completed"
    assert failures(record) == []
    arguments = {}
    for line in notes.lines("call"):
        name, end = json.JSONDecoder().raw_decode(line)
        arguments[name] = json.loads(line[end:]) or {}
    assert set(arguments) == {tool.remote_name for tool in listing.tools}
    # As the schema has them: a date is a text, and no reference is left.
    assert arguments["readFile"]["node"]["label"] == "root"
    assert arguments["either"]["value"] == 7
    assert arguments["either"]["mode"] == "fast"
