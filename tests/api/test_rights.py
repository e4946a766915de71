"""Whoever has lost a right has lost it now: on connections that are open, and for what runs."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import psutil
import pytest
import websocket

from kasal_jupyter.auth.gate import Accounts
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.schemas.users import UserUpdate
from kasal_jupyter.store.store import Store
from tests.accounts import PASSWORD, log_in
from tests.sample_crews import crew_body, new_crew, run, slow_crew, start, wait_for
from tests.server import start_server
from tests.servers.mcp_server import http_mcp_server
from tests.servers.openai_server import OpenAIServer, Reply


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that runs one execution at a time."""
    started = start_server(tmp_path_factory.mktemp("rights"), "--KasalApp.max_running=1")
    yield started
    started.close()


@pytest.fixture
def owner(server):
    with server.client() as client:
        yield client


@pytest.fixture
def ada(server):
    with log_in(server, "editor") as client:
        yield client


def user_id(client):
    return client.get("/auth/me").json()["id"]


def token_of(client):
    return client.headers["Authorization"].removeprefix("Bearer ")


def wait_until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def open_socket(server, token):
    return websocket.create_connection(
        f"{server.url.replace('http', 'ws', 1)}/v1/ws", header=[f"Authorization: Bearer {token}"], timeout=60
    )


def close_code(connection):
    """Read to the end of a connection; give its close code and the events that came before."""
    events = []
    while True:
        opcode, data = connection.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            connection.shutdown()
            return int.from_bytes(data[:2]), events
        events.append(json.loads(data))


def change_by_another_server(server, user, update):
    """Change a user as another server of the data folder does, or ``jupyter kasal user``."""
    with Store.open(server.folder, SCHEMAS) as store:
        accounts = Accounts.open(store, server.folder)
        asyncio.run(accounts.users.update(user, update))
        accounts.close()


LOSSES = ("disabled", "deleted", "demoted", "logged out", "another password", "disabled elsewhere")


def lose(loss, server, owner, ada):
    """Take a right from a user."""
    match loss:
        case "disabled":
            owner.put(f"/users/{user_id(ada)}", json={"disabled": True})
        case "deleted":
            owner.delete(f"/users/{user_id(ada)}")
        case "demoted":
            owner.put(f"/users/{user_id(ada)}", json={"role": "viewer"})
        case "logged out":
            ada.post("/auth/logout")
        case "another password":
            ada.put("/auth/me", json={"current_password": PASSWORD, "password": "another one"})
        case "disabled elsewhere":
            change_by_another_server(server, user_id(ada), UserUpdate(disabled=True))


@pytest.mark.parametrize("loss", LOSSES)
def test_an_open_websocket_and_an_open_stream_end(server, owner, ada, loss):
    job_id = start(ada, new_crew(ada, slow_crew()))
    following, idle = (open_socket(server, token_of(ada)) for _ in range(2))
    following.send(json.dumps({"type": "subscribe", "job_id": job_id}))
    assert json.loads(following.recv())["seq"] == 1
    with ada.stream("GET", f"/executions/{job_id}/events", headers={"Accept": "text/event-stream"}) as stream:
        pieces = stream.iter_text()
        assert "id: 1" in next(pieces)
        lose(loss, server, owner, ada)
        rest = "".join(pieces)
    assert close_code(following)[0] == close_code(idle)[0] == 4401
    # The stream says so, and is whole as an answer.
    (refused,) = (block for block in rest.split("\n\n") if block.startswith("event: refused"))
    assert json.loads(refused.partition("data: ")[2])["error"]["code"] == "UNAUTHORIZED"
    # What is disabled costs nothing any more; everything else goes on.
    if loss.startswith("disabled") or loss == "deleted":
        assert wait_for(owner, job_id)["status"] == "stopped"
    else:
        assert owner.get(f"/executions/{job_id}").json()["status"] in {"queued", "running"}
        assert owner.post(f"/executions/{job_id}/stop").status_code == 200
        assert owner.get(f"/executions/{job_id}").json()["error"] is None


def test_an_api_key_that_is_revoked_is_revoked_on_open_connections(server, ada):
    key = ada.post("/auth/keys", json={"name": "k"}).json()
    connection = open_socket(server, key["key"])
    other = open_socket(server, token_of(ada))
    assert ada.delete(f"/auth/keys/{key['id']}").status_code == 204
    assert close_code(connection)[0] == 4401
    other.send(json.dumps({"type": "subscribe", "job_id": "job_nope"}))
    assert json.loads(other.recv())["code"] == "NOT_FOUND"
    other.close()


def test_an_admin_who_is_none_any_more_hears_no_more_of_others_runs(server, owner, ada):
    job_id = start(ada, new_crew(ada, slow_crew()))
    with log_in(server, "admin") as admin:
        connection = open_socket(server, token_of(admin))
        connection.send(json.dumps({"type": "subscribe", "job_id": job_id}))
        assert json.loads(connection.recv())["seq"] == 1
        assert owner.put(f"/users/{user_id(admin)}", json={"role": "editor"}).status_code == 200
        # The push of the end looks as well, whichever comes first.
        assert owner.post(f"/executions/{job_id}/stop").status_code == 200
        code, events = close_code(connection)
        assert code == 4401
        assert all(event.get("status") != "stopped" for event in events)


