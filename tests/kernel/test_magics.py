"""The magics in a real kernel, against a real server."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest
from jupyter_client.manager import start_new_kernel

from kasal_jupyter.kernel import commands, magics

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


@dataclass
class Cell:
    """What a cell did."""

    status: str = ""
    text: str = ""
    error: str = ""
    shown: list[dict] = field(default_factory=list)
    updates: list[dict] = field(default_factory=list)


class Kernel:
    """A kernel that runs cells one after the other."""

    def __init__(self, manager, client):
        self.manager, self.client = manager, client

    def run(self, code):
        cell = Cell()

        def take(message):
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    cell.text += content["text"]
                case "execute_result" | "display_data":
                    cell.shown.append(content["data"])
                case "update_display_data":
                    cell.updates.append(content["data"])
                case "error":
                    cell.error = "\n".join(content["traceback"])

        # A failing cell would have the kernel drop what comes just behind it: the next test's first cell.
        reply = self.client.execute_interactive(code, output_hook=take, timeout=60, stop_on_error=False)
        cell.status = reply["content"]["status"]
        return cell

    def value(self, expression):
        """Give a JSON value of the notebook."""
        return json.loads(self.run(f"import json; print(json.dumps({expression}))").text)


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    room = tmp_path_factory.mktemp("kernel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KASAL_URL", live_server.url)
        patch.setenv("KASAL_TOKEN", live_server.token)
        patch.setenv("JUPYTER_RUNTIME_DIR", str(room))
        patch.setenv("IPYTHONDIR", str(room / "ipython"))
        manager, client = start_new_kernel()
    running = Kernel(manager, client)
    assert running.run("%load_ext kasal_jupyter").status == "ok"
    assert "created" in running.run(CREW.format(name="Tea report", sandbox="{}")).shown[0]["text/plain"]
    yield running
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_kasal_alone_says_where_it_is_and_what_to_type(kernel, live_server):
    text = kernel.run("%kasal").text
    assert live_server.url in text
    assert "%kasal run" in text


def test_a_crew_with_the_same_name_is_updated(kernel, api):
    before = api.get("/crews", params={"name": "Tea report"}).json()["crews"]
    card = kernel.run(CREW.format(name="Tea report", sandbox="{}")).shown[0]["text/plain"]
    assert "updated" in card
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
from kasal_jupyter.kernel.live import LiveView
from kasal_jupyter.kernel.result import RunResult
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
    message = kernel.client.execute('%kasal run "Endless report" topic=tea', stop_on_error=False)
    while not (running := api.get("/executions", params={"status": "running"}).json()["executions"]):
        time.sleep(0.05)
    kernel.manager.interrupt_kernel()
    reply = kernel.client.get_shell_msg(timeout=30)
    assert reply["parent_header"]["msg_id"] == message
    assert reply["content"]["ename"] == "RunFailed"
    assert api.get(f"/executions/{running[0]['job_id']}").json()["status"] == "stopped"


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
        (
            "%%kasal crew Bad\nagents:\n  a:\n    rol: x\n",
            "line 3: 'rol' is no field here; did you mean 'role'?",
        ),
    ],
)
def test_a_mistake_is_one_readable_message_that_fails_the_cell(kernel, line, said):
    cell = kernel.run(line)
    assert cell.status == "error"
    assert said in cell.error
    assert "Traceback" not in cell.error


def test_every_sub_command_has_help_and_is_completed(kernel):
    assert sorted(commands.COMMANDS) == list(magics.WORDS)
    for word in magics.WORDS:
        assert kernel.run(f"%kasal {word} --help").text.startswith(f"usage: %kasal {word}")
    assert complete(kernel, "%kasal st") == ["status", "stop"]
    assert '"Tea report"' in complete(kernel, "%kasal run ")


def complete(kernel, code):
    kernel.client.complete(code)
    return kernel.client.get_shell_msg(timeout=30)["content"]["matches"]


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
