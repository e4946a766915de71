"""Runs that go on from others: what is kept of what a run was asked, and what another is started with."""

from __future__ import annotations

import asyncio

import pytest

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import Conflict, NotFound, NotRunnable
from kasal_jupyter.events.summary import summarise
from kasal_jupyter.executions.lineage import changed_budget, replay_spec, request_of
from kasal_jupyter.executions.verbs import once, replay, resume
from kasal_jupyter.models.catalog import ModelCatalog
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.executions import Budget, ExecutionResume
from kasal_jupyter.schemas.mcp import McpTool, RunMcpServer
from kasal_jupyter.schemas.spec import RunEmbedder, RunModel, RunSearch, RunToolSettings
from kasal_jupyter.schemas.tasks import TaskCondition
from kasal_jupyter.schemas.tools import ClientTool, RunTool
from tests.executions.test_faults import until
from tests.executions.test_life import live
from tests.fake_backend import completes, event, goes_on, span, status
from tests.sample_crews import crew_body

SECRET = "sk-very-secret-0123456789"

TOOL = ClientTool(name="look", description="Look", for_all=True)


def spec_of(runs, job_id):
    return next(run.spec for run in runs.backend.runs if run.spec.job_id == job_id)


def failing(call="1:abc", code="MODEL_UNREACHABLE"):
    """Give a script that fails at a call."""

    async def script(run):
        asked = {"model": "m", "key": f"{call}:1"}
        failed = {"model": "m", "error": {"code": code, "message": "No"}, "usage": None, "cost": 0.0}
        run.say(
            status("running"),
            span("llm_call", 1, messages=[], tools=[], **asked),
            span("llm_failed", 1, **failed),
            event("error", code=code, message="No"),
            status("failed", error={"code": code, "message": "No"}),
        )
        run.exit()

    return script


def of_script(*lines):
    async def script(run):
        run.say(status("running"), *lines, status("completed", result="Tea"))
        run.exit()

    return script


def test_whoever_goes_on_with_a_run_is_a_part_of_what_that_is_of(tmp_path):
    async def work(world):
        runs = world.runs(failing(), completes, completes)
        part_of = {"batch": "batch_1", "schedule": "schedule_1", "allowances": ["batch_1"]}
        source = await world.state(runs, await world.start(runs, **part_of))
        resumed = await resume(runs, source.id, "ada", ExecutionResume())
        again = await world.state(runs, resumed.id)
        other = await world.state(runs, (await replay(runs, source.id, "ada")).id)
        for each in (source, again):
            assert (each.batch, each.schedule) == ("batch_1", "schedule_1")
            assert spec_of(runs, each.id).allowances == ["batch_1"]
            assert runs.store.run_requests.get(each.id).allowances == ["batch_1"]
        # A record that is given again spends nothing of anybody's.
        assert (other.batch, other.schedule, spec_of(runs, other.id).allowances) == (None, None, [])

    live(work, tmp_path)


def test_what_is_kept_of_a_run_holds_no_secret_and_starts_a_replay(tmp_path):
    async def work(world):
        runs = world.runs()
        source = await world.state(runs, await world.start(runs, tools=[TOOL]))
        spec = spec_of(runs, source.id)
        custom = {"name": "crm", "description": "Ask", "endpoint": "https://crm.test/ask"}
        served = McpTool(name="files_read", remote_name="read", description="Read", parameters={})
        address = f"https://{SECRET}.test/mcp?token={SECRET}"
        full = spec.model_copy(
            update={
                "models": {
                    "gpt-4": RunModel(
                        name="gpt-4",
                        provider="azure",
                        model="gpt-4.1",
                        api_key=SECRET,
                        base_url=f"https://ada:{SECRET}@models.test/openai?key={SECRET}",
                        options={"aws_secret_access_key": SECRET, "api_version": "2024-10-21"},
                    )
                },
                "tools": [RunTool(**custom, auth_type="bearer", secret=SECRET)],
                "mcp_servers": [
                    RunMcpServer(
                        name="files",
                        transport="http",
                        args=[SECRET],
                        env={"TOKEN": SECRET},
                        url=address,
                        headers={"Authorization": f"Bearer {SECRET}"},
                        tools=[served],
                    )
                ],
                "tool_settings": RunToolSettings(search=RunSearch(api_key=SECRET, base_url=address)),
                "memory": spec.memory.model_copy(
                    update={"embedder": RunEmbedder(provider="openai", api_key=SECRET, base_url=address)}
                ),
            }
        )
        kept = request_of(full, "ada", webhook=world.whole.crew.webhook)
        assert SECRET not in kept.model_dump_json()
        again = replay_spec(kept, source, job_id="job_new", folder="/new")
        assert (again.job_id, again.folder, again.inputs) == ("job_new", "/new", {"topic": "tea"})
        assert again.secrets() == []
        # Whom an agent's model is one of decides on how it is asked: that is part of what was asked.
        model = again.models["gpt-4"]
        assert (model.provider, model.model, model.base_url, model.options) == (
            *("azure", "gpt-4.1", "https://models.test/openai"),
            {"api_version": "2024-10-21"},
        )
        assert [tool.name for tool in again.tools] == ["crm"]
        assert again.mcp_servers[0].tools == [served]
        assert again.client_tools == [TOOL]
        assert (again.crew, again.agents, again.tasks) == (full.crew, full.agents, full.tasks)

    live(work, tmp_path)


