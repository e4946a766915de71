"""Custom tools: what is registered, refused, sealed and handed to runs."""

import asyncio
import json

import pytest

from kasal_jupyter.errors import Conflict, InvalidRequest, NotFound
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.schemas.tools import CustomToolCreate, CustomToolUpdate
from kasal_jupyter.store.dump import export_json, import_json
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.custom_tools import CustomTools
from kasal_jupyter.toolbox.secrets import KEY_FILE, SecretBox
from kasal_jupyter.toolbox.toolbox import ToolUnavailable
from kasal_jupyter.tools.guard import HostGuard

SECRET = "s3cret-of-the-endpoint"

NAMES = {
    "api.example.com": ["93.184.216.34"],
    "other.example.com": ["93.184.216.35"],
    "inside.example.com": ["10.0.0.1"],
}


def resolve(host, _port):
    if host.endswith(".nowhere"):
        raise OSError("no such name")
    return NAMES.get(host, [host])


@pytest.fixture
def tools(store, tmp_path):
    return CustomTools(store, SecretBox(tmp_path / "data"), HostGuard([], resolve))


def body(**fields):
    known = {
        "name": "salesforce_api",
        "description": "Query Salesforce data",
        "endpoint": "https://api.example.com/salesforce",
    }
    return CustomToolCreate(**{**known, **fields})


def register(tools, owner="ada", **fields):
    return asyncio.run(tools.register(body(**fields), owner))


def update(tools, tool, **fields):
    return asyncio.run(tools.update(tool.id, CustomToolUpdate(**fields)))


def faults(change, *args, **fields):
    with pytest.raises(InvalidRequest) as caught:
        change(*args, **fields)
    return [fault.field for fault in caught.value.faults]


def schema(*names, required=None):
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": list(names if required is None else required),
    }


def test_a_tool_is_registered_with_its_secret_sealed(store, tools):
    tool = register(tools, auth_type="bearer", secret=SECRET)
    assert tool.id.startswith("tool_")
    assert tools.get(tool.id) == tool
    assert SECRET not in json.dumps(store.db.table("tools").all())
    assert SECRET not in repr(tool)
    shown = tool.details()
    assert shown.has_secret
    assert "secret" not in shown.model_dump().keys() - {"has_secret"}
    assert tool.sealed_secret not in shown.model_dump_json()


def test_a_run_gets_the_secret(tools):
    register(tools, auth_type="bearer", secret=SECRET)
    assert tools.toolbox("ada").resolve("salesforce_api").secret == SECRET


def test_only_the_owner_s_crews_can_use_a_tool(tools):
    register(tools)
    assert "salesforce_api" in tools.toolbox("ada").names()
    assert "salesforce_api" not in tools.toolbox("bob").names()
    with pytest.raises(ToolUnavailable, match="There is no tool 'salesforce_api'"):
        tools.toolbox("bob").resolve("salesforce_api")


def test_a_built_in_tool_needs_nothing_for_a_run(tools):
    assert tools.toolbox("ada").resolve("calculator") is None


def test_a_mistyped_tool_gets_a_hint(tools):
    register(tools)
    with pytest.raises(ToolUnavailable, match="did you mean 'salesforce_api'"):
        tools.toolbox("ada").resolve("salesforce_apis")
    with pytest.raises(ToolUnavailable, match="there are ask_human, calculator, "):
        tools.toolbox("ada").resolve("zzz")


def test_a_tool_that_lacks_its_secret_is_registered_but_cannot_run(tools):
    tool = register(tools, auth_type="bearer")
    assert not tool.details().has_secret
    with pytest.raises(ToolUnavailable, match=f"has no secret.*PUT /tools/custom/{tool.id}"):
        tools.toolbox("ada").resolve(tool.name)
    update(tools, tool, secret=SECRET)
    assert tools.toolbox("ada").resolve(tool.name).secret == SECRET


def test_a_name_is_an_owner_s_once(tools):
    first = register(tools)
    with pytest.raises(Conflict, match="already") as caught:
        register(tools)
    assert caught.value.faults[0].field == "name"
    assert register(tools, owner="bob").id != first.id
    other = register(tools, name="other")
    with pytest.raises(Conflict, match="already"):
        update(tools, other, name="salesforce_api")


@pytest.mark.parametrize("name", ["calculator", "delegate_work_to_coworker", "custom"])
def test_the_product_s_own_names_are_taken(tools, name):
    assert faults(register, tools, name=name) == ["name"]


