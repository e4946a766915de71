"""Whoever is not known holds neither memory nor places of the server's, and nobody else's."""

import json
import socket
import time
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import psutil
import pytest
import websocket

from tests.server import start_server

MOST = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that gives a known caller's body some seconds, and 20 places to strangers of one address."""
    started = start_server(
        tmp_path_factory.mktemp("strangers"),
        "--KasalApp.warm=use",
        "--KasalApp.stranger_seconds=2",
        "--KasalApp.body_seconds=2",
        "--KasalApp.head_seconds=2",
        f"--KasalApp.max_strangers={MOST}",
        "--KasalApp.max_bodies_bytes=3000000",
        standalone=True,
    )
    yield started
    started.close()


@pytest.fixture
def connections():
    with ExitStack() as opened:
        yield opened


def connect(server, connections, head, sent=b""):
    """Send the head of a request, and some of its body; whoever has closed has not to be told."""
    url = urlsplit(server.url)
    connection = connections.enter_context(socket.create_connection((url.hostname, url.port), timeout=60))
    connection.sendall(head.format(path=f"{url.path}/v1", token=server.token).replace("\n", "\r\n").encode())
    with suppress(ConnectionError):
        connection.sendall(sent)
    return connection


def answer(connection):
    """Read what comes until the server closes; a status of 0: it has said nothing."""
    data = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65_536):
            data += piece
    return int(data[9:12] or 0), data


POST = "POST {path}/crews HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 1900000\n\n"
KNOWN = POST.replace("\n\n", "\nAuthorization: token {token}\n\n")


def test_bodies_of_strangers_are_not_kept_and_their_connections_end(server, connections):
    memory = psutil.Process(server.process.pid).memory_info().rss
    crowd = [connect(server, connections, POST, b"x" * 1_800_000) for _ in range(60)]
    with server.client() as client:
        assert client.get("/health").status_code == 200
    # Kept, they were 108 MB.
    assert psutil.Process(server.process.pid).memory_info().rss - memory < 40 << 20
    statuses = {answer(connection)[0] for connection in crowd}
    # Too many of one address are refused at once; the others' time is up.
    assert statuses <= {0, 401, 429}


def test_a_refused_body_that_comes_whole_is_answered_and_the_connection_closed(server, connections):
    connection = connect(server, connections, POST, b"x" * 1_900_000)
    status, data = answer(connection)
    assert status == 401
    assert b"\r\nConnection: close\r\n" in data
    assert json.loads(data.partition(b"\r\n\r\n")[2])["error"]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize("path", ["login", "refresh", "logout"])
def test_logins_are_small(server, connections, path):
    head = POST.replace("crews", f"auth/{path}")
    assert answer(connect(server, connections, head))[0] in {400, 401}
    head = head.replace("1900000", "6000").replace("\n\n", "\nConnection: close\n\n")
    assert answer(connect(server, connections, head, b"x" * 6_000))[0] in {400, 401}


@pytest.mark.parametrize(
    ("head", "sent"),
    [
        ("GET {path}/crews HTTP/1.1\nHost: 127", b""),
        ("", b""),
        (KNOWN, b"x" * 1_000),
        (KNOWN.replace("Content-Length: 1900000", "Transfer-Encoding: chunked"), b"5\r\nhello\r\n"),
        (POST.replace("crews", "auth/login").replace("1900000", "100"), b"{"),
        ("GET {path}/health HTTP/1.1\nHost: 127.0.0.1\n\n", b""),
    ],
)
def test_what_does_not_come_is_not_waited_for(server, connections, head, sent):
    answer(connect(server, connections, head, sent))


def trickle(connection):
    """Send a body byte by byte, for as long as it is taken."""
    for _ in range(600):
        connection.sendall(b"x")
        time.sleep(0.05)


def test_what_comes_slowly_is_not_waited_for(server, connections):
    connection = connect(server, connections, KNOWN)
    with pytest.raises(ConnectionError):
        trickle(connection)


def test_one_caller_has_so_many_bytes_under_way(server, connections):
    both = [connect(server, connections, KNOWN, b"x") for _ in range(2)]
    # What is small has room beside one that is slow.
    with server.client() as client:
        small = {"name": "C", "agents": [{"role": "R", "goal": "G"}]}
        assert client.post("/crews", json=small).status_code == 201
    answers = [answer(connection) for connection in both]
    # Whichever came second is refused at once; the other's time is up.
    refused = [data for status, data in answers if status == 429]
    assert len(refused) == 1
    assert b"Retry-After" in refused[0]
    # Its place is given back.
    connection = connect(server, connections, KNOWN.replace("\n\n", "\nConnection: close\n\n"))
    connection.sendall(b"x" * 1_900_000)
    assert answer(connection)[0] == 400


def open_socket(server):
    return websocket.create_connection(f"{server.url.replace('http', 'ws', 1)}/v1/ws", timeout=60)


def test_sockets_that_say_nothing_are_counted_by_address_and_end(server):
    crowd = [open_socket(server) for _ in range(MOST)]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        open_socket(server)
    assert refused.value.status_code == 429
    # Whoever says who they are is not one of them, whatever the crowd.
    known = server.socket()
    crowd[0].send(json.dumps({"type": "auth", "token": server.token}))
    assert json.loads(crowd[0].recv())["type"] == "authenticated"
    open_socket(server).close()
    for each in crowd[1:]:
        opcode, data = each.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        assert int.from_bytes(data[:2]) == 4401
        each.shutdown()
    for each in (known, crowd[0]):
        each.send(json.dumps({"type": "subscribe", "job_id": "job_nope"}))
        assert json.loads(each.recv())["code"] == "NOT_FOUND"
        each.close()


def test_a_message_is_small(server):
    connection = server.socket()
    connection.send("x" * 100_000)
    frame = connection.recv_frame()
    assert (frame.opcode, int.from_bytes(frame.data[:2])) == (websocket.ABNF.OPCODE_CLOSE, 1009)
    connection.shutdown()
