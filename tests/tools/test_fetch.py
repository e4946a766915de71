"""Requests of tools, against real servers on loopback; only names are looked up in a fake directory."""

import datetime as dt
import gzip
import ssl
import time

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kasal_jupyter.tools.fetch import MAX_REDIRECTS, fetch
from kasal_jupyter.tools.guard import HostGuard, HostRefused, RequestFailed
from tests.servers.endpoint_server import endpoint_server, redirect, reply

HERE = HostGuard(["127.0.0.1"])


def get(url, guard=HERE, **options):
    headers = options.pop("headers", {})
    method = options.pop("method", "GET")
    return fetch(
        httpx.Request(method, url, headers=headers, json=options.pop("json", None)),
        guard,
        **{"timeout": 5, "max_bytes": 100_000, **options},
    )


class Directory:
    """Names and their addresses, one after the other; it notes who was asked for."""

    def __init__(self, **names):
        self.names = {name.replace("_", "."): list(found) for name, found in names.items()}
        self.asked = []

    def __call__(self, host, _port):
        self.asked.append(host)
        found = self.names.get(host, [host])
        return [found.pop(0) if len(found) > 1 else found[0]]


def test_an_answer_is_read(server):
    server.replies["/x"] = reply("grüß Gott", content_type="text/plain; charset=utf-8")
    answer = get(f"{server.url}/x")
    assert (answer.status, answer.text(), answer.complete, answer.is_text) == (200, "grüß Gott", True, True)


def test_without_leave_this_machine_is_not_called(server):
    with pytest.raises(HostRefused, match="this machine"):
        get(f"{server.url}/x", HostGuard())
    assert server.asked == []


def test_a_name_is_looked_up_once_and_its_checked_address_is_called(server):
    # A name that leads to an allowed address first, and to a refused one ever after.
    directory = Directory(tool_example=["127.0.0.1", "127.0.0.2"])
    answer = get(f"http://tool.example:{server.port}/x", HostGuard(["127.0.0.1"], directory))
    assert answer.status == 200
    assert directory.asked == ["tool.example"]
    assert server.asked[0].headers["host"] == f"tool.example:{server.port}"


def test_a_name_that_has_moved_to_a_refused_address_is_refused_on_the_redirect_to_itself(server):
    server.replies["/x"] = reply(b"", 302, Location="/y", Connection="close")
    directory = Directory(tool_example=["127.0.0.1", "127.0.0.2"])
    with pytest.raises(HostRefused, match="no public host"):
        get(f"http://tool.example:{server.port}/x", HostGuard(["127.0.0.1"], directory))
    assert [asked.path for asked in server.asked] == ["/x"]


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.2:8888/api/contents",
        "http://localhost.example/",
        "http://[::ffff:10.0.0.1]/",
        "//10.0.0.1/",
    ],
)
def test_a_redirect_to_a_refused_host_is_not_followed(server, location):
    server.replies["/x"] = redirect(location)
    guard = HostGuard(["127.0.0.1"], Directory(localhost_example=["127.0.0.9"]))
    with pytest.raises(HostRefused):
        get(f"{server.url}/x", guard)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "no web address"),
        ("gopher://127.0.0.1/", "no web address"),
        ("http://ada:secret@127.0.0.1/", "user or a password"),
        ("http://x:port/", "makes no sense"),
    ],
)
def test_a_redirect_to_something_odd_is_not_followed(server, location, reason):
    server.replies["/x"] = redirect(location)
    with pytest.raises(RequestFailed, match=reason):
        get(f"{server.url}/x")


def test_redirects_are_followed_so_far_and_no_further(server):
    for number in range(MAX_REDIRECTS + 1):
        server.replies[f"/{number}"] = redirect(f"/{number + 1}")
    assert get(f"{server.url}/1").status == 200
    with pytest.raises(RequestFailed, match="more than 5 times"):
        get(f"{server.url}/0")


def test_a_redirect_keeps_the_method_and_the_body_where_http_says_so(server):
    server.replies["/307"] = redirect("/end", 307)
    server.replies["/303"] = redirect("/end", 303)
    get(f"{server.url}/307", method="POST", json={"a": 1})
    assert (server.asked[-1].method, server.asked[-1].json()) == ("POST", {"a": 1})
    get(f"{server.url}/303", method="POST", json={"a": 1})
    assert (server.asked[-1].method, server.asked[-1].body) == ("GET", b"")


def test_another_host_does_not_get_the_secrets(server, elsewhere):
    server.replies["/away"] = redirect(f"{elsewhere.url}/end")
    server.replies["/home"] = redirect("/end")
    secrets = {"Authorization": "Bearer s3cret", "X-API-Key": "s3cret"}
    for path in ("/away", "/home"):
        get(f"{server.url}{path}", headers=secrets, secret_headers=["X-API-Key"])
    assert "s3cret" not in str(elsewhere.asked)
    assert elsewhere.asked[-1].headers["host"] == f"127.0.0.1:{elsewhere.port}"
    assert server.asked[-1].headers["authorization"] == "Bearer s3cret"
    assert server.asked[-1].headers["x-api-key"] == "s3cret"


