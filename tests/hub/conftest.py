"""One hub for all tests of this folder."""

import pytest

from tests.hub.hub import find_proxy, start_hub


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """A JupyterHub with its proxy and the servers of alice and bob."""
    if (proxy := find_proxy()) is None:
        missing = (
            "the JupyterHub tests need configurable-http-proxy; "
            "`npm install --prefix .ci --no-package-lock` installs it"
        )
        pytest.skip(missing)
    running = start_hub(tmp_path_factory.mktemp("hub"), proxy)
    yield running
    running.close()


@pytest.fixture(scope="session")
def alice(hub):
    """The server of the one user."""
    return hub.servers["alice"]


@pytest.fixture(scope="session")
def bob(hub):
    """The server of the other."""
    return hub.servers["bob"]


@pytest.fixture(scope="session")
def alices_browser(hub):
    """A browser's session in which alice has logged in."""
    with hub.browser("alice") as session:
        yield session
