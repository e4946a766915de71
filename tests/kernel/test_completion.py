"""Completion with Tab in a real kernel: what is offered, and what it replaces."""

import socket
import threading

import pytest

from kasal_jupyter.kernel.magics.subcommands import COMMANDS
from tests.kernels import kernel_of
from tests.sample_crews import crew_body, new_crew, run


@pytest.fixture(scope="module")
def crews(live_server):
    """A crew with a blank in its name that has run, one without; their ids and the run's."""
    with live_server.client() as api:
        _, state = run(api, crew_body("Tab report"))
        new_crew(api, crew_body("Tabloid"))
        return state["job_id"]


@pytest.fixture(scope="module")
def kernel(live_server, crews, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        yield running


def offered(kernel, code, cursor=None):
    """Give what Tab offers at the end of a cell, or at the cursor, as the whole cell would be then."""
    cursor = len(code) if cursor is None else cursor
    kernel.client.complete(code, cursor)
    reply = kernel.client.get_shell_msg(timeout=60)
    while reply["msg_type"] != "complete_reply":
        reply = kernel.client.get_shell_msg(timeout=60)
    content = reply["content"]
    assert content["status"] == "ok", content
    return [
        code[: content["cursor_start"]] + match + code[content["cursor_end"] :]
        for match in content["matches"]
    ]


def words(kernel, code):
    """Give the last words of what Tab offers."""
    return [line.split()[-1] for line in offered(kernel, code)]


@pytest.mark.parametrize("before", ["", "x = 1\n", "r = ", "for i in [1]:\n    r = ", "x = 1\n  "])
def test_every_sub_command_is_offered(kernel, before):
    line = [name for name, each in COMMANDS.items() if each.cell != "must"]
    assert words(kernel, f"{before}%kasal ") == line
    assert words(kernel, f"{before}%kasal st") == ["status", "stop"]


def test_a_cells_magic_offers_those_that_read_a_cell(kernel):
    assert words(kernel, "%%kasal ") == ["crew", "run", "fork", "rate"]


def test_completion_in_the_middle_of_a_line_leaves_the_rest(kernel):
    code = "%kasal sto job_1"
    assert offered(kernel, code, cursor=len("%kasal sto")) == ["%kasal stop job_1"]


def test_options_are_offered(kernel):
    more = ["--max-cost", "--max-tokens", "--max-seconds", "--once", "--fresh"]
    more += ["--record", "--replay", "--on-miss", "--varies", "--again"]
    assert words(kernel, "%kasal run Tabloid --") == ["--help", "--bg", "--output", *more]
    assert words(kernel, "%kasal run Tabloid --bg --") == ["--help", "--output", *more]
    assert words(kernel, "%kasal usage --by mo") == ["model"]
    assert words(kernel, "%kasal export Tabloid x.yaml --f") == ["--format", "--force"]
    assert words(kernel, "%%kasal crew New --r") == ["--raw"]


def test_crews_are_offered_in_quotes_where_they_need_them(kernel):
    found = offered(kernel, "%kasal run Tab")
    assert '%kasal run "Tab report"' in found
    assert "%kasal run Tabloid" in found
    assert offered(kernel, "r = %kasal show Tabl") == ["r = %kasal show Tabloid"]


@pytest.mark.parametrize("command", ["run", "show", "check", "memory", "export", "edit"])
def test_a_crews_name_is_completed_inside_an_open_quote(kernel, command):
    assert offered(kernel, f'%kasal {command} "Tab re') == [f'%kasal {command} "Tab report"']
    assert offered(kernel, f"%kasal {command} 'Tab ") == [f"%kasal {command} 'Tab report'"]


@pytest.mark.parametrize("command", ["status", "wait", "stop", "traces", "replay", "resume"])
def test_job_ids_are_offered(kernel, crews, command):
    assert f"%kasal {command} {crews}" in offered(kernel, f"%kasal {command} job_")


def test_the_crews_inputs_are_offered(kernel):
    assert words(kernel, '%kasal run "Tab report" ')[0] == "topic="
    assert words(kernel, '%kasal run "Tab report" to') == ["topic="]
    assert words(kernel, '%%kasal run "Tab report" --bg to') == ["topic="]
    assert words(kernel, '%kasal check "Tab report" to') == ["topic="]
    assert "topic=" not in words(kernel, '%kasal run "Tab report" topic=tea ')


def test_the_notebooks_variables_are_offered_behind_the_equals_sign(kernel):
    kernel.run("import json\nsubject_name = 'tea'\nsubject_frame = {}\ndef subject_function(): pass")
    line = "%kasal run 'Tab report' topic="
    assert {f"{line}subject_name", f"{line}subject_frame"} <= set(offered(kernel, line))
    assert offered(kernel, f"{line}subject") == [f"{line}subject_name", f"{line}subject_frame"]
    assert offered(kernel, f"{line}$subject_n") == [f"{line}$subject_name"]
    assert offered(kernel, f"{line}len(subject_n") == [f"{line}len(subject_name"]
    assert offered(kernel, f"{line}subject_name.capi") == [f"{line}subject_name.capitalize"]
    assert offered(kernel, "%kasal run 'Tab report' -o subject_n") == [
        "%kasal run 'Tab report' -o subject_name"
    ]


def test_agents_tasks_and_kinds_are_offered_for_traces(kernel, crews):
    line = f"%kasal traces {crews}"
    assert offered(kernel, f"{line} --agent W") == [f"{line} --agent Writer"]
    assert offered(kernel, f"{line} --agent=W") == [f"{line} --agent=Writer"]
    assert offered(kernel, f"{line} --task re") == [f"{line} --task research", f"{line} --task report"]
    assert offered(kernel, f"{line} --kind llm,t") == [f"{line} --kind llm,task", f"{line} --kind llm,tool"]
    assert offered(kernel, "%kasal ps --status f") == ["%kasal ps --status failed"]


def test_a_run_may_be_named_by_its_number_or_as_the_last(kernel, crews):
    kernel.run("%kasal ps --crew 'Tab report'")
    for named in ("1", "last", crews):
        assert words(kernel, f"%kasal traces {named} --agent ") == ["Researcher", "Writer"]
        assert words(kernel, f"%kasal run --again {named} ")[0] == "topic="
        assert words(kernel, f"%kasal resume {named} ")[0] == "topic="
    assert crews in words(kernel, "%kasal run --again ")
    assert words(kernel, f"%kasal run --again {crews} topic=tea --max-c") == ["--max-cost"]


def test_a_frame_its_columns_batches_and_datasets_are_offered(kernel, live_server):
    kernel.run("import pandas as pd; sorts = pd.DataFrame({'Sort of tea': [], 'price': []})")
    assert words(kernel, "%kasal map Tabloid so") == ["sorts"]
    assert words(kernel, "%kasal map Tabloid sorts to") == ["topic="]
    assert words(kernel, "%kasal map Tabloid sorts --columns to") == ["topic="]
    assert words(kernel, "%kasal map Tabloid sorts --columns topic=pr") == ["topic=price"]
    assert words(kernel, "%kasal map Tabloid sorts --retry") == ["--retry-failed"]
    assert words(kernel, "%kasal batches pa") == ["pause"]
    with live_server.client() as api:
        rows = [{"inputs": {"topic": "tea"}}]
        assert api.post("/datasets", json={"name": "tabled", "rows": rows}).status_code == 201
    kernel.run("def taste(output): return 1")
    assert words(kernel, "%kasal dataset tabl") == ["tabled"]
    assert words(kernel, "%kasal compare Tabloid --rows tabl") == ["tabled"]
    assert words(kernel, "%kasal compare Tabloid --score tas") == ["taste"]
    assert words(kernel, "%kasal batches set Tabloid --conc") == ["--concurrency"]


@pytest.mark.parametrize(
    "line", ["%kasal run Tabloid topic=nope", "%kasal frobnicate ", "%%kasal crew X\na: "]
)
def test_where_nothing_is_known_what_is_typed_stays(kernel, line):
    assert offered(kernel, line) == [line]


def test_models_and_tools_are_offered(kernel):
    kernel.run("import kasal_jupyter as kasal\n@kasal.tool\ndef calculate_tax(x: int) -> int:\n    return x")
    assert words(kernel, "%kasal tools calc") == ["calculate_tax", "calculator"]
    assert "sandbox" in words(kernel, "%kasal models sand")


def test_files_are_offered(kernel, tmp_path):
    kernel.run(f"import os; os.chdir({str(tmp_path)!r})")
    (tmp_path / "crews").mkdir()
    for name in ("one.yaml", "my crew.yml", "notes.txt"):
        (tmp_path / "crews" / name).touch()
    assert offered(kernel, "%kasal import cr") == ["%kasal import crews/"]
    assert offered(kernel, "%kasal import crews/") == [
        '%kasal import "crews/my crew.yml"',
        "%kasal import crews/one.yaml",
    ]
    assert offered(kernel, '%kasal import "crews/my') == ['%kasal import "crews/my crew.yml"']
    assert offered(kernel, "%kasal export Tabloid crews/o") == ["%kasal export Tabloid crews/one.yaml"]


def test_what_options_take_is_offered(kernel, crews, live_server, tmp_path):
    kernel.run(f"import os; os.chdir({str(tmp_path)!r})")
    for name in ("prices.csv", "crew.yaml", "export.json"):
        (tmp_path / name).touch()
    (live_server.folder / "runs" / crews / "report.md").write_text("tea")
    assert words(kernel, "%kasal export Tabloid x --format ") == ["yaml", "crewai", "kasal"]
    assert words(kernel, "%kasal import x.yaml --format=j") == ["--format=jsonc"]
    assert words(kernel, "%kasal import ex") == ["export.json"]
    assert words(kernel, "%kasal knowledge Tabloid --add p") == ["prices.csv"]
    assert words(kernel, "%kasal knowledge Tabloid --add crew.yaml p") == ["prices.csv"]
    assert words(kernel, f"%kasal artifacts {crews} --get r") == ["report.md"]
    assert words(kernel, "%kasal memory Tabloid --clear lo") == ["long_term"]
    assert words(kernel, "%kasal usage --pl") == ["--plot"]
    assert "anthropic" in words(kernel, "%kasal providers anth")


def test_a_crews_name_is_completed_without_quotes(kernel):
    assert offered(kernel, "%kasal run Tab re") == ['%kasal run "Tab report"']
    assert words(kernel, "%kasal run Tab report to") == ["topic="]


CELL = """%%kasal crew Tab cell
agents:
  writer:
    role: Writer
    goal: Write
  critic:
    role: Critic
tasks:
  facts:
    description: Collect
    expected_output: A list
    agent: writer
  report:
    description: Report
"""


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("    exp", ["expected_output: "]),
        ("    agent: ", ["writer", "critic"]),
        ("    agent: c", ["critic"]),
        ("    tools: [calculato", ["calculator"]),
        ("    tools:\n    - calculato", ["calculator"]),
        ("    tools:\n      - calculato", ["calculator"]),
        ("    context: [", ["facts"]),
        ("    async_execution: ", ["true", "false"]),
        ("    condition:\n      con", ["contains: "]),
        ("pro", ["process: "]),
        ("process: h", ["hierarchical"]),
        ("manager_agent: w", ["writer"]),
        ("manager_llm: sand", ["sandbox"]),
        ("    description: x\n    agent: {{subject_na", ["subject_name"]),
    ],
)
def test_fields_models_tools_and_agents_are_offered_in_a_crews_cell(kernel, typed, found):
    kernel.run("subject_name = 'tea'")
    cell = f"{CELL}{typed}"
    begin = typed[: len(typed) - len(typed.split("\n")[-1].lstrip(" -").split(": ")[-1].split("[")[-1])]
    got = [line[len(CELL) :] for line in offered(kernel, cell)]
    assert [each[len(begin) :].removeprefix("{{") for each in got] == found


