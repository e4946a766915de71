"""CrewAI's projects: read without executing anything, and written so that CrewAI alone runs them."""

import os
import subprocess
import sys
import zipfile
from io import BytesIO

import pytest

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.bundle import files_of, files_of_mapping, files_of_zip
from kasal_jupyter.formats.conversion import as_zip, export_crew, import_crew
from kasal_jupyter.schemas.crews import CrewCreate
from tests.servers.openai_server import OpenAIServer, Reply

AGENTS = """\
researcher:
  role: >
    {topic} Senior Data Researcher
  goal: >
    Uncover cutting-edge developments in {topic}
  backstory: >
    You're a seasoned researcher.
  verbose: true
analyst:
  role: Reporting Analyst
  goal: Create reports about {topic}
  backstory: Meticulous
  llm: gpt-4
"""

TASKS = """\
research_task:
  description: Conduct a thorough research about {topic}
  expected_output: A list with 10 bullet points
  agent: researcher
reporting_task:
  description: Review the context and expand each topic
  expected_output: A report in Markdown
  agent: analyst
  context: [research_task]
  human_input: true
"""

UNBOUND = "".join(line for line in TASKS.splitlines(True) if not line.startswith(("  agent:", "  context:")))
"""The tasks as most projects have them: crew.py says whose they are."""

CREW_PY = """\
import os
os.system("touch must-never-exist-" + str(os.getpid()))
raise SystemExit("executed")

from crewai import LLM, Agent, Crew, Process, Task
from crewai.project import CrewBase, agent, crew, llm, task
from crewai_tools import SerperDevTool

@CrewBase
class LatestAi():
    agents_config = "config/agents.yaml"
    tasks_config = "config/tasks.yaml"

    @llm
    def careful(self):
        return LLM(model="anthropic/claude-sonnet-4", temperature=0.1, api_key=os.environ["KEY"])

    @agent
    def researcher(self) -> Agent:
        return Agent(config=self.agents_config["researcher"], tools=[SerperDevTool(), MyTool(1)], max_iter=7)

    @agent
    def analyst(self) -> Agent:
        made = Agent(config=self.agents_config["analyst"], llm=self.careful())
        return made

    @task
    def reporting_task(self) -> Task:
        return Task(config=self.tasks_config["reporting_task"], agent=self.analyst(), output_file="report.md")

    @task
    def check(self) -> Task:
        return Task(description="Check it", expected_output="Yes or no", agent=self.researcher(),
                    context=[self.reporting_task()])

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks, process=Process.hierarchical, manager_llm="gpt-4o",
                    memory=True, max_rpm=LIMIT, verbose=True)
"""


def project(agents=AGENTS, tasks=TASKS, crew_py=None, **more):
    files = {"src/latest_ai/config/agents.yaml": agents, "src/latest_ai/config/tasks.yaml": tasks, **more}
    return files | ({"src/latest_ai/crew.py": crew_py} if crew_py is not None else {})


def remarks_of(imported):
    return {remark.field: remark.reason for remark in imported.remarks}


def faults_of(files, **options):
    with pytest.raises(InvalidRequest) as caught:
        import_crew(files, **options)
    return [(fault.field, fault.reason) for fault in caught.value.faults]


def test_the_two_files_alone():
    imported = import_crew({"agents.yaml": AGENTS, "tasks.yaml": TASKS}, name="News")
    crew = imported.crew
    assert (imported.format, crew.name, crew.process) == ("crewai", "News", "sequential")
    assert crew.agents[0].role == "{topic} Senior Data Researcher\n"
    assert crew.agents[1].model == "gpt-4"
    assert [task.agent for task in crew.tasks] == ["researcher", "analyst"]
    assert crew.tasks[1].context == ["research_task"]
    assert remarks_of(imported) == {
        "process": "there is no crew.py that tells; the crew is sequential",
        "agents.researcher.verbose": "what happens is in the run's trace in any case",
    }
    assert [task.human_input for task in crew.tasks] == [False, True]


