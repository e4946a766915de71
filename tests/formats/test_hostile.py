"""Texts that are written to take for ever: read in linear time, or refused before anything is built."""

import base64
import io
import json
import random
import re
import zipfile

import orjson
import pytest
from ruamel.yaml import YAML

from kasal_jupyter import errors
from kasal_jupyter.confined import confined
from kasal_jupyter.errors import MOST_FAULTS, InvalidRequest
from kasal_jupyter.formats import bundle, yaml_crew
from kasal_jupyter.formats import limited as elsewhere
from kasal_jupyter.formats.conversion import import_crew
from kasal_jupyter.formats.found_crew import MOST_REMARKS
from kasal_jupyter.formats.yaml_crew import load_crew
from kasal_jupyter.formats.yaml_edit import rewrite
from kasal_jupyter.formats.yaml_text import MOST_MERGES, parse_mapping, plain
from kasal_jupyter.kernel.editor.draft import Draft
from kasal_jupyter.schemas.exchange import MOST_OF_AN_ANSWER
from tests.thorough import some_or_all

PROJECT = {"agents.yaml": "a: {}", "tasks.yaml": "t: {}"}


@pytest.fixture
def loads(monkeypatch):
    """How often a text is read as a whole."""
    counted = []
    for name in ("load", "compose", "parse"):
        original = getattr(YAML, name)

        def count(self, *args, _original=original, _name=name):
            counted.append(_name)
            return _original(self, *args)

        monkeypatch.setattr(YAML, name, count)
    return counted


@pytest.fixture
def comparisons(monkeypatch):
    """How often a word is looked for among known ones."""
    counted = []
    original = errors.difflib.get_close_matches

    def count(word, known, **options):
        counted.append((len(word), len(known)))
        return original(word, known, **options)

    monkeypatch.setattr(errors.difflib, "get_close_matches", count)
    return counted


