"""`jupyter kasal mcp`."""

import json

import pytest

from tests.servers.mcp_server import http_mcp_server, stdio


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    with http_mcp_server(tmp_path_factory.mktemp("web") / "notes") as running:
        yield running


def test_a_program_is_added_used_and_removed(terminal, tmp_path):
    status, out, _ = terminal.run("mcp")
    assert (status, out.startswith("There are no MCP servers yet")) == (0, True)
    program = stdio(tmp_path / "notes")
    words = (
        "--tool",
        "add",
        "--env",
        "MODE=fast",
        "--env",
        "HOME",
        "--",
        program["command"],
        *program["args"],
    )
    status, out, err = terminal.run("mcp", "add", "calc", *words)
    assert status == 0, err
    assert out.splitlines() == ["calc is registered: 1 tool", "  calc_add"]
    (server,) = json.loads(terminal.run("mcp", "--json")[1])
    assert (server["args"], server["env"]) == (program["args"], ["HOME", "MODE"])
    status, out, _ = terminal.run("mcp", "list", "calc")
    assert out.splitlines()[1].split()[:2] == ["calc_add", "add"]
    terminal.write(
        "adding.yaml",
        "agents:\n  clerk: {role: Clerk, goal: Add, llm: sandbox, tools: [calc_add]}\n"
        "tasks:\n  sum: {description: Add, expected_output: A sum, agent: clerk}\n",
    )
    status, out, err = terminal.run("run", "adding.yaml")
    assert status == 0, err
    assert "calc_add says: 5" in out
    status, out, _ = terminal.run("mcp", "refresh", "calc")
    assert out == "calc has 1 tool\n"
    status, _, err = terminal.run("mcp", "remove", "calc")
    assert (status, "agent 'clerk'" in err) == (1, True)
    assert terminal.run("mcp", "remove", "calc", "--force")[:2] == (0, "calc is removed\n")


def test_an_address_is_added_with_its_headers(terminal, web):
    status, out, err = terminal.run(
        "mcp", "add", "web", web.url, "--header", "X-Key: quite-secret", "--tool=add"
    )
    assert status == 0, err
    assert "web_add" in out
    assert "quite-secret" not in terminal.run("mcp", "--json")[1]
    assert web.url in terminal.run("mcp")[1]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("add", "web", "http://127.0.0.1:9/mcp", "more"), 2, "an address has no arguments"),
        (("add", "UPPER", "--", "true"), 2, "name"),
        (("add", "other", "--env", "NO_SUCH_VARIABLE", "--", "true"), 2, "no such variable"),
        (
            ("add", "other", "http://a.example/", "--header", "a-key-without-colon"),
            2,
            "takes a name and a value",
        ),
        (("add", "other", "--", "no-such-program"), 1, "There is no program"),
        (("remove", "wbe"), 1, "There is no MCP server 'wbe'"),
    ],
)
def test_what_is_wrong_is_said(terminal, words, status, said):
    ended, _, err = terminal.run("mcp", *words)
    assert ended == status
    assert said in err
    assert "a-key-without-colon" not in err
