import os
import subprocess
import sys
from pathlib import Path

import pytest

from kasal_jupyter.cli import main
from kasal_jupyter.errors import Fault, NotRunnable


def test_its_help_is_the_servers_and_names_the_sub_commands(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert "jupyter kasal demo" in text
    assert "jupyter kasal db" in text
    assert "--data-folder" in text


def test_an_unknown_sub_command_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["dmeo"])

    assert ended.value.code == 2
    assert "'dmeo'" in capsys.readouterr().err


def test_a_refusal_is_a_line_for_each_thing_and_status_1(monkeypatch, capsys):
    def refuse(args):
        raise NotRunnable("The crew cannot run", faults=[Fault("agents[0].model", "needs a key")])

    monkeypatch.setattr("kasal_jupyter.cli.demo.run_demo", refuse)

    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "jupyter kasal: The crew cannot run\n  agents[0].model: needs a key\n"


def test_ctrl_c_is_status_130(monkeypatch, capsys):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("kasal_jupyter.cli.demo.run_demo", interrupt)

    assert main(["demo"]) == 130
    assert capsys.readouterr().err == ""


def test_jupyter_finds_the_command():
    refused = run_jupyter("kasal", "demo", "--nonsense")

    assert refused.returncode == 2
    assert refused.stderr.startswith("usage: jupyter kasal")


def test_a_reader_that_has_gone_is_no_crash():
    # The reading end is closed before anything is written.
    reading, writing = os.pipe()
    os.close(reading)
    code = "from kasal_jupyter.cli import main; import kasal_jupyter.cli.demo as demo, sys; "
    code += "demo.run_demo = lambda args: print('x', flush=True) or 0; sys.exit(main(['demo']))"

    ended = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )

    os.close(writing)
    assert ended.returncode == 1
    assert ended.stderr == ""


def test_installing_it_enables_the_extension():
    listed = run_jupyter("server", "extension", "list")

    assert listed.returncode == 0
    text = listed.stdout + listed.stderr
    assert "kasal_jupyter" in text
    assert "OK" in text


def run_jupyter(*words):
    jupyter = Path(sys.executable).with_name("jupyter")
    return subprocess.run([jupyter, *words], check=False, capture_output=True, text=True, timeout=120)
