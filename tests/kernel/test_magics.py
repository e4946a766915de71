"""The magics in a real kernel, against a real server."""

import os
import re
import subprocess
import sys

import pytest

from kasal_jupyter.kernel.magics.subcommands import COMMANDS
from tests.kernels import kernel_of

CREW = """\
%%kasal crew {name}
agents:
  researcher:
    role: Researcher
    goal: Find facts about {{topic}}
    llm: sandbox
    tools: [calculator]
    sandbox: {sandbox}
  writer:
    role: Writer
    goal: Write well
    llm: sandbox
tasks:
  facts:
    description: Collect facts about {{topic}}
    expected_output: A list
    agent: researcher
  report:
    description: Write a report on {{topic}}
    expected_output: A report
    agent: writer
    context: [facts]
"""


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        assert "created" in running.run(CREW.format(name="Tea report", sandbox="{}")).shown[0]["text/plain"]
        yield running


def test_kasal_alone_says_where_it_is_and_what_to_type(kernel, live_server):
    text = kernel.run("%kasal").text
    assert live_server.url in text
    assert "%kasal run" in text


def test_a_crew_that_is_the_same_is_left_alone(kernel, api):
    before = api.get("/crews", params={"name": "Tea report"}).json()["crews"]
    card = kernel.run(CREW.format(name="Tea report", sandbox="{}")).shown[0]["text/plain"]
    assert "unchanged" in card
    assert api.get("/crews", params={"name": "Tea report"}).json()["crews"] == before


def test_a_run_draws_its_trace_and_gives_its_result(kernel):
    cell = kernel.run('result = %kasal run "Tea report" topic=tea')
    assert cell.status == "ok"
    final = cell.updates[-1]
    assert "✔ completed" in final["text/plain"]
    assert "<details" in final["text/html"]
    assert kernel.value("[result.status, result.output[:9], len(result.tasks)]") == [
        "completed",
        "[sandbox]",
        2,
    ]
    assert kernel.value("[event['seq'] for event in result.events]") == list(
        range(1, kernel.value("len(result.events)") + 1)
    )


def test_the_view_is_not_drawn_twice_where_the_run_is_the_cells_value(kernel):
    assert len(kernel.run('%kasal run "Tea report" topic=tea').shown) == 1


def test_a_result_that_was_kept_is_drawn_in_a_later_cell(kernel):
    kernel.run('result = %kasal run "Tea report" topic=tea')
    for _ in range(2):
        assert "<details" in kernel.run("result").shown[0]["text/html"]


def test_the_view_goes_on_while_nothing_happens(kernel):
    cell = kernel.run("""
from kasal_jupyter.kernel.views.live import LiveView
from kasal_jupyter.kernel.runs.result import RunResult
view = LiveView(RunResult(result.job_id))
view.feed(result.events[0])  # drawn: it is the first
view.tick()                  # not drawn: nothing came, and it was drawn just now
view._drawn_at -= 1.5
view.tick()                  # drawn: time goes on
""")
    assert len(cell.updates) == 2
    assert "<details" not in cell.updates[-1]["text/html"]


def test_a_terminal_gets_lines_and_no_redraws(live_server, tmp_path):
    code = (
        "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance();"
        "shell.run_line_magic('load_ext', 'kasal_jupyter');"
        "shell.run_cell('%kasal run \"Tea report\" topic=tea')"
    )
    environ = {"KASAL_URL": live_server.url, "KASAL_TOKEN": live_server.token, "IPYTHONDIR": str(tmp_path)}
    text = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environ, capture_output=True, text=True, check=True
    ).stdout
    assert text.count("├─ ▣ facts") == 1
    assert text.count("✔ completed") == 1


def test_an_expression_of_the_notebook_is_an_input(kernel, api):
    kernel.run("import numpy; rows = numpy.array([3, 4])")
    kernel.run("result = %kasal run 'Tea report' 'topic=$len(rows)' rows=$rows price=$$5 year=2024")
    job_id = kernel.value("result.job_id")
    inputs = api.get(f"/executions/{job_id}").json()["inputs"]
    assert inputs == {"topic": 2, "rows": [3, 4], "price": "$5", "year": "2024"}