def test_proxies_of_the_environment_are_not_used(server, elsewhere, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, elsewhere.url)
    assert get(f"{server.url}/x").status == 200
    assert elsewhere.asked == []


def test_only_as_much_is_read_as_is_wanted(server):
    server.replies["/long"] = reply(b"x" * 1_000)
    server.replies["/just"] = reply(b"x" * 500)
    assert (get(f"{server.url}/just", max_bytes=500).body, True) == (b"x" * 500, True)
    assert get(f"{server.url}/just", max_bytes=500).complete
    answer = get(f"{server.url}/long", max_bytes=500)
    assert (answer.body, answer.complete) == (b"x" * 500, False)


def test_a_packed_answer_is_unpacked_as_far_as_is_wanted(server):
    server.replies["/small"] = reply(gzip.compress(b"hello"), Content_Encoding="gzip")
    # A thousand times as large when it is unpacked: it would fill the memory.
    server.replies["/bomb"] = reply(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")
    assert get(f"{server.url}/small").text() == "hello"
    answer = get(f"{server.url}/bomb", max_bytes=1_000)
    assert (answer.body, answer.complete) == (bytes(1_000), False)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_an_encoding_that_nobody_asked_for_is_refused(server, encoding):
    server.replies["/x"] = reply(b"hello", Content_Encoding=encoding)
    with pytest.raises(RequestFailed, match="encoding"):
        get(f"{server.url}/x")


def test_a_broken_encoding_is_said(server):
    server.replies["/x"] = reply(b"hello", Content_Encoding="gzip")
    with pytest.raises(RequestFailed, match="makes no sense"):
        get(f"{server.url}/x")


def test_what_drips_in_for_ever_is_given_up(server):
    def drip(handler, _asked):
        handler.send_response(200)
        handler.end_headers()
        while True:  # Ends with the connection.
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.02)

    server.replies["/x"] = drip
    with pytest.raises(RequestFailed, match=r"within 0\.2 seconds"):
        get(f"{server.url}/x", timeout=0.2, max_bytes=1_000_000)


def test_a_server_that_says_nothing_is_given_up(server):
    server.replies["/x"] = lambda _handler, _asked: time.sleep(0.5)
    with pytest.raises(RequestFailed, match="did not answer"):
        get(f"{server.url}/x", timeout=0.1)


def test_a_port_that_nobody_listens_on_is_said(server):
    with endpoint_server() as gone:
        pass
    with pytest.raises(RequestFailed, match=r"connection to 127\.0\.0\.1 failed"):
        get(f"{gone.url}/x")


def test_what_is_no_text_is_told_apart(server):
    server.replies["/png"] = reply(b"\x89PNG", content_type="image/png")
    server.replies["/json"] = reply("{}", content_type="application/problem+json")
    server.replies["/bare"] = reply("hello", content_type=None)
    server.replies["/latin"] = reply("größe".encode("latin-1"), content_type="text/html; charset=latin-1")
    assert not get(f"{server.url}/png").is_text
    assert get(f"{server.url}/json").is_text
    assert get(f"{server.url}/bare").is_text
    assert get(f"{server.url}/latin").text() == "größe"
    server.replies["/odd"] = reply("größe", content_type="text/plain; charset=no-such")
    assert get(f"{server.url}/odd").text() == "größe"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for tool.example, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tool.example")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("tool.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "tool.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def secure(certificate):
    """A server with TLS, and the names that clients asked it for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    names = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with endpoint_server(context) as running:
        yield running, names


def test_tls_is_for_the_name_though_the_connection_is_to_the_address(secure, certificate):
    server, names = secure
    trust = ssl.create_default_context(cafile=certificate)
    guard = HostGuard(["127.0.0.1"], Directory(tool_example=["127.0.0.1"], other_example=["127.0.0.1"]))
    answer = get(f"https://tool.example:{server.port}/x", guard, ssl_context=trust)
    assert answer.status == 200
    assert names == ["tool.example"]
    assert server.asked[0].headers["host"] == f"tool.example:{server.port}"
    with pytest.raises(RequestFailed, match=r"other\.example"):
        get(f"https://other.example:{server.port}/x", guard, ssl_context=trust)
    with pytest.raises(RequestFailed, match=r"(?i)certificate"):
        get(f"https://tool.example:{server.port}/x", guard)
    assert len(server.asked) == 1


def test_encryption_is_not_given_up_on_the_way(secure, certificate, server):
    safe, _ = secure
    safe.replies["/x"] = redirect(f"{server.url}/end")
    guard = HostGuard(["127.0.0.1"], Directory(tool_example=["127.0.0.1"]))
    with pytest.raises(RequestFailed, match="without encryption"):
        get(
            f"https://tool.example:{safe.port}/x",
            guard,
            ssl_context=ssl.create_default_context(cafile=certificate),
        )
    assert server.asked == []