def test_what_crew_py_binds_is_read_and_nothing_of_it_is_executed():
    imported = import_crew(project(tasks=UNBOUND, crew_py=CREW_PY), tools=["web_search"])
    crew = imported.crew
    assert crew.name == "latest ai"
    assert (crew.process, crew.manager_model, crew.memory) == ("hierarchical", "gpt-4o", True)
    researcher, analyst = crew.agents
    assert (researcher.tools, researcher.max_iter) == (["web_search"], 7)
    assert (analyst.model, analyst.settings.temperature) == ("anthropic/claude-sonnet-4", 0.1)
    # The order and the choice are crew.py's.
    assert [task.name for task in crew.tasks] == ["reporting_task", "check"]
    assert crew.tasks[0].output_file == "report.md"
    assert crew.tasks[1].context == ["reporting_task"]
    said = remarks_of(imported)
    assert said["tasks.research_task"] == "crew.py makes nothing of it; it is left out"
    assert said["agents.researcher.tools[0]"] == "web_search does here what SerperDevTool does"
    assert said["agents.researcher.tools[1]"] == "there is no tool 'MyTool' here; it is left out"
    assert "os.environ['KEY']" in said["agents.analyst.llm.api_key"]
    assert said["max_rpm"] == "crew.py has LIMIT for it, which is not executed; it is left out"


def test_a_context_that_crew_py_has_left_out_is_a_fault():
    tasks = TASKS.replace("[research_task]", "[reserch_task]")
    ((field, reason),) = faults_of({"agents.yaml": AGENTS, "tasks.yaml": tasks})
    assert field == "reporting_task.context[0]"
    assert reason.startswith("tasks.yaml, line 9: there is no earlier task 'reserch_task'; did you mean")


def test_a_crew_py_that_is_no_python_is_passed_over_and_told():
    imported = import_crew(project(crew_py="class ("))
    assert "it is no Python that can be read" in remarks_of(imported)["crew.py"]
    assert [task.name for task in imported.crew.tasks] == ["research_task", "reporting_task"]


@pytest.mark.parametrize("text", ["a" + ".a" * 100_000, "-" * 100_000 + "1", "1" + "+1" * 100_000])
def test_a_crew_py_that_nests_without_end_harms_nobody(text):
    imported = import_crew(project(crew_py=text))
    assert remarks_of(imported)["crew.py"]


def without_agents(text):
    return "".join(line for line in text.splitlines(True) if "agent:" not in line)


def test_tasks_without_agents_go_by_their_order_and_that_is_said():
    imported = import_crew({"agents.yaml": AGENTS, "tasks.yaml": without_agents(TASKS)})
    assert [task.agent for task in imported.crew.tasks] == ["researcher", "analyst"]
    said = remarks_of(imported)
    assert said["tasks.research_task.agent"].startswith(
        "no file names its agent; by their order it is researcher"
    )
    assert said["tasks.reporting_task.agent"].startswith(
        "no file names its agent; by their order it is analyst"
    )


def test_tasks_without_agents_are_the_only_agents():
    agents = "one:\n  role: R\n  goal: G\n"
    imported = import_crew({"agents.yaml": agents, "tasks.yaml": without_agents(TASKS)})
    assert [task.agent for task in imported.crew.tasks] == ["one", "one"]
    assert remarks_of(imported)["tasks.research_task.agent"] == "no file names its agent; there is only one"


def test_where_nothing_tells_the_agent_nobody_guesses():
    agents = f"{AGENTS}third:\n  role: R\n  goal: G\n"
    imported = import_crew({"agents.yaml": agents, "tasks.yaml": without_agents(TASKS)})
    assert [task.agent for task in imported.crew.tasks] == [None, None]
    assert (
        "give it one before the crew is run: researcher, analyst, third"
        in (remarks_of(imported)["tasks.research_task.agent"])
    )


@pytest.mark.parametrize(
    ("wrong", "field", "line", "named"),
    [
        ("  tools: ['custom:deploy']", "researcher.tools[0]", 9, "custom:deploy"),
        ("  tools: ['evil.module:Tool']", "researcher.tools[0]", 9, "evil.module:Tool"),
        ("  llm: {python: os.system}", "researcher.llm", 9, '{"python": "os.system"}'),
        (
            "  step_callback: !!python/name:os.system x",
            "researcher.step_callback",
            9,
            "!!python/name:os.system",
        ),
        ("  config: !!python/object/apply:os.system [id]", "researcher.config", 9, "!!python/object/apply"),
    ],
)
def test_references_to_code_are_refused_by_name(wrong, field, line, named):
    agents = AGENTS.replace("  verbose: true", wrong)
    ((where, reason),) = faults_of({"config/agents.yaml": agents, "config/tasks.yaml": TASKS})
    # The line counts from the file's own first one.
    assert where == field
    assert reason.startswith(f"config/agents.yaml, line {line - 1}: ")
    assert named in reason
    assert "would execute code" in reason


