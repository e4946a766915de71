"""The reference's examples of requests and answers, played in its order on a real server."""

import pytest

from kasal_jupyter.app import StandaloneServer
from tests.reference.examples import examples

EXAMPLES = list(enumerate(examples()))


@pytest.mark.parametrize(("place", "example"), EXAMPLES, ids=[str(example) for _, example in EXAMPLES])
def test_the_answer_is_like_the_references(world, place, example):
    answer, differences = world.played[place]
    assert answer.status_code == example.status
    assert differences == []


def test_the_local_base_url_is_the_default_and_v1_serves_the_same(world):
    assert StandaloneServer.port_default_value.default_value == 8000
    for prefix in ("/api/v1", "/v1"):
        token = {"Authorization": world.client.headers["Authorization"]}
        answer = world.client.get(f"{world.server.url}{prefix}/crews", headers=token)
        assert answer.json()["total"] >= 15