@pytest.mark.parametrize("name", ["", "Has Blanks", "ümlaut", "1st", "_x", "x" * 65, "a-b", "ok\n"])
def test_a_name_is_one_that_every_provider_takes(name):
    with pytest.raises(ValueError, match="name"):
        body(name=name)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:8888/api",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "https://localhost/",
    ],
)
def test_an_endpoint_on_no_public_host_is_refused(tools, store, endpoint):
    assert faults(register, tools, endpoint=endpoint) == ["endpoint"]
    assert store.tools.count() == 0
    tool = register(tools)
    assert faults(update, tools, tool, endpoint=endpoint) == ["endpoint"]
    assert tools.get(tool.id) == tool


@pytest.mark.parametrize("host", ["new.nowhere", "inside.example.com"])
def test_what_a_name_leads_to_is_not_told(tools, host):
    """A host that is unknown today may be known tomorrow; one that is inside is refused when it is called."""
    assert register(tools, endpoint=f"https://{host}/x")


def test_a_secret_that_could_not_be_hidden_is_refused(tools):
    with pytest.raises(ValueError, match="8 characters at the least"):
        register(tools, auth_type="bearer", secret="abc1234")
    assert register(tools, auth_type="bearer", secret="none")


def test_the_administrator_allows_hosts(store, tools):
    allowing = CustomTools(store, tools.secrets, HostGuard(["127.0.0.1"], resolve))
    assert register(allowing, endpoint="http://127.0.0.1:9/x")
    assert allowing.toolbox("ada").allowed_hosts == ["127.0.0.1"]


@pytest.mark.parametrize(
    "endpoint",
    [
        "ftp://api.example.com/",
        "api.example.com/x",
        "https://",
        "https:///x",
        "https://ada:pw@api.example.com/",
        "https://ada@api.example.com/",
        "https://api.example.com:99999/",
        "https://api.example.com/a b",
        "https://api.example.com/a\nb",
        "https://api.example.com\\@127.0.0.1/",
        "https://api.example.com/#part",
        "https://{host}/x",
        "https://api.example.com/x?q={q}",
        "https://api.example.com/{not closed",
        "https://[::1",
        "x" * 2_001,
    ],
)
def test_an_endpoint_is_a_web_address(endpoint):
    with pytest.raises(ValueError, match="endpoint"):
        body(endpoint=endpoint)


def test_what_does_not_fit_together_is_told_at_once(tools):
    assert faults(register, tools, auth_type="basic", secret=SECRET) == ["username"]
    assert faults(register, tools, username="ada", header="X-K", secret=SECRET) == [
        "username",
        "header",
        "secret",
    ]
    assert faults(register, tools, auth_type="bearer", secret="Bearer abc") == ["secret"]
    assert faults(register, tools, auth_type="api_key", secret="größe-99") == ["secret"]
    assert register(tools, auth_type="basic", username="ada", secret="größe-99")


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"header": "Host"}, "header"),
        ({"header": "X Y"}, "header"),
        ({"secret": "a\r\nX-Evil: 1"}, "secret"),
        ({"secret": ""}, "secret"),
        ({"username": "ada:x"}, "username"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 601}, "timeout"),
        ({"method": "TRACE"}, "method"),
        ({"auth_type": "oauth"}, "auth_type"),
        ({"parameters": {"type": "string"}}, "parameters"),
        ({"parameters": {"type": "object", "properties": 1}}, "parameters"),
        ({"parameters": schema("self")}, "parameters"),
        ({"parameters": schema("_id")}, "parameters"),
        ({"parameters": schema("model_dump")}, "parameters"),
        ({"parameters": schema("a b")}, "parameters"),
        (
            {"parameters": {"type": "object", "properties": {"a": {"$ref": "http://169.254.169.254/"}}}},
            "parameters",
        ),
        (
            {"parameters": {"type": "object", "examples": [{"$ref": "file:///etc/passwd"}]}},
            "parameters",
        ),
    ],
)
def test_a_field_that_is_wrong_is_refused(fields, where):
    with pytest.raises(ValueError, match=where) as caught:
        body(**fields)
    assert {error["loc"][0] for error in caught.value.errors()} == {where}


def test_what_stands_in_the_path_must_be_a_required_parameter(tools):
    endpoint = "https://api.example.com/{id}/{part}"
    assert faults(register, tools, endpoint=endpoint) == ["endpoint", "endpoint"]
    some = schema("id", "part", required=["id"])
    assert faults(register, tools, endpoint=endpoint, parameters=some) == ["endpoint"]
    assert register(tools, endpoint=endpoint, parameters=schema("id", "part"))


