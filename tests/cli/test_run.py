"""`jupyter kasal run`, `wait` and `traces`, as somebody types them who has no Jupyter server."""

import json
import os
import re
import signal

import pytest

TIMEOUT = 120

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals and terminals")


def test_a_file_is_run_and_watched_and_only_its_answer_is_the_output(terminal):
    status, out, err = terminal.apart("run", "crew.yaml", "topic=oolong tea")

    assert status == 0, err
    assert out.startswith("[sandbox]")
    assert len(out.splitlines()) == 1
    assert "crew crew: created" in err or "crew crew: unchanged" in err
    lines = err.splitlines()
    assert any(re.match(r"├─ ▣ first_sip taster", line) for line in lines)
    assert any("● calculator" in line for line in lines)
    assert "✔ completed" in lines[-1]
    assert "\x1b" not in err


def test_the_crew_of_a_file_is_created_then_left_alone_then_updated(terminal):
    text = (terminal.folder / "crew.yaml").read_text()
    terminal.write("grown.yaml", text)
    for said in ("created", "unchanged"):
        _, _, err = terminal.run("run", "grown.yaml", "--dry-run", "topic=tea")
        assert f"crew grown: {said}" in err
    terminal.write("grown.yaml", text.replace("goal: Taste", "goal: Sip"))
    status, _, err = terminal.run("run", "grown.yaml", "--dry-run", "topic=tea")
    assert status == 0
    assert "crew grown: updated" in err
    # It has a name now, and can be run by it.
    status, out, err = terminal.run("run", "grown", "-q", "topic=tea")
    assert (status, err) == (0, "")
    assert out.startswith("[sandbox]")


def test_inputs_come_from_words_and_files_and_words_win_and_events_are_lines_of_json(terminal):
    terminal.write("inputs.yaml", "topic: green tea\ncups: 3\n")
    status, out, err = terminal.run("run", "crew.yaml", "--inputs", "inputs.yaml", "--json", "topic=a = b")
    assert status == 0, err
    events = [json.loads(line) for line in out.splitlines()]
    assert events[0]["inputs"] == {"topic": "a = b", "cups": 3}
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["status"] == "completed"


def test_a_crew_may_come_from_the_input(terminal):
    text = (terminal.folder / "crew.yaml").read_text()
    status, out, err = terminal.run("run", "-", "--dry-run", "topic=tea", typed=f"name: Piped\n{text}")
    assert (status, "can run" in out) == (0, True), err
    assert "crew Piped: created" in err


@pytest.mark.parametrize("option", ["--quiet", "--json", None])
def test_a_run_that_fails_says_in_which_task_and_why_and_its_status_is_1(terminal, option):
    status, out, err = terminal.run("run", "failing.yaml", "topic=tea", *filter(None, [option]))
    assert status == 1
    assert "MODEL_ERROR: sandbox: call 1 of this agent was set to fail" in err
    assert "first_sip" in err
    if option == "--json":
        assert json.loads(out.splitlines()[-1])["status"] == "failed"
    else:
        assert out == ""


def test_faults_of_a_file_have_its_lines_and_fields(terminal):
    crew = (terminal.folder / "crew.yaml").read_text()
    terminal.write("faulty.yaml", crew.replace("role:", "rol:").replace("agent: taster", "agent: tester", 1))
    status, out, err = terminal.run("run", "faulty.yaml", "topic=tea")
    assert (status, out) == (1, "")
    lines = err.splitlines()
    assert lines[0] == "jupyter kasal: faulty.yaml is no crew"
    assert "  faulty.yaml:3: agents.taster.rol: 'rol' is no field here; did you mean 'role'?" in lines
    assert any(
        line.startswith("  faulty.yaml:12: tasks.first_sip.agent: there is no agent") for line in lines
    )

    terminal.write("broken.yaml", "agents:\n  taster: [\n")
    _, _, err = terminal.run("run", "broken.yaml")
    assert re.search(r"^  broken\.yaml:\d+: ", err, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("run", "crew.yaml", "topic"), 2, "'topic' is no input; write it as name=value"),
        (("run", "crew.yaml", "--nonsense"), 2, "unrecognized arguments: --nonsense"),
        (("run",), 2, "Which crew? Name it or its file, or repeat an execution: --again JOB"),
        (("run", "-", "--inputs", "-"), 2, "cannot both be the standard input"),
        (("run", "nothing.yaml"), 1, "nothing.yaml cannot be read: No such file"),
        (("run", "crew.yaml", "--inputs", "nothing.yaml"), 1, "nothing.yaml cannot be read"),
        (("run", "crew.yaml"), 1, "{topic}"),
        (("run", "cruw", "topic=tea"), 1, "There is no crew 'cruw'; did you mean 'crew'?"),
        (("wait", "job_nothing"), 1, "There is no execution job_nothing"),
        (("traces", "job_nothing"), 1, "There is no execution job_nothing"),
        (("run", "crew.yaml", "topic=tea", "--url", "here:8888"), 1, "begins with http://"),
    ],
)
def test_what_is_wrong_is_told_and_the_status_says_whose_fault_it_is(terminal, words, status, told):
    terminal.run("crews", "import", "crew.yaml")
    ended, out, err = terminal.run(*words)
    assert (ended, out) == (status, ""), err
    assert told in err