def test_more_rights_and_others_logins_end_nothing(server, owner, ada):
    connection = open_socket(server, token_of(ada))
    connection.send(json.dumps({"type": "subscribe", "job_id": "job_nope"}))
    assert json.loads(connection.recv())["code"] == "NOT_FOUND"
    assert owner.put(f"/users/{user_id(ada)}", json={"role": "admin", "tier": "pro"}).status_code == 200
    with log_in(server, "viewer") as other:
        other.post("/auth/logout")
        job_id = start(owner, new_crew(owner, crew_body()))
    # An admin sees everybody's: what was promised to the open connection as well.
    connection.send(json.dumps({"type": "subscribe", "job_id": job_id}))
    assert json.loads(connection.recv())["seq"] == 1
    # A new token of the same caller's keeps it, another caller's does not change whose it is.
    tokens = owner.post(
        "/auth/login", json={"email": ada.get("/auth/me").json()["email"], "password": PASSWORD}
    ).json()
    said = []
    for token in (tokens["access_token"], server.token):
        connection.send(json.dumps({"type": "auth", "token": token}))
        while "seq" in (message := json.loads(connection.recv())):
            pass
        said.append(message["type"])
    assert said == ["authenticated", "error"]
    connection.close()
    wait_for(owner, job_id)


def test_what_a_disabled_user_has_queued_is_stopped_and_others_runs_are_not(server, owner, ada):
    with log_in(server, "editor") as grace:
        hers = start(ada, new_crew(ada, slow_crew()))
        waiting = [start(ada, new_crew(ada, slow_crew(f"{n}"))) for n in range(3)]
        others = start(grace, new_crew(grace, slow_crew()))
        change_by_another_server(server, user_id(ada), UserUpdate(disabled=True))
        ended = [wait_for(owner, job_id) for job_id in (hers, *waiting)]
        assert {state["status"] for state in ended} == {"stopped"}
        # Whoever looks later, an admin or they themselves, sees that nobody has asked for it.
        assert {state["error"]["code"] for state in ended} == {"USER_DISABLED"}
        wait_for(owner, others, "running")
        assert owner.post(f"/executions/{others}/stop").status_code == 200
    log = server.log.read_text()
    assert all(f"stopped the execution {job_id}: its owner" in log for job_id in (hers, *waiting))


class _Slow(OpenAIServer):
    """A model that answers when it is told to."""

    def __init__(self, text):
        self.told = threading.Event()
        super().__init__(Reply(text))

    def next_reply(self):
        assert self.told.wait(60)
        return super().next_reply()


CREW = """\
name: Late
agents:
  one: {role: One, goal: Do it, backstory: Old}
tasks:
  it: {description: Do it, expected_output: It, agent: one}
"""


def test_a_crew_that_was_long_in_the_making_is_not_stored_for_who_was_disabled(server, owner, ada):
    crews = owner.get("/crews").json()["total"]
    answers = []
    with _Slow(CREW) as model:
        provider = {"base_url": model.url, "api_key": "sk-slow-1", "scope": "server"}
        assert owner.put("/providers/slow", json=provider).status_code == 200
        body = {"description": "Do it", "model": "slow/m", "save": True}
        asking = threading.Thread(target=lambda: answers.append(ada.post("/crews/generate", json=body)))
        asking.start()
        wait_until(lambda: model.requests)
        assert owner.put(f"/users/{user_id(ada)}", json={"disabled": True}).status_code == 200
        # Before their executions are looked for, or after.
        model.told.set()
        asking.join(60)
    assert answers[0].status_code == 401, answers[0].text
    assert owner.get("/crews").json()["total"] == crews


@contextlib.contextmanager
def held(server, program):
    """Hold the processes of one kind that a server starts; give whether one was."""
    stopped, over = [], threading.Event()

    def hold():
        server_process = psutil.Process(server.process.pid)
        while not stopped and not over.is_set():
            for each in server_process.children():
                with contextlib.suppress(psutil.Error):
                    if program in each.cmdline():
                        each.suspend()
                        stopped.append(each)

    holding = threading.Thread(target=hold)
    holding.start()
    try:
        yield stopped
    finally:
        over.set()
        holding.join()
        for each in stopped:
            with contextlib.suppress(psutil.Error):
                each.resume()


CONFINED, PROBE = "kasal_jupyter.confined", "kasal_jupyter.tools.mcp_probe"


@pytest.fixture(scope="module")
def mcp_url(tmp_path_factory):
    with http_mcp_server(tmp_path_factory.mktemp("mcp") / "notes") as running:
        yield running.url


def _import(client, _mcp_url, _ready):
    return client.post("/crews/import", json={"text": CREW})


