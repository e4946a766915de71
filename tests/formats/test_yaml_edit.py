"""YAML that is changed in place: what was asked for changes, and not a character besides."""

import copy
import difflib
import random

import pytest

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.yaml_edit import read_plain, rename_key, rewrite
from kasal_jupyter.formats.yaml_source import same

TEXT = """\
# Our tea crew
process: sequential   # in order

agents:

  # She knows where to look
  researcher:
    role: >-
      Researcher of
      {topic}   and more
    goal: "Find facts"  # quoted
    # the cheap one
    llm: {model: gpt-4, temperature: 0.2}
    tools: [calculator, 'web_search']   # both

  # He writes
  writer:
    role: 'Writer'
    goal: |  # as it is
      One
      two
    tools:
      - calculator   # sums
      - file_reader
tasks:
  facts:
    description: Collect facts
      over two lines
    expected_output: A list
    agent: researcher
# the end
"""


def edited(change, text=TEXT):
    """Make a change to the values, and give the lines of the text that differ."""
    values = read_plain(text)
    change(values)
    new = rewrite(text, values)
    assert same(read_plain(new), values)
    lines = list(difflib.unified_diff(text.splitlines(), new.splitlines(), n=0, lineterm=""))[2:]
    return [line for line in lines if not line.startswith("@@")]


@pytest.mark.parametrize(
    ("path", "value", "lines"),
    [
        (
            "process",
            "hierarchical",
            ["-process: sequential   # in order", "+process: hierarchical   # in order"],
        ),
        (
            "agents.researcher.goal",
            "a: b",
            ['-    goal: "Find facts"  # quoted', '+    goal: "a: b"  # quoted'],
        ),
        ("agents.writer.role", "It's me", ["-    role: 'Writer'", "+    role: 'It''s me'"]),
        ("tasks.facts.expected_output", "yes", None),
        ("tasks.facts.expected_output", "# no comment", None),
        (
            "agents.researcher.llm.model",
            "sandbox",
            [
                "-    llm: {model: gpt-4, temperature: 0.2}",
                "+    llm: {model: sandbox, temperature: 0.2}",
            ],
        ),
        (
            "agents.researcher.tools",
            ["web_search", "calculator"],
            [
                "-    tools: [calculator, 'web_search']   # both",
                "+    tools: ['web_search', calculator]   # both",
            ],
        ),
        ("agents.writer.tools", ["calculator"], ["-      - file_reader"]),
        (
            "agents.writer.tools",
            ["calculator", "file_reader", "x y"],
            ["+      - x y"],
        ),
        (
            "agents.writer.goal",
            "One\nand two\n",
            ["-      two", "+      and two"],
        ),
        (
            "agents.writer.max_iter",
            3,
            ["+    max_iter: 3"],
        ),
        (
            "agents.writer.settings",
            {"temperature": 0.5},
            ["+    settings:", "+      temperature: 0.5"],
        ),
    ],
)
def test_a_value_changes_in_its_own_lines(path, value, lines):
    def change(values):
        *around, last = path.split(".")
        for step in around:
            values = values[step]
        values[last] = value

    found = edited(change)
    assert found == lines if lines is not None else len(found) == 2


def test_a_folded_text_stays_folded():
    def change(values):
        values["agents"]["researcher"]["role"] = "Expert of {topic} " + "and of everything else " * 5 + "too"

    found = edited(change)
    assert [line for line in found if line.startswith("+")] == [
        "+      Expert of {topic} and of everything else and of everything else and of",
        "+      everything else and of everything else and of everything else too",
    ]


def test_a_text_of_several_lines_is_written_as_such():
    def change(values):
        values["tasks"]["facts"]["description"] = "Collect:\n- facts\n"

    assert [line for line in edited(change) if line.startswith("+")] == [
        "+    description: |",
        "+      Collect:",
        "+      - facts",
    ]


def test_a_member_that_goes_takes_its_comments_along_and_no_others():
    found = edited(lambda values: values["agents"].pop("writer"))
    assert "-  # He writes" in found
    assert "-" in found, "the blank line between the two"
    assert not any("researcher" in line or "the end" in line or line.startswith("+") for line in found)


def test_a_field_that_goes_leaves_the_comment_above_it():
    assert edited(lambda values: values["agents"]["researcher"].pop("llm")) == [
        "-    llm: {model: gpt-4, temperature: 0.2}"
    ]


def test_members_change_places_with_their_comments():
    def change(values):
        agents = values["agents"]
        values["agents"] = {name: agents[name] for name in ("writer", "researcher")}

    values = read_plain(TEXT)
    change(values)
    new = rewrite(TEXT, values)
    assert new.index("# He writes\n  writer:") < new.index("# She knows where to look\n  researcher:")
    assert sorted(new.splitlines()) == sorted(TEXT.splitlines())


