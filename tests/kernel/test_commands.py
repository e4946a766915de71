"""The sub-commands of `%kasal` in a real kernel, against a real server."""

import json

import pytest

from kasal_jupyter.formats.yaml_crew import load_crew
from tests.kernel.test_crew_files import next_cell
from tests.kernels import kernel_of
from tests.sample_crews import crew_body, new_crew, run, slow_crew, start
from tests.server import start_server


@pytest.fixture(scope="module")
def live_server(tmp_path_factory):
    """A server of these tests' own: they list all crews and runs, and name crews as others do."""
    server = start_server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def ran(live_server):
    """A crew that has run: the run's id."""
    with live_server.client() as api:
        return run(api, crew_body("Report Crew"))[1]["job_id"]


@pytest.fixture(scope="module")
def kernel(live_server, ran, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        yield running


@pytest.fixture
def folder(kernel, tmp_path):
    """The kernel's working folder."""
    assert kernel.run(f"import os; os.chdir({str(tmp_path)!r})").status == "ok"
    return tmp_path


def shown(kernel, code):
    """Give what a cell shows, as text."""
    cell = kernel.run(code)
    assert cell.status == "ok", cell.error
    return cell.shown[0]["text/plain"]


def test_the_greeting_is_a_few_lines(kernel, live_server):
    lines = kernel.run("%kasal").text.splitlines()
    assert lines[0] == f"Connected to {live_server.url} (KASAL_URL)"
    assert lines[1].startswith("Models  sandbox")
    assert "Report Crew" in lines[2]
    assert "%kasal --help" in lines[3]
    assert len(lines) == 4


def test_demo_makes_a_crew_and_runs_it_and_runs_that_again(kernel, api):
    cell = kernel.run("result = %kasal demo")
    assert cell.status == "ok", cell.error
    assert 'Created the crew "Market briefing"' in cell.text
    assert kernel.value("[result.status, len(result.tasks)]") == ["completed", 4]
    assert kernel.run("%kasal demo").text.startswith('The crew "Market briefing": ')
    assert api.get("/crews", params={"name": "Market briefing"}).json()["total"] == 1


def test_show_gives_the_card_with_the_task_graph(kernel):
    cell = kernel.run('%kasal show "Report Crew"')
    text, html = cell.shown[0]["text/plain"], cell.shown[0]["text/html"]
    assert text.splitlines()[0] == "Report Crew  ✔ ready · sequential · 2 agents · 2 tasks"
    assert "├─ 1 research  Researcher · sandbox · calculator" in text
    assert "└─ 2 report    Writer · sandbox  ← research" in text
    assert 'Run it: %kasal run "Report Crew" topic=…' in text
    assert html.count("<details") == 3


def test_a_crew_that_is_not_ready_says_why(kernel, api):
    new_crew(api, {"name": "Half", "agents": [{"role": "R", "goal": "G"}]})
    text = shown(kernel, "%kasal show Half")
    assert "◷ not ready" in text
    assert "✖ " in text


def test_check_lists_every_fault_and_does_not_run(kernel, api):
    body = crew_body("Faulty")
    body["agents"][0]["model"] = "gpt-4"
    body["agents"][1]["tools"] = ["calculater"]
    new_crew(api, body)
    before = api.get("/executions").json()["total"]
    text = shown(kernel, "found = %kasal check Faulty\nfound")
    assert text.startswith("✖ Faulty cannot run yet: 3 faults")
    assert kernel.value("sorted(fault.field for fault in found.faults)") == [
        "agents[0].model",
        "agents[1].tools[0]",
        "inputs.topic",
    ]
    assert shown(kernel, "%kasal check 'Report Crew' topic=tea").startswith("✔ Report Crew can run")
    assert api.get("/executions").json()["total"] == before


def test_check_knows_the_notebooks_tools(kernel, api):
    body = crew_body("Notebook tools")
    body["agents"][0]["tools"] = ["weigh"]
    new_crew(api, body)
    assert shown(kernel, "%kasal check 'Notebook tools' topic=tea").startswith("✖")
    kernel.run("import kasal_jupyter as kasal\n@kasal.tool\ndef weigh(item: str) -> float:\n    return 2.5")
    assert shown(kernel, "%kasal check 'Notebook tools' topic=tea").startswith("✔")


def test_ps_can_be_narrowed(kernel, ran):
    assert ran in shown(kernel, "%kasal ps --crew 'Report Crew' --status completed")
    assert shown(kernel, "%kasal ps --crew 'Report Crew' --status failed") == "No such runs"
    assert len(shown(kernel, "%kasal ps --limit 1").splitlines()) == 2


def test_a_misspelt_job_is_answered_with_the_nearest(kernel, ran):
    for command in ("status", "wait", "stop", "traces"):
        assert f"did you mean '{ran}'?" in kernel.run(f"%kasal {command} {ran[:-1]}").error


def test_wait_gives_the_result_and_fails_where_the_run_has(kernel, api, ran):
    assert kernel.run(f"result = %kasal wait {ran}").status == "ok"
    assert kernel.value("result.status") == "completed"
    failed = run(api, crew_body("Failing", fail_at=1))[1]["job_id"]
    cell = kernel.run(f"%kasal wait {failed}")
    assert cell.error.startswith("RunFailed: ")
    assert "research" in cell.error


def test_wait_waits(kernel, api):
    job_id = start(api, new_crew(api, crew_body("Waited for", latency=0.5)))
    assert kernel.run(f"result = %kasal wait {job_id}").status == "ok"
    assert kernel.value("result.status") == "completed"


def test_a_run_of_another_kernel_is_picked_up_and_stopped(kernel, api):
    job_id = start(api, new_crew(api, slow_crew("Picked up")))
    cell = kernel.run(f"run = %kasal status {job_id}")
    assert kernel.value("run.status") in {"queued", "running"}
    assert kernel.run("%kasal stop").text == f"{job_id} stopped\n"
    kernel.until(lambda: cell.updates and "■ stopped" in cell.updates[-1]["text/plain"])


def test_traces_can_be_narrowed(kernel, ran):
    lines = shown(kernel, f"%kasal traces {ran} --kind tool").splitlines()
    assert "calculator" in lines[1]
    assert len(lines) == 2
    assert "  Researcher  " not in shown(kernel, f"%kasal traces {ran} --agent Writer")
    assert "  calculator  " not in shown(kernel, f"%kasal traces {ran} --task report")
    assert shown(kernel, f"%kasal traces {ran} --limit 1").startswith("1 step, not all; --after ")
    assert "did you mean 'Writer'?" in shown(kernel, f"%kasal traces {ran} --agent Writre")
    assert "did you mean 'report'?" in shown(kernel, f"%kasal traces {ran} --task reprot")


def test_tools_are_the_servers_and_the_notebooks(kernel):
    code = (
        "import kasal_jupyter as kasal\n@kasal.tool\ndef price(item: str, pounds: float = 1.0) -> float:\n"
        '    """Give the price of tea.\n\n    Args:\n        item: Which tea.\n    """\n    return 3.0\n'
    )
    kernel.run(code)
    text = shown(kernel, "%kasal tools")
    assert "calculator" in text
    assert "price" in text
    assert "this notebook" in text
    lines = shown(kernel, "%kasal tools price").splitlines()
    assert lines[0].startswith("price (this notebook): Give the price of tea.")
    assert lines[2].split()[:3] == ["item", "string", "needed"]
    assert lines[2].endswith("Which tea.")
    assert "may be left out" in lines[3]


def test_models_that_can_run_come_first_and_what_is_unknown_is_called_so(kernel, api):
    models = api.get("/models", params={"per_page": 500}).json()["models"]
    rows = shown(kernel, "%kasal models").splitlines()[2:]
    marks = [row[0] for row in rows]
    assert marks == sorted(marks, key="✔✖".index)
    assert rows[0].startswith("✔  sandbox")
    assert "OPENAI_API_KEY" in "\n".join(rows)
    rows = [row for name in ("gpt", "llama") for row in shown(kernel, f"%kasal models {name}").splitlines()]
    priced = next(each for each in models if each["price"] and each["price"]["input"])
    assert f"{priced['price']['input']:,.2f} / {priced['price']['output']:,.2f}" in "\n".join(rows)
    unpriced = next(each["name"] for each in models if each["price"] is None)
    assert "unknown" in shown(kernel, f'%kasal models "{unpriced}"')
    assert len(shown(kernel, "%kasal models sand").splitlines()) == 3
    assert (
        "There is no model with 'sandbax' in its name; did you mean 'sandbox'?"
        in kernel.run("%kasal models sandbax").error
    )


def test_memory_of_a_crew_that_has_none(kernel):
    assert shown(kernel, "%kasal memory 'Report Crew'") == (
        "Report Crew remembers nothing yet; its runs are remembered once it has `memory: true`"
    )


def test_edit_opens_the_editor_and_tells_of_a_name_that_is_none(kernel):
    cell = kernel.run("%kasal edit 'Report Crew'")
    assert cell.status == "ok", cell.error
    assert any("application/vnd.jupyter.widget-view+json" in each for each in cell.shown)
    text = kernel.run("%kasal edit 'Reprot Crew'").text
    assert text == ("There is no crew 'Reprot Crew' yet; a new one is begun; did you mean 'Report Crew'?\n")


def test_export_and_import_round_trip(kernel, api, folder):
    assert kernel.run("%kasal export 'Report Crew' report.yaml").text == "Report Crew → report.yaml\n"
    text = (folder / "report.yaml").read_text()
    assert load_crew(text).name == "Report Crew"
    again = kernel.run("%kasal export 'Report Crew' report.yaml").error
    assert again == "CellError: report.yaml is there already; name another file, or add --force"
    assert kernel.run("%kasal export 'Report Crew' report.yaml --force").status == "ok"
    assert "created" in shown(kernel, "%kasal import report.yaml --name 'Report Copy'")
    assert "unchanged" in shown(kernel, "%kasal import report.yaml --name 'Report Copy'")
    ids = [
        api.get("/crews", params={"name": name}).json()["crews"][0]["id"]
        for name in ("Report Crew", "Report Copy")
    ]
    one, two = (api.get(f"/crews/{crew_id}").json() for crew_id in ids)
    assert [agent["role"] for agent in one["agents"]] == [agent["role"] for agent in two["agents"]]
    assert [task["description"] for task in one["tasks"]] == [task["description"] for task in two["tasks"]]


def test_a_run_is_exported_imported_and_pruned(kernel, api, ran, folder):
    assert f"{ran} → run.zip" in kernel.run(f"%kasal export {ran} run.zip").text
    assert "is there already" in kernel.run(f"%kasal export {ran} run.zip").error
    came = kernel.run("%kasal import run.zip").text
    assert f"Report Crew, completed, {came.split(' event')[0].split()[-1]} events" in came
    assert f"(was {ran})" in came
    job_id = came.partition(":")[0]
    assert api.get(f"/executions/{job_id}").json()["imported_at"] is not None
    (folder / "crew.yaml").write_text("agents: {}")
    assert "import those by themselves" in kernel.run("%kasal import run.zip crew.yaml").error
    kept = "%kasal prune --dry-run --execution-days 0 --executions 0 --bytes"
    assert "Nothing is to go" in shown(kernel, f"{kept} 0")
    assert "they take more than is kept" in shown(kernel, f"{kept} 1B")
    assert "is no size" in kernel.run("%kasal prune --bytes much").error
    assert api.delete(f"/executions/{job_id}").status_code == 204


def test_export_prints_a_cell_that_makes_the_same_crew(kernel, api):
    body = crew_body(f"A crew with {'a very long name ' * 8}".strip())
    body["tasks"][0]["description"] = 'Fill in {{topic}} as {"a": {"b": 1}} about {topic}'
    crew_id = new_crew(api, body)
    cell = kernel.run(f"%kasal export {crew_id}").text
    assert cell.startswith('%%kasal crew "A crew with a very')
    assert cell.splitlines()[0].endswith(" --raw")
    before = api.get(f"/crews/{crew_id}").json()
    assert kernel.run(cell).status == "ok"
    after = api.get(f"/crews/{crew_id}").json()
    for key in ("name", "description", "configuration"):
        assert after[key] == before[key]
    for kind in ("agents", "tasks"):
        for one, two in zip(before[kind], after[kind], strict=True):
            unlike = {"updated_at", "context", "name"} if kind == "tasks" else {"updated_at"}
            assert {k: v for k, v in one.items() if k not in unlike} == {
                k: v for k, v in two.items() if k not in unlike
            }


GOOD = """\
agents:
  a: {role: R, goal: G, llm: sandbox}
tasks:
  t: {description: D, expected_output: E, agent: a}
"""


def test_import_takes_all_files_or_none(kernel, api, folder):
    (folder / "tea_tasting.yaml").write_text(GOOD)
    (folder / "bad.yaml").write_text(GOOD.replace("role", "rol").replace("agent: a", "agent: b"))
    cell = kernel.run("%kasal import *.yaml")
    lines = cell.error.splitlines()
    assert lines[0] == "CellError: Nothing was imported"
    assert "  bad.yaml: agents.a.rol: line 2: 'rol' is no field here; did you mean 'role'?" in lines
    assert any(line.startswith("  bad.yaml: tasks.t.agent: line 4: there is no agent 'b'") for line in lines)
    assert api.get("/crews", params={"name": "tea tasting"}).json()["total"] == 0
    (folder / "bad.yaml").write_text(f"name: Good now\n{GOOD}")
    text = shown(kernel, "%kasal import *.yaml")
    assert "Good now     created" in text
    assert "tea tasting  created" in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%kasal import nowhere.yaml", "nowhere.yaml cannot be read: No such file or directory"),
        ("%kasal import no*.yaml", "There is no file no*.yaml"),
        ("%kasal import bytes.yaml", "bytes.yaml is no text in UTF-8"),
        ("%kasal import one.yaml one.yaml two.yaml --name X", "--name is for one file"),
        ("%kasal import one.yaml two.yaml", "Two of the files have a crew 'Twice'"),
        ("%kasal export 'Report Crew' nowhere/crew.yaml", "cannot be written: No such file or directory"),
    ],
)
def test_files_that_cannot_be_used(kernel, folder, line, said):
    (folder / "bytes.yaml").write_bytes(b"\xff\xfe\x00name")
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(f"name: Twice\n{GOOD}")
    assert said in kernel.run(line).error