def _know(client, _mcp_url, ready):
    return client.post(f"/crews/{ready['crew']}/knowledge", json={"name": "a.md", "text": "Tea is green."})


def _register(client, mcp_url, _ready):
    return client.post("/tools/mcp", json={"name": "late", "transport": "http", "url": mcp_url})


def _refresh(client, _mcp_url, ready):
    return client.post(f"/tools/mcp/{ready['mcp']}/refresh")


def _rename(client, _mcp_url, ready):
    return client.put(f"/tools/mcp/{ready['mcp']}", json={"name": "other"})


def _prepared(client, ask, mcp_url):
    """Give a crew of a user's, and an MCP server where one is asked about."""
    crew = new_crew(client, crew_body())
    if ask not in {_refresh, _rename}:
        return {"crew": crew}
    answer = client.post("/tools/mcp", json={"name": "early", "transport": "http", "url": mcp_url})
    assert answer.status_code == 201, answer.text
    return {"crew": crew, "mcp": answer.json()["server_id"]}


def _stored(owner, ready):
    """Give all that such a request could have changed."""
    paths = ["/crews", f"/crews/{ready['crew']}/knowledge", "/tools/mcp"]
    return [owner.get(path).json() for path in paths]


@pytest.mark.parametrize(
    ("ask", "loss"),
    [
        (_import, "disabled"),
        (_know, "demoted"),
        (_register, "logged out"),
        (_refresh, "disabled"),
        (_rename, "demoted"),
    ],
)
def test_what_takes_long_is_stored_for_nobody_who_has_lost_the_right_meanwhile(
    server, owner, mcp_url, ask, loss
):
    program = CONFINED if ask in {_import, _know} else PROBE
    # A server on this machine is for administrators.
    with log_in(server, "admin") as ada:
        ready = _prepared(ada, ask, mcp_url)
        before = _stored(owner, ready)
        answers = []
        with held(server, program) as stopped:
            asking = threading.Thread(target=lambda: answers.append(ask(ada, mcp_url, ready)))
            asking.start()
            wait_until(lambda: stopped)
            lose(loss, server, owner, ada)
        asking.join(60)
        assert answers[0].status_code == 401, answers[0].text
        assert _stored(owner, ready) == before


def test_what_a_provider_has_answered_is_told_to_nobody_who_was_disabled(server, owner, ada):
    with _Slow("Hello") as model:
        provider = {"base_url": model.url, "api_key": "sk-slow-1", "scope": "server"}
        assert owner.put("/providers/tested", json=provider).status_code == 200
        answers = []
        path, body = "/providers/tested/test", {"model": "m"}
        asking = threading.Thread(target=lambda: answers.append(ada.post(path, json=body)))
        asking.start()
        wait_until(lambda: model.requests)
        lose("logged out", server, owner, ada)
        model.told.set()
        asking.join(60)
    assert answers[0].status_code == 401, answers[0].text


def test_a_body_that_comes_slowly_is_taken_of_nobody_who_was_disabled(server, owner, ada):
    crews = owner.get("/crews").json()["total"]
    url = urlsplit(server.url)
    body = json.dumps(crew_body()).encode()
    with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
        head = f"POST {url.path}/v1/crews HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}Authorization: Bearer {token_of(ada)}\r\n\r\n".encode() + body[:9])
        # A request behind it has been answered: that one was let in before.
        assert ada.get("/auth/me").status_code == 200
        assert owner.put(f"/users/{user_id(ada)}", json={"disabled": True}).status_code == 200
        connection.sendall(body[9:])
        assert connection.recv(12) == b"HTTP/1.1 401"
    assert owner.get("/crews").json()["total"] == crews


def test_a_long_download_breaks_off(server, owner, ada):
    job_id = run(ada, crew_body())[1]["job_id"]
    size = 64 << 20
    with (server.folder / "runs" / job_id / "big.bin").open("wb") as file:
        file.truncate(size)
    url = urlsplit(server.url)
    with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
        head = f"GET {url.path}/v1/executions/{job_id}/artifacts/big.bin HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        connection.sendall(f"{head}Authorization: Bearer {token_of(ada)}\r\n\r\n".encode())
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert owner.put(f"/users/{user_id(ada)}", json={"disabled": True}).status_code == 200
        got = 0
        try:
            while data := connection.recv(1 << 20):
                got += len(data)
        except ConnectionResetError:
            pass
    assert got < size


def test_wrong_logins_of_others_behind_one_address_refuse_nobody(server, owner, ada):
    email = ada.get("/auth/me").json()["email"]
    for number in range(50):
        body = {"email": f"nobody{number}@example.com", "password": "a guess"}
        assert owner.post("/auth/login", json=body).status_code == 401
    done = []

    def log_in_as_ada():
        with server.client() as client:
            done.append(client.post("/auth/login", json={"email": email, "password": PASSWORD}))

    people = [threading.Thread(target=log_in_as_ada) for _ in range(3)]
    for each in people:
        each.start()
    for each in people:
        each.join()
    assert [answer.status_code for answer in done] == [200] * 3
