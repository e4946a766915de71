"""The programs that run notebooks unattended: each sees a run fail, where no Jupyter server is there to help.

Their kernels start a private server, which is ended afterwards.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.private import end_servers, lonely
from tests.thorough import some_or_all

TIMEOUT = 240

# Each runner has it in a folder of its own, which is another notebook as far as anybody knows.
CREW = """\
%%kasal crew Tea --force
agents:
  taster:
    role: Taster
    goal: Taste {topic}
    llm: sandbox
    sandbox: {SANDBOX}
tasks:
  first_sip:
    description: Taste {topic}
    expected_output: A word
    agent: taster
"""

AFTER = "print('reached', 6 * 7)"
"""What comes behind the run: a runner that saw it fail does not come here."""


def pytest_with(*options):
    return [sys.executable, "-m", "pytest", *options, "-q", "-p", "no:cacheprovider", "-o", "addopts="]


RUNNERS = {
    "nbval": lambda notebook: [*pytest_with("--nbval-lax"), notebook],
    "nbmake": lambda notebook: [*pytest_with("--nbmake"), notebook],
    "nbclient": lambda notebook: [Path(sys.executable).with_name("jupyter"), "execute", notebook],
    "papermill": lambda notebook: [
        *(sys.executable, "-m", "papermill", "--no-progress-bar"),
        *(notebook, notebook.with_name("out.ipynb")),
    ],
}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A folder for everything; its server serves all the runners, one after the other."""
    room = tmp_path_factory.mktemp("runners")
    yield room
    end_servers(room)


def write_notebook(folder, sandbox):
    cells = [
        "%load_ext kasal_jupyter",
        CREW.replace("{SANDBOX}", sandbox),
        "%kasal run Tea topic=oolong",
        "behind = %kasal run Tea --bg topic=mint",
        "behind.wait().status",
        AFTER,
    ]
    folder.mkdir()
    path = folder / "tea.ipynb"
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


def carry_out(runner, notebook, room):
    return subprocess.run(
        RUNNERS[runner](notebook),
        # Pytest looks for its settings from where it is started.
        cwd=notebook.parent,
        env=lonely(room),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_run_that_fails_fails_the_notebook_with_its_task_and_its_cause(runner, room):
    notebook = write_notebook(room / f"failing_{runner}", "{fail_at: 1}")

    ended = carry_out(runner, notebook, room)

    assert ended.returncode != 0, ended.stdout
    text = without_colours(ended.stdout + ended.stderr)
    assert re.search(
        r"RunFailed: job_\w+ failed in task 'first_sip'.*: MODEL_ERROR: sandbox: call 1 of this agent was",
        text,
    ), text
    # One line, and no traceback of ours.
    assert "kasal_jupyter/kernel/" not in text
    assert "reached 42" not in text


# That nbval goes on is seen of our own notebooks; nbmake is nbclient within pytest.
@pytest.mark.parametrize("runner", some_or_all(["papermill"], [*RUNNERS]))
def test_a_run_that_completes_lets_the_notebook_go_on(runner, room):
    notebook = write_notebook(room / f"passing_{runner}", "{answer_words: 5}")

    ended = carry_out(runner, notebook, room)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    if runner == "papermill":
        cells = json.loads(notebook.with_name("out.ipynb").read_text())["cells"]
        assert cells[-1]["outputs"][0]["text"] == ["reached 42\n"]
        assert "✔ completed" in json.dumps(cells[2]["outputs"], ensure_ascii=False)
        # What papermill hears is the running cell alone; the view above it is whole all the same.
        assert "✔ completed" in json.dumps(cells[3]["outputs"], ensure_ascii=False)


def without_colours(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
