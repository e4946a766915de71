"""`jupyter kasal history`, `rename`, `copy`, `rm`: crews' versions, and what is not needed, in a terminal."""

import json


def listed(terminal):
    return {each["name"]: each["id"] for each in json.loads(terminal.run("crews", "--json")[1])}


def test_a_file_is_not_written_over_what_was_changed_elsewhere(terminal):
    text = (terminal.folder / "crew.yaml").read_text()
    terminal.write("guarded.yaml", text)
    assert terminal.run("crews", "import", "guarded.yaml")[0] == 0
    terminal.write("other.yaml", "name: guarded\n" + text.replace("goal: Taste", "goal: Smell"))
    status, _, err = terminal.run("crews", "import", "other.yaml")
    assert status == 1
    assert "-    goal: Taste {topic}\n+    goal: Smell {topic}" in err
    assert "'guarded' was changed elsewhere: it is at version 1 (an import, guarded.yaml, " in err
    assert "this file has not written any version of it. Add --force" in err
    status, _, err = terminal.run("run", "other.yaml", "--dry-run", "topic=tea")
    assert (status, "changed elsewhere" in err) == (1, True)
    assert "created" in terminal.run("crews", "import", "other.yaml", "--as", "guarded 2")[2]
    assert "updated" in terminal.run("crews", "import", "other.yaml", "--force")[2]

    status, out, _ = terminal.run("history", "guarded")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["version", "2", "1"]
    assert "an import, other.yaml" in out
    assert "+    goal: Smell {topic}" in terminal.run("history", "guarded", "--diff", "1")[1]
    assert "that is version 3" in terminal.run("history", "guarded", "--restore", "1")[2]
    versions = json.loads(terminal.run("history", "guarded", "--json")[1])
    assert [(each["version"], each["restored"]) for each in versions] == [(3, 1), (2, None), (1, None)]
    assert terminal.run("history", "guarded", "--diff", "1", "2", "3")[0] == 2


def test_crews_are_renamed_copied_and_deleted_and_runs_as_well(terminal):
    terminal.write("shelf.yaml", (terminal.folder / "crew.yaml").read_text())
    job_id = terminal.run("run", "shelf.yaml", "--bg", "-q", "topic=tea")[1].strip()
    assert terminal.run("wait", job_id)[0] == 0
    assert "shelf copy" in terminal.run("copy", "shelf", "shelf copy")[2]
    assert "choose another name" in terminal.run("rename", "shelf copy", "shelf")[2]
    assert "is called shelf two now" in terminal.run("rename", listed(terminal)["shelf copy"], "shelf two")[2]
    assert terminal.run("list")[1] == terminal.run("crews")[1]
    assert job_id in terminal.run("runs")[1]
    status, _, err = terminal.run("rm", "shelf", "shelf too")
    assert (status, "did you mean 'shelf two'?" in err) == (1, True)
    status, _, err = terminal.run("rm", "shelf", "shelf two", job_id)
    assert (status, err.count("Deleted")) == (0, 3)
    assert not {"shelf", "shelf two"} & listed(terminal).keys()
    assert job_id not in terminal.run("runs")[1]
