"""`import kasal_jupyter as kasal`: crews in plain Python, the same as the YAML's and the API's."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

import kasal_jupyter as kasal
from kasal_jupyter.kernel.crews.crew import Crew
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.session import the_session
from tests.kernels import kernel_of
from tests.sample_crews import crew_body, new_crew


class Verdict(BaseModel):
    sound: bool
    why: str


def report_crew(name="Python report"):
    researcher = kasal.Agent(
        role="Researcher",
        goal="Find facts about {topic}",
        backstory="Knows where to look",
        llm="sandbox",
        tools=["calculator"],
        settings={"temperature": 0.2},
    )
    writer = kasal.Agent("Writer", "Write well", llm="sandbox", sandbox={"answer_words": 12}, max_iter=3)
    facts = kasal.Task("Collect facts about {topic}", "A list", researcher)
    report = kasal.Task(
        "Write a report on {topic}",
        "A report",
        writer,
        name="report",
        context=[facts, "Previous analysis from Q3"],
        output_schema=Verdict,
    )
    return kasal.Crew(name, tasks=[facts, report], description="Facts about {topic}: and a report")


@pytest.fixture
def connected(live_server, monkeypatch):
    """This process, as a kernel that has found the server."""
    monkeypatch.setenv("KASAL_URL", live_server.url)
    monkeypatch.setenv("KASAL_TOKEN", live_server.token)
    the_session.cache_clear()
    yield
    the_session().client.close()
    the_session.cache_clear()


def test_all_names_are_there_and_dir_tells_them():
    names = {
        "Agent",
        "BatchResult",
        "Crew",
        "Judge",
        "Run",
        "RunResult",
        "Runs",
        "Task",
        "compare",
        "connect",
        "dataset",
        "rate",
        "runs",
        "tool",
        "usage",
    }
    assert set(kasal.__all__) == names | {"__version__"}
    assert dir(kasal) == sorted(kasal.__all__)
    for name in names - {"runs"}:
        assert getattr(kasal, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'Crews'"):
        _ = kasal.Crews


def test_the_import_loads_nothing_and_a_name_what_it_needs():
    code = (
        "import sys; before = set(sys.modules); import kasal_jupyter as kasal;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - sys.stdlib_module_names), 'kasal_jupyter.kernel' in sys.modules);"
        "from kasal_jupyter import Crew, runs; print(Crew.__name__, callable(runs), callable(kasal.runs));"
        "print([name for name in ('crewai', 'pandas', 'tornado.web', 'ipywidgets') if name in sys.modules])"
    )
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert lines.splitlines() == ["['kasal_jupyter'] False", "Crew True True", "[]"]


def test_a_type_checker_sees_the_signatures():
    """What it sees is in a module that mypy reads with the package's own."""
    settings = tomllib.loads((Path(kasal.__file__).parents[1] / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"]
    assert settings["modules"] == ["tests.typed_notebook"]
    assert (Path(kasal.__file__).parent / "py.typed").exists()


def test_yaml_and_back():
    crew = report_crew()
    text = crew.to_yaml()
    assert "llm: sandbox" in text
    again = kasal.Crew.from_yaml(text)
    assert again == crew
    assert again.to_yaml() == text
    assert again.tasks[1].context[0] is again.tasks[0]
    assert again.tasks[1].agent is again.agents[1]
    again.agents[0].goal = "Something else"
    assert again != crew


def test_yaml_and_back_where_names_are_not_given_or_alike():
    twins = [kasal.Agent("Writer", f"Write {number}") for number in range(3)]
    crew = kasal.Crew(
        "Twins",
        tasks=[
            kasal.Task("First", "Text", twins[1], name="task_2"),
            kasal.Task("Second", "Text", twins[0]),
            kasal.Task("Third", "Text", twins[2], context=[]),
        ],
    )
    crew.tasks[2].context.append(crew.tasks[1])
    again = kasal.Crew.from_yaml(crew.to_yaml())
    assert again == crew
    assert [task.agent.goal for task in again.tasks] == ["Write 1", "Write 0", "Write 2"]
    assert again.tasks[2].context == [again.tasks[1]]


def test_a_hierarchical_crew():
    crew = kasal.Crew(
        "Managed",
        [kasal.Agent("Writer", "Write", model="sandbox")],
        [kasal.Task("Write", "Text")],
        process="hierarchical",
        manager_llm="sandbox",
    )
    assert kasal.Crew.from_yaml(crew.to_yaml()) == crew
    assert crew.agents[0].llm == crew.agents[0].model == "sandbox"


def test_the_api_and_back(connected):
    crew = report_crew("Python to API")
    assert crew.id is None
    assert crew.save() is crew
    again = kasal.Crew.load("Python to API")
    assert again == crew
    assert again.id == crew.id
    assert kasal.Crew.from_yaml(again.to_yaml()) == crew
    # What is stored keeps its ids and its version where nothing has changed.
    before = the_session().client.crew(crew.id)
    report_crew("Python to API").save()
    assert the_session().client.crew(crew.id) == before


def test_a_crew_of_the_api_is_the_same_in_python(connected, api):
    crew_id = new_crew(api, crew_body("API to Python"))
    crew = kasal.Crew.load(crew_id)
    assert [task.name for task in crew.tasks] == ["research", "report"]
    assert crew.tasks[1].context == [crew.tasks[0], "Previous analysis from Q3"]
    before = the_session().client.crew(crew_id)
    crew.save()
    assert the_session().client.crew(crew_id) == before
    crew.tasks[1].expected_output = "A short report"
    crew.save()
    after = the_session().client.crew(crew_id)
    assert after.tasks[1].expected_output == "A short report"
    assert [task.id for task in after.tasks] == [task.id for task in before.tasks]


def test_what_somebody_else_has_changed_is_not_written_over(connected, api):
    crew_id = new_crew(api, crew_body("Contested"))
    mine, theirs = kasal.Crew.load(crew_id), kasal.Crew.load(crew_id)
    theirs.description = "Theirs"
    theirs.save()
    mine.description = "Mine"
    with pytest.raises(CellError, match=r"at version 2 \(Python.*, and it was version 1 here"):
        mine.save()
    assert kasal.Crew.load(crew_id).description == "Theirs"
    mine.save(overwrite=True)
    assert kasal.Crew.load(crew_id).description == "Mine"


def test_a_crew_that_was_deleted_is_made_anew(connected, api):
    crew = report_crew("Deleted").save()
    before = crew.id
    api.delete(f"/crews/{before}")
    assert crew.save().id != before


def test_a_check_lists_every_fault(connected):
    crew = report_crew("Checked")
    crew.agents[1].llm = "gpt-4"
    found = crew.check()
    assert not found
    assert {fault.field for fault in found.faults} == {"agents[1].model", "inputs.topic"}
    crew.agents[1].llm = "sandbox"
    assert crew.check(topic="tea")
    assert crew.check({"topic": "tea"}).runnable


def test_a_run_gives_its_result_and_runs_lists_it(connected):
    crew = report_crew("Run in Python")
    result = crew.run(topic="tea")
    assert result.status == "completed"
    runs = kasal.runs(crew="Run in Python")
    assert [run.job_id for run in runs] == [result.job_id]
    assert runs[0].status == "completed"
    assert runs[0].inputs == {"topic": "tea"}
    assert runs[0].result().output == result.output == runs[0].output
    assert runs[:1] == runs
    assert "Run in Python" in repr(runs)
    assert "<table" in runs._repr_html_()
    assert repr(kasal.runs(status="failed", crew="Run in Python")) == "No such runs"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: kasal.Agent("", "Write"), "The agent '': role: "),
        (lambda: kasal.Agent("Writer", "Write", max_iter=0), "The agent 'Writer': max_iter: "),
        (lambda: kasal.Agent("Writer", "Write", settings={"temprature": 1}), "settings.temprature: "),
        (lambda: kasal.Agent("Writer", "Write", tools="calculator"), r"tools='calculator': write a list"),
        (
            lambda: kasal.Agent("Writer", "Write", tools=[print]),
            "print is no tool yet: put @kasal.tool above",
        ),
        (lambda: kasal.Agent("Writer", "Write", llm="a", model="b"), "are two names of one thing"),
        (lambda: kasal.Task(" ", "Text"), "description: "),
        (lambda: kasal.Crew.from_yaml("agents: {}", None), "the crew has no name"),
        (
            lambda: kasal.Crew(
                "C", tasks=[kasal.Task("A", "B", context=[kasal.Task("C", "D")])]
            ).definition(),
            "The context of 'A' has the task 'C', which is not among the tasks of 'C'",
        ),
    ],
)
def test_a_mistake_names_its_field(make, said):
    with pytest.raises(CellError, match=said):
        make()


