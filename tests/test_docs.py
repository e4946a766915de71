"""What the documents say is what the code does: docs/api.md, and the table of settings in README.md."""

import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from typing_extensions import get_type_hints

import kasal_jupyter
from kasal_jupyter import errors
from kasal_jupyter.api import websocket
from kasal_jupyter.api.operation import operation_of
from kasal_jupyter.api.routes import RESOURCES
from kasal_jupyter.app import KasalApp
from kasal_jupyter.events import event as events
from kasal_jupyter.schemas.base import ListQuery

PACKAGE = Path(kasal_jupyter.__file__).parent
ROOT = PACKAGE.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
API = "\n".join(page.read_text("utf-8") for page in PAGES)
README = (ROOT / "README.md").read_text("utf-8")

OPERATIONS = {
    f"{method} {template}": operation_of(handler, method)
    for template, handler in RESOURCES
    for method in handler.methods()
}

ENTRIES = {
    head: text.partition("\n\n")[0]
    for head, text in re.findall(r"^### ([A-Z]+ /\S*)\n(.*?)(?=^#|\Z)", API, re.MULTILINE | re.DOTALL)
}
"""What stands under the heading of each operation."""

PAGE = set(ListQuery.model_fields)
"""What *page* stands for."""

CODE = re.compile(r"`([^`]+)`")


def names(text):
    """Give the fields that a text names."""
    return {name for name in CODE.findall(text) if re.fullmatch(r"[A-Za-z_-]+", name)}


def words(text):
    """Give the fields and the values that a text names."""
    return names(text) | set(re.findall(r'"([a-z_/]+)"', text))


def part(key, label):
    """Give a part of an operation's entry, e.g. its *Body*; empty where it has none."""
    found = re.search(rf"(?:^- |\. ){label}: (.*)", ENTRIES[key], re.MULTILINE)
    return found[1] if found else ""


def section(key):
    """Give the section that an operation's entry stands in, and those that it refers to."""
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", API, re.MULTILINE | re.DOTALL))
    (own,) = (text for text in sections.values() if f"### {key}\n" in text)
    linked = {title.lower().replace(" ", "-"): text for title, text in sections.items()}
    return own + "".join(linked.get(name, "") for name in re.findall(r"\((?:[a-z]+\.md)?#([a-z-]+)\)", own))


def parts_of(annotation):
    """Give everything that a type is made of."""
    if get_origin(annotation) in {Annotated, list, dict, Union, UnionType, Literal, tuple}:
        for inner in get_args(annotation):
            yield from parts_of(inner)
    else:
        yield annotation


