import asyncio
import io
import json

import pytest

from kasal_jupyter.auth.gate import Accounts
from kasal_jupyter.cli import data_folder as user
from kasal_jupyter.cli import main
from kasal_jupyter.errors import Unauthorized
from kasal_jupyter.store.store import Store

EMAIL = "ada@example.com"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def run(folder, monkeypatch):
    """Carry out the command, with what is on its standard input."""
    monkeypatch.setenv("KASAL_DATA_DIR", str(folder))

    def call(*words, typed=""):
        monkeypatch.setattr("sys.stdin", Terminal() if typed is None else io.StringIO(typed))
        return main(["user", *words])

    return call


@pytest.fixture
def server(folder):
    """What a server on the same folder has, meanwhile."""
    with Store.open(folder) as store:
        accounts = Accounts.open(store, folder)
        yield accounts
        accounts.close()


def login(server, password="secure_password"):
    return asyncio.run(server.sessions.login(EMAIL, password, "192.0.2.7")).access_token


def test_a_user_is_added_and_can_log_in_on_a_server_that_runs(run, server, capsys):
    assert run("add", "Ada@Example.com", typed="secure_password\n") == 0
    caller = server.gate.recognise(login(server))
    assert capsys.readouterr().out == f"added {EMAIL} ({caller.user_id}): tier free, role editor\n"
    assert (caller.tier, caller.role) == ("free", "editor")


def test_the_rights_are_given_at_once_or_later(run, server):
    assert run("add", EMAIL, "--tier", "pro", "--role", "admin", typed="secure_password") == 0
    token = login(server)
    assert server.gate.recognise(token).role == "admin"
    assert run("set", EMAIL, "--role", "viewer") == 0
    caller = server.gate.recognise(token)
    assert (caller.role, caller.tier) == ("viewer", "pro")


def test_blanks_belong_to_a_password_and_the_end_of_the_line_does_not(run, server):
    assert run("add", EMAIL, typed="  secure password \r\nnext line\n") == 0
    assert login(server, "  secure password ")


def test_another_password_ends_the_logins(run, server, capsys):
    run("add", EMAIL, typed="secure_password\n")
    token = login(server)
    assert run("passwd", EMAIL, typed="another one\n") == 0
    with pytest.raises(Unauthorized):
        server.gate.recognise(token)
    with pytest.raises(Unauthorized):
        login(server)
    assert login(server, "another one")
    assert "their logins have ended" in capsys.readouterr().out


def test_a_disabled_user_is_out_at_once_until_enabled(run, server):
    run("add", EMAIL, typed="secure_password\n")
    token = login(server)
    assert run("disable", EMAIL) == 0
    with pytest.raises(Unauthorized):
        server.gate.recognise(token)
    with pytest.raises(Unauthorized):
        login(server)
    assert run("enable", EMAIL) == 0
    assert login(server)


def test_users_are_listed_for_people_and_for_programs(run, capsys):
    run("add", EMAIL, typed="secure_password\n")
    run("add", "grace@lab", "--tier", "enterprise", typed="secure_password\n")
    run("disable", "grace@lab")
    capsys.readouterr()
    assert run("list") == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["EMAIL", "TIER", "ROLE", "STORED", "CREATED", "ID"]
    assert rows[0].split()[:5] == [EMAIL, "free", "editor", "0", "bytes"]
    assert rows[1].split()[:4] == ["grace@lab", "(disabled)", "enterprise", "editor"]

    assert run("list", "--json") == 0
    users = json.loads(capsys.readouterr().out)
    assert [(each["email"], each["disabled"]) for each in users] == [(EMAIL, False), ("grace@lab", True)]
    assert "password_hash" not in users[0]


def test_no_users_is_told(run, folder, capsys):
    with Store.open(folder):
        pass
    assert run("list") == 0
    assert "no users" in capsys.readouterr().out
    assert run("list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_on_a_terminal_the_password_is_asked_for_twice(run, server, monkeypatch, capsys):
    answers = ["secure_password", "secure_pasword", "secure_password", "secure_password"]
    monkeypatch.setattr(user, "getpass", lambda _: answers.pop(0))
    assert run("add", EMAIL, typed=None) == 1
    assert "The two passwords differ" in capsys.readouterr().err
    assert run("add", EMAIL, typed=None) == 0
    assert not answers
    assert login(server)


@pytest.mark.parametrize(
    ("words", "typed", "told"),
    [
        (("add", "ada"), "secure_password\n", ["Nothing was changed", "email: an e-mail address looks like"]),
        (("add", EMAIL), "short\n", ["Nothing was changed", "password: String should have at least 8"]),
        (("add", EMAIL), "", ["There is no password on the standard input"]),
        (("passwd", EMAIL), "secure_password\n", ["There is no user ada@example.com"]),
        (("disable", "nobody@lab"), "", ["There is no user nobody@lab"]),
        (("set", EMAIL), "", ["Say what is to change"]),
    ],
)
@pytest.mark.usefixtures("server")
def test_what_is_wrong_is_told_and_nothing_changes(run, capsys, words, typed, told):
    assert run(*words, typed=typed) == 1
    lines = capsys.readouterr().err.splitlines()
    assert run("list") == 0
    assert "There are no users" in capsys.readouterr().out
    assert len(lines) == len(told)
    for line, start in zip(lines, told, strict=True):
        assert line.removeprefix("jupyter kasal: ").strip().startswith(start)


def test_a_user_who_is_there_is_not_added_again(run, capsys):
    run("add", EMAIL, typed="secure_password\n")
    assert run("add", "ADA@example.com", typed="secure_password\n") == 1
    assert "There is already a user ada@example.com" in capsys.readouterr().err


def test_an_unknown_tier_and_no_command_are_refused_with_the_usage(run, capsys):
    for words in (("add", EMAIL, "--tier", "gold"), ()):
        with pytest.raises(SystemExit) as ended:
            run(*words)
        assert ended.value.code == 2
    assert "free" in capsys.readouterr().err


def test_only_add_makes_a_data_folder(run, tmp_path, capsys):
    assert run("list", "--data-folder", str(tmp_path / "slip")) == 1
    assert "There is no store in" in capsys.readouterr().err
    assert not (tmp_path / "slip").exists()
    assert run("add", EMAIL, "--data-folder", str(tmp_path / "made"), typed="secure_password\n") == 0
    assert (tmp_path / "made").exists()