def test_a_replay_tells_books_and_remembers_nothing(tmp_path):
    kept = [{"id": "memory_1", "type": "short_term", "content": "Tea", "category": None}]
    answer = {"text": "Yes", "tool_calls": [], "cost": 0.5, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 0, "total_tokens": 10}
    replayed = of_script(
        span("llm_call", 1, model="m", messages=[], tools=[], key="1:a:1"),
        span("llm_response", 1, model="m", usage=usage, recorded=True, **answer),
        event("memory_stored", memories=kept),
    )

    async def work(world):
        runs = world.runs(completes, replayed)
        budget = Budget(max_tokens=5_000)
        source = await world.state(runs, await world.start(runs, budget=budget, tools=[TOOL]))
        await until(lambda: not runs.active)
        before = world.store.ledger.find()
        # The crew has changed since, and is gone; nobody has a key.
        await world.store.change(lambda: world.store.crews.delete(world.whole.crew.id))
        runs.catalog = ModelCatalog(environ={})
        made = await replay(runs, source.id, "ada")
        assert (made.verb, made.parent, made.attempt) == ("replay", source.id, 1)
        assert (made.inputs, made.crew_version) == (source.inputs, source.crew_version)
        ended = await world.state(runs, made.id)
        await until(lambda: not runs.active)
        spec = spec_of(runs, made.id)
        assert spec.source.verb == "replay"
        assert spec.source.journal == str(runs.files.journal(source.id))
        # Where the record ends for it, the replay does.
        assert spec.budget == budget
        assert (ended.calls.recorded, ended.calls.live, ended.calls.saved) == (1, 0, 0.5)
        assert (ended.usage.llm_calls, ended.usage.total_tokens, ended.usage.cost) == (0, 0, 0.0)
        assert world.store.deliveries.ids() == [source.id]
        assert world.store.memories.count(crew_id=world.whole.crew.id) == 0
        assert world.store.ledger.find() == before
        # It is a record as any other.
        assert (await replay(runs, made.id, "ada")).parent == made.id
        first = world.events(runs, made.id)[0]
        assert (first["verb"], first["parent"]) == ("replay", source.id)

    live(work, tmp_path)


def test_how_a_crews_tasks_fared_is_not_told_by_a_replay(tmp_path):
    async def work(world):
        first = world.whole.tasks[0].id
        about = {"span_id": 1, "parent_id": None, "task_id": first, "task": "Tea", "agent": "Ada"}
        runs = world.runs(of_script(event("task_complete", **about, result="Tea")), goes_on)
        source = await world.state(runs, await world.start(runs))
        made = await replay(runs, source.id, "ada")
        await world.state(runs, made.id, "running")
        assert (await runs.task_states([world.whole.crew.id]))[first] == "completed"
        await runs.stop(made.id)

    live(work, tmp_path)


