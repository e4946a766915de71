"""The client, against a real server."""

import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest
import websocket
from websockets.sync.server import serve

from kasal_jupyter.client import stream
from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection, refusal_of
from kasal_jupyter.errors import InvalidRequest, NotFound, NotRunnable, Unauthorized, Unavailable
from kasal_jupyter.schemas.crews import CrewCreate

CREW = {
    "name": "Followed",
    "description": "Told once",
    "agents": [{"name": "writer", "role": "Writer", "goal": "Write", "model": "sandbox"}],
    "tasks": [
        {"name": str(number), "description": "Write", "expected_output": "Text", "agent": "writer"}
        for number in range(3)
    ],
}

FOREVER = 1 << 30


@contextmanager
def breaking_line(server_url, lengths):
    """Put a line before a server; a connection breaks after so many bytes, and holds when none are left."""
    server = urlsplit(server_url)
    ends = [socket.create_server(("127.0.0.1", 0))]

    def accept():
        with suppress(OSError):
            while True:
                near, _ = ends[0].accept()
                far = socket.create_connection((server.hostname, server.port))
                ends.extend((near, far))
                length = lengths.pop(0) if lengths else FOREVER
                for arguments in ((near, far, FOREVER), (far, near, length)):
                    threading.Thread(target=carry, args=arguments, daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{ends[0].getsockname()[1]}{server.path}"
    finally:
        shut(*ends)
        thread.join(10)
        for end in ends:
            end.close()


def carry(source, target, length):
    with suppress(OSError):
        while length > 0 and (data := source.recv(min(length, 4096))):
            target.sendall(data)
            length -= len(data)
    shut(source, target)


def shut(*ends):
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def test_a_run_is_followed_across_broken_lines_without_a_gap_or_a_duplicate(client, live_server):
    crew = client.create_crew(CrewCreate.model_validate(CREW))
    job_id = client.start(crew.id).job_id
    whole = list(client.follow(job_id))
    # The first two break in the middle of the events, the third during the handshake.
    lengths = [1_500, 2_500, 20]
    with breaking_line(live_server.url, lengths) as url:
        events = list(Client(Connection(url, live_server.token)).follow(job_id))
    assert lengths == []
    assert events == whole
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_following_goes_on_behind_what_is_known(client):
    crew = client.create_crew(CrewCreate.model_validate(CREW))
    job_id = client.start(crew.id).job_id
    whole = list(client.follow(job_id))
    assert list(client.follow(job_id, after=4)) == whole[4:]


def test_while_nothing_comes_the_caller_gets_its_turn(client):
    slow = CREW | {"agents": [CREW["agents"][0] | {"sandbox": {"latency": 3600}}]}
    job_id = client.start(client.create_crew(CrewCreate.model_validate(slow)).id).job_id
    turns = []

    def turn():
        turns.append(1)
        if len(turns) == 3:
            client.stop(job_id)

    events = list(client.follow(job_id, on_idle=turn))
    assert len(turns) >= 3
    assert events[-1]["status"] == "stopped"


def test_a_line_that_stays_broken_is_given_up(client, live_server, monkeypatch):
    monkeypatch.setattr(stream, "LOST_SECONDS", 0.3)
    with (
        breaking_line(live_server.url, [20] * 100) as url,
        pytest.raises(Unavailable, match="job_1 may still run"),
    ):
        next(Client(Connection(url, live_server.token)).follow("job_1"))


def test_breaks_that_lie_far_apart_are_no_outage(client, live_server, monkeypatch):
    # Each connection holds longer than an outage may last, and no event comes over it before it breaks.
    monkeypatch.setattr(stream, "LOST_SECONDS", 0.2)
    monkeypatch.setattr(stream, "STEADY_SECONDS", 0.3)
    slow = CREW | {"agents": [CREW["agents"][0] | {"sandbox": {"latency": 3600}}]}
    job_id = client.start(client.create_crew(CrewCreate.model_validate(slow)).id).job_id
    follower = client.follow(job_id)
    seen = 0
    while next(follower)["type"] != "llm_call":
        seen += 1
    breaks = []

    def hold(socket, following, after):
        if len(breaks) == 3:
            client.stop(job_id)
            yield from events_of(socket, following, after)
            return
        time.sleep(0.4)
        socket.close()
        breaks.append(after)
        raise ConnectionError("the line broke")

    events_of = stream._events_of
    monkeypatch.setattr(stream, "_events_of", hold)
    events = list(client.follow(job_id, after=seen + 1))
    assert breaks == [seen + 1] * 3
    assert events[-1]["status"] == "stopped"


def test_a_connection_that_the_server_closes_leaves_no_socket_open(monkeypatch):
    end = {"seq": 1, "job_id": "job_1", "type": "execution_status", "status": "completed"}
    answers = [None, json.dumps(end)]

    def serve_one(connection):
        connection.recv()
        if answer := answers.pop(0):
            connection.send(answer)
        connection.close(4008, "too slow")

    opened = []
    create_connection = websocket.create_connection

    def create(*arguments, **options):
        opened.append(create_connection(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(websocket, "create_connection", create)
    with serve(serve_one, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        assert list(Client(Connection(url, "")).follow("job_1")) == [end]
    assert [each.sock for each in opened] == [None, None]


def test_an_updated_crew_is_what_was_sent_and_no_more(client):
    crew = client.create_crew(CrewCreate.model_validate(CREW))
    before = client.crew(crew.id)
    client.update_crew(crew.id, CrewCreate.model_validate({**CREW, "description": ""}))
    after = client.crew(crew.id)
    assert after.description == ""
    assert [task.id for task in after.tasks] == [task.id for task in before.tasks]


def test_a_wrong_token_is_refused_at_once_on_both_ways(live_server):
    client = Client(Connection(live_server.url, "wrong"))
    with pytest.raises(Unauthorized):
        client.crews()
    with pytest.raises(Unauthorized):
        next(client.follow("job_unknown"))
    client.close()


def test_what_does_not_exist_is_not_found_with_the_servers_words(client):
    with pytest.raises(NotFound, match="job_unknown"):
        client.execution("job_unknown")
    with pytest.raises(NotFound, match="job_unknown"):
        next(client.follow("job_unknown"))


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        Client(Connection("http://127.0.0.1:9", "")).crews()


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (400, NotRunnable("No key").body(), NotRunnable),
        (400, {"error": {"code": "NEWER", "message": "?", "details": {}}}, InvalidRequest),
        (502, "<html>Bad Gateway</html>", None),
        (404, {"message": "Jupyter's own"}, NotFound),
    ],
)
def test_a_refusal_is_read_whoever_wrote_it(status, content, kind):
    import orjson

    error = refusal_of(status, orjson.dumps(content))
    if kind is None:
        assert "502" in error.message
    else:
        assert type(error) is kind


def test_what_a_server_sends_is_not_looked_at_byte_by_byte(client, monkeypatch):
    # In Python, as the library does it where nothing compiled is installed, 300 MB take it a minute.
    looked_at = []
    monkeypatch.setattr("websocket._abnf.validate_utf8", lambda data: looked_at.append(len(data)) or True)
    job_id = client.start(client.create_crew(CrewCreate.model_validate(CREW)).id).job_id
    assert list(client.follow(job_id))[-1]["seq"] > 5
    assert looked_at == []