def test_doctor_finds_all_well_and_leaves_nothing_behind(kernel, api):
    before = [api.get(path).json()["total"] for path in ("/crews", "/executions")]
    text = shown(kernel, "%kasal doctor")
    for what in ("versions", "ipywidgets", "server", "answers", "lets us in", "WebSocket", "engine"):
        assert f"✔ {what}" in text, text
    assert "· models" in text  # no key is set in the tests
    assert text.endswith("All is well")
    assert [api.get(path).json()["total"] for path in ("/crews", "/executions")] == before
    assert "not tried: --quick" in shown(kernel, "%kasal doctor --quick")


def test_doctor_says_what_is_wrong_and_what_to_do(live_server, tmp_path):
    stranger = type(live_server)(live_server.url, "wrong", tmp_path, tmp_path, live_server.process)
    with kernel_of(stranger, tmp_path) as kernel:
        text = shown(kernel, "%kasal doctor")
    assert "✔ answers" in text
    assert "✖ lets us in" in text
    assert "→ %kasal connect URL --token TOKEN" in text
    assert text.endswith("1 thing to see to")


def test_connect_says_where_and_stays_where_it_was_if_it_fails(kernel, live_server):
    assert "does not answer" in kernel.run("%kasal connect http://127.0.0.1:1").error
    assert kernel.run("%kasal crews").status == "ok"
    text = kernel.run(f"%kasal connect {live_server.url} --token {live_server.token}").text
    assert text.startswith(f"Connected to {live_server.url} (the given address): ")
    assert kernel.run("%kasal connect").text.startswith(f"Connected to {live_server.url} (KASAL_URL): ")


