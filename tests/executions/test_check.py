"""The check before a run: every fault at once, by field."""

import time

import pytest

from kasal_jupyter import errors
from kasal_jupyter.errors import NotRunnable
from kasal_jupyter.executions.check import check_run
from kasal_jupyter.models.catalog import ModelCatalog
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.crews import Crew, WholeCrew
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.schemas.tools import ClientTool, CustomTool
from kasal_jupyter.toolbox.toolbox import Toolbox

STAMPS = {"owner": "jupyter", "created_at": "2026-11-24T12:00:00Z", "updated_at": "2026-11-24T12:00:00Z"}


def agent(**fields):
    known = {"id": "agent_1", "crew_id": "crew_1", "name": "writer", "role": "Writer", "goal": "Write"}
    return Agent(**{**known, "model": "sandbox", "position": 0, **STAMPS, **fields})


def task(number, **fields):
    known = {
        "id": f"task_{number}",
        "name": f"step {number}",
        "description": "Do it",
        "expected_output": "It",
    }
    return Task(
        **{**known, "crew_id": "crew_1", "agent_id": "agent_1", "position": number, **STAMPS, **fields}
    )


def prepare(agents, tasks, inputs=None, toolbox=None, client_tools=(), **crew):
    whole = WholeCrew(crew=Crew(id="crew_1", name="Tea", **STAMPS, **crew), agents=agents, tasks=tasks)
    return check_run(
        "job_1",
        whole,
        inputs or {},
        catalog=ModelCatalog(environ={}),
        toolbox=toolbox or Toolbox(),
        folder="/nowhere",
        client_tools=client_tools,
    ).required()


def fields(*args, **crew):
    with pytest.raises(NotRunnable) as caught:
        prepare(*args, **crew)
    return [fault.field for fault in caught.value.faults]


def test_a_sound_crew_becomes_a_message_for_its_process():
    spec = prepare([agent()], [task(1), task(2, context=["step 1", "Notes from Q3"])])
    assert spec.models["sandbox"].provider == "sandbox"
    assert spec.tasks[1].context_tasks == ["task_1"]
    assert spec.tasks[1].context_texts == ["Notes from Q3"]


def test_every_fault_is_told_at_once():
    found = fields(
        [agent(model="gpt-4", tools=["no_such_tool"], goal="Write about {topic}")],
        [task(1, agent_id=None, context=["step 2"]), task(2)],
    )
    assert set(found) == {
        "agents[0].tools[0]",
        "agents[0].model",
        "tasks[0].context",
        "tasks[0].agent",
        "inputs.topic",
    }


def test_a_crew_without_agents_and_tasks_says_both():
    assert fields([], []) == ["agents", "tasks"]


def test_circular_context_is_one_fault_that_draws_the_circle():
    with pytest.raises(NotRunnable) as caught:
        prepare([agent()], [task(1, context=["step 2"]), task(2, context=["step 1"])])
    assert [fault.field for fault in caught.value.faults] == ["tasks[0].context"]
    assert (
        "step 1 → step 2 → step 1" in caught.value.message
        or "step 2 → step 1 → step 2" in caught.value.message
    )


def test_crewais_rules_for_asynchronous_tasks_are_faults_by_field():
    several_at_the_end = [task(1, async_execution=True), task(2, async_execution=True)]
    assert fields([agent()], several_at_the_end) == ["tasks[1].async_execution"]
    waits_for_its_neighbour = [
        task(1, async_execution=True),
        task(2, async_execution=True, context=["step 1"]),
        task(3),
    ]
    assert fields([agent()], waits_for_its_neighbour) == ["tasks[1].context"]


def test_a_hierarchical_crew_needs_no_agent_on_a_task_and_gets_a_manager():
    spec = prepare([agent()], [task(1, agent_id=None)], process="hierarchical")
    assert spec.manager_model == "sandbox"


