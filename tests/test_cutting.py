"""No half of a secret is left where a text is cut: it would be hidden no more on its way out."""

import pytest

from kasal_jupyter.hiding import Hider, beginning, here, keep_here
from kasal_jupyter.memory.insights import DoneTask, happened
from kasal_jupyter.memory.recall import Hit, reminder
from kasal_jupyter.memory.tables import Record
from kasal_jupyter.tools.builtin import http_request, web_search
from kasal_jupyter.tools.builtin.web_search import Found
from kasal_jupyter.tools.fetch import Answer
from kasal_jupyter.tools.tool import ToolContext, find_tool, portion
from kasal_jupyter.worker.models.answer_text import Heard, emptiness, remark_on
from kasal_jupyter.worker.models.chat_body import NotAnAnswer, objects, page_title
from kasal_jupyter.worker.models.chat_calls import Calls
from kasal_jupyter.worker.models.provider_errors import said
from kasal_jupyter.worker.process.sizes import shortened

SECRET = "Zq7-Wx9+Kp3/Vb5=Jm1"


@pytest.fixture(autouse=True)
def secret():
    keep_here(Hider([SECRET]))
    yield
    keep_here(Hider(()))


def _no_answer(text):
    with pytest.raises(NotAnAnswer) as caught:
        list(objects([text.encode()]))
    return str(caught.value)


def _faulty_call(text):
    calls = Calls({"add": {}}, 1)
    calls.take([{"id": "1", "function": {"name": "add", "arguments": text}}])
    return calls.asked()[0].fault


def _read_file(text, tmp_path):
    (tmp_path / "long.txt").write_text(text)
    whole, start = "", 0
    while True:
        part = find_tool("file_reader").run(ToolContext(tmp_path), path="long.txt", start=start)
        text, _, more = part.partition("\n[It goes on: ")
        whole += text + "|"
        if not more:
            return whole
        start = int(more.partition("start=")[2].split()[0])


CUTS = {
    "an error": (500, lambda text, _: said(ValueError(text))),
    "an error of a server": (500, lambda text, _: said(_with_body(text))),
    "what is no answer": (200, lambda text, _: _no_answer(text)),
    "a piece of a stream": (200, lambda text, _: _no_answer(f"data: {text}\n\n")),
    "a page's title": (200, lambda text, _: page_title(f"<html><title>{text}</title>")),
    "arguments": (200, lambda text, _: _faulty_call(text)),
    "a refusal": (400, lambda text, _: emptiness("", "stop", Heard(refusal=text)).message),
    "another refusal": (400, lambda text, _: remark_on("stop", Heard(text="A", refusal=text))),
    "a recorded text": (2_000, lambda text, _: shortened(text, 2_000)),
    "a line": (80, lambda text, _: beginning(text, 80)),
    "parts of a text": (
        1_000,
        lambda text, _: "|".join(portion(text, at, most=1_000) for at in range(0, len(text) - 99, 1_000)),
    ),
    "the end of what was read": (1_000, lambda text, _: portion(text[:1_000], complete=False)),
    "parts of a file": (50_001, _read_file),
    "a header": (300, lambda text, _: http_request._shown(_answer({"link": text}), 0)),
    "a task's result": (1_000, lambda text, _: happened(DoneTask("t", "d", "a", text))),
    "what is remembered": (1_500, lambda text, _: reminder([_hit(text)])),
}


def _with_body(text):
    error = ValueError()
    error.body = {"error": {"message": text}}
    return error


def _answer(headers):
    return Answer(200, "text/plain", b"", True, "https://example.com/", headers)


def _hit(text):
    return Hit(Record("1", "long_term", text, None, ""), 1.0)


@pytest.mark.parametrize("cut", CUTS)
def test_no_half_of_a_secret_is_left(cut, tmp_path):
    most, shown = CUTS[cut]
    for before in range(most - len(SECRET) - 2, most + 2, 3):
        # As all that leaves a run.
        text = here().hide(shown("." * before + SECRET + "." * 4_000, tmp_path))
        assert "..." in text
        parts = {SECRET[at : at + 4] for at in range(len(SECRET) - 3)}
        assert not {part for part in parts if part in text}, text


def test_results_of_a_search_are_cut_behind_their_secrets(monkeypatch, tmp_path):
    found = Found("T", "https://example.com/", "." * (web_search.MAX_SNIPPET - 6) + SECRET)
    monkeypatch.setattr(web_search, "search", lambda *_: [found])
    said = find_tool("web_search").run(ToolContext(tmp_path), query="a")
    assert SECRET[:5] not in said
    assert "..." in said