def test_in_the_background_a_run_goes_on_and_is_found_again(terminal):
    status, out, err = terminal.run("run", "crew.yaml", "topic=tea", "--bg")
    job_id = out.strip()
    assert status == 0
    assert err.splitlines()[-1] == f"watch it with: jupyter kasal traces --follow {job_id}"

    status, out, _ = terminal.run("wait", job_id)
    assert status == 0
    assert out.startswith("[sandbox]")
    status, out, _ = terminal.run("wait", "--json", job_id)
    assert json.loads(out)["status"] == "completed"
    status, followed, _ = terminal.run("traces", "--follow", job_id)
    assert status == 0
    assert "▣ first_sip" in followed
    status, tree, _ = terminal.run("traces", job_id)
    assert status == 0
    assert re.search(r"▣ first_sip .*▕.*█.*▏", tree)
    status, out, _ = terminal.run("traces", "--json", job_id)
    assert json.loads(out.splitlines()[-1])["status"] == "completed"


def test_what_a_run_has_done_so_far_is_shown_while_it_goes_on(terminal):
    _, out, _ = terminal.run("run", "slow.yaml", "topic=tea", "--bg", "--json")
    job_id = json.loads(out)["job_id"]
    status, tree, _ = terminal.run("traces", job_id)
    assert status == 0
    assert re.search(r"^slow  \S (queued|running)", tree)
    assert terminal.run("stop", job_id)[0] == 0
    status, _, err = terminal.run("wait", job_id)
    assert status == 130
    assert f"{job_id} is stopped" in err


@posix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_a_signal_stops_the_run_on_the_server_too(terminal, number, status):
    process = terminal.start("run", "slow.yaml", "topic=tea")
    for line in process.stderr:
        if "▣ first_sip" in line:
            break
    process.send_signal(number)

    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == status
    assert out == ""
    assert "■ stopped" in err
    job_id = err.split()[-1]
    assert json.loads(terminal.run("status", "--json", job_id)[1])["status"] == "stopped"


@posix
def test_ctrl_c_leaves_what_there_is(terminal):
    crew = (terminal.folder / "crew.yaml").read_text()
    judge = "  judge: {role: Judge, goal: Judge, llm: sandbox, sandbox: {latency: 3600}}\ntasks:"
    first, _, second = crew.replace("tasks:", judge).rpartition("agent: taster")
    terminal.write("half.yaml", f"{first}agent: judge{second}")
    process = terminal.start("run", "half.yaml", "topic=tea")
    for line in process.stderr:
        if "▣ verdict judge" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert out.startswith("[sandbox] Taster on")
    assert "is stopped; what there is of it:" in err


@posix
def test_ctrl_c_ends_the_watching_alone(terminal):
    job_id = terminal.run("run", "slow.yaml", "topic=tea", "--bg", "-q")[1].strip()
    status, _ = terminal.screen("traces", "--follow", job_id, keys=[("▣ first_sip", b"\x03")])
    assert status == 130
    assert json.loads(terminal.run("status", "--json", job_id)[1])["status"] == "running"
    terminal.run("stop", job_id)


@posix
def test_on_a_terminal_the_last_line_tells_what_is_being_done(terminal):
    status, written = terminal.screen("run", "slow.yaml", "topic=tea", keys=[("◆ sandbox", b"\x03")])
    assert status == 130
    assert re.search(r"running.* · first_sip: taster ◆ sandbox", written)
    # Colours, and the moving line taken away at the end.
    assert "\x1b[1m▣ first_sip\x1b[0m" in written
    assert "\x1b[?25h" in written
    assert "■ stopped" in written


