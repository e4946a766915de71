"""Questions of agents at a terminal: asked by `jupyter kasal run`, answered by `jupyter kasal answer`."""

import os

import pytest

CREW = """\
name: Asking
agents:
  asker:
    role: Asker
    goal: Ask
    llm: sandbox
    tools: [ask_human]
tasks:
  ask:
    description: Ask
    expected_output: An answer
    agent: asker
"""
INPUTS = "question: Which tea?\nchoices: [Green, Black]\n"

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such terminals")


@pytest.fixture
def asking(terminal):
    terminal.write("asking.yaml", CREW)
    terminal.write("inputs.yaml", INPUTS)
    return ["run", "asking.yaml", "--inputs", "inputs.yaml"]


@posix
def test_who_watches_a_run_at_a_terminal_is_asked_there(terminal, asking):
    status, said = terminal.screen(*asking, keys=[("Answer: ", b"oolong\n"), ("or its number: ", b"2\n")])
    assert status == 0, said
    assert "asker asks: Which tea?" in said
    assert "  1. Green" in said
    assert "ask_human says: Black" in said


def test_whoever_is_elsewhere_answers_by_a_command(terminal, asking):
    _, job_id, _ = terminal.run(*asking, "--bg", "-q")
    job_id = job_id.strip()
    shown = ""
    while "Which tea?" not in shown:
        _, shown, _ = terminal.run("status", job_id)
    assert f'jupyter kasal answer {job_id} "Green"' in shown
    status, shown, _ = terminal.run("answer", job_id)
    assert (status, shown) == (0, "asker asks: Which tea? (Green / Black)\n")
    status, _, err = terminal.run("answer", job_id, "oolong")
    assert status == 1
    assert "Answer one of these: Green, Black" in err
    assert terminal.run("answer", job_id, "green")[:2] == (0, "answered asker: Which tea?\n")
    status, answer, _ = terminal.run("wait", job_id)
    assert status == 0
    assert "ask_human says: Green" in answer
    status, _, err = terminal.run("answer", job_id, "green")
    assert status == 1
    assert "waits for no answer" in err
