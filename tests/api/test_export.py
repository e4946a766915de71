"""Crews that go out: as files, and as an object that also lists what could not be carried over."""

import io
import json
import zipfile

import pytest

from kasal_jupyter.formats.conversion import import_crew
from tests.sample_crews import crew_body, new_crew

JSON = {"Accept": "application/json"}


@pytest.fixture
def crew_id(api):
    return new_crew(api, crew_body("Tea & prices", answer_words=9))


def test_by_itself_it_is_the_crews_yaml(api, crew_id):
    answer = api.get(f"/crews/{crew_id}/export")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/yaml"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="tea_prices.yaml"'
    assert answer.headers["X-Kasal-Remarks"] == "0"
    assert import_crew({"x.yaml": answer.text}).crew.name == "Tea & prices"


def test_a_project_comes_as_a_zip_file(api, crew_id):
    answer = api.get(f"/crews/{crew_id}/export?format=crewai")
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="tea_prices.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = archive.namelist()
        readme = archive.read("tea_prices/README.md").decode()
    package = "tea_prices/src/tea_prices_crew"
    assert {f"{package}/crew.py", f"{package}/main.py", "tea_prices/pyproject.toml"} < set(names)
    assert "`agents[0].tools[0]`: CrewAI alone has no tool 'calculator'" in readme
    assert api.get(f"/crews/{crew_id}/export?format=crewai").content == answer.content


def test_for_kasals_canvas(api, crew_id):
    answer = api.get(f"/crews/{crew_id}/export?format=kasal")
    assert answer.headers["Content-Type"] == "application/vnd.kasal.crew+json"
    assert {node["type"] for node in json.loads(answer.text)["nodes"]} == {"agentNode", "taskNode"}


@pytest.mark.parametrize("wanted", ["yaml", "crewai", "kasal"])
def test_as_json_it_has_the_files_and_the_remarks(api, crew_id, wanted):
    answer = api.get(f"/crews/{crew_id}/export", params={"format": wanted}, headers=JSON).json()
    assert (answer["name"], answer["format"]) == ("Tea & prices", wanted)
    listed = {remark["field"] for remark in answer["remarks"]}
    if wanted == "yaml":
        assert listed == set()
    else:
        assert {"agents[0].tools[0]", "agents[0].sandbox", "agents[1].sandbox", "tasks[1].context"} <= listed
    made = api.post("/crews/import", json={"files": answer["files"]})
    assert made.status_code == 201, made.text
    assert made.json()["format"] == wanted


def test_out_and_in_it_is_the_same_crew(api, crew_id):
    files = api.get(f"/crews/{crew_id}/export", headers=JSON).json()["files"]
    again = api.post("/crews/import", json={"files": files}).json()["id"]
    one, other = (api.get(f"/crews/{each}").json() for each in (crew_id, again))
    for crew in (one, other):
        for key in ("id", "created_at", "updated_at"):
            del crew[key]
        for member in (*crew["agents"], *crew["tasks"]):
            for key in ("id", "crew_id", "created_at", "updated_at", "agent_id"):
                member.pop(key, None)
    assert one == other


def test_a_format_that_there_is_none_of(api, crew_id):
    answer = api.get(f"/crews/{crew_id}/export?format=xml")
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "format"
    assert api.get("/crews/crew_gone/export").status_code == 404


def test_knowledge_stays_and_that_is_told(api, crew_id):
    body = {"name": "prices.txt", "text": "Tea costs 3.50."}
    assert api.post(f"/crews/{crew_id}/knowledge", json=body).status_code == 201
    (remark,) = api.get(f"/crews/{crew_id}/export", headers=JSON).json()["remarks"]
    assert remark["field"] == "knowledge"
    assert remark["reason"].startswith("1 files or texts are attached")
