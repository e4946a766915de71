"""The environment's proxies and authorities: for what is elsewhere, and never for this machine's own."""

import httpx
import pytest

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.client.stream import open_socket
from kasal_jupyter.errors import Unavailable
from kasal_jupyter.models.served import Asker, AskFailed
from kasal_jupyter.outward import NoWayOut, client_options, fault, is_loopback, proxy_for, settle
from kasal_jupyter.tools.fetch import RequestFailed, fetch
from kasal_jupyter.tools.guard import HostGuard, HostRefused
from tests.processes import PATIENCE
from tests.servers.endpoint_server import endpoint_server, reply
from tests.servers.proxy_server import Proxy

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")

DEAD = "127.0.0.1:9"

HOSTILE = {
    "http_proxy": {"http_proxy": f"http://{DEAD}", "https_proxy": f"http://{DEAD}"},
    "HTTP_PROXY": {"HTTP_PROXY": DEAD, "HTTPS_PROXY": DEAD},
    "ALL_PROXY socks": {"ALL_PROXY": f"socks://{DEAD}/"},
    "ALL_PROXY socks5": {"all_proxy": f"socks5://{DEAD}"},
    "no_proxy": {"http_proxy": f"http://{DEAD}", "no_proxy": "example.org"},
    "no proxy at all": {"ALL_PROXY": "nonsense://", "https_proxy": "::::"},
    "SSL_CERT_FILE": {"SSL_CERT_FILE": "/nowhere.pem"},
    "SSL_CERT_DIR": {"SSL_CERT_DIR": "/nowhere"},
    "REQUESTS_CA_BUNDLE": {"REQUESTS_CA_BUNDLE": "/nowhere.pem"},
}
"""What has kept everything from running."""


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    for name in (*VARIABLES, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=HOSTILE)
def hostile(request, monkeypatch):
    """Set one of the environments that nothing on this machine may notice."""
    for name, value in HOSTILE[request.param].items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def server():
    with endpoint_server() as made:
        yield made


@pytest.fixture
def proxy(server):
    with Proxy(server.port) as made:
        yield made


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]", "kasal.localhost", "LOCALHOST."]
)
def test_this_machine_is_asked_directly_whatever_is_set(host, hostile):
    assert is_loopback(f"http://{host}:8888/a")
    assert proxy_for(f"http://{host}:8888/a") is None
    assert proxy_for(f"ws://{host}:8888/a") is None
    httpx.Client(**client_options(f"http://{host}:8888")).close()


@pytest.mark.parametrize(
    "address", ["https://localhost.example.org", "http://10.0.0.1", "http://[::2]", "http://", "x"]
)
def test_what_only_looks_like_it_is_not(address):
    assert not is_loopback(address)


def test_requests_events_lists_and_tools_reach_it(hostile, live_server):
    client = Client(Connection(live_server.url, live_server.token))
    assert client.health()["status"] == "ok"
    open_socket(client.connection).close()
    client.close()


def test_a_models_server_and_a_tools_on_it_are_reached(hostile, server):
    server.replies["/models"] = reply(b'{"data": []}')
    with Asker(server.url, None, 5, None) as asker:
        assert asker.ask("/models") == {"data": []}
    request = httpx.Request("GET", f"{server.url}/models")
    assert fetch(request, HostGuard(["127.0.0.1"]), timeout=PATIENCE, max_bytes=100).status == 200


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SSL_CERT_FILE", "/nowhere.pem", "SSL_CERT_FILE is '/nowhere.pem'"),
        ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE is"),
        ("SSL_CERT_DIR", "/nowhere", "SSL_CERT_DIR is '/nowhere'"),
        ("REQUESTS_CA_BUNDLE", "/nowhere.pem", "REQUESTS_CA_BUNDLE is '/nowhere.pem'"),
        ("https_proxy", "ftp://proxy:1", "https_proxy names no proxy"),
        ("ALL_PROXY", "http://", "ALL_PROXY names no proxy"),
        ("HTTPS_PROXY", "http://proxy:99999", "HTTPS_PROXY names no proxy"),
    ],
)
def test_what_is_wrong_is_named_to_what_goes_that_way(monkeypatch, name, value, told):
    monkeypatch.setenv(name, value)
    assert told in fault("https://example.org")
    assert fault("http://127.0.0.1:8000") is None or name == "REQUESTS_CA_BUNDLE"
    if name == "REQUESTS_CA_BUNDLE":
        return
    with pytest.raises(NoWayOut, match=name):
        client_options("https://example.org")
    elsewhere = Connection("https://example.org", "")
    with pytest.raises(Unavailable, match=name):
        Client(elsewhere).health()
    with pytest.raises(Unavailable, match=name):
        open_socket(elsewhere)
    with pytest.raises(AskFailed, match=name):
        Asker("https://example.org", None, 5, None)