# -- YAML ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("? " * 45, "a key is a text"),
        ("a: " + "{" * 40 + "a: 1" + "}: 1" * 39 + "}", "a key is a text"),
        ("? [a, b]\n: c", "a key is a text"),
        ("[" * 100_000, "nests deeper"),
        ("- " * 100_000, "nests deeper"),
        ("a: &a {x: 1}\n" + "".join(f"b{n}:\n  <<: *a\n" for n in range(2_000)), f"more than {MOST_MERGES}"),
        ("a: &a [*a]", "stands within itself"),
        ("a: &a {b: {c: *a}}", "stands within itself"),
        (f"a: &a {'x' * 1_000_000}\nb: [{'*a, ' * 50}*a]", "more than 100,000 values"),
        ("a: 2024-02-30", "cannot be read"),
        (f"a: {'1' * 5_000}", "cannot be read"),
        ("a: b\n" * 500_000, "more than 2,000,000 characters"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_yaml_is_refused_before_anything_is_built_of_it(text, reason):
    with pytest.raises(InvalidRequest, match=re.escape(reason)):
        parse_mapping(text, "a crew")


def test_keys_that_are_texts_and_a_few_merges_are_taken():
    text = "base: &base {llm: sandbox}\n? plain\n: {<<: *base, a: 1}\n"
    assert plain(parse_mapping(text, "a crew"))["plain"] == {"llm": "sandbox", "a": 1}


@pytest.mark.parametrize("seed", some_or_all(range(1), range(8)))
@pytest.mark.filterwarnings("ignore::ruamel.yaml.error.ReusedAnchorWarning")
def test_whatever_is_drawn_is_read_or_refused(seed):
    bits = [
        *("? ", ": ", "- ", "{", "}", "[", "]", ",", "a", "b: ", "&a ", "*a", "<<: ", "!!str ", "!x ", "'"),
        *('"', "\n", "\n  ", "|\n  ", ">\n  ", "#c", "---\n", "...\n", "%YAML 1.2\n", "1", "1:60", "\t"),
        *("!!int ", "!!float ", "!!timestamp ", "!!set ", "!!omap ", "!!binary ", "\u2028", "\0", "\\x"),
        *("2024-02-30", "1e9999"),
    ]
    chance = random.Random(seed)
    for _ in range(600):
        few = chance.sample(bits, chance.randint(2, 8))
        text = "a: " + "".join(chance.choices(few, k=chance.choice([3, 8, 20, 60])))
        try:
            plain(parse_mapping(text, "a crew"))
        except InvalidRequest:
            continue


def test_members_without_end_and_unknown_fields_are_counted_and_not_looked_at(comparisons):
    agents = "".join(f"  a{n}: {{role: r}}\n" for n in range(3_000))
    with pytest.raises(InvalidRequest, match="more than 200, which no crew may have"):
        load_crew(f"name: x\nagents:\n{agents}")
    fields = "".join(f"    field{n}: 1\n" for n in range(3_000))
    with pytest.raises(InvalidRequest) as caught:
        load_crew(f"name: x\nagents:\n  a:\n{fields}")
    assert len(caught.value.faults) == MOST_FAULTS + 1
    assert len(comparisons) <= MOST_FAULTS + 1


# -- the editor ----------------------------------------------------------------------------------------


def crew_text(tasks):
    return "name: x\nagents:\n  writer:\n    role: W\n    goal: G\n    backstory: B\ntasks:\n" + "".join(
        f"  t{n}:\n    description: Do {n}\n    # about it\n    expected_output: E\n    agent: writer\n"
        for n in range(tasks)
    )


def test_a_change_of_many_tasks_is_read_as_often_as_one_of_few(loads):
    counts = []
    for tasks in (10, 80):
        draft = Draft(crew_text(tasks))
        loads.clear()
        draft.rename("agents", "writer", "author")
        counts.append(len(loads))
        assert draft.text == crew_text(tasks).replace("writer", "author")
    assert counts[0] == counts[1] <= 8


@pytest.mark.parametrize("change", ["add", "remove", "remove the last", "values"])
def test_many_changes_of_one_kind_take_one_look(loads, change):
    text = crew_text(30)
    wanted = plain(parse_mapping(text, "a crew"))
    tasks = wanted["tasks"]
    if change == "add":
        tasks |= {f"new{n}": {"description": "D", "expected_output": "E"} for n in range(20)}
    elif change == "values":
        for task in tasks.values():
            task |= {"description": "Other", "expected_output": "Too"}
    else:
        for number in range(20) if change == "remove" else range(10, 30):
            del tasks[f"t{number}"]
    loads.clear()
    new = rewrite(text, wanted)
    assert len(loads) <= 8
    assert plain(parse_mapping(new, "a crew")) == wanted
    assert new.count("# about it") == (10 if "remove" in change else 30)


# -- a model's answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Here:\n```yaml\na: 1\n```\nDone.", [("yaml", "a: 1\n")]),
        ("~~~\na: 1\n~~~", [("", "a: 1\n")]),
        ("```python\nx\n```\n  ```YML\n  a: 1\n  ```  ", [("python", "x\n"), ("yml", "  a: 1\n")]),
        ("````\n```\na: 1\n```\n````", [("", "```\na: 1\n```\n")]),
        ("```yaml\na: 1", []),
        ("no `code` at all", []),
    ],
)
def test_what_stands_in_fences_that_are_closed(answer, found):
    assert list(yaml_crew._fenced(answer)) == found


@pytest.mark.parametrize(
    "unit",
    [
        *("```\n~~~\n", "```yaml\na: b\n"),
        *some_or_all((), ("```\n", "~~~x\n", "`" * 3 + "a", " \t```\n")),
    ],
)
def test_an_answer_of_fences_ends(unit):
    answer = (unit * MOST_OF_AN_ANSWER)[:MOST_OF_AN_ANSWER]
    given = orjson.dumps({"answer": answer, "request": {"description": "d"}})
    with pytest.raises(InvalidRequest):
        confined("kasal_jupyter.formats.limited:understand", given, seconds=60)