def custom(**fields):
    known = {
        "id": "tool_1",
        "name": "crm_lookup",
        "description": "Looks up",
        "endpoint": "https://crm.example/",
    }
    return CustomTool(**{**known, **STAMPS, **fields})


def test_the_custom_tools_that_are_used_go_along_with_the_run():
    toolbox = Toolbox([custom(), custom(id="tool_2", name="unused")], allowed_hosts=["10.0.0.0/8"])
    spec = prepare(
        [agent(tools=["crm_lookup", "calculator"])], [task(1, tools=["crm_lookup"])], toolbox=toolbox
    )
    assert [tool.name for tool in spec.tools] == ["crm_lookup"]
    assert spec.allowed_hosts == ["10.0.0.0/8"]
    assert prepare([agent()], [task(1)], toolbox=toolbox).tools == []


def test_a_tool_without_its_secret_and_a_mistyped_one_are_told_by_field():
    toolbox = Toolbox([custom(auth_type="bearer")])
    with pytest.raises(NotRunnable) as caught:
        prepare([agent(tools=["calculator", "crm_lookup"])], [task(1, tools=["crm_lokup"])], toolbox=toolbox)
    secret, hint = caught.value.faults
    assert secret.field == "agents[0].tools[1]"
    assert "PUT /tools/custom/tool_1" in secret.reason
    assert hint.field == "tasks[0].tools[0]"
    assert "did you mean 'crm_lookup'?" in hint.reason


def of_the_notebook(*names, **fields):
    return [ClientTool(name=name, **fields) for name in names]


def test_the_clients_tools_that_are_used_go_along_in_their_order():
    notebook = [*of_the_notebook("price", "unused", "stock"), *of_the_notebook("frame", for_all=True)]
    spec = prepare([agent(tools=["stock"])], [task(1, tools=["price", "calculator"])], client_tools=notebook)
    assert [tool.name for tool in spec.client_tools] == ["price", "stock", "frame"]
    assert spec.tools == []


def test_a_tool_that_is_nowhere_names_the_nearest_and_says_how_a_function_becomes_one():
    with pytest.raises(NotRunnable) as caught:
        prepare([agent(tools=["prize"])], [task(1)], client_tools=of_the_notebook("price"))
    (fault,) = caught.value.faults
    assert fault.field == "agents[0].tools[0]"
    assert "did you mean 'price'?" in fault.reason
    assert "@kasal.tool" in fault.reason


@pytest.mark.parametrize(
    ("names", "field", "says"),
    [
        (["calculator"], "tools[0].name", "'calculator' already"),
        (["crm_lookup"], "tools[0].name", "'crm_lookup' already"),
        (["price", "price"], "tools[1].name", "given twice"),
        # What CrewAI offers to a model is price_of in all three cases.
        (["price_of", "PriceOf"], "tools[1].name", "the same to a model"),
        (["price__of", "price_of"], "tools[1].name", "the same to a model"),
        (["Calculator"], "tools[0].name", "call 'Calculator' something else"),
        (["delegate_work_to_coworker"], "tools[0].name", "of their own"),
        (["__"], "tools[0].name", "give its name a letter"),
    ],
)
def test_a_clients_tool_that_could_not_be_told_apart_is_refused(names, field, says):
    with pytest.raises(NotRunnable) as caught:
        prepare([agent()], [task(1)], toolbox=Toolbox([custom()]), client_tools=of_the_notebook(*names))
    (fault,) = caught.value.faults
    assert fault.field == field
    assert says in fault.reason


def test_as_many_unknown_tools_as_a_crew_may_name_are_counted(monkeypatch):
    compared = []
    monkeypatch.setattr(errors.difflib, "get_close_matches", lambda *given, **_: compared.append(given) or [])
    tools = [f"unknown_{number}" for number in range(64)]
    agents = [agent(id=f"agent_{n}", name=f"a{n}", tools=tools) for n in range(200)]
    tasks = [task(n, tools=tools) for n in range(500)]
    with pytest.raises(NotRunnable, match="44799 more") as caught:
        prepare(agents, tasks)
    assert len(caught.value.faults) == errors.MOST_FAULTS + 1
    assert caught.value.faults[-1].reason.startswith("and 44,700 more")
    assert len(compared) <= errors.MOST_FAULTS


