"""What tests of the notebook's side share."""

import pytest

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.kernel.editor import edit
from tests.sample_crews import crew_body, new_crew


@pytest.fixture(scope="module")
def client(live_server):
    client = Client(Connection(live_server.url, live_server.token))
    yield client
    client.close()


@pytest.fixture
def crew_id(api, request):
    return new_crew(api, crew_body(f"Editor: {request.node.name}"))


@pytest.fixture
def editor(client, crew_id):
    return edit(client, crew_id, {"sort": "green"})