def test_texts_that_only_look_like_references_are_texts():
    agents = AGENTS.replace("Meticulous", "'custom:writer, knows os:path and {\"python\": 1}'")
    imported = import_crew({"agents.yaml": agents, "tasks.yaml": TASKS})
    assert imported.crew.agents[1].backstory.startswith("custom:writer")


def test_every_fault_at_once_with_file_and_line():
    agents = AGENTS.replace("  goal: Create reports about {topic}\n", "  max_iter: many\n")
    tasks = TASKS.replace("agent: analyst", "agent: analist")
    assert faults_of({"agents.yaml": agents, "tasks.yaml": tasks}) == [
        ("reporting_task.agent", "tasks.yaml, line 8: there is no agent 'analist'; did you mean 'analyst'?")
    ]
    assert faults_of({"agents.yaml": agents, "tasks.yaml": TASKS}) == [
        ("analyst.goal", "agents.yaml, line 9: Field required"),
        ("analyst.max_iter", "agents.yaml, line 11: Input should be a valid integer"),
    ]


def test_what_no_field_is_known_for_is_listed():
    agents = AGENTS.replace("  verbose: true", "  tempreture: 1")
    imported = import_crew({"agents.yaml": agents, "tasks.yaml": TASKS})
    assert "no field of that name is known" in remarks_of(imported)["agents.researcher.tempreture"]


def test_two_crews_in_one_project_are_not_mixed():
    files = project() | {"src/b/config/agents.yaml": AGENTS, "src/b/config/tasks.yaml": TASKS}
    ((field, reason),) = faults_of(files)
    assert field == "files"
    assert "there are 2 crews (src/b/config, src/latest_ai/config)" in reason


def test_a_file_that_is_missing_is_named():
    assert faults_of({"agents.yaml": AGENTS})[0][0] == "tasks.yaml"
    assert faults_of({"x/tasks.yaml": TASKS, "crew.py": ""})[0][0] == "agents.yaml"


def test_a_projects_folder_is_found_through_and_links_lead_nowhere(tmp_path):
    root = tmp_path / "latest_ai"
    files = project(tasks=UNBOUND, crew_py=CREW_PY)
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / ".venv").mkdir()
    (root / ".venv" / "agents.yaml").write_text("not: ours")
    secret = tmp_path / "secret.yaml"
    secret.write_text("password: 1")
    (root / "src" / "link.yaml").symlink_to(secret)
    found = files_of(root)
    assert sorted(found) == sorted(f"latest_ai/{path}" for path in files)
    assert import_crew(found).crew.name == "latest ai"


def test_a_zip_file_is_read_in_memory():
    assert import_crew(files_of_zip(as_zip(project(), "latest_ai"))).crew.name == "latest ai"


@pytest.mark.parametrize(
    "path", ["../agents.yaml", "/etc/agents.yaml", "a/../../b.yaml", "C:\\x.yaml", "..\\x.yaml"]
)
def test_no_path_leads_out_of_an_archive(path):
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo(path), "x: 1")
    with pytest.raises(InvalidRequest, match="leads out of the project"):
        files_of_zip(stream.getvalue())
    with pytest.raises(InvalidRequest, match="leads out of the project"):
        files_of_mapping({path: "x: 1"})


def test_an_archive_that_unfolds_without_end_is_refused():
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config/agents.yaml", b"a" * 50_000_000)
    assert len(stream.getvalue()) < 100_000
    with pytest.raises(InvalidRequest, match=r"config/agents.yaml: it is larger than 1,000,000 bytes"):
        files_of_zip(stream.getvalue())
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(12):
            archive.writestr(f"{number}.yaml", b"a" * 900_000)
    with pytest.raises(InvalidRequest, match="in all"):
        files_of_zip(stream.getvalue())


