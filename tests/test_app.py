"""The extension as a whole: what it does with wrong settings and with a data folder that can't be used."""

import asyncio
import contextlib
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
import websocket
from filelock import FileLock

from kasal_jupyter import wiring
from kasal_jupyter.app import KasalApp
from kasal_jupyter.cli import main
from kasal_jupyter.store.store import Store
from tests.accounts import log_in
from tests.processes import PATIENCE, bound_by_modes, end, may_write
from tests.sample_crews import crew_body, new_crew, run, slow_crew, start, wait_for
from tests.server import start_server
from tests.shared_zygote import LIGHT


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("--KasalApp.max_queued=many", "'max_queued' trait"),
        ("--KasalApp.allowed_hosts=not a host!", "KasalApp.allowed_hosts: 'not a host!' is no host"),
    ],
)
def test_with_a_wrong_setting_a_standalone_server_does_not_start(tmp_path, setting, told):
    # Jupyter would go on with the defaults of all settings: another data folder, for one.
    with pytest.raises(AssertionError, match="the server ended at once") as refusal:
        start_server(tmp_path, setting, standalone=True)
    assert "Kasal is not served" in str(refusal.value)
    assert told in str(refusal.value)
    assert not (tmp_path / "data").exists()


def test_with_a_wrong_setting_a_jupyter_server_does_not_serve_kasal(tmp_path):
    server = start_server(tmp_path, "--KasalApp.max_queued=many", ready=None)
    try:
        with server.client() as api:
            assert api.get("/health").status_code == 404
        assert "Kasal is not served" in server.log.read_text()
        assert not (tmp_path / "data").exists()
    finally:
        server.close()


def torn(folder):
    """A database whose pages are zeros from the second on, as after a power cut."""
    with Store.open(folder):
        pass
    file = folder / "kasal.db"
    file.write_bytes(file.read_bytes()[:4096].ljust(file.stat().st_size, b"\0"))


def bad_key(folder):
    folder.mkdir()
    (folder / "tokens.key").write_bytes(b"short")


def no_folder(folder):
    folder.write_text("a file")


def file_in_the_way(folder):
    folder.mkdir()
    (folder / "servers").write_text("a file")


UNUSABLE = {
    "zeros": (torn, "The file is damaged"),
    "a bad key": (bad_key, "Delete it, and a new one is made"),
    "a file for the folder": (no_folder, "it is a file"),
    "a file in the folder": (file_in_the_way, "can't be used"),
}


# A bad key is what keeps the Jupyter server below from its store.
@pytest.mark.parametrize("damage", ["zeros", "a file for the folder", "a file in the folder"])
def test_with_an_unusable_store_a_standalone_server_says_why_and_exits(tmp_path, damage):
    spoil, told = UNUSABLE[damage]
    spoil(tmp_path / "data")
    with pytest.raises(AssertionError, match="the server ended at once") as refusal:
        start_server(tmp_path, standalone=True)
    assert "Kasal is not served" in str(refusal.value)
    assert told in str(refusal.value)
    assert "Traceback" not in str(refusal.value)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("there", [False, True], ids=["empty", "with a store"])
def test_with_a_folder_that_may_only_be_read_a_standalone_server_says_why_and_exits(tmp_path, there):
    folder = tmp_path / "data"
    folder.mkdir()
    if there:
        with Store.open(folder):
            pass
        for file in folder.iterdir():
            file.chmod(0o444)
    folder.chmod(0o555)
    if may_write(folder):
        pytest.skip("this system lets root write everywhere")
    with pytest.raises(AssertionError, match="the server ended at once") as refusal:
        start_server(tmp_path, standalone=True, before=bound_by_modes)
    assert "Kasal is not served" in str(refusal.value)
    assert "can't be" in str(refusal.value)
    assert "Traceback" not in str(refusal.value)


@pytest.fixture(scope="module")
def unusable(tmp_path_factory):
    """A Jupyter server whose data folder has a bad key."""
    room = tmp_path_factory.mktemp("unusable")
    bad_key(room / "data")
    server = start_server(room, "--KasalApp.max_crews=2", ready=None)
    yield server
    server.close()


