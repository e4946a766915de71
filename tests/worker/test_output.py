"""What form a task's result takes: a JSON schema's, and a file of the run's folder."""

import json

import jsonschema
import pytest

from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply

NESTED = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "parts": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "score": {"$ref": "#/$defs/score"}},
                "required": ["name", "score"],
            },
        },
        "source": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["title", "parts"],
    "$defs": {"score": {"type": "integer", "minimum": 1, "maximum": 5}},
}

ANSWER = {"title": "Tea", "parts": [{"name": "taste", "score": 5}], "source": None}


@pytest.mark.parametrize("style", ["native", "react"])
@pytest.mark.parametrize("tools", [[], ["calculator"]])
def test_a_nested_result_of_the_sandbox_follows_its_schema(engine, tmp_path, style, tools):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Judge", tools=tools, sandbox={"tool_calls": style})],
            [task("rate", "judge", "Rate tea", output_schema=NESTED)],
        )
    )
    assert record.end["status"] == "completed", record.end
    (done,) = record.of("task_complete")
    jsonschema.validate(done["structured"], NESTED)
    assert json.loads(done["result"]) == done["structured"]


@pytest.mark.parametrize("tools", [[], ["calculator"]])
def test_a_nested_result_of_a_real_model_follows_its_schema(engine, tmp_path, tools):
    calls = [Reply(calls=(("calculator", {"expression": "2+3"}),))] if tools else []
    with OpenAIServer(*calls, Reply(json.dumps(ANSWER))) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Judge", model="gpt", tools=tools)],
                [task("rate", "judge", "Rate tea", output_schema=NESTED)],
                models=openai_model(server.url),
            )
        )
    assert record.end["status"] == "completed", record.end
    assert record.of("task_complete")[0]["structured"] == ANSWER


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("I would rather not.", "there is no JSON object in it"),
        ('{"title": "Tea", "parts": "none"}', "parts: Input should be a valid list"),
    ],
)
def test_an_answer_in_another_form_is_told_as_such(engine, tmp_path, said, why):
    with OpenAIServer(Reply(said)) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Judge", model="gpt")],
                [task("rate", "judge", "Rate tea", output_schema=NESTED)],
                models=openai_model(server.url),
            )
        )
    assert record.end["error"] == {
        "code": "MODEL_ERROR",
        "message": f"gpt: the answer is not in the JSON form that it was asked for ({why}).",
    }


def test_a_result_is_written_to_a_file_of_the_runs_folder(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path / "run",
            [agent("Writer")],
            [
                task("plain", "writer", "Write about {topic}", output_file="out/{topic}/{Kein} Bericht..md"),
                task("rated", "writer", "Rate it", output_file="rating.json", output_schema=NESTED),
            ],
            inputs={"topic": "grüner tee"},
        )
    )
    assert record.end["status"] == "completed", record.end
    plain, rated = record.of("task_complete")
    written = tmp_path / "run" / "out" / "grüner tee" / "{Kein} Bericht..md"
    assert written.read_text("utf-8") == plain["result"]
    assert json.loads((tmp_path / "run" / "rating.json").read_text("utf-8")) == rated["structured"]


@pytest.mark.parametrize(("name", "topic"), [("{topic}/x.md", ".."), ("{topic}", "/etc/x"), ("link/x", "")])
def test_no_path_leads_out_of_the_folder(engine, tmp_path, name, topic):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "elsewhere")
    record = engine.run(
        crew(
            tmp_path / "run",
            [agent("Writer")],
            [task("plain", "writer", "Write about {topic}", output_file=name)],
            inputs={"topic": topic},
        )
    )
    assert record.end["status"] == "failed"
    assert record.end["error"]["code"] == "OUTPUT_FILE"
    assert record.of("error")[0]["task_id"] == "plain"
    assert not list((tmp_path / "elsewhere").iterdir())
    assert not (tmp_path / "x.md").exists()