def test_two_crews_of_one_name_are_told_apart_by_their_ids(kernel, api):
    ids = {new_crew(api, crew_body("Twin")) for _ in range(2)}
    error = kernel.run("%kasal show Twin").error
    assert all(crew_id in error for crew_id in ids)
    assert "Twin" in shown(kernel, f"%kasal show {ids.pop()}")
    assert "%kasal rename ID NEWNAME" in kernel.run(f"%%kasal crew Twin\n{GOOD}").error


def test_the_output_of_an_error_is_harmless(kernel):
    cell = kernel.run("%kasal show $'\\x1b[31mred'")
    assert "\x1b" not in cell.error
    assert json.dumps(cell.error)


def test_a_run_is_asked_for_once_replayed_and_resumed(kernel, api):
    crew_id = new_crew(api, crew_body("Once Crew"))
    first = kernel.run('first = %kasal run "Once Crew" topic=tea --once')
    assert first.status == "ok", first.error
    again = kernel.run('again = %kasal run "Once Crew" topic=tea --once')
    job_id = kernel.value("first.job_id")
    assert again.text.startswith(f"from {job_id}, "), again.text
    assert kernel.value("[again.job_id, again.output == first.output, again.recorded['from']]") == [
        *(job_id, True, job_id)
    ]
    assert api.get("/executions", params={"crew_id": crew_id}).json()["total"] == 1
    assert kernel.run('%kasal run "Once Crew" topic=tea --once --fresh -o fresh').status == "ok"
    assert kernel.value("fresh.job_id != first.job_id and fresh.recorded is None")
    replayed = kernel.run(f"replayed = %kasal replay {job_id}")
    assert replayed.status == "ok", replayed.error
    assert kernel.value("[replayed.output == first.output, replayed.calls.live]") == [True, 0]
    assert f"replay of {job_id}" in kernel.value("repr(replayed)").splitlines()[0]
    assert "replay of" in shown(kernel, "%kasal ps --limit 1")
    new_crew(api, crew_body("Failing Crew", fail_at=2))
    failed = kernel.run('%kasal run "Failing Crew" topic=tea -o failed')
    assert failed.error.startswith("RunFailed")
    # The latest of this notebook.
    assert kernel.run("resumed = %kasal resume").status == "ok"
    assert kernel.value("[resumed.status, resumed.calls.recorded]") == ["completed", 2]
    assert kernel.run("%kasal resume topic=coffee").error.startswith("CellError")
    assert "%kasal resume" in kernel.run("%kasal resume --help").text