def test_names_in_double_braces_are_the_notebooks(kernel, api):
    kernel.run("wanted = 'facts and figures'")
    kernel.run(CREW.format(name="Named", sandbox="{}").replace("goal: Find facts", "goal: Find {{wanted}}"))
    crew_id = api.get("/crews", params={"name": "Named"}).json()["crews"][0]["id"]
    assert api.get(f"/crews/{crew_id}").json()["agents"][0]["goal"] == "Find facts and figures about {topic}"


def test_a_value_of_the_notebook_is_an_input(kernel, api):
    kernel.run("subject = 'green tea'")
    kernel.run('result = %kasal run "Tea report" topic=$subject')
    job_id = kernel.value("result.job_id")
    assert api.get(f"/executions/{job_id}").json()["inputs"] == {"topic": "green tea"}


def test_inputs_may_stand_in_the_cell_as_yaml(kernel, api):
    kernel.run('%%kasal run "Tea report"\ntopic: black tea\n')
    assert api.get("/executions").json()["executions"][0]["inputs"] == {"topic": "black tea"}


def test_a_run_in_the_background_gives_the_cell_back_at_once(kernel):
    kernel.run(CREW.format(name="Slow report", sandbox="{latency: 0.5}"))
    cell = kernel.run('run = %kasal run --bg "Slow report" topic=tea')
    assert cell.status == "ok"
    assert kernel.value("run.status") in {"queued", "running"}
    assert kernel.value("run.wait().status") == "completed"


def test_a_failing_run_fails_the_cell_with_one_readable_message(kernel):
    kernel.run(CREW.format(name="Broken report", sandbox="{fail_at: 1}"))
    cell = kernel.run('%kasal run "Broken report" topic=tea')
    assert cell.status == "error"
    assert cell.error.startswith("RunFailed: ")
    assert "facts" in cell.error
    assert "Traceback" not in cell.error
    assert "✖ failed" in cell.updates[-1]["text/plain"]


def test_the_kernels_interrupt_stops_the_run_on_the_server(kernel, api):
    kernel.run(CREW.format(name="Endless report", sandbox="{latency: 3600}"))
    cell = kernel.start('%kasal run "Endless report" topic=tea')
    running = []

    def runs():
        running[:] = api.get("/executions", params={"status": "running"}).json()["executions"]
        return bool(running)

    kernel.until(runs)
    kernel.interrupt()
    kernel.until(lambda: cell.ended)
    assert cell.error.startswith("RunFailed: ")
    assert api.get(f"/executions/{running[0]['job_id']}").json()["status"] == "stopped"


CREW_BELOW = """%%kasal crew Below
agents:
  writer: {role: Writer, goal: GOAL, llm: sandbox}
"""


@pytest.mark.parametrize("above", ["%load_ext kasal_jupyter\n\n", "# A crew\n", "x = 1\n"])
@pytest.mark.parametrize("goal", ["Write", "Don't wait"])
def test_a_crew_below_other_lines_is_told_where_it_belongs(kernel, above, goal):
    cell = kernel.run(above + CREW_BELOW.replace("GOAL", goal))
    assert cell.error.startswith("CellError: %%kasal must be the first line of its cell")
    assert "Traceback" not in cell.error


def test_a_text_may_tell_of_a_crews_cell(kernel):
    assert kernel.run(f'told = """\n{CREW_BELOW}"""').status == "ok"
    assert kernel.value("told") == f"\n{CREW_BELOW}"


