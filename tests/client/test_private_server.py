"""The server that a kernel starts for its user where there is no Jupyter server."""

import http.server
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
import websocket

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.finding import find_server
from kasal_jupyter.client.private_server import announcement_path, read_announcement, running_servers
from kasal_jupyter.errors import Unavailable
from kasal_jupyter.kernel.crews.demo import INPUTS, demo_crew
from kasal_jupyter.schemas.agents import SandboxSettings
from tests.private import FOREIGN, configure, end_servers, lonely, servers_of
from tests.server import start_server

TIMEOUT = 60

FIND = "from kasal_jupyter.client.finding import find_server; print('at', find_server().url)"
"""What a kernel does at the first command that needs a server."""


@pytest.fixture
def room(tmp_path, monkeypatch):
    """Be a kernel that no Jupyter server has started; gives the folder of all its files."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name, value in lonely(tmp_path).items():
        monkeypatch.setenv(name, value)
    yield tmp_path
    end_servers(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A private server for the tests that only look at it, and what its user was told."""
    room = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        for name, value in lonely(room, PYTHONDONTWRITEBYTECODE="1").items():
            patch.setenv(name, value)
        said = []
        find_server(say=said.append)
        yield read_announcement(announcement_path()), said, room
    end_servers(room)


def another_kernel(room, code=FIND, **more):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=lonely(room, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(true, what):
    end = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.1)


def answer(connection, path, **headers):
    return httpx.get(f"{connection.url}/v1{path}", headers=headers, timeout=TIMEOUT)


def test_its_user_is_told_in_one_line_and_not_the_token(shared):
    server, said, room = shared
    (line,) = said
    assert line == (
        f"Started a private Kasal server for you, data in {room / 'data'}; "
        "it ends after 30 minutes without use"
    )
    assert server.connection.token not in repr(server)
    assert server.connection.origin == "a private server"
    assert server.data_folder == str(room / "data")


def test_only_this_machine_and_who_knows_the_token_are_let_in(shared):
    server, _, _ = shared
    listening = [each for each in psutil.Process(server.pid).net_connections() if each.status == "LISTEN"]
    assert [each.laddr.ip for each in listening] == ["127.0.0.1"]
    assert answer(server.connection, "/crews").status_code == 401
    assert answer(server.connection, "/crews", Authorization="token wrong").status_code == 401
    assert answer(server.connection, "/crews", **server.connection.headers).status_code == 200


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps no such modes")
def test_only_its_user_reads_where_it_is(shared):
    server, _, _ = shared
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.log_path.stat().st_mode) == 0o600
    assert server.connection.token not in server.log_path.read_text()
    assert server.connection.token not in " ".join(psutil.Process(server.pid).cmdline())


@pytest.mark.skipif(os.name != "posix", reason="Windows has no sessions of processes")
def test_it_is_apart_from_the_kernel_and_its_settings(shared):
    server, _, _ = shared
    process = psutil.Process(server.pid)
    assert os.getsid(server.pid) != os.getsid(0)
    assert process not in psutil.Process().children(recursive=True)
    # With it, every start would compile what it imports.
    assert "PYTHONDONTWRITEBYTECODE" not in process.environ()
    assert Path(process.cwd()) == server.path.parent


def test_other_kernels_join_it_and_are_told_nothing(shared):
    server, _, room = shared
    kernels = [another_kernel(room) for _ in range(2)]
    for kernel in kernels:
        out, err = kernel.communicate(timeout=TIMEOUT)
        assert out == f"at {server.connection.url}\n", err
    assert [process.pid for process in servers_of(room)] == [server.pid]
    assert [each.pid for each in running_servers()] == [server.pid]
    assert find_server(start=False) == server.connection


def test_keys_set_after_its_start_are_told_of_once(shared, monkeypatch):
    server, _, _ = shared
    said = []
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    find_server(say=said.append)
    find_server(say=said.append)

    assert [line.split(";")[0] for line in said] == ["The private server was started without OPENAI_API_KEY"]
    assert "sk-secret" not in server.path.read_text()


def test_several_that_need_one_at_once_start_one(room):
    kernels = [another_kernel(room) for _ in range(3)]
    outputs = [kernel.communicate(timeout=TIMEOUT)[0] for kernel in kernels]

    assert len({output.splitlines()[-1] for output in outputs}) == 1
    assert sum("Started a private Kasal server" in output for output in outputs) == 1
    assert len(servers_of(room)) == 1


def test_it_survives_the_kernel_and_is_started_again_when_it_has_gone(room, capsys):
    assert another_kernel(room).communicate(timeout=TIMEOUT)[0].startswith("Started")
    (first,) = servers_of(room)
    client = Client(find_server())
    crew = client.create_crew(demo_crew())
    assert capsys.readouterr().out == ""

    # As it is when its machine has slept, or someone has killed it: its file is still there.
    first.kill()
    first.wait(TIMEOUT)

    # The data are those of the user, whichever server serves them.
    assert [each.id for each in client.crews()] == [crew.id]
    assert capsys.readouterr().out.startswith("Started a private Kasal server")
    assert client.connection.url == find_server().url
    (second,) = servers_of(room)

    # As it is when it has ended by itself.
    second.terminate()
    second.wait(TIMEOUT)
    assert not announcement_path().exists()
    assert client.crew(crew.id).name == "Market briefing"
    client.close()


