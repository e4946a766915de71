import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kasal_jupyter.cli import COMMANDS, main
from kasal_jupyter.errors import Fault, NotRunnable


def test_its_help_names_every_command_and_the_servers_options(capsys):
    assert main(["--help"]) == 0

    text = capsys.readouterr().out
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", text, re.MULTILINE)
    assert "--data-folder" in text
    assert "Exit status: 0" in text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_of_its_own(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])

    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: jupyter kasal {name} ")


def test_the_servers_own_options_are_explained(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help-all"])

    assert ended.value.code == 0
    assert "KasalApp.default_model" in capsys.readouterr().out


def test_a_misspelt_command_gets_the_nearest(capsys):
    assert main(["dmeo"]) == 2
    assert capsys.readouterr().err.startswith(
        "jupyter kasal: there is no command 'dmeo'; did you mean 'demo'?\nThere are run, ps"
    )


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
