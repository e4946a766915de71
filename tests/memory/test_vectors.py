"""Vectors: a byte a dimension is enough to tell which is nearest."""

import math
import random

import pytest

from kasal_jupyter.memory.vectors import EmbedderFailed, RemoteEmbedder, cosines, dimensions_of, pack
from kasal_jupyter.schemas.spec import RunEmbedder
from kasal_jupyter.tools.guard import HostGuard
from tests.servers.embedding_server import EmbeddingServer


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def test_cosines_are_those_of_the_vectors():
    numbers = random.Random(1)
    vectors = [[numbers.gauss(0, 3) for _ in range(64)] for _ in range(50)]
    query = [numbers.gauss(0, 3) for _ in range(64)]
    packed = [(number, pack(vector)) for number, vector in enumerate(vectors)]
    found = cosines([packed[:20], packed[20:]], query)
    assert found == pytest.approx({n: cosine(vector, query) for n, vector in enumerate(vectors)}, abs=0.02)


def test_a_vector_of_another_length_is_left_out_and_one_of_zeros_is_near_to_nothing():
    packed = [(1, pack([1.0, 0.0])), (2, pack([1.0, 0.0, 0.0])), (3, pack([0.0, 0.0]))]
    assert cosines([packed], [2.0, 0.0]) == pytest.approx({1: 1.0, 3: 0.0})
    assert cosines([packed[1:2]], [2.0, 0.0]) == {}
    assert dimensions_of(len(pack([0.5] * 5))) == 5
    assert dimensions_of(0) == 0


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_refused(number):
    with pytest.raises(ValueError, match="not finite"):
        pack([1.0, number])


# -- Embedders of others: an OpenAI-compatible server's, and Ollama's ----------------------------------


@pytest.fixture
def server():
    """A server of embeddings."""
    with EmbeddingServer() as running:
        yield running


@pytest.fixture(params=["openai", "ollama"])
def embedder(request, server):
    """Both ways to ask it."""
    base = f"{server.url}/v1" if request.param == "openai" else server.url
    key = "sk-embedding-1" if request.param == "openai" else None
    return RunEmbedder(provider=request.param, model="concepts", base_url=base, api_key=key)


def test_it_is_asked_with_its_key_and_gives_a_vector_a_text(embedder, server):
    vectors = RemoteEmbedder(embedder).embed(["a car", "a ship"])
    assert [len(vector) for vector in vectors] == [8, 8]
    assert server.texts == [["a car", "a ship"]]
    assert server.keys[-1] == ("Bearer sk-embedding-1" if embedder.api_key else None)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        "x",
        {"data": [], "embeddings": []},
        {"data": [{"embedding": "x"}], "embeddings": ["x"]},
        {"data": [{"embedding": []}], "embeddings": [[]]},
        {"data": None, "embeddings": None},
        {"data": [{"embedding": [None]}], "embeddings": [[None]]},
    ],
)
def test_an_answer_without_vectors_is_refused(embedder, server, answer):
    server.answer = answer
    with pytest.raises(EmbedderFailed, match="concepts: it did not answer with"):
        RemoteEmbedder(embedder).embed(["a"])


def test_a_user_s_address_may_not_lead_into_the_server_s_network(embedder, server):
    guarded = embedder.model_copy(update={"guarded": True})
    with pytest.raises(EmbedderFailed, match="may not be called"):
        RemoteEmbedder(guarded, HostGuard([])).embed(["a"])
    assert server.texts == []
    assert RemoteEmbedder(guarded, HostGuard(["127.0.0.1"])).embed(["a car"])