@posix
@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_turned_off(terminal, more):
    status, written = terminal.screen("run", "crew.yaml", "topic=tea", **more)
    assert status == 0
    assert "▣ first_sip" in written
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", written)
    if "TERM" in more:
        assert "\x1b" not in written


@posix
def test_what_agents_say_does_not_act_on_the_terminal(terminal):
    bad = "\\x1b]0;owned\\x07\\x1b[2J\\u202etxt"
    crew = (terminal.folder / "crew.yaml").read_text()
    crew = crew.replace("role: Taster", f'role: "Taster {bad}"').replace("verdict:", f'"verdict {bad}":')
    terminal.write("nasty.yaml", f'name: "nasty {bad}"\n{crew}')

    for words in (("run", "nasty.yaml", "topic=\x1b[2Jtea"), ("crews",), ("ps",)):
        status, written = terminal.screen(*words)
        assert status == 0
        for sent in ("\x1b]0;owned", "\x1b[2J", "\u202e"):
            assert sent not in written, words
        assert "nasty" in written


def test_an_execution_is_forked_where_somebody_agrees_and_compared(terminal):
    status, _, _ = terminal.run("run", "crew.yaml", "-q", "topic=tea")
    assert status == 0
    before = json.loads(terminal.run("ps", "--json")[1])
    job_id = before[0]["job_id"]
    status, steps, err = terminal.run("fork", "last")
    assert (status, "calculator" in steps) == (0, True), err
    assert f"{job_id} can be forked at these steps" in err
    status, said, _ = terminal.run("fork", "last", "4", "result=Nothing", "--dry-run")
    assert re.fullmatch(r"From step 4 \(calculator, first_sip\): [23] calls live\n", said), said
    # Nobody can be asked here.
    status, _, err = terminal.run("fork", "last", "4", "result=Nothing")
    assert (status, "add --yes" in err) == (2, True)
    assert len(json.loads(terminal.run("ps", "--json")[1])) == len(before)
    status, forked, err = terminal.run("fork", "last", "4", "result=Nothing", "--yes")
    assert (status, forked.startswith("[sandbox]")) == (0, True), err
    assert "calls live" in err.splitlines()[0]
    assert "result edited" in err
    status, said, _ = terminal.run("diff", "1")
    assert status == 1
    assert said.startswith(f"They part at step 4 of {job_id}: ")
    assert "  + Nothing\n" in said
    status, said, _ = terminal.run("diff", job_id, job_id)
    assert (status, "do not differ" in said) == (0, True)
    assert json.loads(terminal.run("diff", "1", "--json")[1])["first"]["differs"] == "answer"
    for words in (("fork", "last", "x"), ("fork", "last", "4", "topic=tea"), ("diff", job_id)):
        assert terminal.run(*words)[0] in {1, 2}


@posix
def test_a_fork_asks_on_a_terminal(terminal):
    terminal.run("run", "crew.yaml", "-q", "topic=tea")
    for typed, told in ((b"n\n", ""), (b"y\n", "fork of job_")):
        keys = [("Start it? [y/N]", typed)]
        status, written = terminal.screen("fork", "last", "4", "result=Nothing", keys=keys)
        assert (status, told in written) == (0 if told else 1, True), written


def test_a_run_is_recorded_and_answered_by_its_cassette(terminal):
    status, recorded, err = terminal.run("run", "crew.yaml", "topic=tea", "--record", "tea.jsonl")
    assert (status, "tea.jsonl: 6 calls recorded" in err) == (0, True), err
    replay = ("run", "crew.yaml", "--replay", "tea.jsonl", "--on-miss", "fail")
    status, out, err = terminal.run(*replay, "topic=tea")
    assert (status, out) == (0, recorded), err
    assert "6 recorded" in err
    assert "replay of tea.jsonl" in err
    status, out, err = terminal.run(*replay, "topic=coffee")
    assert (status, out) == (1, "")
    assert 'tea.jsonl has no run of \'crew\' with topic="coffee"; the nearest has topic="tea"' in err
    status, _, err = terminal.run("run", "crew.yaml", "topic=tea", "--record", "tea.jsonl", "--bg")
    assert (status, "leave --bg or --record out" in err) == (2, True)