def test_with_an_unusable_store_a_jupyter_server_says_why_at_every_path(unusable):
    with unusable.client() as api:
        for method, path in (
            *(("GET", path) for path in ("/health", "/crews", "/executions/job_1", "", "/ws", "/nothing")),
            *(("POST", "/crews"), ("PUT", "/maintenance"), ("DELETE", "/crews/crew_1")),
        ):
            answer = api.request(method, path)
            assert answer.status_code == 503, (path, answer.text)
            assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
            assert UNUSABLE["a bad key"][1] in answer.json()["error"]["message"]
            assert int(answer.headers["Retry-After"]) > 0
        # Where the data folder is, is nobody else's business.
        answer = httpx.get(f"{unusable.url}/v1/health")
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "The store can't be opened; the server's log says why"
        # Jupyter itself is served.
        assert httpx.get(f"{unusable.url}/api/status", headers=dict(api.headers)).status_code == 200


def test_the_commands_show_the_message(unusable, capsys, monkeypatch):
    monkeypatch.setenv("KASAL_URL", unusable.url)
    monkeypatch.setenv("KASAL_TOKEN", unusable.token)
    assert main(["crews"]) == 1
    assert UNUSABLE["a bad key"][1] in capsys.readouterr().err


def test_who_asks_while_it_is_loaded_is_answered_when_it_is(tmp_path):
    """Another program holds the lock under which a new folder's key is made."""
    folder = tmp_path / "data"
    folder.mkdir()
    with ThreadPoolExecutor() as threads, contextlib.ExitStack() as ends:
        with FileLock(folder / "tokens.lock"):
            server = start_server(tmp_path, folder=folder, ready=None, environ=LIGHT)
            ends.callback(server.close)
            api = ends.enter_context(server.client())
            body = crew_body() | {"description": "long, " * 1_000 + "whole"}
            waiting = [
                threads.submit(api.get, "/health"),
                threads.submit(api.post, "/crews", json=body),
                threads.submit(api.get, "/nothing"),
            ]
            socket = threads.submit(server.socket)
            with pytest.raises(httpx.ReadTimeout):  # Who goes is missed by nobody.
                httpx.get(f"{server.url}/v1/health", timeout=0.5)
            assert httpx.get(f"{server.url}/login").status_code == 200
            assert not any(each.done() for each in (*waiting, socket))
        health, made, nothing = (each.result(PATIENCE) for each in waiting)
        assert health.json()["status"] == "ok"
        assert made.status_code == 201
        assert api.get(f"/crews/{made.json()['id']}").json()["description"] == body["description"]
        assert nothing.json()["error"]["code"] == "NOT_FOUND"
        with contextlib.closing(socket.result(PATIENCE)) as opened:
            opened.send(json.dumps({"type": "subscribe", "job_id": "job_unknown"}))
            assert json.loads(opened.recv())["type"] == "error"
    assert "Traceback" not in server.log.read_text()


def test_it_serves_once_the_cause_is_gone(unusable):
    """Keep it behind the others: the server is well after it."""
    (unusable.folder / "tokens.key").unlink()
    with unusable.client() as api:
        end = time.monotonic() + PATIENCE
        while api.get("/crews").status_code != 200 and time.monotonic() < end:
            time.sleep(0.2)
        assert api.post("/crews", json=crew_body()).status_code == 201
        assert api.get("/health").json()["status"] == "ok"
    # With its settings.
    with log_in(unusable) as ada:
        statuses = [ada.post("/crews", json=crew_body()) for _ in range(3)]
        assert [each.status_code for each in statuses] == [201, 201, 403]
        assert statuses[2].json()["error"]["code"] == "QUOTA_EXCEEDED"
        assert statuses[2].json()["error"]["details"] == {"used": 3, "limit": 2}


