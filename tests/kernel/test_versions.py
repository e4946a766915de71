"""Crews' versions in a notebook: nobody's change is written over in silence, and every one is found again."""

import json

import pytest

from kasal_jupyter.kernel.crews.stored_crews import UNNAMED
from tests.kernels import Cell, kernel_of
from tests.sample_crews import crew_body, new_crew, run

CELL = """\
%%kasal crew {words}
agents:
  writer:
    role: Writer
    goal: {goal}
    llm: sandbox
tasks:
  report:
    description: Write about {{topic}}
    expected_output: A text
    agent: writer
"""

HERE = "import os; os.environ['JPY_SESSION_NAME'] = {path!r}"


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        assert running.run("import kasal_jupyter as kasal").status == "ok"
        yield running


@pytest.fixture
def name(request):
    """A crew's name that no other test has."""
    return request.node.name[-60:]


@pytest.fixture(autouse=True)
def _notebook(kernel):
    """Each test begins in the same notebook, whose kernel has written nothing yet."""
    restart(kernel)


def restart(kernel, path="/home/ada/Market.ipynb"):
    """Have the kernel forget, as a new one does, in some notebook."""
    code = "from kasal_jupyter.kernel.session import the_session; the_session()._written.clear()"
    assert kernel.run(f"{HERE.format(path=path)}; {code}").status == "ok"


def define(kernel, words, goal="Write well"):
    return kernel.run(CELL.format(words=words, goal=goal))


def made(cell):
    assert cell.status == "ok", cell.error
    return cell.shown[-1]["text/plain"]


def the_crew(api, name):
    [found] = api.get("/crews", params={"name": name}).json()["crews"]
    return api.get(f"/crews/{found['id']}").json()


def goal_of(api, name):
    return the_crew(api, name)["agents"][0]["goal"]


def sources(api, name):
    versions = api.get(f"/crews/{the_crew(api, name)['id']}/versions").json()["versions"]
    return [(each["source"], each["origin"]) for each in versions]


def change(api, name, source="editor"):
    crew = the_crew(api, name)
    agents = [{"name": "writer", "role": "Writer", "goal": "Edited", "model": "sandbox"}]
    answer = api.put(f"/crews/{crew['id']}", json={"agents": agents}, params={"source": source})
    assert answer.status_code == 200


def test_a_cell_that_is_run_again_changes_nothing_and_an_edited_one_updates(kernel, api, name):
    assert "created" in made(define(kernel, name))
    assert "unchanged" in made(define(kernel, name))
    assert "updated" in made(define(kernel, name, "Write better"))
    # A new kernel of the same notebook knows its own version by where that comes from.
    restart(kernel)
    assert "updated" in made(define(kernel, name, "Write best"))
    assert sources(api, name) == [("cell", "/home/ada/Market.ipynb")] * 3


@pytest.mark.parametrize("again", [False, True], ids=["at-once", "after-a-restart"])
@pytest.mark.parametrize("source", ["editor", "api", "import"])
def test_what_was_changed_elsewhere_is_shown_and_not_written_over(kernel, api, name, source, again):
    made(define(kernel, name))
    change(api, name, source)
    if again:
        restart(kernel)
    cell = define(kernel, name)
    assert cell.status == "error"
    assert "changed elsewhere: it is at version 2" in cell.error
    assert "this notebook last wrote version 1" in cell.error
    assert "--force" in cell.error
    assert "--as NEWNAME" in cell.error
    [difference] = cell.shown
    assert "-    goal: Edited\n+    goal: Write well" in difference["text/plain"]
    assert "goal: Edited" in difference["text/html"]
    assert goal_of(api, name) == "Edited"


def test_force_writes_over_it_and_the_history_keeps_it(kernel, api, name):
    made(define(kernel, name))
    change(api, name)
    assert "updated" in made(define(kernel, f"{name} --force"))
    assert goal_of(api, name) == "Write well"
    crew_id = the_crew(api, name)["id"]
    assert api.get(f"/crews/{crew_id}/versions/2").json()["crew"]["agents"][0]["goal"] == "Edited"


def test_another_name_keeps_both(kernel, api, name):
    made(define(kernel, name))
    change(api, name)
    assert "created" in made(define(kernel, f"{name} --as '{name} 2'"))
    assert (goal_of(api, name), goal_of(api, f"{name} 2")) == ("Edited", "Write well")


def test_another_notebook_is_elsewhere_and_another_cell_of_this_one_is_told(kernel, api, name):
    made(define(kernel, name))
    restart(kernel, "/home/ada/Other.ipynb")
    cell = define(kernel, name, "Write otherwise")
    assert "a cell, Market.ipynb" in cell.error
    assert "has not written any version" in cell.error
    restart(kernel)
    content = {"code": CELL.format(words=name, goal="Write here"), "silent": False, "stop_on_error": False}
    message = kernel.client.session.msg("execute_request", content)
    message["metadata"]["cellId"] = "3f9c2a1b"
    kernel._cells[message["header"]["msg_id"]] = cell = Cell("")
    kernel.client.shell_channel.send(message)
    kernel.until(lambda: cell.ended)
    assert cell.status == "ok", cell.error
    assert "Version 1 came from another cell of this notebook" in cell.text
    assert sources(api, name)[0] == ("cell", "/home/ada/Market.ipynb#3f9c2a1b")


