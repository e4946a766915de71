"""No request has the log written what lets somebody in, whatever becomes of it."""

import json
import secrets
import socket
from itertools import cycle
from urllib.parse import quote, urlsplit

import httpx
import pytest
import websocket

from kasal_jupyter.api.logged import CredentialFilter, hide_credentials
from kasal_jupyter.api.openapi import ID_EXAMPLES, endpoints
from kasal_jupyter.api.routes import RESOURCES
from tests.accounts import log_in
from tests.server import start_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that logs every request, and has a resource that fails."""
    room = tmp_path_factory.mktemp("logged")
    enabled = room / "config" / "jupyter_server_config.d" / "failing.json"
    enabled.parent.mkdir(parents=True)
    extensions = {"tests.servers.failing_extension": True}
    enabled.write_text(json.dumps({"ServerApp": {"jpserver_extensions": extensions}}))
    started = start_server(room, "--KasalApp.warm=use", "--debug")
    yield started
    started.close()


@pytest.fixture(scope="module")
def standalone(tmp_path_factory):
    """A server of Kasal's own, which answers for all that is outside the API as well."""
    started = start_server(tmp_path_factory.mktemp("alone"), "--KasalApp.warm=use", standalone=True)
    yield started
    started.close()


@pytest.fixture
def clean(request):
    """Give a server, whose log must not have any of the secrets that are noted, whole or the half of one."""
    running = request.getfixturevalue(getattr(request, "param", "server"))
    before = running.log.stat().st_size
    used = []
    yield running, used
    # What was sent has been handled once the server has answered the next request on a connection of its own.
    with running.client() as client:
        assert client.get("/health").status_code == 200
    log = running.log.read_bytes()[before:].decode(errors="replace")
    for secret in used:
        assert secret not in log, secret
        assert secret[: len(secret) // 2] not in log, secret
    assert "Traceback" not in log or "fail" in log, log


SECRET_FORMS = (
    lambda: f"kasal_{secrets.token_urlsafe(32)}",
    lambda: f"eyJhbGciOiJIUzI1NiJ9.{secrets.token_urlsafe(40)}.{secrets.token_urlsafe(30)}",
    lambda: secrets.token_hex(24),
    lambda: f"correct horse {secrets.token_hex(6)} 'battery'",
)


def every_request():
    """Each endpoint's method and path, ids filled in; what is nothing, and what has no such method."""
    for each in endpoints(RESOURCES):
        path = each.path
        for name, example in ID_EXAMPLES.items():
            path = path.replace(f"{{{name}}}", example)
        yield each.method, path
    yield from (("GET", "/nothing"), ("PATCH", "/crews"), ("BREW", "/crews"), ("GET", "/ws"))
    yield from (("GET", "/docs/docs.js"), ("OPTIONS", "/crews"))


def test_a_credential_in_every_place_of_every_request(clean):
    server, used = clean
    statuses = set()
    forms = cycle(SECRET_FORMS)

    def secret():
        used.append(next(forms)())
        return used[-1]

    with httpx.Client(base_url=f"{server.url}/v1", timeout=60) as anybody, server.client() as owner:
        for method, path in every_request():
            places = {
                "params": {name: secret() for name in ("token", "search", "api_key", "tokn", "kasal")},
                "headers": {
                    "Authorization": f"Bearer {secret()}",
                    "X-API-Key": secret(),
                    "Idempotency-Key": secret(),
                    "Referer": f"http://127.0.0.1/?token={secret()}",
                    "Cookie": f'username-127-0-0-1="2|1:0|10:1|23:x|44:{secret()}"; _xsrf={secret()}',
                    "Last-Event-ID": secret(),
                },
                "json": {"password": secret(), secret(): [secret()], "email": secret()},
            }
            # Who is not known, who is, and with each of the places alone.
            statuses.add(anybody.request(method, path, **places).status_code)
            del places["headers"]["Authorization"], places["headers"]["Cookie"]
            statuses.add(owner.request(method, path, **places).status_code)
            statuses.add(owner.request(method, path, json=places["json"]).status_code)
            statuses.add(owner.request(method, f"{path}/{secret()}").status_code)
            statuses.add(owner.request(method, path, params={secret(): "1"}).status_code)
    assert statuses >= {200, 400, 401, 404, 405}


def test_a_credential_of_a_failing_request(clean):
    server, used = clean
    for form in SECRET_FORMS:
        used += [form() for _ in range(6)]
        query, header, path, cookie, password, email = used[-6:]
        with httpx.Client(base_url=f"{server.url}", timeout=60) as client:
            answer = client.get(
                f"/fail/{path}",
                params={"token": query, "x": header},
                headers={"X-Key": header, "Cookie": f"a={cookie}", "Referer": f"http://a/?token={query}"},
            )
            assert answer.status_code == 500
            answer = client.post("/fail/x", json={"password": password, "email": email.lower()[:60]})
            assert answer.status_code == 500
    # It is no less a traceback.
    log = server.log.read_text()
    assert "failing_extension.py" in log
    assert "builtins.ValueError: (the message is left out: it quotes the request)" in log


def test_credentials_of_refusals_and_of_bodies_that_are_taken(clean):
    server, used = clean
    with log_in(server, "viewer") as viewer, server.client() as owner:
        token = viewer.headers["Authorization"].removeprefix("Bearer ")
        used += [token, server.token, "secure_password", "sk-ant-a-real-one-0123456789"]
        key = viewer.post("/auth/keys", json={"name": "k"}).json()["key"]
        used.append(key)
        # 200, 403 and 401, each with the token in its address.
        for method, status in (("GET", 200), ("POST", 403)):
            answer = httpx.request(method, f"{server.url}/v1/crews?token={key}", json={"name": key})
            assert answer.status_code == status
        assert httpx.get(f"{server.url}/v1/crews?token={token}x").status_code == 401
        answer = httpx.get(f"{server.url}/v1/crews?token={server.token}", headers={"Host": "evil.example"})
        assert answer.status_code == 403
        foreign = {"Origin": "http://evil.example"}
        assert httpx.get(f"{server.url}/v1/crews?token={server.token}", headers=foreign).status_code == 200
        assert httpx.get(f"{server.url}/v1/crews?token=%ff{server.token}").status_code in {400, 401}
        owner.put("/providers/anthropic", json={"api_key": used[3]})
        tool = {"name": "t", "description": "d", "endpoint": "https://example.com/x", "secret": used[3]}
        owner.post("/tools/custom", json={**tool, "auth_type": "bearer"})
        owner.post("/auth/login", json={"email": "a@example.com", "password": used[3]})
        owner.post("/auth/refresh", json={"refresh_token": used[3]})
        viewer.put("/auth/me", json={"current_password": "secure_password", "password": used[3]})
        # Too large, as announced and as it comes.
        assert owner.post("/crews", content=key * 50_000).status_code == 400
        assert owner.post("/crews", content=iter([key.encode() * 1_000] * 60)).status_code == 400


def test_a_credential_of_a_websocket(clean):
    server, used = clean
    url = f"{server.url.replace('http', 'ws', 1)}/v1/ws"
    for form in SECRET_FORMS:
        used.append(form())
        with pytest.raises(websocket.WebSocketBadStatusException):
            websocket.create_connection(f"{url}?token={quote(used[-1])}", timeout=30)
        for message in ({"type": "auth", "token": used[-1]}, {"type": used[-1]}, used[-1], [used[-1]]):
            connection = websocket.create_connection(url, timeout=30)
            connection.send(json.dumps(message))
            connection.recv()
            connection.close()


@pytest.mark.parametrize("clean", ["server", "standalone"], indirect=True)
@pytest.mark.parametrize(
    "request_text",
    [
        "GET {path}/v1/crews HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization Bearer {secret}\r\n\r\n",
        "GET {path}/v1/crews?token={secret} HTTX/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET {path}/v1/crews?token={secret}\r\n\r\n",
        "POST {path}/v1/crews HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: Bearer {secret}\r\n\r\n",
        "POST {path}/v1/crews HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n{secret}\r\n",
        "GET {path}/v1/crews HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: a=b\r\n\tBearer {secret}\x00\r\n\r\n",
        "GET {path}/v1/crews HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: username-127-0-0-1=1|2|{secret}\r\n\r\n",
    ],
)
def test_a_credential_in_what_is_no_request(clean, request_text):
    server, used = clean
    url = urlsplit(server.url)
    for form in SECRET_FORMS[:2]:
        used.append(form())
        with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
            connection.sendall(request_text.format(path=url.path, secret=used[-1]).encode())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass


@pytest.mark.parametrize("clean", ["standalone"], indirect=True)
def test_a_credential_outside_of_the_api(clean):
    server, used = clean
    for form in SECRET_FORMS[:2]:
        used += [form(), form(), server.token]
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for path in (
                "/",
                "/login",
                "/logout",
                "/nothing",
                f"/{used[-3]}",
                f"/{server.token}",
                "/api/kernels",
            ):
                client.get(path, params={"token": used[-2], "next": f"/?token={used[-3]}"})
                client.post(path, params={"token": used[-2]}, data={"password": used[-3]})
                client.get(f"{path}?token={server.token}", headers={"Referer": f"http://a/?token={used[-2]}"})


@pytest.mark.parametrize(
    "text",
    [
        "?" * 20_000,
        "?" + "token" * 4_000,
        "-eyJ" * 5_000,
        "eyJaaaa." * 2_500,
        "bearer " * 3_000,
        "?a" * 10_000,
    ],
)
def test_hiding_takes_no_longer_than_reading(text, record_property):
    # Not by the clock: a quadratic expression would take minutes here, and the test's own limit.
    for _ in range(20):
        hide_credentials(text)


def test_what_is_known_is_hidden_however_it_looks():
    assert CredentialFilter(["", "tests-own-token"]).hide("GET /tests-own-token") == "GET /…"