def models_in(model):
    """Give a model and all that it is made of."""
    yield model
    for field in model.model_fields.values():
        for inner in parts_of(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from models_in(inner)


def words_of(model):
    """Give a model's fields and the values it lists, inner ones included, but for where lists sort."""
    for each in models_in(model):
        each.model_rebuild()  # By which a page learns what its items are called.
        for name, field in each.model_fields.items():
            yield field.alias or name
            if name != "sort":
                yield from (value for value in parts_of(field.annotation) if isinstance(value, str))


def table(heading):
    """Give the rows of a table by the header of its first column."""
    rows = re.search(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", API, re.MULTILINE)[1]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows.splitlines()]


def test_every_operation_is_documented_and_no_other():
    assert sorted(ENTRIES) == sorted(OPERATIONS)


@pytest.mark.parametrize("key", OPERATIONS)
def test_who_may_call(key):
    assert ENTRIES[key].startswith(f"**{OPERATIONS[key].access.capitalize()}.** ")


@pytest.mark.parametrize("key", OPERATIONS)
def test_the_query(key):
    fields = OPERATIONS[key].query.model_fields
    text = part(key, "Query")
    asked, _, sorting = text.partition("sorts by ")
    assert names(asked) | (PAGE if "*page*" in asked else set()) == set(fields)
    if "sort" in fields:
        either = [word for name in sorting.split(", ") for word in (name, f"-{name}")]
        assert set(get_args(fields["sort"].annotation)) == set(either)


@pytest.mark.parametrize("key", OPERATIONS)
def test_the_body(key):
    body = OPERATIONS[key].body
    assert names(part(key, "Body")) == set(body.model_fields if body else ())


@pytest.mark.parametrize("key", OPERATIONS)
def test_the_headers(key):
    assert names(part(key, "Headers")) == set(OPERATIONS[key].headers)


@pytest.mark.parametrize("key", OPERATIONS)
def test_the_statuses(key):
    operation = OPERATIONS[key]
    told = [int(status) for status in re.findall(r"\b[1-5]\d\d\b", part(key, "Answers"))]
    assert sorted(told) == sorted({*operation.answers, *operation.errors})


@pytest.mark.parametrize("key", OPERATIONS)
def test_all_that_bodies_and_answers_hold_is_told_in_their_section(key):
    operation = OPERATIONS[key]
    answers = [answer[0] if isinstance(answer, tuple) else answer for answer in operation.answers.values()]
    models = [model for model in (operation.body, *answers) if isinstance(model, type)]
    lists = PAGE | {"total"}
    told = words(section(key)) | (lists if "*page*" in ENTRIES[key] else set())
    assert {word for model in models for word in words_of(model)} - told == set()


def test_what_is_served_in_maintenance_mode():
    told = re.findall(r"[A-Z]+ /[a-z_/{}]+[a-z}]", ENTRIES["PUT /maintenance"])
    assert set(told) == {key for key, operation in OPERATIONS.items() if operation.in_maintenance}


def test_every_error_code():
    kinds = [errors.KasalError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    # The notebook's side has one of its own, which no server answers with.
    served = [kind for kind in kinds if not kind.__module__.startswith("kasal_jupyter.kernel")]
    raised = {(str(kind.status), kind.code) for kind in served}
    assert {(status, CODE.findall(code)[0]) for status, code, _ in table("status")} == raised


def test_every_code_of_an_event():
    sources = [
        path.read_text("utf-8")
        for room in ("worker", "executions")
        for path in (PACKAGE / room).rglob("*.py")
    ]
    used = set(re.findall(r"""\bcode(?:=|": |: str = )"([A-Z_]+)\"""", "\n".join(sources)))
    # What providers' errors become stands in tables, and the budget's and the record's have names.
    for name in ("models/provider_errors.py", "models/budget.py", "crew/record.py"):
        text = (PACKAGE / "worker" / name).read_text("utf-8")
        used |= set(re.findall(r'"([A-Z]+_[A-Z_]+)"', text))
    (told,) = re.findall(r"An event's `error` has.*?\n\n", API, re.DOTALL)
    of_api = {CODE.findall(code)[0] for _, code, _ in table("status")}
    assert "MODEL_AUTH" in used
    assert used <= names(told) | of_api
    assert {code for code in names(told) if code.isupper()} <= used


def test_every_type_of_event_with_its_fields():
    common = set(get_type_hints(events.SpanEvent)) | {"type"}
    told = {CODE.findall(kind)[0]: names(rest) for kind, rest in table("type")}
    kinds = {}
    for event in get_args(events.Event):
        hints = get_type_hints(event)
        (kind,) = get_args(hints["type"])
        alone = events.EventBase if event not in of_spans() else events.SpanEvent
        kinds[kind] = set(hints) - set(get_type_hints(alone)) - {"type"}
    assert {kind: fields - (common - kinds[kind]) for kind, fields in told.items()} == kinds
    (text,) = re.findall(r"### Events\n\n(.*?)\n\n", API, re.DOTALL)
    assert common <= names(text)


def of_spans():
    """Give the events of spans."""
    return [event for event in get_args(events.Event) if "span_id" in get_type_hints(event)]


def test_every_close_code():
    codes = {
        value for name, value in vars(websocket).items() if name.isupper() and value in range(4000, 5000)
    }
    assert {int(code) for code, _ in table("close code")} == codes


def test_every_message_to_the_websocket():
    for model in (websocket.SubscribeMessage, websocket.AuthMessage):
        for word in words_of(model):
            assert f'"{word}"' in API


def test_every_setting():
    traits = set(KasalApp.class_own_traits(config=True))
    listed = re.findall(r"^\| `KasalApp\.(\w+)` \|", README, re.MULTILINE)
    assert sorted(listed) == sorted(traits)
    for text in (API, README):
        assert set(re.findall(r"KasalApp\.(\w+)", text)) <= traits
