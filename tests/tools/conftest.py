import pytest

from tests.servers.endpoint_server import endpoint_server


@pytest.fixture
def server():
    with endpoint_server() as running:
        yield running


@pytest.fixture
def elsewhere():
    """Another server, which is another origin."""
    with endpoint_server() as running:
        yield running