def test_a_new_member_stands_apart_where_the_others_do():
    found = edited(lambda values: values["agents"].update(editor={"role": "Editor", "tools": ["calculator"]}))
    assert found == ["+", "+  editor:", "+    role: Editor", "+    tools: [calculator]"]


@pytest.mark.parametrize("empty", ["agents: {}", "agents:"])
def test_a_first_member_opens_the_list(empty):
    found = edited(lambda values: values.update(agents={"a": {"role": "A"}}), f"{empty}\ntasks: {{}}\n")
    assert found[-2:] == ["+  a:", "+    role: A"]


def test_the_name_goes_below_the_texts_own_title():
    def change(values):
        entries = dict(values)
        values.clear()
        values.update({"name": "Tea", **entries})

    assert edited(change) == ["+name: Tea"]


def test_a_key_is_renamed_and_nothing_else():
    new = rename_key(TEXT, ["agents", "writer"], "the: author")
    assert new == TEXT.replace("  writer:", "  'the: author':")
    with pytest.raises(KeyError):
        rename_key(TEXT, ["agents", "nobody"], "x")


def test_an_alias_is_not_changed_with_what_it_stands_for():
    text = "agents:\n  a: &a  # the first\n    role: A\n  b: *a\n"
    values = read_plain(text)
    values["agents"]["b"]["role"] = "B"
    new = rewrite(text, values)
    assert read_plain(new) == {"agents": {"a": {"role": "A"}, "b": {"role": "B"}}}
    assert "# the first" in new


def test_merged_fields_may_be_changed_in_one_place():
    text = "base: &base {role: A, goal: G}\nagents:\n  a:\n    <<: *base  # shared\n    goal: H\n"
    values = read_plain(text)
    values["agents"]["a"]["role"] = "B"
    new = rewrite(text, values)
    assert read_plain(new) == values
    assert "# shared" in new


def test_a_text_without_an_end_of_line_is_edited_too():
    text = "agents:\n  a:\n    role: A"
    assert rewrite(text, {"agents": {"a": {"role": "B"}}}) == "agents:\n  a:\n    role: B\n"


def test_a_text_that_cannot_be_read_is_refused():
    with pytest.raises(InvalidRequest, match="line 1"):
        rewrite("agents: [", {})


VALUES = [
    *(
        "x",
        "a: b",
        "# c",
        "two\nlines\n",
        "two\n  lines",
        "yes",
        "1",
        " lead",
        "trail ",
        '"q"',
        "it's",
        "{a}",
    ),
    *(
        "{{b}}",
        "- x",
        "é 茶 \U0001f375",
        "tab\t",
        "long " * 40 + "end",
        "",
        "a\n\n\nb\n\n",
        "x\u2028y",
        "\x07",
    ),
    *("null", "~", "* a", "&a", "!x", "%d", "@x", "`x`", "a #b", "a:", "?", "[", "]x", "|", ">", "\n"),
    *(1, 0.5, True, None, ["a", "b c", "d: e"], {"temperature": 0.1, "stop": ["x"]}),
]
NAMES = ["q", "a: b", "1", "yes", "it's", "#x", "r.s", "*", '"']


@pytest.mark.parametrize("seed", range(12))
def test_any_row_of_changes_reads_as_it_should_and_keeps_the_comments(seed):
    """Whatever is changed, the text reads as what is wanted; comments go only with what they stand at."""
    dice = random.Random(seed)
    text = TEXT
    for _ in range(8):
        values = read_plain(text)
        kind = dice.choice(["agents", "tasks"])
        listed = values.setdefault(kind, {})
        name = dice.choice([*listed, "new"])
        match dice.choice(["set", "set", "add", "rename", "move", "drop field"]):
            case "set" if name in listed:
                field = dice.choice(["role", "goal", "llm", "tools", "description", "context"])
                listed[name][field] = copy.deepcopy(dice.choice(VALUES))
            case "rename" if name in listed:
                new = dice.choice(NAMES)
                if new not in listed:
                    text = rename_key(text, [kind, name], new)
                    values = read_plain(text)
                    assert new in values[kind]
            case "move":
                values[kind] = dict(dice.sample(list(listed.items()), len(listed)))
            case "drop field" if listed.get(name):
                del listed[name][dice.choice(list(listed[name]))]
            case _:
                listed[f"n{dice.randrange(99)}"] = {"role": dice.choice(VALUES), "tools": ["a"]}
        text = rewrite(text, values)
        assert same(read_plain(text), values)
    for comment in ("# Our tea crew", "# She knows where to look", "# He writes", "# the end"):
        assert comment in text