def test_an_import_does_not_replace_a_crew_that_comes_from_elsewhere(kernel, api, name, tmp_path):
    made(define(kernel, name))
    files = [tmp_path / "mine.yaml", tmp_path / "other.yaml"]
    for file, called in zip(files, (name, f"{name} 2"), strict=True):
        file.write_text(f"name: {called}\n" + CELL.partition("\n")[2].format(goal="Imported"))
    cell = kernel.run(f"%kasal import {files[1]} {files[0]}")
    assert "changed elsewhere" in cell.error
    # All of them, or none.
    assert api.get("/crews", params={"name": f"{name} 2"}).json()["total"] == 0
    assert goal_of(api, name) == "Write well"
    made(kernel.run(f"%kasal import {files[0]} --force"))
    assert goal_of(api, name) == "Imported"
    # The same file is the same hand.
    files[0].write_text(files[0].read_text().replace("Imported", "Imported again"))
    made(kernel.run(f"%kasal import {files[0]}"))
    assert sources(api, name)[:2] == [("import", "mine.yaml")] * 2


def test_a_crew_of_objects_is_not_saved_over_what_came_from_elsewhere(kernel, api, name):
    made(define(kernel, name))
    change(api, name)
    kernel.run("w = kasal.Agent('Writer', 'Write as an object', llm='sandbox')")
    kernel.run(f"crew = kasal.Crew({name!r}, [w], [kasal.Task('T', 'E', w)])")
    cell = kernel.run("crew.save()")
    assert "save(overwrite=True) writes over it" in cell.error
    assert goal_of(api, name) == "Edited"
    made(kernel.run("crew.save(overwrite=True)"))
    assert sources(api, name)[0] == ("python", "/home/ada/Market.ipynb")
    # What was loaded is known by its version: whatever came since did not know of this.
    kernel.run(f"crew = kasal.Crew.load({name!r}); crew.description = 'Loaded'")
    made(define(kernel, name))
    assert "changed elsewhere" in kernel.run("crew.save()").error


def test_the_editor_says_where_its_change_comes_from(kernel, api, name):
    made(define(kernel, name))
    kernel.run(f"editor = get_ipython().run_line_magic('kasal', 'edit \"{name}\"')")
    assert kernel.run("editor.draft.set_text(editor.draft.text + 'description: Edited\\n')").status == "ok"
    assert kernel.value("editor.review.save()") is True
    assert sources(api, name)[0][0] == "editor"
    assert "changed elsewhere" in define(kernel, name).error


def test_history_lists_compares_and_restores(kernel, api, name):
    made(define(kernel, name))
    change(api, name)
    lines = made(kernel.run(f"%kasal history {name}")).splitlines()
    assert lines[0] == f"{name} is at version 2"
    assert lines[1].split() == ["version", "when", "who", "from", "ran"]
    assert lines[2].split()[0] == "2"
    assert "the editor" in lines[2]
    assert "a cell, Market.ipynb" in lines[3]
    assert "-    goal: Write well\n+    goal: Edited" in made(kernel.run(f"%kasal history {name} --diff 1"))
    assert "+    goal: Write well" in made(kernel.run(f"%kasal history {name} --diff 2 1"))
    assert "restored from version 1" in made(kernel.run(f"%kasal history {name} --restore 1"))
    assert goal_of(api, name) == "Write well"
    assert "the API" not in made(kernel.run(f"%kasal history {name}"))
    assert "no version 9" in kernel.run(f"%kasal history {name} --diff 9").error
    assert "One at a time" in kernel.run(f"%kasal history {name} --diff 1 --restore 1").error


def test_the_same_from_python(kernel, api, name):
    made(define(kernel, name))
    change(api, name)
    kernel.run(f"crew = kasal.Crew.load({name!r})")
    assert kernel.value("[each.version for each in crew.history()]") == [2, 1]
    assert "goal: Edited" in kernel.value("crew.history().diff(1).text")
    assert kernel.value(f"kasal.Crew.load({name!r}, version=1).agents[0].goal") == "Write well"
    assert kernel.value("crew.restore(1).agents[0].goal") == "Write well"
    assert kernel.run("crew.copy('Copied from Python').save()").status == "ok"
    assert kernel.run("kasal.Crew.load('Copied from Python').rename('Renamed from Python')").status == "ok"
    assert kernel.run("kasal.Crew.load('Renamed from Python').delete()").status == "ok"
    assert api.get("/crews", params={"name": "Renamed from Python"}).json()["total"] == 0


