"""Custom tools in real runs: the sandbox model calls a real endpoint."""

import json
import time

import pytest

from tests.engine import agent, crew, task
from tests.servers.endpoint_server import endpoint_server, redirect, reply

SECRET = "s3cret-of-the-endpoint"

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "examples": ["Rome"]},
        "days": {"type": "integer", "examples": [3]},
        "context": {"type": "string"},
    },
    "required": ["city", "days"],
}


@pytest.fixture
def server():
    with endpoint_server() as running:
        yield running


@pytest.fixture
def run(engine, server, tmp_path):
    """Runs a crew of one agent that has a tool whose endpoint is on the server."""

    def go(*, allowed=("127.0.0.1",), sandbox=None, path="/tool", **fields):
        tool = {
            "name": "weather_report",
            "description": "Tells the weather",
            "endpoint": f"{server.url}{path}",
            "parameters": PARAMETERS,
            **fields,
        }
        return engine.run(
            crew(
                tmp_path / "run",
                [agent("Forecaster", tools=["weather_report"], sandbox=sandbox or {})],
                [task("t", "forecaster", "Tell the weather")],
                tools=[tool],
                allowed_hosts=list(allowed),
            )
        )

    return go


def seen(record, folder):
    """Everything a run leaves: its events, and the files of its folder."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return b"\n".join([*record.raw, *files]).decode()


@pytest.mark.parametrize("style", ["native", "react"])
def test_an_agent_calls_the_endpoint_with_arguments_from_the_schema(run, server, style):
    server.replies["/tool"] = reply("sunny, 25 degrees")
    record = run(sandbox={"tool_calls": style})
    assert record.end["status"] == "completed"
    assert "weather_report says: sunny, 25 degrees" in record.end["result"]
    (asked,) = server.asked
    assert asked.method == "POST"
    assert {"city": "Rome", "days": 3}.items() <= asked.json().items()
    assert record.of("tool_call")[0]["tool"] == "weather_report"
    assert record.of("tool_result")[0]["result"] == "sunny, 25 degrees"


def test_a_tool_without_a_schema_can_be_called_too(run, server):
    assert run(parameters=None).end["status"] == "completed"
    # Its one argument may be left out, as the sandbox model does.
    assert server.asked[0].json() == {}


def test_arguments_stand_in_the_path(run, server):
    assert run(path="/weather/{city}", method="GET").end["status"] == "completed"
    assert server.asked[0].path == "/weather/Rome"
    assert server.asked[0].query["days"] == ["3"]


@pytest.mark.parametrize("auth", [{"auth_type": "bearer"}, {"auth_type": "basic", "username": "ada"}])
def test_the_secret_reaches_the_endpoint_and_nobody_else(run, server, tmp_path, auth):
    # The endpoint does its worst: it gives back what it got.
    server.replies["/tool"] = lambda handler, asked: reply(json.dumps(asked.headers))(handler, asked)
    record = run(secret=SECRET, **auth)
    assert record.end["status"] == "completed"
    sent = server.asked[0].headers["authorization"]
    assert sent.startswith(("Bearer ", "Basic "))
    left = seen(record, tmp_path)
    assert "[secret]" in left
    assert SECRET not in left
    assert sent.split()[1] not in left


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_is_seen_by_the_agent_and_fails_nothing(run, server, status):
    server.replies["/tool"] = reply("no such city", status)
    record = run()
    assert record.end["status"] == "completed"
    (error,) = record.of("tool_failed")
    assert f"weather_report answered {status}" in error["error"]["message"]
    assert "no such city" in error["error"]["message"]


def test_this_machine_is_out_of_reach_unless_allowed(run, server):
    record = run(allowed=())
    assert record.end["status"] == "completed"
    assert server.asked == []
    (error,) = record.of("tool_failed")
    assert "only public hosts may be called" in error["error"]["message"]


def test_and_so_it_is_by_a_redirect(run, server):
    server.replies["/tool"] = redirect("http://169.254.169.254/latest/meta-data/")
    record = run()
    (error,) = record.of("tool_failed")
    assert "169.254.169.254 is a link-local network" in error["error"]["message"]


def test_a_slow_endpoint_is_given_up(run, server):
    server.replies["/tool"] = lambda _handler, _asked: time.sleep(1)
    record = run(timeout=0.2)
    assert record.end["status"] == "completed"
    (error,) = record.of("tool_failed")
    assert "did not answer within 0.2 seconds" in error["error"]["message"]
