"""`jupyter kasal server`: the private servers of whoever types it."""

import json

import psutil
import pytest

from tests.cli.conftest import Terminal
from tests.private import end_servers


@pytest.fixture
def terminal(tmp_path):
    """A terminal of its own: its server comes and goes."""
    yield Terminal(tmp_path)
    end_servers(tmp_path)


def test_private_servers_are_listed_and_stopped(terminal):
    assert terminal.run("server", "list")[:2] == (
        0,
        "There are no private servers; the first command that needs one starts it\n",
    )
    assert terminal.run("server", "stop")[:2] == (0, "There is no private server to stop\n")

    _, out, err = terminal.run("crews")
    assert "There are no crews yet" in out
    assert err.startswith(f"Started a private Kasal server for you, data in {terminal.folder / 'data'}")
    # The next command joins it, and says nothing.
    assert terminal.run("crews")[2] == ""

    (server,) = json.loads(terminal.run("server", "list", "--json")[1])
    assert server["data_folder"] == str(terminal.folder / "data")
    _, out, _ = terminal.run("server", "list")
    assert server["url"] in out
    assert "30 min" in out
    assert server["token"] not in out
    # It is a server as any other to programs.
    assert terminal.run("crews", "--json", "--url", server["url"], "--token", server["token"])[1] == "[]\n"

    assert terminal.run("server", "stop")[1] == f"stopped {server['url']}\n"
    assert not psutil.pid_exists(server["pid"])
    assert terminal.run("server", "list", "--json")[1] == "[]\n"


def test_one_that_works_is_only_stopped_by_force(terminal):
    job_id = terminal.run("run", "slow.yaml", "topic=tea", "--bg", "-q")[1].strip()

    status, out, err = terminal.run("server", "stop")
    assert (status, out) == (1, "")
    assert "1 execution" in err
    assert "--force" in err
    assert json.loads(terminal.run("status", "--json", job_id)[1])["status"] in {"queued", "running"}

    assert terminal.run("server", "stop", "--force")[0] == 0
    # The server that the next command starts has it as what it is.
    status, out, _ = terminal.run("status", "--json", job_id)
    assert status == 130
    assert json.loads(out)["status"] in {"stopped", "interrupted"}
