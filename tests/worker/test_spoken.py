"""What an answer says: without what the model thought, and the object in it."""

import pytest
from pydantic import BaseModel

from kasal_jupyter.worker.spoken import NotTheObject, Spoken, read_object, spoken


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("Tea.", "", "Tea."),
        ("  Tea.\n", "", "  Tea.\n"),
        ("<think>Hm.</think>Tea.", "Hm.", "Tea."),
        ("\n<think>\nHm.\n</think>\n\nTea.", "Hm.", "Tea."),
        ("Hm.\n</think>\n\nTea.", "Hm.", "Tea."),
        ("<THINK>Hm.</Think>Tea.", "Hm.", "Tea."),
        ("<thinking>Hm.</thinking> Tea.", "Hm.", "Tea."),
        ("[THINK]Hm.[/THINK]Tea.", "Hm.", "Tea."),
        ("<think></think>Tea.", "", "Tea."),
        ("<think>One.</think>Tea <think>Two.</think>is hot.", "One.\n\nTwo.", "Tea is hot."),
        ("<think>A <think> in it</think>Tea.", "A <think> in it", "Tea."),
        ("<think>A <think>B</think> C</think>Tea.", "A <think>B</think> C", "Tea."),
        ("<think>It goes on and", "It goes on and", ""),
        (
            "The tag `<think>` begins it, `</think>` ends it.",
            "",
            "The tag `<think>` begins it, `</think>` ends it.",
        ),
        ("A <think> that is never closed.", "", "A <think> that is never closed."),
        ("", "", ""),
    ],
)
def test_thoughts_are_told_apart_from_the_answer(text, thought, said):
    assert spoken(text) == Spoken(thought, said)


def test_many_tags_take_no_longer_than_their_number():
    spoken("<think>" * 200_000)
    spoken("</think>" * 200_000)
    spoken("<think></think>" * 100_000)


class Rating(BaseModel):
    score: int
    why: str = ""


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 5}',
        ' \n{"score": 5}\n',
        '```json\n{"score": 5}\n```',
        'Here it is:\n\n```\n{"score": 5}\n```\nI hope {that} helps.',
        'Sure {as asked}: {"score": 5, "why": "a } in it"} done }',
        '{"other": 1} but rather {"score": 5}',
        '"{\\"score\\": 5}"',
        '[{"score": 5}]',
        '{"score": 5, "why": "a\nline"}',
    ],
)
def test_an_object_is_taken_out_of_what_stands_around_it(text):
    assert read_object(text, Rating).score == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("I would rather not.", "no JSON object"),
        ('{"score": "much"}', "score"),
        ('{"score": 5', "no JSON object"),
        ("{" * 100_000, "no JSON object"),
        ('{"a":' * 100_000, "no JSON object"),
        ("[" * 100_000, "no JSON object"),
    ],
)
def test_what_is_no_such_object_is_told(text, says):
    with pytest.raises(NotTheObject, match=says):
        read_object(text, Rating)