def test_an_agents_fields_and_models_are_offered_in_a_crews_cell(kernel):
    head = "%%kasal crew Tab cell\nagents:\n  writer:\n    role: Writer\n"
    got = [line.removeprefix(head).strip() for line in offered(kernel, f"{head}    ")]
    assert {"goal:", "llm:", "tools:", "sandbox:"} <= set(got)
    assert "role:" not in got
    assert offered(kernel, f"{head}    llm: sand") == [f"{head}    llm: sandbox"]
    assert offered(kernel, f"{head}    sandbox:\n      lat") == [f"{head}    sandbox:\n      latency: "]


def test_a_runs_inputs_are_offered_in_its_cell(kernel):
    kernel.run("subject_name = 'tea'")
    head = '%%kasal run "Tab report"\n'
    assert offered(kernel, f"{head}to") == [f"{head}topic: "]
    assert offered(kernel, f"{head}topic: {{{{subject_n") == [f"{head}topic: {{{{subject_name"]


def test_every_public_object_completes_with_jedi(kernel):
    """Each is made in the kernel, and asked for its attributes as the page asks."""
    kernel.run(
        "import kasal_jupyter as kasal\n"
        "agent_x = kasal.Agent(role='W', goal='g', llm='sandbox')\n"
        "task_x = kasal.Task('Write about {topic}', 'A line', agent_x)\n"
        "crew_x = kasal.Crew('Jedi crew', tasks=[task_x])\n"
        "result_x = crew_x.run(topic='tea')\n"
        "runs_x = kasal.runs(); run_x = runs_x[0]; usage_x = kasal.usage()"
    )
    assert kernel.value("get_ipython().Completer.use_jedi") is True
    for name, attribute in {
        "result_x": "output",
        "result_x.usage": "total_tokens",
        "result_x.status": "upper",
        "result_x.output": "upper",
        "result_x.trace": "roots",
        "result_x.tasks[0]": "duration",
        "run_x": "job_id",
        "run_x.usage": "cost",
        "runs_x": "count",
        "usage_x": "plot",
        "crew_x": "run",
        "agent_x": "role",
        "task_x": "description",
        "kasal.Crew": "load",
        "kasal.RunResult": "to_html",
    }.items():
        assert f"{name}.{attribute}" in offered(kernel, f"{name}."), name
        assert len(offered(kernel, f"{name}.{attribute[:3]}")) >= 1, name