def test_what_failed_at_the_start_is_tried_again_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(wiring, "AGAIN_SECONDS", 0)
    fails = {"well": 0, "ill": 3}
    done = []

    def work_of(name):
        async def work():
            if fails[name]:
                fails[name] -= 1
                raise OSError("not now")
            done.append(name)

        return work

    async def begin():
        kasal = wiring.Kasal(KasalApp(data_folder=str(tmp_path)))
        left = await kasal._done_of({name: work_of(name) for name in ("ill", "well")})
        assert (list(left), done) == (["ill"], ["well"])
        async with asyncio.timeout(PATIENCE):
            await kasal._do_later(left)
        await kasal.close()

    asyncio.run(begin())
    assert done == ["well", "ill"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_signal_ends_the_runs_and_tells_who_follows_them(tmp_path, name):
    """A standalone server by the one, a Jupyter server by the other; both without a terminal."""
    server = start_server(tmp_path, standalone=name == "SIGINT")
    try:
        with server.client() as api, contextlib.closing(server.socket()) as socket:
            job_id = start(api, new_crew(api, slow_crew()))
            socket.send(json.dumps({"type": "subscribe", "job_id": job_id}))
            wait_for(api, job_id, "running")
            server.process.send_signal(getattr(signal, name))
            told = []
            with contextlib.suppress(websocket.WebSocketConnectionClosedException):
                while text := socket.recv():
                    told.append(text)
        assert server.process.wait(PATIENCE) == 0, server.log.read_text()
    finally:
        if server.process.poll() is None:
            end(server.process, server.log)
    assert any('"interrupted"' in text for text in told), told
    assert "stopping" in server.log.read_text()
    with Store.open(server.folder) as store:
        assert store.executions.get(job_id).status == "interrupted"
    assert list((server.folder / "servers").glob("*.lock")) == []


def test_a_second_signal_ends_it_at_once(tmp_path):
    server = start_server(tmp_path, standalone=True, environ=LIGHT)
    try:
        with server.client() as api:
            job_id = start(api, new_crew(api, slow_crew()))
            wait_for(api, job_id, "running")
            children = psutil.Process(server.process.pid).children(recursive=True)
            assert len(children) > 2
            os.kill(server.process.pid, signal.SIGSTOP)
            # Both are there when it goes on.
            server.process.send_signal(signal.SIGINT)
            server.process.send_signal(signal.SIGTERM)
            os.kill(server.process.pid, signal.SIGCONT)
        assert server.process.wait(PATIENCE) in {128 + signal.SIGINT, 128 + signal.SIGTERM}
        psutil.wait_procs(children, timeout=PATIENCE)
        assert not [child for child in children if child.is_running()]
        assert list((tmp_path / "runtime").glob("jpserver-*.json")) == []
    finally:
        if server.process.poll() is None:
            end(server.process, server.log)


def test_an_engine_that_was_stopped_holds_up_no_run_and_outlives_no_server(tmp_path):
    server = start_server(tmp_path, environ=LIGHT)

    def below():
        return psutil.Process(server.process.pid).children(recursive=True)

    try:
        with server.client() as api:
            slow = start(api, new_crew(api, slow_crew()))
            wait_for(api, slow, "running")
            for process in below():
                if process.parent().parent().pid == server.process.pid:  # Below its warden.
                    process.suspend()
            assert run(api, crew_body())[1]["status"] == "completed"
            assert api.get(f"/executions/{slow}").json()["status"] == "running"
        left = below()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):  # Of the run that has ended, e.g.
                process.suspend()
        server.process.kill()
        server.process.wait()
        _, alive = psutil.wait_procs(left, timeout=PATIENCE)
        assert not alive
    finally:
        if server.process.poll() is None:
            end(server.process, server.log)


def test_what_fails_at_the_start_keeps_no_server_from_serving(tmp_path):
    """What is left of others can't be looked at: a folder stands in the place of a file."""
    with Store.open(tmp_path / "data"):
        pass
    sandbox = tmp_path / "data" / "memory"
    sandbox.mkdir()
    (sandbox / "crew_1").mkdir()
    (tmp_path / "data" / "runs").mkdir()
    (tmp_path / "data" / "runs" / "job_1.hook").write_bytes(b"{")
    (tmp_path / "data" / "runs" / "job_2.hook").mkdir()
    server = start_server(tmp_path)
    try:
        with server.client() as api:
            assert api.get("/health").json()["status"] == "ok"
    finally:
        server.close()
