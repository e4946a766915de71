"""More of CrewAI through the API: what is refused, what keeps a crew from running, and whole runs of it."""

import pytest

from tests.sample_crews import new_crew, run


def managed(**more):
    return {
        "name": "Managed Crew",
        "process": "hierarchical",
        "manager_agent": "Chief",
        "agents": [
            {"role": "Chief", "goal": "Have it done", "model": "sandbox"},
            {"role": "Clerk", "goal": "Do it", "model": "sandbox"},
        ],
        "tasks": [{"name": "do", "description": "Do {topic}", "expected_output": "A note", "agent": "Clerk"}],
        **more,
    }


def whole(api, crew_id):
    return api.get(f"/crews/{crew_id}").json()


def faults(api, crew_id, topic="tea"):
    answer = api.post(f"/crews/{crew_id}/check", json={"inputs": {"topic": topic}}).json()
    return {fault["field"]: fault["reason"] for fault in answer["faults"]}


def test_a_manager_is_kept_by_its_id_whatever_it_is_called(api):
    crew_id = new_crew(api, managed())
    crew = whole(api, crew_id)
    chief, clerk = crew["agents"]
    assert crew["configuration"]["manager_agent"] == chief["id"]
    assert crew["status"] == "active"
    assert api.put(f"/agents/{chief['id']}", json={"name": "Boss"}).status_code == 200
    assert whole(api, crew_id)["configuration"]["manager_agent"] == chief["id"]
    assert api.delete(f"/agents/{chief['id']}").json()["error"]["message"] == (
        "'Boss' manages the crew; give it another manager first"
    )
    assert api.put(f"/crews/{crew_id}", json={"manager_agent": clerk["name"]}).status_code == 200
    assert faults(api, crew_id) == {
        "tasks[0].agent": "'Clerk' manages the crew and does no tasks; name another agent, or none"
    }
    assert whole(api, crew_id)["status"] == "configuring"


def test_a_manager_who_is_not_there_is_refused(api):
    answer = api.post("/crews", json=managed(manager_agent="Cheif"))
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "manager_agent"
    assert "did you mean 'Chief'" in answer.json()["error"]["details"]["reason"]
    crew_id = new_crew(api, managed())
    assert api.put(f"/crews/{crew_id}", json={"manager_agent": "Nobody"}).status_code == 400
    without = [{"role": "Clerk", "goal": "Do it"}]
    assert api.put(f"/crews/{crew_id}", json={"agents": without}).status_code == 400
    both = {"agents": without, "manager_agent": None}
    assert api.put(f"/crews/{crew_id}", json=both).status_code == 200


def test_a_manager_with_tools_and_one_alone_cannot_manage(api):
    body = managed()
    body["agents"][0]["tools"] = ["calculator"]
    assert faults(api, new_crew(api, body)) == {
        "agents[0].tools": "'Chief' manages the crew, and a manager has no tools; give them to those who work"
    }
    body = managed(agents=[{"role": "Chief", "goal": "Have it done", "model": "sandbox"}])
    body["tasks"][0]["agent"] = None
    assert faults(api, new_crew(api, body)) == {
        "agents": "'Chief' manages the crew, and nobody does the work; add an agent"
    }


def test_where_a_condition_may_not_stand(api):
    body = managed(process="sequential")
    condition = {"contains": "tea"}
    body["tasks"] = [
        {**body["tasks"][0], "name": "one", "condition": condition},
        {**body["tasks"][0], "name": "two", "condition": condition, "async_execution": True},
    ]
    assert faults(api, new_crew(api, body)) == {
        "tasks[0].condition": (
            "There is no result before the first task; take its condition out, or move it behind another"
        ),
        "tasks[1].condition": "A task with a condition cannot be asynchronous; take out one of the two",
    }