def test_a_repr_is_the_call_that_makes_it():
    agent = report_crew().agents[1]
    assert repr(agent) == (
        "Agent(role='Writer', goal='Write well', llm='sandbox', max_iter=3, sandbox={'answer_words': 12})"
    )
    assert eval(repr(agent), {"Agent": kasal.Agent}) == agent
    assert repr(report_crew().tasks[0]).startswith("Task(description='Collect facts about {topic}'")


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        yield running


def test_in_a_notebook_with_a_function_as_a_tool(kernel):
    cell = kernel.run("""
import kasal_jupyter as kasal
asked = []

@kasal.tool
def stock(item: str = "tea") -> int:
    "How many pounds of an item are in stock."
    asked.append(item)
    return 17

clerk = kasal.Agent("Clerk", "Know the stock", llm="sandbox", tools=[stock])
count = kasal.Task("Count the {item}", "A number", clerk)
crew = kasal.Crew("Stock taking", tasks=[count])
crew
""")
    assert cell.status == "ok", cell.error
    assert "└─ 1 Count the {item}  Clerk · sandbox · stock" in cell.shown[0]["text/plain"]
    assert "<details" in cell.shown[0]["text/html"]
    assert kernel.value("clerk.tools") == ["stock"]
    cell = kernel.run("result = crew.run(item='tea')")
    assert cell.status == "ok", cell.error
    assert kernel.value("len(asked)") >= 1


def test_the_magics_and_python_share_one_connection_and_the_latest_run(kernel):
    kernel.run("result = kasal.Crew.load('Stock taking').run(item='tea')")
    assert kernel.value("result.job_id") in kernel.run("%kasal status").shown[0]["text/plain"]
    assert kernel.value("kasal.runs()[0].job_id == result.job_id")
    cell = kernel.run("kasal.runs()")
    assert "Stock taking" in cell.shown[0]["text/html"]


def test_connect_changes_both(kernel, live_server):
    cell = kernel.run("kasal.connect('http://127.0.0.1:1')")
    assert "does not answer" in cell.error
    # The one before is used on.
    assert kernel.run("%kasal crews").status == "ok"
    assert kernel.value(f"kasal.connect({live_server.url!r}, {live_server.token!r})") == live_server.url
    assert json.loads(kernel.run("print(len(kasal.runs()) > 0)").text.lower())


def test_a_background_run_of_python(kernel):
    kernel.run("run = kasal.Crew.load('Stock taking').run({'item': 'tea'}, background=True)")
    assert kernel.value("run.wait().status") == "completed"


def test_the_class_of_a_loaded_crew_is_kasals():
    assert kasal.Crew is Crew
