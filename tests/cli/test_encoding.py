"""Output where a terminal or a pipe has no letters for it."""

import io
import json
import sys

import pytest

from kasal_jupyter.cli import encoding

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