def test_a_file_that_names_a_foreign_process_is_no_server(room, monkeypatch):
    class Foreign(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *args):
            pass

    foreign = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
    threading.Thread(target=foreign.serve_forever, daemon=True).start()
    path = announcement_path()
    path.parent.mkdir(parents=True)
    said = {
        "url": f"http://127.0.0.1:{foreign.server_port}/",
        "token": "old",
        "pid": os.getpid(),
        "kasal_version": "0",
        "data_folder": "",
        "idle_seconds": 0,
        "keys": [],
    }
    path.write_text(json.dumps(said))
    assert list(running_servers()) == []

    # A relative folder is the kernel's, wherever the server works.
    monkeypatch.chdir(room)
    monkeypatch.setenv("KASAL_DATA_DIR", "data")
    found = find_server()

    assert read_announcement(path).data_folder == str(room / "data")
    assert found.url != f"http://127.0.0.1:{foreign.server_port}"
    assert answer(found, "/crews", **found.headers).status_code == 200
    foreign.shutdown()
    foreign.server_close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1}'])
def test_a_half_written_file_is_no_server(tmp_path, text):
    (tmp_path / "kasal-1.json").write_text(text)
    assert read_announcement(tmp_path / "kasal-1.json") is None


def test_other_data_and_other_versions_have_servers_of_their_own(room, monkeypatch):
    mine = announcement_path()
    assert announcement_path() == mine
    assert announcement_path("0.0.1") != mine
    monkeypatch.setenv("KASAL_DATA_DIR", str(room / "other"))
    assert announcement_path() != mine
    monkeypatch.chdir(room)
    monkeypatch.setenv("KASAL_DATA_DIR", "data")
    assert announcement_path() == mine


def test_where_none_may_be_started_none_is(room):
    with pytest.raises(Unavailable, match="%kasal connect"):
        find_server(start=False)
    assert servers_of(room) == []


def test_what_its_user_configured_for_others_does_not_open_it(room):
    identity = {"token": "short", "hashed_password": "argon2:x", "password_required": True}
    configure(
        room,
        {
            "ServerApp": {
                "ip": "0.0.0.0",
                "base_url": "/mine/",
                "certfile": "/nowhere.pem",
                "allow_unauthenticated_access": True,
                "disable_check_xsrf": True,
            },
            "IdentityProvider": {"token": "short"},
            "PasswordIdentityProvider": identity,
            # What concerns the product holds here as well.
            "KasalApp": {"with_jupyter": True, "default_model": "sandbox"},
        },
    )
    found = find_server()

    assert found.url.startswith("http://127.0.0.1:")
    assert len(found.token) > 30
    assert answer(found, "/crews", Authorization="token short").status_code == 401
    assert httpx.get(f"{found.url}/api/kernels", headers=found.headers).status_code == 404
    client = Client(found)
    agents = [agent.model_copy(update={"model": None}) for agent in demo_crew().agents]
    crew = client.create_crew(demo_crew().model_copy(update={"agents": agents}))
    assert client.start(crew.id, INPUTS).status == "queued"
    client.close()


def test_one_that_does_not_start_says_why(room, monkeypatch):
    broken = room / "broken"
    broken.mkdir()
    (broken / "jupyter_server.py").write_text("raise SystemExit('no server today')")
    monkeypatch.setenv("PYTHONPATH", str(broken))

    with pytest.raises(Unavailable, match=r"(?s)did not start.*kasal-.*\.log.*no server today"):
        find_server()

    assert servers_of(room) == []


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
def test_interrupted_as_it_starts_it_leaves_nothing_behind(room):
    kernel = another_kernel(room)
    wait_until(lambda: servers_of(room), "the server's process")
    kernel.send_signal(signal.SIGINT)

    assert "KeyboardInterrupt" in kernel.communicate(timeout=TIMEOUT)[1]
    assert servers_of(room) == []
    assert find_server().private


def test_unused_it_ends_but_not_while_somebody_listens_or_a_run_goes_on(room):
    configure(room, {"PrivateServer": {"shutdown_no_activity_timeout": 4}})
    found = find_server()
    (server,) = servers_of(room)
    client = Client(found)

    # Longer than that with a run, and nobody who follows it.
    slow = SandboxSettings(latency=1.5)
    agents = [agent.model_copy(update={"sandbox": slow}) for agent in demo_crew().agents]
    crew = client.create_crew(demo_crew().model_copy(update={"agents": agents}))
    job_id = client.start(crew.id, INPUTS).job_id
    client.close()
    journal = room / "data" / "runs" / f"{job_id}.jsonl"
    wait_until(lambda: journal.read_text().count('"task_start"') == 3, "the last but one task")
    assert server.is_running()

    # The same with a connection over which nothing comes. It is there before the run ends: on a busy machine
    # the server might be gone before it is opened.
    socket = websocket.create_connection(
        found.socket_url, header=[f"Authorization: token {found.token}"], suppress_origin=True
    )
    wait_until(lambda: '"completed","result"' in journal.read_text().replace(" ", ""), "the end of the run")
    time.sleep(8)
    assert server.is_running()
    socket.close()

    server.wait(TIMEOUT)
    assert not announcement_path().exists()


def test_a_kernels_server_without_kasal_is_not_taken(room, monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    # With a setting that is wrong, Jupyter goes on without the extension.
    plain = start_server(folder, "--KasalApp.max_running=0", ready=None)
    try:
        (room / "runtime").mkdir()
        about = folder / "runtime" / f"jpserver-{plain.process.pid}.json"
        (room / "runtime" / about.name).write_text(about.read_text())
        monkeypatch.setenv("JPY_PARENT_PID", str(plain.process.pid))
        said = []

        found = find_server(say=said.append)

        assert found.private
        assert said[0].startswith(
            "The Jupyter server of this kernel does not serve Kasal: started a private Kasal server"
        )
        end_servers(room)
        with pytest.raises(Unavailable, match="The Jupyter server of this kernel does not serve Kasal"):
            find_server(start=False)
    finally:
        plain.close()
