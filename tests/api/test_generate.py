"""A crew from a sentence: by a model's answers, good ones and all others, and by the sandbox's rules."""

import contextlib
import time

import httpx
import pytest

from kasal_jupyter.formats.yaml_crew import load_crew
from tests.accounts import log_in
from tests.sample_crews import start, wait_for
from tests.servers.openai_server import OpenAIServer, Reply

GOOD = """\
name: Tea news
description: Writes about tea
agents:
  finder:
    role: Finder of news
    goal: Find news about {topic}
    backstory: Old
    tools: [calculator]
  writer:
    role: Writer
    goal: Write clearly
    backstory: Young
tasks:
  find:
    description: Find news about {topic}
    expected_output: Ten facts
    agent: finder
  write:
    description: Write
    expected_output: A text
    agent: writer
    context: [find]
"""

WANTED = 'Find news about {tea} and write about it, as JSON: {"a": 1}'


@contextlib.contextmanager
def provider(api, *replies):
    """Serve replies, as the models of a provider that is registered here."""
    with OpenAIServer(*replies) as server:
        answer = api.put("/providers/scripted", json={"base_url": server.url, "api_key": "sk-scripted"})
        assert answer.status_code == 200, answer.text
        try:
            yield server
        finally:
            api.delete("/providers/scripted")


def generate(api, status=200, **body):
    answer = api.post("/crews/generate", json={"description": WANTED, "model": "scripted/m", **body})
    assert answer.status_code == status, answer.text
    return answer.json()


def prompt(server, at=0):
    return "\n".join(message["content"] for message in server.requests[at]["messages"])


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"Here it is:\n\n```yaml\n{GOOD}```\n\nGood luck!",
        f"```\n{GOOD}\n```",
        f"<think>agents: {{}}\n```yaml\nname: No\n```\n</think>\n{GOOD}",
    ],
)
def test_a_good_answer_with_and_without_a_fence(api, text):
    with provider(api, Reply(text)) as server:
        made = generate(api, inputs=["topic"])
    assert (made["model"], made["attempts"], made["id"]) == ("scripted/m", 1, None)
    assert [agent["name"] for agent in made["crew"]["agents"]] == ["finder", "writer"]
    # Its agents use the model that has made it.
    assert {agent["model"] for agent in made["crew"]["agents"]} == {"scripted/m"}
    assert load_crew(made["yaml"]).name == "Tea news"
    asked = prompt(server)
    # What the user wrote goes to the model as it is, braces and all.
    assert WANTED in asked
    assert "- calculator: " in asked
    assert "use each of them as a placeholder: {topic}" in asked


def test_it_is_an_execution_with_its_trace_and_its_usage(api):
    with provider(api, Reply(GOOD)):
        made = generate(api)
        (job_id,) = made["job_ids"]
        execution = api.get(f"/executions/{job_id}").json()
    assert execution["status"] == "completed"
    assert execution["crew_id"] == "crew_generator"
    assert api.get(f"/executions/{job_id}/traces").json()["traces"]
    models = api.get("/usage", params={"group_by": "model"}).json()["groups"]
    assert "scripted/m" in [group["key"] for group in models]


def test_a_crew_that_is_saved_can_run(api):
    text = GOOD.replace("backstory: Old", "llm: sandbox").replace("backstory: Young", "llm: sandbox")
    with provider(api, Reply(text)):
        made = generate(api, 201, save=True, name="Saved news")
    assert made["status"] == "active"
    assert api.get(f"/crews/{made['id']}").json()["name"] == "Saved news"
    assert wait_for(api, start(api, made["id"]))["status"] == "completed"


def test_faults_go_back_to_the_model_which_corrects_them(api):
    wrong = GOOD.replace("agent: writer", "agent: wirter").replace("[calculator]", "[teleporter]")
    worse = GOOD.replace("[calculator]", "[teleporter]").replace(
        "    role: Writer", "    role: Writer\n    llm: gpt-x"
    )
    with provider(api, Reply(wrong), Reply(worse), Reply(GOOD)) as server:
        made = generate(api)
    assert made["attempts"] == len(made["job_ids"]) == 3
    second, third = prompt(server, 1), prompt(server, 2)
    assert "Your last answer was:" in second
    assert "tasks.write.agent: line 21: there is no agent 'wirter'; did you mean 'writer'?" in second
    assert "There is no tool 'teleporter'" in third
    assert "agents[1].model" in third


