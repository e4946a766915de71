import asyncio
import json
import socket

import httpx
import pytest
import websocket

from kasal_jupyter.api import fanout
from kasal_jupyter.api.fanout import Fanouts, frame
from kasal_jupyter.executions.feed import Feed
from kasal_jupyter.executions.journal import Journal
from tests.sample_crews import ENDED, crew_body, new_crew, run, slow_crew, start, wait_for


def socket_url(live_server):
    return f"{live_server.url.replace('http', 'ws', 1)}/v1/ws"


def subscribe(connection, job_id, **fields):
    connection.send(json.dumps({"type": "subscribe", "job_id": job_id, **fields}))


def to_the_end(connection):
    """Give what comes, as it was sent, up to the run's end."""
    texts = []
    while True:
        texts.append(connection.recv())
        event = json.loads(texts[-1])
        if event["type"] == "execution_status" and event["status"] in ENDED:
            return texts


def read_until_closed(connection):
    """Read on until the server has closed with its code or cut the connection; give the count of frames."""
    got = 0
    while True:
        try:
            code, data = connection.recv_data()
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            return got
        if code == websocket.ABNF.OPCODE_CLOSE:
            assert int.from_bytes(data[:2]) == 4008
            return got
        got += 1


def journal(live_server, job_id):
    return (live_server.folder / "runs" / f"{job_id}.jsonl").read_text().splitlines()


@pytest.fixture
def connection(live_server):
    opened = live_server.socket()
    yield opened
    opened.close()


def test_the_references_events(api, connection):
    job_id = start(api, new_crew(api, crew_body()))
    subscribe(connection, job_id)
    events = [json.loads(text) for text in to_the_end(connection)]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["job_id"] for event in events} == {job_id}
    started = [event for event in events if event["type"] == "task_start"]
    completed = [event for event in events if event["type"] == "task_complete"]
    assert [event["agent"] for event in started] == ["Researcher", "Writer"]
    assert [event["task_id"] for event in started] == [event["task_id"] for event in completed]
    assert completed[-1]["result"] == api.get(f"/executions/{job_id}").json()["result"]


def test_the_references_error(api, connection):
    job_id = start(api, new_crew(api, crew_body(fail_at=1)))
    subscribe(connection, job_id)
    [error] = [event for event in map(json.loads, to_the_end(connection)) if event["type"] == "error"]
    assert error["job_id"] == job_id
    assert error["message"]
    assert error["code"].isupper()


def test_a_run_that_has_ended_is_told_from_its_journal(api, live_server, connection):
    _, state = run(api, crew_body())
    subscribe(connection, state["job_id"])
    assert to_the_end(connection) == journal(live_server, state["job_id"])
    subscribe(connection, state["job_id"], after=3)
    assert to_the_end(connection) == journal(live_server, state["job_id"])[3:]


def test_coming_back_with_after_leaves_no_gap_and_no_duplicate(api, live_server):
    job_id = start(api, new_crew(api, crew_body(answer_words=600, latency=0.2)))
    texts = []
    while not texts or json.loads(texts[-1]).get("status") not in ENDED:
        connection = live_server.socket()
        subscribe(connection, job_id, after=len(texts))
        for _ in range(5):
            texts.append(connection.recv())
            if json.loads(texts[-1]).get("status") in ENDED:
                break
        # Dropped, not closed.
        connection.shutdown()
    assert texts == journal(live_server, job_id)


def test_two_subscribers_get_the_same_bytes(api, live_server, connection):
    job_id = start(api, new_crew(api, crew_body(answer_words=300, latency=0.1)))
    other = live_server.socket()
    subscribe(connection, job_id)
    subscribe(other, job_id)
    assert to_the_end(connection) == to_the_end(other) == journal(live_server, job_id)
    other.close()


TOPIC = "tea " * 470
"""Less than what a prompt quotes of another."""