# -- other formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {
                "crew.jsonc": json.dumps(
                    {"agents": {f"n{n}": {"role": "r"} for n in range(30_000)}, "tasks": []}
                )
            },
            "more than 200",
        ),
        ({"crew.jsonc": '{"agents": {' + '"a": 1, ' * 50_000 + '"b": 1, "b": 1}}'}, "'a' stands twice"),
        ({"crew.jsonc": "{" + "/*" * 400_000}, "line 1"),
        ({"crew.jsonc": '{"' * 300_000}, "line 1"),
        (
            {
                "crew.json": json.dumps(
                    {
                        "nodes": [
                            {"id": f"n{n}", "type": "agentNode", "data": {"label": "a"}} for n in range(9_000)
                        ]
                    }
                    | {"edges": []}
                )
            },
            "more than 200",
        ),
        (
            {"agents.yaml": "a: {}", "tasks.yaml": "t: {}", "crew.py": "a" + "()" * 400_000},
            "cannot be imported",
        ),
        ({**PROJECT, "crew.py": "(" * 900_000}, "cannot be imported"),
        (
            {"agents.yaml": "a: {}", "tasks.yaml": "t: {}", "pyproject.toml": f"[{'a.' * 400_000}a]"},
            "cannot be imported",
        ),
    ],
    ids=["names", "twice", "comments", "quotes", "one name", "calls", "brackets", "toml"],
)
def test_files_that_are_made_to_take_for_ever_end(files, reason):
    given = orjson.dumps({"body": {"files": files, "save": False}, "tools": []})
    with pytest.raises(InvalidRequest, match=reason):
        confined("kasal_jupyter.formats.limited:read", given, seconds=60)


def test_what_is_left_out_is_compared_and_listed_up_to_a_number(comparisons):
    fields = {f"unknown{number}": 1 for number in range(5_000)}
    task = {"name": "t", "description": "d", "expected_output": "e", "agent": "a"}
    agent = {"role": "r", "goal": "g", "backstory": "b", **fields}
    found = import_crew({"crew.jsonc": json.dumps({"name": "c", "agents": {"a": agent}, "tasks": [task]})})
    assert len(found.remarks) == MOST_REMARKS + 1
    assert len(comparisons) <= MOST_REMARKS + 1


# -- archives ------------------------------------------------------------------------------------------


def zipped(entries, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_unpacks_to_a_bounded_size_whatever_its_entries_are_called(monkeypatch):
    read = []
    original = zipfile.ZipExtFile.read

    def count(self, n=-1):
        content = original(self, n)
        read.append(len(content))
        return content

    monkeypatch.setattr(zipfile.ZipExtFile, "read", count)
    for names in (["a.yaml"] * 300, [f"{n}.yaml" for n in range(300)]):
        read.clear()
        with pytest.raises(InvalidRequest):
            bundle.files_of_zip(zipped((name, b"a" * 900_000) for name in names))
        assert sum(read) <= bundle.MOST_BYTES_IN_ALL + 2 * bundle.MOST_BYTES


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_damaged_archive_is_refused_wherever_it_is_damaged(method):
    chance = random.Random(7)
    content = bytes(chance.choices(b"abc: \n", k=3_000))
    whole = zipped([("agents.yaml", content), ("tasks.yaml", content)], method)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in chance.sample(range(len(whole)), chance.choice([1, 5, 40])):
            damaged[place] = chance.randrange(256)
        try:
            bundle.files_of_zip(bytes(damaged))
        except InvalidRequest:
            continue


# -- there and back ------------------------------------------------------------------------------------


def test_what_a_limited_process_has_read_is_the_crew():
    text = crew_text(2)
    archive = base64.b64encode(zipped([("crew.yaml", text)])).decode()
    for body in ({"text": text}, {"archive": archive}):
        found = orjson.loads(elsewhere.read(orjson.dumps({"body": {**body, "format": "yaml"}, "tools": []})))
        assert elsewhere._crew(found["crew"]) == load_crew(text)
        assert load_crew(found["yaml"]) == load_crew(text)
