"""`jupyter kasal compare`, `dataset` and `rate`, as somebody types them, or CI does."""

import json
from xml.etree import ElementTree as ET

import pytest

TEAS = ("tea", "milk", "cocoa", "water", "juice", "coffee")

CREW = """\
agents:
  taster:
    role: Taster
    goal: Taste {topic}
    llm: sandbox
    sandbox: {answer_words: 3}
tasks:
  verdict:
    description: Say what {topic} is like
    expected_output: A sentence
    agent: taster
"""


@pytest.fixture(scope="module")
def crews(terminal):
    """Two crews, of which the second says more, and rows."""
    terminal.write("curt.yaml", CREW)
    terminal.write("chatty.yaml", CREW.replace("answer_words: 3", "answer_words: 30"))
    terminal.write("rows.csv", "topic,expected\n" + "".join(f"{each},{each}\n" for each in TEAS))
    terminal.write("score.py", "def words(output): return len(output.split())\nbroken = 1\n")
    terminal.write("broken.py", "def words(:")
    assert terminal.run("crews", "import", "curt.yaml", "chatty.yaml")[0] == 0
    return terminal


def compare(terminal, *words):
    return terminal.run("compare", *words, "--rows", "rows.csv")


def test_a_gate_lets_through_what_is_good_enough_and_says_what_is_not(crews):
    both = ("curt", "chatty", "--score", "score.py:words")
    # The terminal's server is shared.
    before = {each["id"] for each in json.loads(crews.run("batches", "--json")[1])}
    status, out, err = compare(crews, *both, "--fail-below", "10", "--fail-if-worse", "--junit", "up.xml")
    assert status == 0, err
    assert "chatty scores higher than curt" in out
    # What is told to be typed is typed here.
    assert "jupyter kasal diff job_" in out
    assert "click" not in out
    assert ET.parse(crews.folder / "up.xml").getroot().get("failures") == "0"

    status, out, err = compare(crews, *both, "--fail-below", "99", "--json", "--junit", "low.xml")
    assert status == 1
    assert "the gate has failed: chatty: its score is below 99.0" in err
    said = json.loads(out)
    assert list(said["gate"]) == ["chatty"]
    assert ET.parse(crews.folder / "low.xml").getroot().get("failures") == "1"
    # It was run once.
    now = {each["id"] for each in json.loads(crews.run("batches", "--json")[1])}
    assert len(now - before) == 2

    status, _, err = compare(crews, "chatty", "curt", "--score", "score.py:words", "--fail-if-worse")
    assert status == 1
    assert "curt scores lower than chatty" in err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("curt", "curt", "--score", "exact"), 1, "curt v1 is named twice"),
        (("curt", "chattie", "--score", "exact"), 1, "did you mean 'chatty'"),
        (("curt", "curt@7", "--score", "exact"), 1, "no version 7"),
        (("curt", "chatty"), 2, "--score --judge is required"),
        (("curt", "--score", "exact", "--judge", "Is it true?"), 2, "not allowed with"),
        (("curt", "--score", "exact", "--judge-model", "m"), 1, "--judge RUBRIC says by what"),
        (("curt", "--score", "exat"), 1, "did you mean 'exact'"),
        (("curt", "--score", "score.py:broken"), 2, "score.py has no function 'broken'"),
        (("curt", "--score", "broken.py:words"), 2, "broken.py cannot be loaded: SyntaxError"),
        (("curt", "--score", "exact", "--surely"), 2, "--fail-below"),
        (("curt", "--score", "exact", "--fail-below", "nan"), 2, "--fail-below"),
        (("curt", "--score", "exact", "--junit", "no/where.xml"), 2, "no/where.xml cannot be written"),
        (("curt", "--score", "exact", "--expected", "topik"), 1, "rows.csv has no column 'topik'"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(crews, words, status, said):
    before = crews.run("batches", "--json")[1]
    found, _, err = compare(crews, *words)
    assert (found, said in err) == (status, True), err
    assert crews.run("batches", "--json")[1] == before


def test_runs_that_were_rated_become_a_dataset(crews):
    assert compare(crews, "curt", "--score", "exact")[0] == 0
    assert "👎 should be: Tea is warm" in crews.run("rate", "last", "down", "Tea is warm")[1]
    status, out, err = crews.run("dataset", "rated", "--rated", "--thumb", "down", "--json")
    assert status == 0, err
    assert [json.loads(line)["expected"] for line in out.splitlines()] == ["Tea is warm"]
    assert crews.run("dataset", "none", "--rated", "--thumb", "up", "--json")[:2] == (0, "")
    assert crews.run("dataset", "kept", "--rows", "rows.csv")[0] == 0
    assert "--replace" in crews.run("dataset", "kept", "--rows", "rows.csv")[2]
    assert {each["dataset"] for each in json.loads(crews.run("dataset", "--json")[1])} == {
        "rated",
        "none",
        "kept",
    }
    status, out, err = crews.run("compare", "curt", "--rows", "kept", "--score", "contains")
    assert (status, out.partition(":")[0]) == (0, "6 rows"), err
    assert "did you mean 'kept'" in crews.run("compare", "curt", "--rows", "kep", "--score", "exact")[2]
    for words, said in (
        (("--rows", "rows.csv"), "Name the dataset"),
        (("kept", "--thumb", "up"), "stand with --rated"),
        (("kept", "--rm", "--rated"), "not both"),
    ):
        assert said in crews.run("dataset", *words)[2]
    assert [crews.run("dataset", each, "--rm")[0] for each in ("kept", "rated", "none")] == [0, 0, 0]
