"""What an OpenAI-compatible server says it serves; the server is a real one, on loopback."""

import asyncio
import json
import time

import pytest

from kasal_jupyter.models import served
from kasal_jupyter.models.served import ServedModel, ServedModels, place_of
from tests.servers.endpoint_server import endpoint_server, redirect, reply

LIST = {
    "object": "list",
    "data": [
        {"id": "llama3.2", "object": "model", "max_model_len": 131_072},
        {"id": "gpt-oss:20b", "object": "model"},
    ],
}


@pytest.fixture
def server():
    with endpoint_server() as running:
        yield running


def of(models, server, key=None):
    return models.of(f"{server.url}/v1", key)


def answering(server, body=LIST, **more):
    server.replies["/v1/models"] = reply(
        body if isinstance(body, bytes) else json.dumps(body).encode(), **more
    )


def test_a_server_is_asked_with_its_key_and_gives_names_and_windows(server):
    answering(server)
    answer = asyncio.run(of(ServedModels(), server, "sk-1"))
    assert answer.models == (ServedModel("llama3.2", 131_072), ServedModel("gpt-oss:20b", None))
    assert answer.failure is None
    (asked,) = server.asked
    assert (asked.method, asked.target) == ("GET", "/v1/models")
    assert asked.headers["authorization"] == "Bearer sk-1"


def test_without_a_key_none_is_sent(server):
    answering(server)
    asyncio.run(of(ServedModels(), server))
    assert "authorization" not in server.asked[0].headers


def test_it_is_asked_once_by_however_many_and_not_again_for_a_minute(server):
    answering(server)

    async def ask():
        models = ServedModels()
        together = await asyncio.gather(*(of(models, server, "sk-1") for _ in range(50)))
        later = [await of(models, server, "sk-1") for _ in range(50)]
        return {*together, *later}

    assert len(asyncio.run(ask())) == 1
    assert len(server.asked) == 1


def test_it_is_asked_again_with_another_key_and_when_the_answer_is_old(server, monkeypatch):
    answering(server)
    monkeypatch.setattr(served, "REMEMBERED", 0)

    async def ask():
        models = ServedModels()
        for key in ("sk-1", "sk-2", "sk-2"):
            await of(models, server, key)

    asyncio.run(ask())
    assert [asked.headers["authorization"][-4:] for asked in server.asked] == ["sk-1", "sk-2", "sk-2"]


def test_a_failure_is_remembered_as_well_but_not_as_long(server, monkeypatch):
    answering(server, status=503)

    async def ask():
        models = ServedModels()
        failed = [await of(models, server), await of(models, server)]
        monkeypatch.setattr(served, "FAILURE_REMEMBERED", 0)
        other = ServedModels()
        failed.append(await of(other, server))
        answering(server)
        return failed, [await of(other, server), await of(other, server)]

    failed, answered = asyncio.run(ask())
    assert {answer.failure for answer in failed} == {"it answered with status 503"}
    assert {answer.failure for answer in answered} == {None}
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>A proxy's page</html>", "did not answer with a list"),
        (b'{"data": "none"}', "did not answer with a list"),
        (b"7", "did not answer with a list"),
        (b"\xff\xfe", "did not answer with a list"),
        (b"[" * 100_000, "did not answer with a list"),
    ],
)
def test_what_is_no_list_is_a_failure(server, body, says):
    answering(server, body)
    answer = asyncio.run(of(ServedModels(), server))
    assert says in answer.failure
    assert answer.models == ()


def test_entries_that_are_no_models_are_passed_over(server):
    strange = [None, 7, {}, {"id": 7}, {"id": " "}, {"id": "a\nb"}, {"id": "x" * 500}]
    answering(server, {"data": [*strange, {"id": "m", "context_length": "many"}, {"id": "m"}]})
    assert asyncio.run(of(ServedModels(), server)).models == (ServedModel("m", None),)


def test_a_server_that_is_not_there_or_says_nothing_is_given_up(server, monkeypatch):
    gone = asyncio.run(ServedModels().of("http://127.0.0.1:9/v1", None))
    assert gone.failure == "it cannot be reached"
    monkeypatch.setattr(served, "TIME_LIMIT", 0.2)
    server.replies["/v1/models"] = lambda _handler, _asked: time.sleep(1)
    assert asyncio.run(of(ServedModels(), server)).failure == "it did not answer within 0.2 seconds"


def test_an_answer_that_drips_is_given_up_as_well(server, monkeypatch):
    monkeypatch.setattr(served, "TIME_LIMIT", 0.5)

    def drip(handler, _asked):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for _ in range(20):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)

    server.replies["/v1/models"] = drip
    assert "within 0.5 seconds" in asyncio.run(of(ServedModels(), server)).failure


def test_the_key_follows_no_redirect(server):
    with endpoint_server() as other:
        server.replies["/v1/models"] = redirect(f"{other.url}/v1/models")
        answer = asyncio.run(of(ServedModels(), server, "sk-1"))
        assert answer.failure == "it answered with status 302"
        assert other.asked == []


@pytest.mark.parametrize(
    "base_url", ["no address", "http://[", "ftp://127.0.0.1/", "http://127.0.0.1:99999/v1"]
)
def test_an_address_that_is_none_is_a_failure(base_url):
    answer = asyncio.run(ServedModels().of(base_url, "sk-\N{SNOWMAN}"))
    assert "it cannot be" in answer.failure
    assert "sk-" not in answer.failure


def test_a_place_has_neither_user_nor_password():
    assert place_of("https://ada:secret@models.example.com:8443/v1?key=7") == "models.example.com:8443"
    assert place_of("nonsense") == "the server"
