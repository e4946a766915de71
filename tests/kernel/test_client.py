"""The client, against a real server."""

import pytest

from kasal_jupyter.errors import NotFound, Unauthorized, Unavailable
from kasal_jupyter.kernel.client import Client
from kasal_jupyter.kernel.connection import Connection


def test_a_wrong_token_is_refused_at_once_on_both_ways(live_server):
    client = Client(Connection(live_server.url, "wrong"))
    with pytest.raises(Unauthorized):
        client.crews()
    with pytest.raises(Unauthorized):
        next(client.follow("job_unknown"))
    client.close()


def test_what_does_not_exist_is_not_found_with_the_servers_words(live_server):
    client = Client(Connection(live_server.url, live_server.token))
    with pytest.raises(NotFound, match="job_unknown"):
        client.execution("job_unknown")
    client.close()


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        Client(Connection("http://127.0.0.1:9", "")).crews()