def test_only_what_is_public_is_offered_of_the_package(kernel):
    kernel.run("import kasal_jupyter as kasal")
    public = kernel.value("[name for name in kasal.__all__ if name[0] != '_']")
    assert set(offered(kernel, "kasal.")) == {f"kasal.{name}" for name in public}


def test_other_lines_are_left_to_ipython(kernel):
    kernel.run("subject = 'tea'")
    assert "subject" in words(kernel, "sub")
    assert "subject.upper" in offered(kernel, "subject.upp")
    assert "%kasal" in words(kernel, "%kas")


@pytest.fixture
def silent_server():
    """A server that takes connections, and says nothing."""
    listening = socket.create_server(("127.0.0.1", 0))
    taken = []

    def accept():
        while True:
            try:
                taken.append(listening.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", taken
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()
    for each in taken:
        each.close()


def test_a_server_that_does_not_answer_does_not_hang_the_key(live_server, silent_server, tmp_path):
    url, taken = silent_server
    silent = type(live_server)(url, "t", tmp_path, tmp_path, live_server.process)
    with kernel_of(silent, tmp_path) as kernel:
        for _ in range(5):
            assert offered(kernel, "%kasal show T") == ["%kasal show T"]
        # It was asked once, and not again at each key.
        assert len(taken) == 1
        assert words(kernel, "%kasal sho") == ["show"]


def test_without_a_server_none_is_started_for_a_key(live_server, tmp_path):
    gone = type(live_server)("http://127.0.0.1:1", "t", tmp_path, tmp_path, live_server.process)
    with kernel_of(gone, tmp_path) as kernel:
        assert offered(kernel, "%kasal show T") == ["%kasal show T"]
        kernel.run("import os; del os.environ['KASAL_URL']")
        assert offered(kernel, "%kasal show T") == ["%kasal show T"]
    assert list(tmp_path.glob("kasal-*")) == []