def test_an_input_of_any_size_is_no_path_of_any_size():
    named = [task(n, output_file="{x}/" * 40 + "a") for n in range(50)]
    found = fields([agent()], named, {"x": "/" * 1_000_000})
    assert found == [f"tasks[{n}].output_file" for n in range(50)]


def test_many_asynchronous_tasks_that_wait_for_each_other_are_told_by_the_task():
    tasks = [task(n, async_execution=True, context=[f"step {n - 1}"] if n else []) for n in range(60)]
    found = fields([agent()], [*tasks, task(60)])
    assert found == [f"tasks[{n}].context" for n in range(1, 60)]


def checked(description, inputs, client_tools=(), **fields):
    whole = WholeCrew(
        crew=Crew(id="crew_1", name="Tea", **STAMPS),
        agents=[agent()],
        tasks=[task(1, description=description, **fields)],
    )
    return check_run(
        "job_1",
        whole,
        inputs,
        catalog=ModelCatalog(environ={}),
        toolbox=Toolbox(),
        folder="",
        client_tools=client_tools,
    )


def test_an_input_that_nothing_uses_is_a_remark_with_the_nearest_name():
    found = checked("Write about {topic}, {größe}", {"topic": "tea", "größe": 1, "topci": "tea", "x": 1})
    assert [(each.field, each.reason) for each in found.remarks] == [
        ("inputs.topci", "Nothing in the crew uses it; did you mean 'topic'?"),
        ("inputs.x", "Nothing in the crew uses it; it takes topic, größe"),
    ]
    assert found.spec is not None


def test_an_input_that_a_tool_tells_of_is_used():
    tool = {
        "name": "data_head",
        "description": "Give rows. Of the table data (3 rows).",
        "parameters": {"type": "object", "properties": {}},
    }
    assert checked("Look", {"data": "a card"}, [ClientTool(**tool, for_all=True)]).remarks == []


def test_braces_that_are_meant_are_no_inputs():
    assert checked(r'\frac{{a}}{{b}} ${{HOME}} {"json": {"b": 1}}', {}).faults == []
    (fault,) = checked(r"\frac{a}2", {}).faults
    assert fault.field == "inputs.a"
    assert "or write {{a}} where the braces themselves are meant" in fault.reason
    (fault,) = checked("Write", {}, context=["Mind {a}"]).faults
    assert "{a} in tasks[0].context[0]" in fault.reason


@pytest.mark.parametrize(
    ("context", "chosen"),
    [(None, None), ([], []), (["step 1"], ["task_1"]), (["Notes"], None), (["step 1", "N"], ["task_1"])],
)
def test_a_context_says_whose_results_a_task_gets(context, chosen):
    spec = prepare([agent()], [task(1), task(2, context=context)])
    assert spec.tasks[1].context_tasks == chosen


@pytest.mark.parametrize("known", [True, False], ids=["another input is meant", "no tool names them"])
def test_many_inputs_placeholders_and_tools_take_no_time_that_grows_with_their_product(known):
    """The processor's time, with room: the product of any two of them would take a minute."""
    text = " ".join(f"{{p{n}}}" for n in range(8_000))
    inputs = {f"{'q' if known else 'i'}{n}": n for n in range(40_000)}
    tools = [ClientTool(name=f"t{n}", description="Of the table " * 300, for_all=True) for n in range(300)]
    began = time.thread_time()
    found = fields([agent()], [task(1, description=text[:90_000])], inputs, client_tools=tools)
    assert time.thread_time() - began < 5
    assert found[0] == "inputs.p0"
    assert found[-1] == "errors"