@pytest.mark.parametrize(
    "path", ["/etc/x", "..", "a/../b", "./a", "a//b", "a/", "a\\b", "a\nb", "", "x" * 201, "a/."]
)
def test_no_output_file_is_outside_of_the_runs_folder(api, path):
    body = managed()
    body["tasks"][0]["output_file"] = path
    answer = api.post("/crews", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "tasks[0].output_file"


@pytest.mark.parametrize("path", ["a", ".a", "..a", "a..b", "...", "{topic}.md", "a b/ü/c.tar.gz"])
def test_any_other_name_will_do(api, path):
    body = managed()
    body["tasks"][0]["output_file"] = path
    assert faults(api, new_crew(api, body)) == {}


def test_an_input_that_leads_a_file_out_is_found_before_the_run(api):
    body = managed()
    body["tasks"][0]["output_file"] = "notes/{topic}.md"
    crew_id = new_crew(api, body)
    assert faults(api, crew_id, "../../x")["tasks[0].output_file"] == (
        "With these inputs it is 'notes/../../x.md', which is no path inside the run's folder"
    )
    body["tasks"][0]["output_file"] = "Output.log"
    assert "the run's own log" in faults(api, new_crew(api, body))["tasks[0].output_file"]


def test_what_a_task_holds_is_changed_part_by_part(api):
    crew_id = new_crew(api, managed())
    (task,) = whole(api, crew_id)["tasks"]
    path = f"/tasks/{task['id']}"
    change = {"guardrail": "It is short.", "guardrail_max_retries": 0, "condition": {"equals": 5}}
    assert api.put(path, json=change).status_code == 200
    changed = api.get(path).json()
    assert (changed["guardrail"], changed["guardrail_max_retries"]) == ("It is short.", 0)
    assert changed["condition"]["equals"] == 5
    assert api.put(path, json={"condition": None, "guardrail": None}).status_code == 200
    assert api.get(path).json()["condition"] is None
    webhook = {"url": "https://example.com/hook", "events": ["task"]}
    assert api.put(f"/crews/{crew_id}", json={"webhook": webhook, "planning": True}).status_code == 200
    assert whole(api, crew_id)["configuration"]["webhook"] == webhook
    # A list that replaces another keeps the rest of the crew.
    tasks = [{"name": "do", "description": "Do it", "expected_output": "A note"}]
    assert api.put(f"/crews/{crew_id}", json={"tasks": tasks}).status_code == 200
    assert whole(api, crew_id)["configuration"]["planning"] is True


def test_a_run_with_all_of_it_and_its_trace(api):
    body = managed(planning=True)
    body["agents"][1]["sandbox"] = {"refusals": 1}
    body["tasks"][0] |= {"guardrail": "It is about {topic}.", "output_file": "{topic}.md"}
    body["tasks"].append(
        {
            "name": "more",
            "description": "Do more",
            "expected_output": "A note",
            "condition": {"matches": "^nothing like it$"},
        }
    )
    crew_id, ended = run(api, body)
    assert ended["status"] == "completed", ended
    assert ended["progress"] == 100
    traces = api.get(f"/executions/{ended['job_id']}/traces").json()["traces"]
    told = [
        (row["action"], row["result"][:8]) for row in traces if row["type"] in {"guardrail", "task_skipped"}
    ]
    assert told == [("guardrail", "Refused:"), ("guardrail", "Accepted"), ("task_skipped", "Skipped:")]
    (plan,) = (row for row in traces if row["action"] == "plan")
    assert "1. Read the task" in plan["result"]
    listed = api.get("/tasks", params={"crew_id": crew_id}).json()["tasks"]
    assert {task["name"]: task["status"] for task in listed} == {"do": "completed", "more": "skipped"}
    kinds = api.get(f"/executions/{ended['job_id']}/events", params={"kind": "task"}).json()["events"]
    assert {"plan", "guardrail", "task_skipped"} <= {event["type"] for event in kinds}


def test_a_result_that_is_refused_for_good_ends_the_run_and_says_what_was_wrong(api):
    body = managed(process="sequential", manager_agent=None)
    body["agents"][1]["sandbox"] = {"refusals": 9}
    body["tasks"][0] |= {"guardrail": "It is about {topic}.", "guardrail_max_retries": 1}
    crew_id, ended = run(api, body)
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "GUARDRAIL_REFUSED"
    assert "refused, as its settings say" in ended["error"]["message"]
    assert ended["error"]["task"] == whole(api, crew_id)["tasks"][0]["id"]
