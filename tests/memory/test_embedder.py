"""Embedders of others: an OpenAI-compatible server's, and Ollama's."""

import pytest

from kasal_jupyter.memory.build import build_index
from kasal_jupyter.memory.embedder import BATCH, EmbedderFailed, RemoteEmbedder
from kasal_jupyter.memory.index import Index
from kasal_jupyter.schemas.spec import RunEmbedder
from kasal_jupyter.tools.guard import HostGuard
from tests.memory.conftest import records
from tests.servers.embedding_server import EmbeddingServer

KNOWN = ("The automobile is red", "Our physician is on holiday", "Ships leave at noon", "Be brief")


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


def build(folder, embedder, *texts, seconds=5):
    remote = RemoteEmbedder(embedder) if embedder.provider != "offline" else None
    build_index(folder, records(*texts), "r", remote, seconds=seconds)
    with Index.open(folder) as index:
        return index.header


@pytest.fixture
def contents(open_recall):
    """Searches, and gives the contents found and the remark."""

    def search(folder, embedder, text):
        found = open_recall(folder, embedder).search(text)
        return [hit.record.content for hit in found.hits], found.remark

    return search


def test_it_finds_what_has_another_word_for_it(tmp_path, embedder, server, contents):
    header = build(tmp_path, embedder, *KNOWN)
    assert (header.embedder, header.dimensions, header.missing) == (f"{embedder.provider}/concepts", 8, 0)
    assert contents(tmp_path, embedder, "which car") == (["The automobile is red"], "")
    assert contents(tmp_path, RunEmbedder(), "which car") == ([], "")
    assert server.keys[-1] == ("Bearer sk-embedding-1" if embedder.api_key else None)


def test_only_new_texts_are_sent_and_so_many_at_a_time(tmp_path, embedder, server):
    texts = [f"Memory number {number}" for number in range(BATCH + 6)]
    build(tmp_path, embedder, *texts)
    assert [len(asked) for asked in server.texts] == [BATCH, 6]
    build(tmp_path, embedder, *texts, "One more")
    assert server.texts[2:] == [["One more"]]


def test_while_it_does_not_answer_words_are_compared_and_that_is_said(tmp_path, embedder, server, contents):
    build(tmp_path, embedder, *KNOWN)
    server.status = 500
    hits, remark = contents(tmp_path, embedder, "Is the automobile red?")
    assert hits == ["The automobile is red"]
    assert remark.startswith(f"Compared by words: {embedder.provider}/concepts: ")


def test_what_has_no_vector_yet_gets_it_the_next_time(tmp_path, embedder, server, contents):
    server.status = 503
    assert build(tmp_path, embedder, *KNOWN).missing == 4
    hits, remark = contents(tmp_path, embedder, "the physician's holiday")
    assert hits == ["Our physician is on holiday"]
    assert "4 memories have no vectors yet" in remark
    server.status = 200
    assert build(tmp_path, embedder, *KNOWN).missing == 0
    assert contents(tmp_path, embedder, "a doctor")[0] == ["Our physician is on holiday"]


def test_another_embedder_makes_its_own_vectors(tmp_path, embedder, server, contents):
    build(tmp_path, RunEmbedder(), *KNOWN)
    hits, remark = contents(tmp_path, embedder, "the ships at noon")
    assert hits == ["Ships leave at noon"]
    assert "has made no vectors of the memories yet" in remark
    build(tmp_path, embedder, *KNOWN)
    other = embedder.model_copy(update={"model": "newer"})
    before = len(server.texts)
    assert build(tmp_path, other, *KNOWN).embedder == f"{embedder.provider}/newer"
    assert server.texts[before:] == [list(KNOWN)]


def test_a_model_that_changes_under_its_name_is_noticed(tmp_path, embedder, server, contents):
    build(tmp_path, embedder, *KNOWN)
    server.dimensions = 16
    assert "another kind" in contents(tmp_path, embedder, "a vessel")[1]
    header = build(tmp_path, embedder, *KNOWN, "One more")
    assert (header.dimensions, header.missing) == (16, 0)
    assert contents(tmp_path, embedder, "a vessel")[0] == []
    assert contents(tmp_path, embedder, "a car")[0] == ["The automobile is red"]


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


def test_numbers_that_are_none_are_refused(tmp_path, embedder, server):
    server.answer = {"data": [{"embedding": [1e400]}] * 4, "embeddings": [[1e400]] * 4}
    assert build(tmp_path, embedder, *KNOWN).missing == 4


def test_a_user_s_address_may_not_lead_into_the_server_s_network(embedder, server):
    guarded = embedder.model_copy(update={"guarded": True})
    with pytest.raises(EmbedderFailed, match="may not be called"):
        RemoteEmbedder(guarded, HostGuard([])).embed(["a"])
    assert server.texts == []
    assert RemoteEmbedder(guarded, HostGuard(["127.0.0.1"])).embed(["a car"])
