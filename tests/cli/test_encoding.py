"""Output where a terminal or a pipe has no letters for it."""

import io
import json
import sys
from html import unescape

import pytest

from kasal_jupyter.cli import terminal as encoding
from kasal_jupyter.formats.yaml_crew import dump_crew, load_crew
from kasal_jupyter.schemas.crews import CrewCreate

SAID = "Übersicht: 5 € 😀 \ud800"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("ascii", r"\u00dcbersicht: 5 \u20ac \ud83d\ude00 \ud800"),
        ("cp1252", r"Übersicht: 5 € \ud83d\ude00 \ud800"),
        ("latin-1", r"Übersicht: 5 \u20ac \ud83d\ude00 \ud800"),
        ("utf-8", "Übersicht: 5 € 😀 \\ud800"),
    ],
)
def test_no_letter_ends_an_answer(monkeypatch, name, written):
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(io.BytesIO(), encoding=name))
    encoding.lose_nothing()
    for stream in (sys.stdout, sys.stderr):
        stream.write(SAID)
        stream.flush()
        assert stream.buffer.getvalue().decode(name) == written
    assert json.loads(f'"{written}"') == SAID


def test_a_stream_that_takes_any_text_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    encoding.lose_nothing()
    sys.stdout.write(SAID)
    assert sys.stdout.getvalue() == SAID


@pytest.mark.parametrize("name", ["ascii", "cp1252", "latin-1", "utf-16", "utf-8"])
def test_a_file_that_is_written_there_reads_back(monkeypatch, name):
    task = {
        "name": "über",
        "description": f"Erzähle\n{SAID[:-1]}\n- „so“",
        "expected_output": "Ø",
        "agent": "a",
    }
    body = {"name": "Größe €", "agents": [{"name": "a", "role": "ß", "goal": "…"}], "tasks": [task]}
    crew = CrewCreate.model_validate(body)
    for text, kind, read in (
        (dump_crew(crew), "yaml", lambda data: load_crew(data.decode()) == crew),
        (json.dumps(body, ensure_ascii=False), "json", lambda data: json.loads(data) == body),
        ("<p>Größe 5 € 😀</p>", "html", lambda data: unescape(data.decode()) == "<p>Größe 5 € 😀</p>"),
    ):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=name, newline=""))
        encoding.lose_nothing()
        encoding.print_file(text, kind)
        data = sys.stdout.buffer.getvalue()
        # Whoever reads a file takes it for UTF-8, and this for what it is.
        assert read(data.decode(name).encode() if name == "utf-16" else data), kind