def test_a_password_of_a_proxys_is_not_shown(monkeypatch):
    monkeypatch.setenv("https_proxy", f"http://ada:s3cret@{DEAD}")
    assert "s3cret" not in repr(proxy_for("https://example.org"))
    with pytest.raises(
        Unavailable, match=r"asked through the proxy http://127\.0\.0\.1:9 of https_proxy"
    ) as refused:
        Client(Connection("https://example.org", "")).health()
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["http", "socks", "socks5"])
def test_what_is_elsewhere_is_asked_through_the_proxy(monkeypatch, server, proxy, scheme):
    monkeypatch.setenv("ALL_PROXY", proxy.url(scheme))
    monkeypatch.setenv("NO_PROXY", "direct.test")
    server.replies["/models"] = reply(b'{"data": []}')
    server.replies["/page"] = reply(b"hello")
    with Asker("http://models.test", None, 5, None) as asker:
        assert asker.ask("/models") == {"data": []}
    page = fetch(httpx.Request("GET", "http://pages.test/page"), HostGuard(), timeout=PATIENCE, max_bytes=100)
    assert page.body == b"hello"
    with pytest.raises((AskFailed, RequestFailed)):
        fetch(httpx.Request("GET", "https://pages.test/page"), HostGuard(), timeout=PATIENCE, max_bytes=100)
    assert proxy_for("http://direct.test/x") is None
    assert proxy.asked == (
        ["GET http://models.test/models", "GET http://pages.test/page", "CONNECT pages.test:443"]
        if scheme == "http"
        else ["SOCKS models.test:80", "SOCKS pages.test:80", "SOCKS pages.test:443"]
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/x",
        "http://169.254.169.254/x",
        "http://intranet/x",
        "http://printer.local/x",
        "http://127.1/x",
    ],
)
def test_a_tool_reaches_no_inner_host_through_the_proxy(monkeypatch, proxy, url):
    monkeypatch.setenv("http_proxy", proxy.url())
    with pytest.raises(HostRefused):
        fetch(httpx.Request("GET", url), HostGuard(), timeout=PATIENCE, max_bytes=100)
    with pytest.raises(HostRefused):
        fetch(httpx.Request("GET", "http://pages.test/"), HostGuard(None), timeout=PATIENCE, max_bytes=100)
    assert proxy.asked == []


def test_others_clients_are_told_the_same(monkeypatch):
    environ = {"ALL_PROXY": "socks://proxy:1080", "http_proxy": "proxy:3128", "no_proxy": "corp.test"}
    settle(environ)
    assert environ == {
        "ALL_PROXY": "socks5://proxy:1080",
        "http_proxy": "http://proxy:3128",
        "no_proxy": "corp.test,localhost,127.0.0.1,::1",
        "NO_PROXY": "corp.test,localhost,127.0.0.1,::1",
    }
    everything = {"NO_PROXY": "*"}
    settle(everything)
    assert everything["NO_PROXY"] == "*"
