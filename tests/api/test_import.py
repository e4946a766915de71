"""Crews that come in: from CrewAI's projects, its JSON, Kasal's canvas, and our YAML."""

import base64
import json

import pytest

from kasal_jupyter.formats.conversion import as_zip
from tests.accounts import log_in
from tests.sample_crews import new_crew, start, wait_for

AGENTS = """\
writer:
  role: Writer
  goal: Write about {topic}
  backstory: Old
  llm: sandbox
  verbose: true
"""
TASKS = "text:\n  description: Write about {topic}\n  expected_output: A text\n"
FILES = {"agents.yaml": AGENTS, "tasks.yaml": TASKS}
YAML = """\
name: Small crew
agents:
  writer: {role: Writer, goal: Write, llm: sandbox}
tasks:
  text: {description: Write, expected_output: A text, agent: writer}
"""
JSONC = """{ // a crew
 "name": "Json crew",
 "agents": {"writer": {"role": "Writer", "goal": "Write", "backstory": "", "llm": "sandbox"}},
 "tasks": [{"name": "text", "description": "Write", "expected_output": "E", "agent": "writer"}],
}"""


def imported(api, status=201, **body):
    answer = api.post("/crews/import", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def fault(answer):
    details = answer["error"]["details"]
    return details["field"], details["reason"]


def test_a_crewai_project_runs_here(api):
    made = imported(api, files=FILES, name="From CrewAI")
    assert (made["name"], made["status"], made["format"]) == ("From CrewAI", "active", "crewai")
    assert {remark["field"]: remark["reason"] for remark in made["remarks"]} == {
        "process": "there is no crew.py that tells; the crew is sequential",
        "agents.writer.verbose": "what happens is in the run's trace in any case",
        "tasks.text.agent": "no file names its agent; there is only writer",
    }
    assert wait_for(api, start(api, made["id"]))["status"] == "completed"


def test_a_project_in_a_zip_file(api):
    files = {f"src/tea_news/config/{name}": text for name, text in FILES.items()}
    archive = base64.b64encode(as_zip(files, "tea-news-main")).decode()
    assert imported(api, archive=archive)["name"] == "tea news"


@pytest.mark.parametrize(
    ("text", "kind", "name"), [(YAML, "yaml", "Small crew"), (JSONC, "jsonc", "Json crew")]
)
def test_one_text_tells_what_it_is(api, text, kind, name):
    made = imported(api, text=text)
    assert (made["format"], made["name"], made["status"], made["remarks"]) == (kind, name, "active", [])


def test_our_own_export_for_kasal_comes_back(api):
    crew_id = imported(api, text=YAML)["id"]
    exported = api.get(f"/crews/{crew_id}/export?format=kasal").text
    made = imported(api, text=exported, name="Back again")
    assert (made["format"], made["name"]) == ("kasal", "Back again")
    assert made["remarks"] == [{"field": "nodes", "reason": "where they stand on the canvas is not kept"}]


def test_without_saving_the_crew_is_shown_and_not_stored(api):
    total = api.get("/crews").json()["total"]
    shown = imported(api, 200, files=FILES, name="Only shown", save=False)
    assert shown["crew"]["name"] == "Only shown"
    assert shown["yaml"].startswith("name: Only shown\n")
    assert len(shown["remarks"]) == 3
    assert api.get("/crews").json()["total"] == total
    # What is shown is what POST /crews takes.
    assert new_crew(api, shown["crew"])


def test_code_is_refused_by_name_with_file_line_and_field(api):
    agents = AGENTS.replace("  verbose: true", "  tools: [custom:rm]\n  callback: !!python/name:os.system")
    answer = imported(api, 400, files={**FILES, "agents.yaml": agents})
    assert answer["error"]["message"].startswith(
        "The crew cannot be imported: writer.callback: agents.yaml, line 7"
    )
    assert [fault["field"] for fault in answer["error"]["details"]["errors"]] == [
        "writer.callback",
        "writer.tools[0]",
    ]
    for each, line in zip(answer["error"]["details"]["errors"], (7, 6), strict=True):
        assert each["reason"].startswith(f"agents.yaml, line {line}: ")
        assert "would execute code" in each["reason"]


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"archive": "no base64!"}, "archive", "It is no base64"),
        ({"archive": base64.b64encode(b"no zip").decode()}, "archive", "it is no zip file that can be read"),
        ({"files": {"../agents.yaml": ""}}, "../agents.yaml", "its path leads out of the project"),
        ({"files": {"agents.yaml": AGENTS}}, "tasks.yaml", "it is not there"),
        ({"files": {"a.txt": "", "b.txt": ""}}, "files", "there is no file that could be a crew's YAML"),
        ({"text": "a: [1"}, "yaml", "crew, line 1: "),
        ({"text": "{", "format": "kasal"}, "crew", "line 1: "),
        ({"text": "a: &x [*x, *x]"}, "yaml", "crew, line 1: *x stands within itself"),
        ({"text": YAML, "files": FILES}, "body", "Give exactly one of text, files and archive"),
        ({}, "body", "Give exactly one of text, files and archive"),
        (
            {"text": YAML.replace("agent: writer", "agent: reader")},
            "tasks.text.agent",
            "crew, line 5: there is no",
        ),
    ],
)
@pytest.mark.parametrize("save", [True, False])
def test_what_cannot_be_imported_is_refused_with_its_place(api, body, field, reason, save):
    where, why = fault(imported(api, 400, **body, save=save))
    assert where == field
    assert reason in why


def test_a_crew_that_could_not_be_stored_is_not_shown_either(api):
    canvas = {
        "name": "X",
        "nodes": [{"id": "a", "type": "agentNode", "data": {"label": "A", "role": "R", "goal": "G"}}],
        "edges": [{"source": "a", "target": "t"}, {"source": "t", "target": "t"}],
    }
    canvas["nodes"].append(
        {"id": "t", "type": "taskNode", "data": {"label": "T", "description": "D", "expected_output": "E"}}
    )
    for save in (True, False):
        where, why = fault(imported(api, 400, text=json.dumps(canvas), save=save))
        assert where == "edges"
        assert "T → T" in why


def test_a_viewer_imports_nothing_and_everybody_for_themselves(api, live_server):
    with log_in(live_server, "viewer") as viewer:
        assert viewer.post("/crews/import", json={"text": YAML}).status_code == 403
    with log_in(live_server, "editor") as editor:
        crew_id = imported(editor, text=YAML)["id"]
        assert editor.get(f"/crews/{crew_id}/export").status_code == 200
        with log_in(live_server, "editor") as other:
            assert other.get(f"/crews/{crew_id}/export").status_code == 404