def test_no_two_hints_run_into_each_other(kernel):
    kernel.run("subject = 'tea'")
    for line in ("rnu", 'show "Tee report"', 'run "Tea report" topic=$subjct', 'run "Tea report" topci=tea'):
        cell = kernel.run(f"%kasal {line}")
        assert cell.status == "error"
        assert not {"?;", ".;"} & {cell.error[at : at + 2] for at in range(len(cell.error))}, cell.error
        assert not cell.text, "the error says it already"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%kasal rnu", "did you mean 'run'?"),
        ('%kasal run "Tee report"', "did you mean 'Tea report'?"),
        ('%kasal run "Tea report"', "{topic}"),
        ('%kasal run "Tea report" topic=$nothing', "no variable 'nothing'"),
        ('%kasal run "Tea report', "close the quote"),
        ('%kasal run "Tea report" topic=$print', "cannot be sent to a crew"),
        ('%kasal run "Tea report" "topic=$5 million"', "write $$ for a dollar"),
        ("%kasal connect localhost:8888", "begins with http://"),
        ('%kasal run "Tea report" --gb', "there is no option --gb; did you mean '--bg'?"),
        ('%kasal run "Tea report" topic', "'topic' is no input; write it as name=value"),
        ('%kasal run "Tea report" topic=a topic=b', "The input topic is given twice"),
        ('%kasal run "Tea report" topic=$len(', "what follows the $ is no Python expression"),
        ("%kasal run", "%kasal run needs a crew: "),
        ("%kasal run -o x", "%kasal run needs a crew"),
        ("%kasal ps --status complete", "there is no 'complete'; did you mean 'completed'?"),
        ("%kasal ps --limit none", "'none' is no whole number from 1"),
        ("%kasal traces --kind tools", "there is no 'tools'; did you mean 'tool'?"),
        ("%kasal tools calculater", "There is no tool 'calculater'; did you mean 'calculator'?"),
        ("%kasal crew Tea", "begin it with %%kasal crew"),
        ("%%kasal show Tea\nx", "reads no cell"),
        ('%%kasal run "Tea report"\n- tea\n', "write the inputs as name: value, one a line"),
        ('%%kasal run "Tea report"\ntopic: [tea\n', "The inputs in the cell cannot be read: line "),
        (
            '%%kasal run "Tea report"\na: 1\ntopic: {{wnated}}\n',
            "The input topic in line 3: {{wnated}} has no value",
        ),
        (
            "%%kasal crew Bad\nagents:\n  a:\n    rol: x\n",
            "line 4: 'rol' is no field here; did you mean 'role'?",
        ),
    ],
)
def test_a_mistake_is_one_readable_message_that_fails_the_cell(kernel, line, said):
    cell = kernel.run(line)
    assert cell.status == "error"
    assert said in cell.error
    assert "Traceback" not in cell.error


@pytest.mark.parametrize("name", COMMANDS)
def test_every_sub_command_has_help_with_an_example(kernel, name):
    text = kernel.run(f"%kasal {name} --help").text
    assert text.startswith(f"usage: {'%%' if name == 'crew' else '%'}kasal {name}")
    assert COMMANDS[name].summary in " ".join(text.split())
    assert "for example:" in text


def test_kasal_help_lists_them(kernel):
    text = kernel.run("%kasal --help").text
    assert all(re.search(rf"^  {name}[ ,]", text, re.MULTILINE) for name in COMMANDS)


def test_lists_and_stop(kernel, api):
    assert "Tea report" in kernel.run("%kasal crews").shown[0]["text/plain"]
    kernel.run('run = %kasal run --bg "Endless report" topic=tea')
    job_id = kernel.value("run.job_id")
    assert job_id in kernel.run("%kasal ps").shown[0]["text/plain"]
    assert kernel.run("%kasal stop").text == f"{job_id} stopped\n"
    assert "■ stopped" in kernel.run(f"%kasal status {job_id}").shown[0]["text/plain"]
    kernel.run('result = %kasal run "Tea report" topic=tea')
    assert "calculator" in kernel.run("%kasal traces").shown[0]["text/plain"]


def test_the_kernel_never_imports_crewai(kernel):
    assert kernel.value("'crewai' in __import__('sys').modules") is False


def test_loading_the_extension_imports_nothing_heavy():
    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell();"
        "before = set(sys.modules); shell.run_line_magic('load_ext', 'kasal_jupyter');"
        "print([name for name in ('pydantic', 'httpx', 'tornado.web', 'ruamel.yaml', 'crewai')"
        " if name in set(sys.modules) - before])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_a_bare_variable_or_expression_is_python_and_the_cell_says_so(kernel, api):
    kernel.run("names = ['green', 'black']; tea = 'Assam'")
    cell = kernel.run(
        "result = %kasal run 'Tea report' topic=tea n=len(names) first=names[0] x=coffee y=\"tea\""
    )
    assert cell.text.startswith("From the notebook: topic=tea, n=len(names), first=names[0] ")
    inputs = api.get(f"/executions/{kernel.value('result.job_id')}").json()["inputs"]
    assert inputs == {"topic": "Assam", "n": 2, "first": "green", "x": "coffee", "y": "tea"}