def test_a_run_is_forked_at_a_step_and_compared(kernel, api):
    first = run(api, crew_body("Forked"))[1]["job_id"]
    listed = kernel.run(f"%kasal fork {first}")
    assert listed.status == "ok", listed.error
    text, html = listed.shown[0]["text/plain"], listed.shown[0]["text/html"]
    assert "tool call: calculator" in text
    assert f"%kasal fork {first} 4 result --edit" in html
    forked = kernel.run(f'forked = %kasal fork {first} 4 result="Nothing at all"')
    assert forked.status == "ok", forked.error
    assert "From step 4 (calculator, research): 2 calls live" in forked.text
    head, *steps = kernel.value("repr(forked)").splitlines()
    assert head.endswith(f"fork of {first}")
    assert any("result edited" in each for each in steps), steps
    assert kernel.value("[forked.calls.recorded, forked.calls.live]") == [2, 2]
    # The text that stands there comes in a new cell, which is its own magic.
    said, (cell,) = next_cell(kernel, f"%kasal fork {first} 4 result --edit")
    assert "new cell" in said
    head, text = cell.split("\n", 1)
    assert head == f"%%kasal fork {first} 4 result"
    again = kernel.run(f"{head} -o again\n{text}")
    assert again.status == "ok", again.error
    # Which is the same run, as far as runs can be: what was changed stands there as it was.
    same = kernel.run(f"%kasal diff {first} {kernel.value('again.job_id')}")
    assert "do not differ" in same.shown[0]["text/plain"]
    parted = kernel.run(f"%kasal diff {kernel.value('forked.job_id')}")
    text, html = parted.shown[0]["text/plain"], parted.shown[0]["text/html"]
    assert f"They part at step 4 of {first}: Researcher, in “research”, calls calculator the same" in text
    assert "and is given another result, changed by a user." in text
    assert "  + Nothing at all" in text
    assert "<script" not in html
    assert len(html) < 200_000
    assert kernel.value("__import__('kasal_jupyter').runs()[0].diff(again).same") is True
    lost = kernel.run(f"%kasal fork {first} 99")
    assert "there is no step 99; there are 3 (a call of sandbox" in lost.error
    assert "is a run of its own" in kernel.run(f"%kasal diff {first}").error


def test_a_notebooks_function_is_not_called_twice_by_a_run_that_is_resumed(kernel, api):
    body = crew_body("Calls the notebook", fail_at=2)
    body["agents"][0]["tools"] = ["count_calls"]
    new_crew(api, body)
    code = "import kasal_jupyter as kasal\ncalls = []\n@kasal.tool\ndef count_calls(what: str) -> str:\n"
    assert kernel.run(f"{code}    calls.append(what)\n    return f'Call {{len(calls)}}'").status == "ok"
    assert kernel.run('%kasal run "Calls the notebook" topic=tea').error.startswith("RunFailed")
    assert kernel.value("len(calls)") == 1
    resumed = kernel.run("resumed = %kasal resume")
    assert resumed.status == "ok", resumed.error
    assert kernel.value("[len(calls), resumed.status, resumed.calls.recorded]") == [1, "completed", 2]
    replayed = kernel.run("replayed = %kasal replay")
    assert replayed.status == "ok", replayed.error
    assert kernel.value("[len(calls), replayed.output == resumed.output]") == [1, True]
