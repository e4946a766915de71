"""Braces in a crew's texts: inputs, filled in once, and braces that are meant."""

import time

import pytest

from kasal_jupyter.formats.crewai_fields import from_crewai, to_crewai
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.placeholders import fill, literal, names
from kasal_jupyter.schemas.tasks import task_title

INPUTS = {"topic": "tea {secret}", "secret": "s3cret", "größe": 1.5, "n": 2**70}


@pytest.mark.parametrize(
    ("text", "filled", "wanted"),
    [
        ("{topic}", "tea {secret}", ["topic"]),
        ("{{topic}}", "{topic}", []),
        ("{{{topic}}}", "{tea {secret}}", ["topic"]),
        ("{{{{topic}}}}", "{{topic}}", []),
        (r"\frac{{a}}{{b}} of {n}", r"\frac{a}{b} of 1180591620717411303424", ["n"]),
        ("echo ${{HOME}}", "echo ${HOME}", []),
        ('{"a": {"b": {topic}}}', '{"a": {"b": tea {secret}}}', ["topic"]),
        ('{"a": {"b": 1}} {} { topic } {1} {a b}', '{"a": {"b": 1}} {} { topic } {1} {a b}', []),
        ("{größe} {日本}", "1.5 {日本}", ["größe", "日本"]),
        ("{a-b} {_c}", "{a-b} {_c}", ["a-b", "_c"]),
        ("{{topic}", "{tea {secret}", ["topic"]),
        ("", "", []),
    ],
)
def test_a_name_in_braces_is_an_input_and_a_pair_of_braces_is_one_brace(text, filled, wanted):
    assert fill(text, INPUTS) == filled
    assert list(names(text)) == wanted
    assert fill(literal(text), INPUTS) == text
    assert list(names(literal(text))) == []


@pytest.mark.parametrize(
    "text", ["{" * 300_000, "{a" * 200_000, "{" + "a" * 300_000, "{" * 200_000 + "a" + "}" * 200_000]
)
def test_no_text_takes_longer_than_its_length(text):
    began = time.process_time()
    fill(text, INPUTS)
    literal(text)
    # Where it grew with the square of the length, it would be minutes.
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("{x}", "{x}"),
        ("{{x}}", "{{{x}}}"),
        ('{"a": {x}}', '{"a": {x}}'),
        ("{größe}", "{{größe}}"),
        (None, None),
        (1, 1),
    ],
)
def test_crewais_braces_mean_what_they_meant(theirs, ours):
    assert from_crewai(theirs) == ours


def test_ours_are_written_for_crewai_with_what_it_cannot_say():
    crew = CrewCreate.model_validate(
        {
            "name": "C",
            "agents": [{"role": "{x}", "goal": "{{y}} {{{x}}}"}],
            "tasks": [{"description": "{größe}", "expected_output": "{{größe}} and {{x}}", "agent": "{x}"}],
        }
    )
    remarks = []
    written, inputs = to_crewai(crew, remarks, "which is given as itself")
    assert (written.agents[0].role, written.agents[0].goal) == ("{x}", "{y} {{x}}")
    assert (written.tasks[0].description, written.tasks[0].expected_output) == ("{größe}", "{größe} and {x}")
    assert inputs == {"x": "", "y": "{y}"}
    assert [(each.field, each.reason) for each in remarks] == [
        ("agents[0].goal", "{y} is an input there, which is given as itself"),
        (
            "tasks[0].description",
            "CrewAI takes ASCII letters alone in an input's name, and leaves {größe} as it is",
        ),
        ("tasks[0].expected_output", "{x} is an input there, which is given as itself"),
    ]


def test_a_title_has_the_braces_that_are_meant():
    said = "Write {{json}} about {topic}, {{{topic}}}" + " and more" * 20
    assert (
        task_title(None, f"\n{said}\nsecond line")
        == ("Write {json} about {topic}, {{{topic}}}" + " and more" * 20)[:80]
    )
    # A name is no text that anything is filled into.
    assert task_title("{{kept}}", said) == "{{kept}}"
