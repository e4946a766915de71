"""Crews in files of this machine: by the magics, by Python, and by the terminal."""

import json
from types import SimpleNamespace

import pytest

from kasal_jupyter.formats.yaml_crew import load_crew
from kasal_jupyter.kernel.crews.crew import Agent, Crew, Task
from kasal_jupyter.kernel.failure import CellError
from tests.api.test_import import AGENTS, TASKS
from tests.cli.conftest import Terminal
from tests.formats.test_canvas import CANVAS
from tests.kernels import kernel_of


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        yield running


def project(folder, name="tea_project", package="tea_news"):
    config = folder / name / "src" / package / "config"
    config.mkdir(parents=True)
    (config / "agents.yaml").write_text(AGENTS)
    (config / "tasks.yaml").write_text(TASKS)
    return folder / name


def a_crew():
    writer = Agent(role="Writer", goal="Write about {topic}", llm="gpt-4", settings={"temperature": 0.2})
    return Crew("Tea news", tasks=[Task("Write about {topic}", "A text", writer, name="text")])


def test_a_crew_in_python_goes_to_crewai_and_comes_back(tmp_path, capsys):
    crew = a_crew()
    crew.to_crewai(tmp_path / "tea")
    assert (tmp_path / "tea" / "src" / "tea_news_crew" / "crew.py").exists()
    assert Crew.from_crewai(tmp_path / "tea") == crew
    assert capsys.readouterr().out == ""
    crew.to_crewai(tmp_path / "tea.zip")
    assert Crew.from_crewai(tmp_path / "tea.zip", "Other name").name == "Other name"


def test_what_is_left_out_is_printed(tmp_path, capsys):
    crew = Crew.from_crewai(project(tmp_path))
    assert crew.name == "tea news"
    assert "agents.writer.verbose: what happens is in the run's trace in any case" in capsys.readouterr().out


def test_nothing_is_written_over(tmp_path):
    crew = a_crew()
    crew.to_crewai(tmp_path / "tea")
    note = tmp_path / "tea" / "note.txt"
    note.write_text("mine")
    with pytest.raises(CellError, match="is there already"):
        crew.to_crewai(tmp_path / "tea")
    crew.to_crewai(tmp_path / "tea", force=True)
    assert note.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tea"]
    with pytest.raises(CellError, match="cannot be written"):
        crew.to_crewai(tmp_path / "no" / "such" / "folder")


def test_a_file_of_a_project_stands_for_the_project(tmp_path):
    root = project(tmp_path)
    crew = Crew.from_crewai(root / "src" / "tea_news" / "config" / "tasks.yaml")
    assert crew.name == "tea news"


def test_a_fault_names_the_file(tmp_path):
    root = project(tmp_path)
    file = root / "src" / "tea_news" / "config" / "agents.yaml"
    file.write_text(f"{AGENTS}  tools: [custom:x]\n")
    with pytest.raises(
        CellError, match=r"tea_project/src/tea_news/config/agents\.yaml, line 7: custom:x would"
    ):
        Crew.from_crewai(root)


def test_the_terminal_imports_and_exports(live_server, tmp_path):
    terminal = Terminal(tmp_path)

    def kasal(*words, status=0):
        ended, out, err = terminal.run(*words, "--url", live_server.url, "--token", live_server.token)
        assert ended == status, err
        return SimpleNamespace(stdout=out, stderr=err)

    project(tmp_path, package="by_terminal")
    (tmp_path / "canvas.json").write_text(json.dumps({**CANVAS, "name": "terminal_prices"}))
    done = kasal("crews", "import", "tea_project", "canvas.json")
    assert "created crew_" in done.stderr
    assert "nodes[1].data.max_rpm" in done.stderr
    shown = kasal("crews", "import", "tea_project", "--dry-run", "--name", "Shown")
    assert load_crew(shown.stdout).name == "Shown"
    kasal("crews", "export", "terminal_prices", "out", "--format", "crewai")
    assert (tmp_path / "out" / "src" / "terminal_prices_crew" / "main.py").exists()
    assert (
        "is there already"
        in kasal("crews", "export", "terminal_prices", "out", "--format", "crewai", status=1).stderr
    )
    assert json.loads(kasal("crews", "export", "terminal_prices", "--format", "kasal").stdout)["nodes"]
    kasal("crews", "export", "terminal_prices", "--format", "crewai", status=2)
    (tmp_path / "wrong.yaml").write_text("agents: [")
    refused = kasal("crews", "import", "wrong.yaml", "tea_project", status=1)
    assert "Nothing was imported" in refused.stderr
    assert "wrong.yaml" in refused.stderr
    made = kasal("generate", "Write about tea", "--model", "sandbox", "--input", "kind", "-o", "made.yaml")
    assert "made by sandbox" in made.stderr
    assert "{kind}" in (tmp_path / "made.yaml").read_text()
    assert load_crew(kasal("generate", "Write about tea", "--model", "sandbox").stdout).agents
    kasal("generate", "Write about tea", "--input", "a b", status=2)


def next_cell(kernel, code):
    """Run a cell and give what it prints, and the cell that it adds below."""
    cell = kernel.run(code)
    assert cell.status == "ok", cell.error
    while (reply := kernel.client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != cell.message:
        pass
    added = [each["text"] for each in reply["content"]["payload"] if each["source"] == "set_next_input"]
    return cell.text, added


def test_the_magics_import_a_project_and_export_one(kernel, tmp_path):
    assert kernel.run(f"import os; os.chdir({str(tmp_path)!r})").status == "ok"
    project(tmp_path, package="by_magic")
    cell = kernel.run("%kasal import tea_project")
    assert cell.status == "ok", cell.error
    assert "agents.writer.verbose: what happens is in the run's trace in any case" in cell.text
    assert "by magic" in cell.shown[0]["text/plain"]
    cell = kernel.run("%kasal export 'by magic' out --format crewai")
    assert cell.text.startswith("by magic → out")
    assert "agents[0].model: the sandbox model is this server's own" in cell.text
    assert (tmp_path / "out" / "src" / "by_magic_crew" / "crew.py").exists()
    assert json.loads(kernel.run("%kasal export 'by magic' --format kasal").text)["name"] == "by magic"
    assert "name a folder for them" in kernel.run("%kasal export 'by magic' --format crewai").error
    assert "is there already" in kernel.run("%kasal export 'by magic' out --format crewai").error


def test_a_generated_crew_comes_in_a_new_cell_that_makes_it(kernel):
    text, (cell,) = next_cell(
        kernel, "%kasal generate Write about tea --model sandbox --input kind --name Generated"
    )
    assert text.startswith("Generated: made by sandbox, not stored yet. Run the new cell to create it")
    assert cell.startswith("%%kasal crew Generated\n")
    made = kernel.run(cell)
    assert made.status == "ok", made.error
    assert "{kind}" in cell
    assert kernel.run("%kasal run Generated kind=green").status == "ok"


def test_a_generated_crew_can_be_printed_or_made_at_once(kernel):
    text, added = next_cell(kernel, "%kasal generate 'Write about tea' --model sandbox --print")
    assert (text.startswith("%%kasal crew "), added) == (True, [])
    cell = kernel.run("%kasal generate 'Write about tea' --model sandbox --name 'At once' --save")
    assert "At once" in cell.shown[0]["text/plain"]
    wrong = kernel.run("%kasal generate 'Write about tea' --model nobody/x")
    assert "no provider 'nobody' is known" in wrong.error
    assert "inputs.0" in kernel.run("%kasal generate x --input 'a b'").error
    assert "add --model NAME" in kernel.run("%kasal generate 'Write about tea'").error