def test_a_change_keeps_what_it_does_not_name(tools):
    tool = register(tools, auth_type="api_key", header="X-Token", secret=SECRET, parameters=schema("a"))
    changed = update(tools, tool, description="Other", timeout=5)
    kept = changed.model_dump(exclude={"description", "timeout", "updated_at"})
    assert kept == tool.model_dump(exclude={"description", "timeout", "updated_at"})
    assert (changed.description, changed.timeout) == ("Other", 5)
    assert tools.toolbox("ada").resolve(tool.name).secret == SECRET
    assert update(tools, tool, header=None, parameters=None).parameters is None


def test_a_secret_is_changed_and_taken_away(tools):
    tool = register(tools, auth_type="bearer", secret=SECRET)
    update(tools, tool, secret="another-s3cret")
    assert tools.toolbox("ada").resolve(tool.name).secret == "another-s3cret"
    assert not update(tools, tool, secret=None).details().has_secret


@pytest.mark.parametrize(
    "endpoint",
    ["https://other.example.com/", "http://api.example.com/salesforce", "https://api.example.com:8443/"],
)
def test_a_secret_is_not_sent_to_another_host_than_it_was_given_for(tools, endpoint):
    tool = register(tools, auth_type="bearer", secret=SECRET)
    assert faults(update, tools, tool, endpoint=endpoint) == ["endpoint"]
    assert tools.get(tool.id) == tool
    update(tools, tool, endpoint="https://api.example.com/elsewhere")
    assert tools.toolbox("ada").resolve(tool.name).secret == SECRET
    update(tools, tool, endpoint=endpoint, secret="of-the-other")
    assert tools.toolbox("ada").resolve(tool.name).secret == "of-the-other"


def test_another_auth_type_needs_its_own_secret(tools):
    tool = register(tools, auth_type="basic", username="ada", secret=SECRET)
    assert faults(update, tools, tool, auth_type="bearer") == ["auth_type"]
    changed = update(tools, tool, auth_type="bearer", secret="of-bearer")
    assert changed.username is None
    bare = update(tools, tool, auth_type="none")
    assert not bare.details().has_secret


def test_a_tool_in_use_is_kept_with_its_name(store, tools, new_crew, new_agent):
    tool = register(tools)
    bystander = register(tools, owner="bob")
    times = {"created_at": "2024-01-15T10:30:00Z", "updated_at": "2024-01-15T10:30:00Z"}
    task = Task(
        id="task_1",
        crew_id="crew_1",
        agent_id=None,
        position=0,
        owner="ada",
        name="report",
        description="Do",
        expected_output="It",
        tools=[tool.name],
        **times,
    )
    store.change_now(
        lambda: [
            store.agents.insert(new_agent("crew_1", id="agent_1", tools=[tool.name])),
            store.agents.insert(new_agent("crew_1", id="agent_2")),
            store.tasks.insert(task),
        ]
    )
    for refused in (lambda: asyncio.run(tools.delete(tool.id)), lambda: update(tools, tool, name="other")):
        with pytest.raises(Conflict, match=r"agent 'Editor' \(agent_1\), task 'report' \(task_1\);"):
            refused()
    assert tools.get(tool.id) == tool
    asyncio.run(tools.delete(bystander.id))
    asyncio.run(tools.delete(tool.id, force=True))
    with pytest.raises(NotFound):
        tools.get(tool.id)
    with pytest.raises(NotFound):
        asyncio.run(tools.delete(tool.id, force=True))


def test_an_export_holds_no_secret_in_clear_and_an_import_asks_for_it_again(tools, tmp_path):
    tool = register(tools, auth_type="bearer", secret=SECRET)
    file = tmp_path / "export.json"
    export_json(tmp_path / "data", file)
    text = file.read_text(encoding="utf-8")
    assert tool.id in text
    assert SECRET not in text
    assert (tmp_path / "data" / KEY_FILE).read_text() not in text

    import_json(tmp_path / "new", file)
    with Store.open(tmp_path / "new") as store:
        imported = CustomTools(store, SecretBox(tmp_path / "new"), HostGuard([], resolve))
        with pytest.raises(ToolUnavailable, match="give it again"):
            imported.toolbox("ada").resolve(tool.name)


def test_two_servers_on_one_folder_share_tools_and_key(tools, other, tmp_path):
    tool = register(tools, auth_type="bearer", secret=SECRET)
    theirs = CustomTools(other, SecretBox(tmp_path / "data"), HostGuard([], resolve))
    assert theirs.toolbox("ada").resolve(tool.name).secret == SECRET
    update(theirs, tool, secret="of-the-other-server")
    assert tools.toolbox("ada").resolve(tool.name).secret == "of-the-other-server"