@pytest.mark.parametrize("data", [b"", b"PK\3\4 no archive", os.urandom(500), as_zip(project(), "x")[:-40]])
def test_what_is_no_archive_is_said_to_be_none(data):
    with pytest.raises(InvalidRequest, match="it is no zip file that can be read"):
        files_of_zip(data)


EXPORTED = CrewCreate.model_validate(
    {
        "name": "Tea: «prices» & more",
        "description": 'What tea costs, "today"',
        "agents": [
            {
                "name": "Price Finder",
                "role": "Finder of {topic} prices",
                "goal": "yes",
                "backstory": "12:30",
                "model": "openai/gpt-4o-mini",
                "settings": {"temperature": 0.5, "seed": 7},
                "tools": ["web_search"],
            },
            {"name": "writer", "role": "Writer", "goal": "Write", "model": "gpt-4o-mini", "max_iter": 3},
        ],
        "tasks": [
            {
                "name": "find prices",
                "description": "Find the price of {topic}\n\n  in {{euro}}: 'x'",
                "expected_output": "A number",
                "agent": "Price Finder",
                "output_schema": {
                    "type": "object",
                    "properties": {"price": {"type": "number"}},
                    "required": ["price"],
                },
            },
            {
                "name": "never",
                "description": "This is not done",
                "expected_output": "Nothing",
                "agent": "writer",
                "condition": {"field": "price", "equals": 100},
            },
            {
                "name": "report",
                "description": "Write a report",
                "expected_output": "A report",
                "agent": "writer",
                "context": ["find prices", "Previous analysis from Q3"],
                "output_file": "out/report.md",
            },
        ],
    }
)


def test_an_exported_project_runs_with_crewai_alone(tmp_path):
    """In a process of its own that has nothing of ours, against a server that speaks OpenAI's API."""
    exported = export_crew(EXPORTED, "crewai")
    for path, text in exported.files.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    assert "kasal_jupyter" not in "".join(exported.files.values())
    (main,) = (tmp_path / "src").glob("*/main.py")
    replies = (Reply('{"price": 3.5}'), Reply("Tea costs 3.50."))
    with OpenAIServer(*replies) as model:
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", str(main), "topic=green tea"],
            check=False,
            capture_output=True,
            text=True,
            timeout=180,
            cwd=tmp_path,
            env={
                **{name: value for name, value in os.environ.items() if "KASAL" not in name},
                "OPENAI_API_KEY": "sk-test",
                "OPENAI_BASE_URL": model.url,
                "CREWAI_DISABLE_TELEMETRY": "true",
                "OTEL_SDK_DISABLED": "true",
                "CREWAI_TRACING_ENABLED": "false",
                "CREWAI_DISABLE_VERSION_CHECK": "true",
                "CREWAI_STORAGE_DIR": str(tmp_path / "storage"),
                "HOME": str(tmp_path),
            },
        )
    assert ran.returncode == 0, ran.stderr[-3_000:]
    assert ran.stdout.rstrip().endswith("Tea costs 3.50.")
    assert (tmp_path / "out" / "report.md").read_text() == "Tea costs 3.50."
    first, last = model.requests[0], model.requests[-1]
    assert len(model.requests) == 2, "the task whose condition does not hold is skipped"
    assert (first["model"], first["temperature"], first["seed"]) == ("gpt-4o-mini", 0.5, 7)
    assert "Finder of green tea prices" in str(first["messages"])
    assert "Find the price of green tea" in str(first["messages"])
    assert "Previous analysis from Q3" in str(last["messages"])
    assert "3.5" in str(last["messages"])


def test_what_crewai_alone_has_not_is_in_the_remarks_and_in_the_readme():
    exported = export_crew(EXPORTED, "crewai")
    fields = [remark.field for remark in exported.remarks]
    assert fields == ["tasks[2].context", "tasks[0].description", "agents[0].tools[0]"]
    readme = exported.files["README.md"]
    assert "- `agents[0].tools[0]`: CrewAI alone has no tool 'web_search'; write one in crew.py" in readme
    assert 'topic="…"' in readme
    assert "price" in exported.files["src/tea_prices_more_crew/config/find_prices.schema.json"]


def test_a_project_names_the_inputs_that_it_takes():
    main = export_crew(EXPORTED, "crewai").files["src/tea_prices_more_crew/main.py"]
    assert "INPUTS = {'topic': '', 'euro': '{euro}'}" in main
