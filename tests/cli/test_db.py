import argparse
import json

import pytest

from kasal_jupyter.cli import data_folder as db_command
from kasal_jupyter.store.folder import default_data_folder
from kasal_jupyter.store.store import Store


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("KASAL_DATA_DIR", str(tmp_path / "default"))
    parser = argparse.ArgumentParser()
    db_command.add_db(parser.add_subparsers(required=True))

    def call(*arguments):
        args = parser.parse_args(["db", *map(str, arguments)])
        return args.handler(args)

    return call


def test_there_and_back(run, tmp_path, new_crew, capsys):
    crew = new_crew()
    with Store.open(tmp_path / "default") as store:
        store.change_now(lambda: store.crews.insert(crew))

    assert run("export", tmp_path / "all.json") == 0
    assert run("import", tmp_path / "all.json", "--data-folder", tmp_path / "other") == 0
    assert capsys.readouterr().out == "exported: 1 crews\nimported: 1 crews\n"
    with Store.open(tmp_path / "other") as store:
        assert store.crews.find() == [crew]

    assert run("import", tmp_path / "all.json") == 1
    assert "not empty" in capsys.readouterr().err
    assert run("import", tmp_path / "all.json", "--replace") == 0


def test_all_that_is_wrong_is_told(run, tmp_path, capsys):
    (tmp_path / "bad.json").write_text(json.dumps({"crews": {"1": {"id": "crew_1"}}}))
    assert run("import", tmp_path / "bad.json") == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith("jupyter kasal db: The file can't be imported: crews.1.name")
    assert [line.split(":")[0].strip() for line in errors[1:]] == [
        "crews.1.owner",
        "crews.1.created_at",
        "crews.1.updated_at",
    ]


def test_without_a_command_the_usage_is_told(run, capsys):
    with pytest.raises(SystemExit):
        run()
    assert "COMMAND" in capsys.readouterr().err


def test_the_data_folder_is_jupyter_s_unless_it_is_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("KASAL_DATA_DIR", raising=False)
    assert default_data_folder() == tmp_path / "kasal"
    monkeypatch.setenv("KASAL_DATA_DIR", "~/elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert default_data_folder() == tmp_path / "elsewhere"