def test_nothing_answers_for_a_client_that_a_replay_does_not_need(tmp_path):
    async def work(world):
        runs = world.runs(completes, goes_on)
        source = await world.state(runs, await world.start(runs, tools=[TOOL]))
        made = await replay(runs, source.id, "ada")
        await world.state(runs, made.id, "running")
        assert (await runs.running(made.id)).calls._timer is None
        await runs.stop(made.id)

    live(work, tmp_path)


def test_a_resumption_is_of_the_crew_as_it_was_with_what_is_changed(tmp_path):
    async def work(world):
        tasks = list(world.whole.tasks)
        tasks[1] = tasks[1].model_copy(update={"condition": TaskCondition(contains="tea"), "context": []})
        world.whole = world.whole.model_copy(update={"tasks": tasks})
        runs = world.runs(failing())
        budget = Budget(max_tokens=5_000, max_seconds=60)
        source = await world.state(runs, await world.start(runs, budget=budget, tools=[TOOL]))
        whole = world.whole
        await world.store.change(lambda: world.store.crews.delete(whole.crew.id))
        other = TOOL.model_copy(update={"description": "Look closely"})
        more = ClientTool(name="smell", description="Smell", for_all=True)
        change = ExecutionResume.model_validate(
            {
                "inputs": {"topic": "coffee"},
                "budget": {"max_tokens": 9_000, "max_seconds": None, "max_cost": 1},
                "tools": [other.model_dump(), more.model_dump()],
            }
        )
        made = await resume(runs, source.id, "ada", change)
        assert (made.verb, made.parent, made.attempt) == ("resume", source.id, 2)
        ended = await world.state(runs, made.id)
        spec = spec_of(runs, made.id)
        assert (spec.source.verb, spec.source.job_id) == ("resume", source.id)
        assert spec.inputs == ended.inputs == {"topic": "coffee"}
        assert spec.budget == Budget(max_tokens=9_000, max_cost=1)
        assert spec.client_tools == [other, more]
        first = spec_of(runs, source.id)
        assert (spec.crew, spec.agents, spec.tasks) == (first.crew, first.agents, first.tasks)
        # Its receiver is told of it, as of the run that it goes on with.
        assert set(world.store.deliveries.ids()) == {source.id, made.id}
        # What it goes on with is its own.
        third = await resume(runs, made.id, "ada", ExecutionResume())
        assert (third.inputs, third.budget, third.attempt) == ({"topic": "coffee"}, spec.budget, 3)

    live(work, tmp_path)


def test_a_resumption_asks_another_model_in_the_place_of_all(tmp_path):
    keys = {"OPENAI_API_KEY": SECRET, "ANTHROPIC_API_KEY": SECRET}

    async def work(world):
        whole = world.whole.model_copy(deep=True)
        named = {"model": "gpt-4.1", "fallbacks": ["claude-opus-4-1"]}
        agents = [agent.model_copy(update=named) for agent in whole.agents]
        world.whole = whole.model_copy(update={"agents": agents})
        runs = world.runs(failing())
        runs.catalog = ModelCatalog(environ=keys)
        source = await world.state(runs, await world.start(runs))
        # The key of the model that has failed is gone.
        runs.catalog = ModelCatalog(environ={"OPENAI_API_KEY": ""})
        with pytest.raises(NotRunnable, match="OPENAI_API_KEY"):
            await resume(runs, source.id, "ada", ExecutionResume())
        made = await resume(runs, source.id, "ada", ExecutionResume(model="sandbox"))
        await world.state(runs, made.id)
        spec = spec_of(runs, made.id)
        assert [(agent.model, agent.fallbacks) for agent in spec.agents] == [("sandbox", [])] * 2
        assert list(spec.models) == ["sandbox"]
        with pytest.raises(NotRunnable) as refused:
            await resume(runs, made.id, "ada", ExecutionResume(model="nobodys/model"))
        assert {fault.field for fault in refused.value.faults} == {"model"}

    live(work, tmp_path)


@pytest.mark.parametrize(
    ("act", "more"), [(replay, ()), (resume, (ExecutionResume(),))], ids=["replay", "resume"]
)
def test_what_goes_on_or_is_not_there_is_no_record(tmp_path, act, more):
    async def work(world):
        runs = world.runs(goes_on)
        job_id = await world.start(runs)
        await world.state(runs, job_id, "running")
        with pytest.raises(Conflict, match=f"{job_id} is running"):
            await act(runs, job_id, "ada", *more)
        with pytest.raises(NotFound):
            await act(runs, "job_none", "ada", *more)
        await runs.stop(job_id)
        # One of an older version has nothing that it was asked.
        await world.store.change(lambda: world.store.run_requests.delete(job_id))
        with pytest.raises(Conflict, match="by an older version"):
            await act(runs, job_id, "ada", *more)

    live(work, tmp_path)


