"""The reference's examples of requests and answers, played in its order on a real server."""

import pytest

from kasal_jupyter.api.components import examples_of
from kasal_jupyter.api.operation import operation_of
from kasal_jupyter.api.routes import RESOURCES
from kasal_jupyter.app import StandaloneServer
from tests.reference.examples import Names, examples

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


@pytest.mark.parametrize("example", [each for each in examples() if each.request], ids=str)
def test_the_request_is_an_example_of_its_schema(example):
    handlers = dict(RESOURCES)
    body = operation_of(handlers[example.operation.split()[1]], example.method).body
    told = examples_of(body)
    asked = [each.request for each in examples() if each.operation == example.operation]
    assert all(one in asked for one in told)


@pytest.mark.parametrize(
    ("example", "given"),
    [
        ({"total": 15}, {"total": 16}),
        ({"total": 15}, {"total": "15"}),
        ({"total": 15, "page": 1}, {"total": 15}),
        ({"id": "crew_abc123"}, {"id": "agent_4t9k2m0x7q1z"}),
        ({"crews": [{"id": "crew_abc123"}]}, {"crews": []}),
        ({"id": "crew_abc123", "crews": ["crew_abc123"]}, {"id": "crew_1", "crews": ["crew_2"]}),
        ({"created_at": "2024-01-15T10:30:00Z"}, {"created_at": "2024-01-15 10:30"}),
        ({"created_at": "2024-01-15T10:30:00Z"}, {"created_at": None}),
        ({"access_token": "eyJ0eXAi..."}, {"access_token": "kasal_4t9k"}),
        ({"agents": ["..."]}, {"agents": []}),
        ({"configuration": {"...": None}}, {"configuration": {}}),
    ],
)
def test_an_answer_that_is_not_like_it_is_noticed(example, given):
    assert Names().differences(example, given) != []
    assert Names().differences(example, example) == []
