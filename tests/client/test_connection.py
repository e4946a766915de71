"""Which server a kernel talks to."""

import json
import socket
from urllib.parse import urlsplit

import pytest

from kasal_jupyter.client.connection import Connection
from kasal_jupyter.client.finding import find_server
from kasal_jupyter.errors import InvalidRequest, Unavailable

VARIABLES = (
    "KASAL_URL",
    "KASAL_TOKEN",
    "JUPYTERHUB_SERVICE_URL",
    "JUPYTERHUB_SERVICE_PREFIX",
    "JUPYTERHUB_API_TOKEN",
    "JPY_PARENT_PID",
    "JUPYTER_SERVER_URL",
)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """An environment that names no server; gives the folder of the runtime files."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def write_server(folder, pid, url, token):
    (folder / f"jpserver-{pid}.json").write_text(json.dumps({"url": url, "token": token, "pid": pid}))


def in_hub(monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_SERVICE_URL", "http://0.0.0.0:8888/user/ada/")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "of-the-hub")


def test_what_is_given_wins_over_everything(monkeypatch):
    monkeypatch.setenv("KASAL_URL", "http://elsewhere:1")
    monkeypatch.setenv("KASAL_TOKEN", "of-elsewhere")
    assert find_server("http://here:2/base/", "mine") == Connection("http://here:2/base", "mine")


def test_environment_wins_over_the_hub(monkeypatch):
    in_hub(monkeypatch)
    monkeypatch.setenv("KASAL_URL", "http://elsewhere:1/base/")
    monkeypatch.setenv("KASAL_TOKEN", "of-elsewhere")
    found = find_server()
    assert found == Connection("http://elsewhere:1/base", "of-elsewhere")
    assert found.origin == "KASAL_URL"


def test_hubs_server_is_reached_on_loopback(monkeypatch, nowhere, live_server):
    address = urlsplit(live_server.url)
    write_server(nowhere, 42, "http://localhost:8889/", "of-the-parent")
    monkeypatch.setenv("JPY_PARENT_PID", "42")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_URL", f"http://0.0.0.0:{address.port}{address.path}/")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", f"{address.path}/")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", live_server.token)
    found = find_server()
    assert found == Connection(live_server.url, live_server.token)
    assert found.origin == "JupyterHub"


def test_server_that_started_the_kernel_is_found_among_others(monkeypatch, nowhere, live_server):
    write_server(nowhere, 41, "http://localhost:8888/", "of-somebody-else")
    write_server(nowhere, 42, f"{live_server.url}/", live_server.token)
    monkeypatch.setenv("JPY_PARENT_PID", "42")
    found = find_server()
    assert found == Connection(live_server.url, live_server.token)
    assert found.origin == "the Jupyter server of this kernel"
    assert not found.private


def test_server_in_whose_terminal_one_types_is_found_among_others(monkeypatch, nowhere, live_server):
    write_server(nowhere, 41, "http://localhost:8888/", "of-somebody-else")
    write_server(nowhere, 42, f"{live_server.url}/", live_server.token)
    # As Jupyter's terminals have it.
    monkeypatch.setenv("JUPYTER_SERVER_URL", f"{live_server.url}/")
    found = find_server()
    assert found == Connection(live_server.url, live_server.token)
    assert found.origin == "the Jupyter server of this terminal"


@pytest.mark.parametrize("parent", [None, "42"])
def test_somebody_elses_server_is_never_taken(monkeypatch, nowhere, live_server, parent):
    write_server(nowhere, 41, f"{live_server.url}/", live_server.token)
    monkeypatch.setenv("JUPYTER_SERVER_URL", "http://localhost:8888/")
    if parent:
        monkeypatch.setenv("JPY_PARENT_PID", parent)
    with pytest.raises(Unavailable, match="%kasal connect") as refused:
        find_server(start=False)
    assert "\n" not in refused.value.message


def test_server_that_has_gone_is_not_taken(monkeypatch, nowhere):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        write_server(nowhere, 42, f"http://127.0.0.1:{free.getsockname()[1]}/", "of-the-past")
        monkeypatch.setenv("JPY_PARENT_PID", "42")
        # While it is bound, nobody else can listen there.
        with pytest.raises(Unavailable, match="The Jupyter server of this kernel does not answer"):
            find_server(start=False)


def test_half_written_file_names_no_server(monkeypatch, nowhere):
    (nowhere / "jpserver-42.json").write_text('{"url": "http://loc')
    monkeypatch.setenv("JPY_PARENT_PID", "42")
    with pytest.raises(Unavailable):
        find_server(start=False)


def test_token_is_sent_and_not_shown():
    connection = Connection("https://hub/user/ada", "secret")
    assert connection.headers == {"Authorization": "token secret"}
    assert connection.socket_url == "wss://hub/user/ada/v1/ws"
    assert "secret" not in repr(connection)
    assert Connection("http://here", "").headers == {}


@pytest.mark.parametrize(
    "address",
    [
        "http://here:2/base/lab?token=mine",
        "http://here:2/base/lab/tree/notebooks/a.ipynb?token=mine",
        "http://here:2/base/tree?token=mine",
        "http://here:2/base/?token=mine",
        "http://here:2/base/v1/crews?token=mine",
        "http://here:2/base/api/v1?token=mine",
    ],
)
def test_an_address_may_be_copied_from_a_browser(address):
    assert find_server(address) == Connection("http://here:2/base", "mine")


@pytest.mark.parametrize("address", ["here:8888", "localhost", "ftp://here", "http://"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InvalidRequest, match="begins with http"):
        find_server(address)