def test_whoever_is_answered_by_an_earlier_run_needs_no_key(tmp_path):
    async def work(world):
        keyed = ModelCatalog(environ={"OPENAI_API_KEY": SECRET})
        runs = world.runs(completes)
        runs.catalog = keyed
        body = crew_body()
        body["agents"][0].update(model="gpt-4.1", tools=[])
        whole = await Crews(world.store).create(CrewCreate.model_validate(body), "ada")
        first, earlier = await once(runs, whole, {"topic": "tea"}, "ada")
        assert not earlier
        await world.state(runs, first.id, "completed")
        runs.catalog = ModelCatalog(environ={"OPENAI_API_KEY": ""})
        again, earlier = await once(runs, whole, {"topic": "tea"}, "ada")
        assert (again.id, earlier) == (first.id, True)
        # What it has not been asked, it is not asked without one.
        with pytest.raises(NotRunnable, match="OPENAI_API_KEY"):
            await once(runs, whole, {"topic": "coffee"}, "ada")
        assert len(runs.backend.runs) == 1

    live(work, tmp_path)


def test_what_another_version_has_kept_is_refused_in_words(tmp_path):
    async def work(world):
        runs = world.runs(failing())
        source = await world.state(runs, await world.start(runs))
        await world.store.change(
            lambda: world.store.run_requests.update(source.id, {"spec": {"crew": {}, "models": 3}})
        )
        with pytest.raises(Conflict, match="does not fit this one"):
            await replay(runs, source.id, "ada")
        with pytest.raises(Conflict, match="does not fit this one"):
            await resume(runs, source.id, "ada", ExecutionResume())

    live(work, tmp_path)


def test_only_what_has_ended_before_its_time_is_resumed_and_once_at_a_time(tmp_path):
    async def work(world):
        runs = world.runs(completes, failing(), goes_on, running=2)
        completed = await world.state(runs, await world.start(runs))
        with pytest.raises(Conflict, match="nothing is left"):
            await resume(runs, completed.id, "ada", ExecutionResume())
        failed = await world.state(runs, await world.start(runs))
        resumed = await asyncio.gather(
            *(resume(runs, failed.id, "ada", ExecutionResume()) for _ in range(5)), return_exceptions=True
        )
        (going,) = (each for each in resumed if not isinstance(each, Conflict))
        assert all(going.id in str(each) for each in resumed if each is not going)
        with pytest.raises(Conflict, match=going.id):
            await resume(runs, failed.id, "ada", ExecutionResume())
        await runs.stop(going.id)
        # What was stopped goes on like what has failed; a replay is no attempt.
        await runs.stop((await replay(runs, failed.id, "ada")).id)
        assert (await resume(runs, going.id, "ada", ExecutionResume())).attempt == 3

    live(work, tmp_path)


def test_a_replay_is_not_resumed(tmp_path):
    async def work(world):
        runs = world.runs(completes, failing())
        source = await world.state(runs, await world.start(runs))
        made = await replay(runs, source.id, "ada")
        await world.state(runs, made.id)
        with pytest.raises(Conflict, match=f"replay of {source.id}"):
            await resume(runs, made.id, "ada", ExecutionResume())

    live(work, tmp_path)


def test_attempts_that_fail_at_one_call_come_to_an_end(tmp_path):
    async def work(world):
        runs = world.runs(failing("1:a"), failing("1:b"), failing("1:a"), failing("1:a"), completes)
        latest = await world.state(runs, await world.start(runs))
        first = latest
        for _ in range(3):
            made = await resume(runs, latest.id, "ada", ExecutionResume())
            latest = await world.state(runs, made.id)
        for source in (latest, first):
            with pytest.raises(Conflict, match="3 attempts have failed at the same call, the model m"):
                await resume(runs, source.id, "ada", ExecutionResume())
        # Something else is something else.
        made = await resume(runs, latest.id, "ada", ExecutionResume(model="sandbox"))
        assert made.attempt == 5

    live(work, tmp_path)