def wordy(tasks):
    """Describe a crew each of whose tasks takes 400 kB of the journal: no prompt has what another has."""
    body = crew_body()
    body["agents"][0]["tools"] = []
    described = [" ".join(f"{{topic}} {n}.{at}" for at in range(100)) for n in range(tasks)]
    body["tasks"] = [
        {**body["tasks"][0], "name": f"t{n}", "description": text} for n, text in enumerate(described)
    ]
    return body


def test_a_long_past_reaches_a_client_that_reads(api, live_server, connection):
    # Pages of the journal are larger here than what may wait for one client.
    job_id = start(api, new_crew(api, wordy(8)), topic=TOPIC)
    wait_for(api, job_id)
    lines = journal(live_server, job_id)
    assert sum(map(len, lines)) > 2 << 20
    subscribe(connection, job_id)
    assert to_the_end(connection) == lines


def test_an_event_larger_than_what_may_wait_arrives(api, live_server, connection):
    jobs = [start(api, new_crew(api, crew_body()), topic="tea " * 450_000) for _ in range(2)]
    for job_id in jobs:
        wait_for(api, job_id)
        subscribe(connection, job_id)
    got = to_the_end(connection) + to_the_end(connection)
    for job_id in jobs:
        assert [text for text in got if json.loads(text)["job_id"] == job_id] == journal(live_server, job_id)


def test_what_is_no_message_is_answered_and_changes_nothing(api, connection):
    for garbage in ("garbage", "", "[]", "{}", '{"type": "shout", "job_id": "x"}', '{"type": "subscribe"}'):
        connection.send(garbage)
        answer = json.loads(connection.recv())
        assert answer["type"] == "error"
        assert answer["code"] == "VALIDATION_ERROR"
        assert "seq" not in answer
    subscribe(connection, "job_nope")
    answer = json.loads(connection.recv())
    assert (answer["type"], answer["code"], answer["job_id"]) == ("error", "NOT_FOUND", "job_nope")
    job_id = start(api, new_crew(api, crew_body()))
    subscribe(connection, job_id, after=-1)
    assert json.loads(connection.recv())["details"]["field"] == "after"
    subscribe(connection, job_id)
    assert len(to_the_end(connection)) > 2


def test_nothing_comes_after_unsubscribing(api, connection):
    slow = start(api, new_crew(api, slow_crew()))
    subscribe(connection, slow)
    assert json.loads(connection.recv())["seq"] == 1
    connection.send(json.dumps({"type": "unsubscribe", "job_id": slow}))
    # Messages are taken in order: its answer says that the one before was taken, too.
    subscribe(connection, "job_nope")
    while json.loads(connection.recv()).get("code") != "NOT_FOUND":
        pass
    api.post(f"/executions/{slow}/stop")
    other = start(api, new_crew(api, crew_body()))
    subscribe(connection, other)
    assert {json.loads(text)["job_id"] for text in to_the_end(connection)} == {other}


@pytest.mark.parametrize("token", ["wrong", "kasal_wrong", "eyJhbGciOiJub25lIn0.e30."])
def test_a_wrong_token_is_refused_before_the_upgrade(live_server, token):
    for how in ({"header": [f"Authorization: Bearer {token}"]}, {}):
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            websocket.create_connection(f"{socket_url(live_server)}?token={'' if how else token}", **how)
        assert refusal.value.status_code == 401


def test_the_token_may_come_as_the_first_message(api, live_server):
    job_id = start(api, new_crew(api, crew_body()))
    connection = websocket.create_connection(socket_url(live_server), timeout=60)
    connection.send(json.dumps({"type": "auth", "token": live_server.token}))
    assert json.loads(connection.recv())["type"] == "authenticated"
    subscribe(connection, job_id)
    assert json.loads(to_the_end(connection)[-1])["status"] == "completed"
    connection.shutdown()