def test_an_expression_that_fails_names_the_input_and_pythons_error(kernel):
    kernel.run("names = ['green']")
    cell = kernel.run("%kasal run 'Tea report' topic=names[7]")
    assert cell.error == (
        "CellError: The input topic has no value: names[7] raises IndexError: list index out of range; "
        "put quotes around a text"
    )


def test_the_result_goes_into_a_variable(kernel):
    kernel.run("%kasal run 'Tea report' topic=tea -o kept")
    assert kernel.value("kept.status") == "completed"
    cell = kernel.run("%kasal run 'Tea report' topic=tea -o not-a-name")
    assert "that is no name for a variable" in cell.error


def test_options_may_stand_between_the_words(kernel):
    kernel.run("%kasal run -o kept 'Tea report' --bg topic=tea")
    assert kernel.value("kept.wait().status") == "completed"


def test_words_win_over_the_cell(kernel, api):
    kernel.run('%%kasal run "Tea report" topic=green\ntopic: black\nyear: 2024\nday: 2024-12-31\n')
    inputs = api.get("/executions").json()["executions"][0]["inputs"]
    assert inputs == {"topic": "green", "year": 2024, "day": "2024-12-31"}


JSON = '{"format": {"title": "…", "tags": ["a"]}, "empty": {}}'


def test_braces_in_a_crews_prompts_stay_as_they_are(kernel, api):
    kernel.run("style = 'short'")
    cell = kernel.run(
        "%%kasal crew Braces\nagents:\n  a:\n    role: R\n    goal: G\n    llm: sandbox\ntasks:\n  t:\n"
        f"    description: 'A {{{{style}}}} answer about {{topic}} as {JSON}'\n    expected_output: |\n"
        f"      {JSON}\n    agent: a\n"
    )
    assert cell.status == "ok", cell.error
    crew_id = api.get("/crews", params={"name": "Braces"}).json()["crews"][0]["id"]
    task = api.get(f"/crews/{crew_id}").json()["tasks"][0]
    assert task["description"] == f"A short answer about {{topic}} as {JSON}"
    assert task["expected_output"] == f"{JSON}\n"
    assert kernel.run("%kasal run Braces topic=tea").status == "ok"


def test_braces_in_a_runs_cell_stay_as_they_are(kernel, api):
    kernel.run("rows = [1, 2]")
    kernel.run(
        f"%%kasal run 'Tea report'\ntopic: '{JSON}'\nrows: {{{{rows}}}}\nsaid: there are {{{{ rows }}}}\n"
    )
    inputs = api.get("/executions").json()["executions"][0]["inputs"]
    assert inputs == {"topic": JSON, "rows": [1, 2], "said": "there are [1, 2]"}


def test_a_fault_names_its_line_as_the_notebook_counts_and_its_field(kernel):
    cell = kernel.run(
        "%%kasal crew Bad\nagents:\n  a:\n    rol: x\n    goal: ''\ntasks:\n  t:\n    agent: b\n"
    )
    lines = cell.error.splitlines()
    assert lines[0] == "CellError: The crew's YAML cannot be used"
    assert "  agents.a.rol: line 4: 'rol' is no field here; did you mean 'role'?" in lines
    assert any(line.startswith("  agents.a.goal: line 5: ") for line in lines)
    assert any(line.startswith("  tasks.t.agent: line 8: there is no agent 'b'") for line in lines)


def test_a_name_of_the_yaml_does_not_have_to_be_repeated(kernel):
    cell = kernel.run(CREW.format(name="", sandbox="{}") + "name: Named inside\n")
    assert cell.shown[0]["text/plain"].startswith("Named inside  ✔ ready · created")


def test_without_a_server_kasal_says_so_and_what_to_do(live_server, tmp_path):
    gone = type(live_server)("http://127.0.0.1:1/x", "t", tmp_path, tmp_path, live_server.process)
    with kernel_of(gone, tmp_path) as kernel:
        cell = kernel.run("%kasal")
        assert cell.status == "ok"
        assert cell.text.startswith("Not connected. The server at http://127.0.0.1:1/x does not answer")
        assert "%kasal doctor" in cell.text
        found = kernel.run("%kasal doctor").shown[0]["text/plain"]
        assert "✖ answers" in found
        assert "→ start the Jupyter server again" in found
        assert kernel.run("%kasal crews").error.startswith("CellError: The server at")
