"""Usage and cost over the API: what runs used, told apart, by real runs."""

import time
from datetime import UTC, datetime

import pytest

from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, run, slow_crew, start, wait_for
from tests.server import start_server
from tests.servers.openai_server import OpenAIServer, Reply


def usage(api, **query):
    answer = api.get("/usage", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def groups(api, group_by, **query):
    return {each["key"]: each for each in usage(api, group_by=group_by, **query)["groups"]}


@pytest.fixture(scope="module")
def ada(live_server):
    with log_in(live_server) as client:
        yield client


@pytest.fixture(scope="module")
def runs(ada):
    """Two runs of one crew and one of another; the first is deleted afterwards."""
    crew_id, first = run(ada, crew_body("Books"))
    second = wait_for(ada, start(ada, crew_id))
    _, third = run(ada, crew_body("More books"))
    assert ada.delete(f"/executions/{first['job_id']}").status_code == 204
    return first, second, third


def test_ones_own_usage_by_day_deleted_runs_included(ada, runs):
    answer = usage(ada)
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert answer["until"] == today
    assert (answer["group_by"], answer["total"], answer["page"], answer["per_page"]) == ("day", 1, 1, 100)
    (day,) = answer["groups"]
    assert (day["key"], day["name"], day["runs"]) == (today, today, 3)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens", "llm_calls", "tool_calls"):
        assert day[name] == answer["whole"][name] == sum(each["usage"][name] for each in runs) > 0
    assert (day["cost"], day["unknown_costs"]) == (0.0, 0)


def test_by_crew_model_agent_and_task(ada, runs):
    crews = groups(ada, "crew", sort="name")
    assert [(each["name"], each["runs"]) for each in crews.values()] == [("Books", 2), ("More books", 1)]
    (model,) = groups(ada, "model").values()
    assert (model["key"], model["llm_calls"], model["runs"]) == ("sandbox", 9, None)
    agents = groups(ada, "agent", crew_id=runs[0]["crew_id"])
    assert {(each["name"], each["crew_name"], each["llm_calls"]) for each in agents.values()} == {
        ("Researcher", "Books", 4),
        ("Writer", "Books", 2),
    }
    tasks = groups(ada, "task", crew_id=runs[0]["crew_id"])
    assert {each["name"]: each["tool_calls"] for each in tasks.values()} == {"research": 2, "report": 0}


def test_a_run_that_goes_on_counts_with_what_it_has_used(live_server):
    with log_in(live_server) as cleo:
        job_id = start(cleo, new_crew(cleo, slow_crew()))
        wait_for(cleo, job_id, "running")
        while cleo.get(f"/executions/{job_id}").json()["usage"]["llm_calls"] == 0:
            time.sleep(0.05)
        going = usage(cleo)["whole"]
        assert (going["runs"], going["llm_calls"]) == (1, 1)
        cleo.post(f"/executions/{job_id}/stop")
        assert usage(cleo)["whole"] == going


def test_everybodys_is_for_admins(api, ada, runs, live_server):
    me = ada.get("/auth/me").json()
    users = groups(api, "user")
    assert (users[me["owner"]]["name"], users[me["owner"]]["runs"]) == (me["email"], 3)
    assert usage(api, user=me["owner"])["whole"] == usage(ada)["whole"]
    assert usage(api)["whole"]["runs"] > 3 or len(users) == 1
    for query in ({"group_by": "user"}, {"user": me["owner"]}):
        assert ada.get("/usage", params=query).status_code == 403
    with log_in(live_server, "viewer") as viewer:
        assert usage(viewer)["whole"]["runs"] == 0
        # Somebody else's crew is as one that is not there.
        assert usage(viewer, crew_id=runs[0]["crew_id"])["whole"]["runs"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=yesterday", "since"),
        ("until=2024-02-30", "until"),
        ("group_by=colour", "group_by"),
        ("sort=runs", "sort"),
        ("group=day", "group"),
    ],
)
def test_a_question_that_is_none_is_refused_by_field(api, query, field):
    answer = api.get(f"/usage?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == field


def test_other_days_are_other_days(ada, runs):
    assert usage(ada, since="2020-01-01", until="2020-12-31")["groups"] == []
    assert usage(ada, since="2020-01-01")["whole"]["runs"] == len(runs)
    assert usage(ada, since="2021-01-01", until="2020-01-01")["whole"]["runs"] == 0


def test_a_providers_own_counts_and_a_price_that_nobody_knows(tmp_path):
    """What an endpoint of one's own asks for a token is not known: the cost is unknown, and not nothing."""
    with OpenAIServer(Reply("Done.")) as provider:
        environ = {"OPENAI_API_KEY": "sk-test-1234567890", "OPENAI_BASE_URL": provider.url}
        server = start_server(tmp_path, environ=environ)
        try:
            with server.client() as api:
                body = crew_body()
                ended = []
                for stream in (True, False):
                    body["agents"][1] |= {"model": "gpt-4o", "settings": {"stream": stream}}
                    ended.append(run(api, body)[1])
                whole, models = usage(api)["whole"], groups(api, "model")
        finally:
            server.close()
    assert [each["status"] for each in ended] == ["completed"] * 2
    assert whole["total_tokens"] == sum(each["usage"]["total_tokens"] for each in ended)
    # The provider says 25 of each answer, whether it came in pieces or not.
    assert (models["gpt-4o"]["total_tokens"], models["gpt-4o"]["llm_calls"]) == (50, 2)
    assert (whole["cost"], whole["cost_at_least"], whole["unknown_costs"]) == (None, 0.0, 2)
    assert (models["sandbox"]["cost"], models["gpt-4o"]["cost"]) == (0.0, None)


def test_what_is_stored_is_told_to_whose_it_is_and_to_admins(api, live_server):
    with log_in(live_server) as user:
        before = usage(user)["stored"]
        assert before == {"bytes": 0, "most_bytes": 200_000_000, "crews": 0, "most_crews": 2_000}
        body = crew_body("Stored")
        body["agents"][0]["backstory"] = "b" * 5_000
        new_crew(user, body)
        stored = usage(user)["stored"]
        assert stored["crews"] == 1
        assert 5_000 < stored["bytes"] < 50_000
        me = user.get("/auth/me").json()["id"]
    assert usage(api, user=me)["stored"] == stored
    assert api.get(f"/users/{me}").json()["stored"] == stored
    users = api.get("/users", params={"per_page": 500}).json()["users"]
    assert {each["id"]: each["stored"] for each in users}[me] == stored
    # Whoever administers the server may store any amount.
    assert usage(api)["stored"]["most_bytes"] is None
