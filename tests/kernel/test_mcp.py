"""`%kasal mcp` in a real kernel."""

import pytest

from tests.kernels import kernel_of
from tests.servers.mcp_server import http_mcp_server


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        yield running


def test_servers_and_their_tools_are_listed(kernel, api, tmp_path):
    with http_mcp_server(tmp_path / "notes") as web:
        body = {"name": "shown", "transport": "http", "url": web.url, "tools": ["add", "slow"]}
        assert api.post("/tools/mcp", json=body).status_code == 201
    listed = kernel.run("%kasal mcp").shown[0]["text/plain"]
    assert "shown" in listed
    assert web.url in listed
    tools = kernel.run("%kasal mcp shown").shown[0]["text/plain"]
    assert "shown_add" in tools
    assert "Add two numbers." in tools
    # Among the tools it says where they are from.
    assert "mcp" in next(
        line for line in kernel.run("%kasal tools").shown[0]["text/plain"].splitlines() if "shown_add" in line
    )
    missing = kernel.run("%kasal mcp shwon")
    assert "did you mean 'shown'?" in str(missing.error)