def test_two_crews_of_one_name_are_told_apart_and_mended(kernel, api, name):
    first, second = (new_crew(api, crew_body(name)) for _ in range(2))
    api.put(f"/crews/{second}", json={"description": "The second"})
    for code in (f"%kasal show {name}", CELL.format(words=name, goal="G"), f"%kasal edit {name}"):
        error = kernel.run(code).error
        assert f"There are 2 crews {name!r}" in error
        assert "%kasal rename ID NEWNAME" in error
        assert f"{first}  2 agents, version 1 of " in error
        assert f"{second}  2 agents, version 2 of " in error
    assert "version 2" in made(kernel.run(f"%kasal history {second}"))
    assert "updated" in made(define(kernel, f"{second} --force"))
    assert the_crew_by(api, second)["name"] == name
    assert "is called Mended now" in kernel.run(f"%kasal rename {first} Mended").text
    assert "choose another name" in kernel.run(f"%kasal rename Mended {name}").error
    assert "✔ ready" in made(kernel.run(f"%kasal show {name}"))


def the_crew_by(api, crew_id):
    return api.get(f"/crews/{crew_id}").json()


def test_copy_and_rm_and_other_words_for_lists(kernel, api, name):
    made(define(kernel, name))
    assert f"copied from {name}" in made(kernel.run(f"%kasal copy {name} 'Tea copy'"))
    assert goal_of(api, "Tea copy") == "Write well"
    # A cell of the copy's name goes on with it.
    assert "updated" in made(define(kernel, "Tea copy", "Write on"))
    assert "choose another name" in kernel.run(f"%kasal copy {name} 'Tea copy'").error
    assert made(kernel.run("%kasal list")) == made(kernel.run("%kasal crews"))
    assert made(kernel.run("%kasal runs")) == made(kernel.run("%kasal ps"))
    assert "crews, list" in kernel.run("%kasal --help").text
    # All, or none where one is not there.
    assert (
        "There is no crew 'Tea cop'; did you mean 'Tea copy'?"
        in kernel.run(f"%kasal rm {name} 'Tea cop'").error
    )
    assert kernel.run(f"%kasal rm {name} 'Tea copy'").text.count("Deleted") == 2
    assert api.get("/crews", params={"name": name}).json()["total"] == 0


def test_runs_are_deleted_once_they_have_ended_and_the_books_stay(kernel, api, name):
    jobs = [run(api, crew_body(name))[1]["job_id"] for _ in range(2)]
    spent = api.get("/usage", params={"group_by": "crew"}).json()["total"]
    assert "did you mean" in kernel.run(f"%kasal rm {jobs[0][:-1]}").error
    cell = kernel.run(f"%kasal rm {jobs[0]}")
    assert f"Deleted {jobs[0]}, a run of {name}" in cell.text
    assert kernel.run("kasal.runs()[0].delete()").status == "ok"
    for job_id in jobs:
        assert api.get(f"/executions/{job_id}").status_code == 404
    assert api.get("/usage", params={"group_by": "crew"}).json()["total"] == spent


def test_the_demo_is_the_demo_whatever_else_is_called_so(kernel, api):
    other = new_crew(api, crew_body("Market briefing"))
    cell = kernel.run("result = %kasal demo")
    assert cell.status == "ok", cell.error
    assert 'Created the crew "Market briefing (demo 2)"' in cell.text
    assert kernel.value("[result.status, len(result.tasks)]") == ["completed", 4]
    assert len(api.get(f"/crews/{other}").json()["tasks"]) == 2
    # The one of the first time, whose name says it.
    assert 'The crew "Market briefing (demo 2)"' in kernel.run("%kasal demo").text


def test_ready_means_that_it_could_run(kernel):
    cell = kernel.run(CELL.format(words="Keyless", goal="G").replace("llm: sandbox", "llm: gpt-4"))
    text = made(cell)
    assert "◷ not ready" in text.splitlines()[0]
    assert "OPENAI_API_KEY" in text
    assert "✔ ready" not in cell.shown[-1]["text/html"]


def test_a_memory_that_no_run_recalls_is_told(kernel, name):
    made(define(kernel, name))
    assert "`memory: false`" in kernel.run(f"%kasal memory {name} --add 'Tea is green'").text
    kernel.run(f"crew = kasal.Crew.load({name!r}); crew.memory = True; crew.save()")
    assert "false" not in kernel.run(f"%kasal memory {name} --add 'Tea is black'").text


def test_a_run_says_which_version_it_ran(kernel, api, name):
    run(api, crew_body(name))
    assert json.dumps(kernel.value("kasal.runs()[0].crew_version")) == "1"


def test_a_notebook_whose_name_is_not_told_is_known_by_its_folder(kernel, api, name, tmp_path):
    # As nbclient and papermill run one.
    assert kernel.run("del os.environ['JPY_SESSION_NAME']").status == "ok"
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    kernel.run(f"os.chdir({str(tmp_path / 'here')!r})")
    made(define(kernel, name))
    assert sources(api, name) == [("cell", f"{tmp_path}/here/{UNNAMED}")]
    kernel.run("the_session()._written.clear()")
    cell = define(kernel, name, "Write better")
    assert "Version 1 came from a notebook in this folder whose name its runner does not tell" in cell.text
    kernel.run(f"the_session()._written.clear(); os.chdir({str(tmp_path / 'there')!r})")
    assert f"version 2 (a cell, {UNNAMED}" in define(kernel, name, "Write worst").error
    assert goal_of(api, name) == "Write better"
