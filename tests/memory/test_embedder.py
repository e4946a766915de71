"""Embedders of others: an OpenAI-compatible server's, and Ollama's."""

import pytest

from kasal_jupyter.memory.vectors import EmbedderFailed, RemoteEmbedder
from kasal_jupyter.schemas.spec import RunEmbedder
from kasal_jupyter.tools.guard import HostGuard
from tests.servers.embedding_server import EmbeddingServer


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
