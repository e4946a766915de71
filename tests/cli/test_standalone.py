import httpx
import pytest
import websocket

from kasal_jupyter.cli.demo import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("standalone")) as process:
        yield process.connect()


def get(server, path, **options):
    return httpx.get(f"{server.url}{path}", headers=server.headers, timeout=60, **options)


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
def test_the_api_is_served_under_both_prefixes(server, prefix):
    assert get(server, f"{prefix}/crews").json()["crews"] == []
    assert get(server, f"{prefix}/health").json()["status"] == "ok"
    assert get(server, f"{prefix}/nothing").json()["error"]["code"] == "NOT_FOUND"
    url = f"{server.url.replace('http', 'ws', 1)}{prefix}/ws?token={server.token}"
    websocket.create_connection(url, timeout=60).close()


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
def test_the_api_says_of_itself_where_it_is(server, prefix):
    assert get(server, f"{prefix}/openapi.json").json()["servers"] == [{"url": prefix}]
    (address,) = (
        variable["value"]
        for variable in get(server, f"{prefix}/postman.json").json()["variable"]
        if variable["key"] == "baseUrl"
    )
    assert address == f"{server.url}{prefix}"
    assert get(server, f"{prefix}/docs").status_code == 200
    assert get(server, f"{prefix}/docs/docs.js").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/kernels",
        "/api/kernelspecs",
        "/api/sessions",
        "/api/contents",
        "/api/terminals",
        "/api/shutdown",
        "/api/config/notebook",
        "/files/server.log",
        "/view/server.log",
        "/nbconvert/html/x.ipynb",
        "/terminals/websocket/1",
        "/lab",
        "/tree",
    ],
)
def test_nothing_else_of_jupyter_is_served(server, path):
    assert get(server, path).status_code == 404
    assert httpx.post(f"{server.url}{path}", headers=server.headers, timeout=60).status_code in {404, 405}


def test_jupyters_login_is_served_and_leads_to_the_docs(server):
    page = httpx.get(f"{server.url}/login", timeout=60)
    assert page.status_code == 200
    assert "password" in page.text.lower()
    home = get(server, "/", follow_redirects=False)
    assert home.status_code == 302
    assert home.headers["location"].rstrip("?").endswith("/v1/docs")


def test_jupyter_is_served_where_it_is_asked_for(tmp_path):
    with ServerProcess(tmp_path, "--KasalApp.with_jupyter=True") as process:
        server = process.connect()
        for path in ("/api/kernels", "/api/contents", "/api/sessions", "/v1/crews"):
            assert get(server, path).status_code == 200