@pytest.mark.parametrize(
    "first",
    [{"type": "subscribe", "job_id": "job_1"}, {"type": "auth", "token": "wrong"}, {"type": "auth"}, {}],
)
def test_a_caller_who_says_nothing_valid_first_is_closed(live_server, first):
    connection = websocket.create_connection(socket_url(live_server), timeout=60)
    connection.send(json.dumps(first))
    assert json.loads(connection.recv())["type"] == "error"
    opcode, data = connection.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    assert int.from_bytes(data[:2]) == 4401
    connection.shutdown()


def test_a_page_of_another_origin_is_not_let_in_by_a_cookie(live_server):
    with httpx.Client() as browser:
        browser.get(f"{live_server.url}/login", params={"token": live_server.token})
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    answers = []
    for origin in (live_server.url.rsplit("/", 1)[0], "http://evil.example"):
        connection = websocket.create_connection(
            socket_url(live_server), cookie=cookie, origin=origin, timeout=60
        )
        connection.send(json.dumps({"type": "subscribe", "job_id": "job_nope"}))
        answers.append(json.loads(connection.recv())["code"])
        connection.shutdown()
    assert answers == ["NOT_FOUND", "UNAUTHORIZED"]


def test_a_client_that_stops_reading_is_closed_and_others_get_everything(api, live_server, connection):
    deaf = websocket.create_connection(
        f"{live_server.url.replace('http', 'ws', 1)}/v1/ws",
        header=[f"Authorization: token {live_server.token}"],
        sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),),
        timeout=60,
    )
    job_id = start(api, new_crew(api, wordy(30)), topic=TOPIC)
    subscribe(deaf, job_id)
    subscribe(connection, job_id)
    texts = []
    while not texts or json.loads(texts[-1]).get("status") not in ENDED:
        if text := connection.recv():
            texts.append(text)
        else:
            # So much at once may be too much for a busy machine; who comes back gets the rest.
            connection.shutdown()
            connection = live_server.socket()
            subscribe(connection, job_id, after=len(texts))
    connection.shutdown()
    assert texts == journal(live_server, job_id)
    got = read_until_closed(deaf)
    deaf.shutdown()
    assert got < len(journal(live_server, job_id))


class Client:
    """Takes what a socket would write."""

    def __init__(self):
        self.got = []

    def push(self, frames):
        self.got.append(frames)

    def done(self, job_id):
        self.got.append(job_id)


def event(number):
    return b'{"time":"2024-01-15T14:00:05.000000Z","type":"llm_chunk","text":"%d"}' % number


async def sent_to(clients, tmp_path, events):
    """Have clients follow a run, in which events happen at once; give them as they stand in its journal."""
    feed = Feed(Journal.create(tmp_path / "job_1.jsonl"))
    fanouts = Fanouts()
    for client in clients:
        fanouts.of(feed, feed.journal.seq).join(client)
    feed.append(events)
    await asyncio.sleep(2 * fanout.TICK_SECONDS)
    return feed.journal.read()


def test_an_event_is_framed_once_for_however_many_clients(tmp_path, monkeypatch):
    framed = []
    monkeypatch.setattr(fanout, "frame", lambda text: framed.append(text) or frame(text))
    clients = [Client() for _ in range(500)]
    lines = asyncio.run(sent_to(clients, tmp_path, [event(1), event(2)]))
    assert framed == lines
    # Both in one piece, and not a copy for anybody.
    [sent] = clients[0].got
    assert sent == b"".join(map(frame, lines))
    assert all(len(client.got) == 1 and client.got[0] is sent for client in clients)


@pytest.mark.parametrize(
    ("size", "head"),
    [(5, b"\x81\x05"), (126, b"\x81\x7e\x00\x7e"), (1 << 16, b"\x81\x7f" + (1 << 16).to_bytes(8))],
)
def test_a_frame_says_how_long_it_is(size, head):
    assert frame(b"x" * size) == head + b"x" * size