def test_a_budget_that_is_used_up_is_no_fault_of_a_call(tmp_path):
    async def work(world):
        runs = world.runs(failing(code="BUDGET_EXCEEDED"))
        latest = await world.state(runs, await world.start(runs))
        for _ in range(4):
            latest = await world.state(runs, (await resume(runs, latest.id, "ada", ExecutionResume())).id)
        assert latest.attempt == 5

    live(work, tmp_path)


def test_what_a_run_was_asked_goes_with_it(tmp_path):
    async def work(world):
        runs = world.runs(failing())
        source = await world.state(runs, await world.start(runs))
        assert world.store.run_requests.ids() == [source.id]
        await runs.delete(source.id)
        assert world.store.run_requests.ids() == []

    live(work, tmp_path)


def test_a_record_that_is_read_is_not_deleted(tmp_path):
    async def work(world):
        runs = world.runs(failing(), goes_on)
        source = await world.state(runs, await world.start(runs))
        made = await resume(runs, source.id, "ada", ExecutionResume())
        with pytest.raises(Conflict, match=made.id):
            await runs.delete(source.id)
        await runs.stop(made.id)
        await runs.delete(source.id)
        # What it has taken over stands in its own record.
        assert (await resume(runs, made.id, "ada", ExecutionResume())).parent == made.id

    live(work, tmp_path)


def test_a_crew_that_nobody_may_run_any_more_is_not_run_by_resuming(tmp_path):
    async def work(world):
        runs = world.runs(failing())
        source = await world.state(runs, await world.start(runs, owner="admin"))
        with pytest.raises(NotFound, match="crew"):
            await resume(runs, source.id, "admin", ExecutionResume(), sees=lambda crew: crew.owner == "admin")

    live(work, tmp_path)


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (None, None, None),
        ({"max_cost": 1}, None, {"max_cost": 1}),
        ({"max_cost": 1}, {"max_cost": 2}, {"max_cost": 2}),
        ({"max_cost": 1}, {"max_tokens": 2}, {"max_cost": 1, "max_tokens": 2}),
        ({"max_cost": 1}, {"max_cost": None}, None),
        (None, {"max_seconds": 5}, {"max_seconds": 5}),
    ],
)
def test_bounds_change_one_by_one(before, change, after):
    given = [Budget(**each) if each is not None else None for each in (before, change, after)]
    assert changed_budget(given[0], given[1]) == given[2]


def test_recorded_calls_are_saved_and_not_spent():
    def line(kind, number, day=1, **fields):
        base = {"time": f"2026-11-0{day}T23:59:59.000000Z", "type": kind, "span_id": number}
        return base | {"parent_id": None, "task_id": "t", "task": "Tea", "agent": "Ada", **fields}

    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    answer = {"model": "m", "text": "", "tool_calls": [], "finish_reason": "stop", "usage": usage}
    asked = {"model": "m", "messages": [], "tools": [], "key": "1:a:1"}
    summary = summarise(
        [
            line("llm_call", 1, **asked),
            # Midnight between the two is nobody's day with less than no calls.
            line("llm_response", 1, day=2, recorded=True, cost=0.25, **answer),
            line("tool_call", 2, day=2, tool="look", arguments={}, key="1:b:1"),
            line("tool_result", 2, day=2, tool="look", result="Tea", recorded=True),
            line("llm_call", 3, day=2, **asked),
            line("llm_response", 3, day=2, cost=0.5, **answer),
        ]
    )
    assert summary.answers.calls().model_dump() == {"recorded": 2, "live": 1, "saved": 0.25}
    assert (summary.llm_calls, summary.tool_calls, summary.total_tokens, summary.cost) == (1, 0, 15, 0.5)
    assert [day.whole.llm_calls for day in summary.days.values()] == [0, 1]
    assert [share.cost for share in summary.usage_by().models] == [0.5]
    unknown = summarise(
        [line("llm_call", 1, **asked), line("llm_response", 1, recorded=True, cost=None, **answer)]
    )
    assert unknown.answers.calls().saved is None
    assert unknown.cost == 0.0