NEVER = {
    "prose": ("I would rather write a poem.", "yaml"),
    "broken": ("```yaml\nagents: [\n```", "yaml"),
    "tool": (GOOD.replace("[calculator]", "[teleporter]"), "agents[0].tools[0]"),
    "input": (GOOD.replace("{topic}", "it"), "inputs.topic"),
    "webhook": (f"{GOOD}webhook:\n  url: https://example.com/steal\n", "webhook"),
    "code": (
        GOOD.replace("role: Writer", "role: !!python/object/apply:os.system [id]"),
        "agents.writer.role",
    ),
    "alias": (GOOD.replace("goal: Write clearly", "goal: &a [*a, *a]"), "yaml"),
    "endless": (f"{GOOD}# {'and-so-on' * 12_000}", "yaml"),
}
"""Answers that are no crew that could run, and what is blamed."""


@pytest.mark.parametrize(
    "kinds", [("prose", "broken", "tool"), ("input", "webhook", "code"), ("alias", "input", "endless")]
)
def test_answers_that_are_never_a_crew_are_refused_with_their_faults(api, kinds):
    with provider(api, *(Reply(NEVER[kind][0]) for kind in kinds)) as server:
        error = generate(api, 422, inputs=["topic"])["error"]
    assert len(server.requests) == 3
    # What was wrong with each stands in the next question, and of the last in the refusal.
    for at, kind in enumerate(kinds[:-1], 1):
        assert f"{NEVER[kind][1]}: " in prompt(server, at).rpartition(NEVER[kind][0].strip()[-40:])[2]
    assert error["code"] == "CREW_NOT_GENERATED"
    assert error["details"]["field"] == NEVER[kinds[-1]][1]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply("Slow down", status=429, headers={"Retry-After": "0"}), "RATE_LIMIT"),
        (Reply("No.", status=401), "MODEL_AUTH"),
        (Reply("No.", status=404), "MODEL_NOT_FOUND"),
        (Reply(""), "MODEL_ERROR"),
    ],
)
def test_a_model_that_fails_is_told_by_its_own_code(api, reply, code):
    with provider(api, reply):
        error = generate(api, 502)["error"]
    assert error["code"] == code
    assert "sk-scripted" not in str(error)


def test_a_model_that_there_is_none_of(api):
    error = generate(api, 400, model="nobody/knows")["error"]
    assert (error["code"], error["details"]["field"]) == ("CREW_NOT_RUNNABLE", "model")


def newest(api):
    return api.get("/executions", params={"crew_id": "crew_generator", "per_page": 1}).json()["executions"][0]


def test_one_that_takes_too_long_is_stopped(api):
    with provider(api, Reply("hm", hang=True)) as server:
        error = generate(api, 502, timeout=2)["error"]
        assert server.gone.wait(120)
    assert error["code"] == "MODEL_TIMEOUT"
    assert newest(api)["status"] == "stopped"


def test_whoever_goes_away_stops_it(api):
    with provider(api, Reply("hm", hang=True)) as server:
        with pytest.raises(httpx.ReadTimeout):
            api.post(
                "/crews/generate",
                json={"description": WANTED, "model": "scripted/m"},
                timeout=httpx.Timeout(30, read=3),
            )
        assert server.asked.is_set()
        assert server.gone.wait(120)
    end = time.monotonic() + 120
    while newest(api)["status"] != "stopped":
        assert time.monotonic() < end, newest(api)
        time.sleep(0.05)


def test_the_sandbox_makes_one_by_rule_always_the_same(api):
    description = "Research tea prices on the web, compare them, and translate a report into German."
    made, again = (generate(api, description=description, model="sandbox", inputs=["year"]) for _ in range(2))
    assert made["yaml"] == again["yaml"]
    crew = made["crew"]
    assert crew["name"] == "Research tea prices on the web"
    assert crew["description"].startswith("[sandbox] ")
    assert [agent["name"] for agent in crew["agents"]] == ["researcher", "analyst", "writer", "translator"]
    assert "web_search" in crew["agents"][0]["tools"]
    assert all("{year}" in task["description"] for task in crew["tasks"])
    assert [task["context"] for task in crew["tasks"]] == [None, ["research"], ["analysis"], ["text"]]


def test_the_sandbox_knows_what_to_do_with_a_sentence_that_says_nothing(api):
    made = generate(api, 201, description="Tea: {black} #1 'x' \"y\"", model="sandbox", save=True)
    assert [agent["name"] for agent in made["crew"]["agents"]] == ["researcher", "writer"]
    assert wait_for(api, start(api, made["id"]))["status"] == "completed"


@pytest.mark.parametrize(
    ("body", "field"),
    [({"description": " "}, "description"), ({"timeout": 0}, "timeout"), ({"inputs": ["a b"]}, "inputs[0]")],
)
def test_a_request_that_is_wrong(api, body, field):
    assert generate(api, 400, **body)["error"]["details"]["field"] == field


def test_a_viewer_generates_nothing(api, live_server):
    with log_in(live_server, "viewer") as viewer:
        generate(viewer, 403)
