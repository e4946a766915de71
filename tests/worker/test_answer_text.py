"""What an answer says: without what the model thought, and the object in it."""

import pytest
from pydantic import BaseModel

from kasal_jupyter.worker.models.answer_text import LiveSpeech, NotTheObject, Spoken, read_object, spoken


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


# -- as it comes -------------------------------------------------------------------------------------------

STREAMED = [
    "It is five.",
    "<think>Two and three.</think>It is five.",
    "<think>\n</think>\n\n It is five.",
    "It is <think>hm</think>five.",
    "<thinking>a <think>b</think> c</thinking>five",
    "[THINK]hm[/THINK]five",
    "a < b and [a, b] <thin air> </th>",
    "Write `<think>` first, and `</think>` last.",
    "<think>never ends",
    "It begins <think>and never ends",
    "ends with <",
    "  indented",
]


def streamed(text, size, **how):
    live = LiveSpeech(**how)
    shown = [live.add(text[at : at + size]) for at in range(0, len(text), size)]
    return "".join(shown), live.rest(), live.overheard


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("text", STREAMED)
def test_what_is_shown_as_it_comes_is_what_is_said_in_the_end(text, size):
    shown, rest, overheard = streamed(text, size)
    assert shown + rest == spoken(text).said
    assert not overheard


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_thought_without_a_beginning_is_held_back_once_that_is_known(size):
    text = "Two and three.</think>\n\nIt is five."
    shown, rest, overheard = streamed(text, size)
    assert overheard
    assert (shown + rest).endswith("It is five.")
    for written in (text, f"<think>{text}"):
        shown, rest, overheard = streamed(written, size, thinks=True)
        assert (shown + rest, overheard) == ("It is five.", False)
    # It may not think this time.
    assert streamed("It is five.", size, thinks=True)[:2] == ("", "It is five.")
