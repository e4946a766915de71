"""A server of its own for programs that leave much behind."""

import pytest

from tests.server import start_server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A Jupyter server with the extension; one for all tests of this folder."""
    running = start_server(tmp_path_factory.mktemp("outside"))
    yield running
    running.close()
