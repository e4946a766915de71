"""What the answer of a run hangs on, as its digest has it."""

from __future__ import annotations

import pytest

from kasal_jupyter.executions.once import PURE_TOOLS, digest_of, why_not
from kasal_jupyter.schemas.executions import Budget
from kasal_jupyter.schemas.mcp import McpTool, RunMcpServer
from kasal_jupyter.schemas.spec import RunMemory, RunModel, RunSpec
from kasal_jupyter.schemas.tools import ClientTool, RunTool
from kasal_jupyter.tools.tool import builtin_names

NOW = {"owner": "ada", "created_at": "2026-11-30T10:00:00Z", "updated_at": "2026-11-30T10:00:00Z"}

SECRET = "sk-very-secret-0123456789"


def model(**fields):
    return RunModel(**{"name": "gpt", "provider": "openai", "model": "gpt-4.1", "api_key": SECRET} | fields)


def spec(**fields):
    agent = {
        "id": "agent_1",
        "crew_id": "crew_1",
        "position": 0,
        "name": "R",
        "role": "R",
        "goal": "G",
        **NOW,
    }
    task = {"id": "task_1", "crew_id": "crew_1", "position": 0, "description": "D", "expected_output": "E"}
    described = {
        "job_id": "job_1",
        "crew": {"id": "crew_1", "name": "Crew", **NOW},
        "agents": [{**agent, "model": "gpt", "tools": ["calculator"]}],
        "tasks": [{**task, "agent_id": "agent_1", "context_tasks": None, "context_texts": [], **NOW}],
        "inputs": {"topic": "tea"},
        "models": {},
        "manager_model": None,
        "folder": "/runs/job_1",
    }
    made = RunSpec.model_validate(described)
    return made.model_copy(update={"models": {"gpt": model()}} | fields)


def with_tools(*names):
    (agent,) = spec().agents
    return {"agents": [agent.model_copy(update={"tools": list(names)})]}


@pytest.mark.parametrize(
    "fields",
    [
        {"job_id": "job_2", "folder": "/runs/job_2"},
        {"budget": Budget(max_cost=1)},
        {"unrepeated": True, "journal_bytes": 5},
        {"crew": spec().crew.model_copy(update={"version": 7, "updated_at": "2026-12-01T10:00:00Z"})},
        {"models": {"gpt": model(api_key="sk-another-key-0123456789")}},
        {"models": {"gpt": model(options={"aws_secret_access_key": SECRET})}},
        {"models": {"gpt": model(remark="Said of it", guarded=True)}},
    ],
)
def test_no_answer_hangs_on_these(fields):
    before = {"models": {"gpt": model(options=fields["models"]["gpt"].options)}} if "models" in fields else {}
    if before and before["models"]["gpt"].options:
        before = {"models": {"gpt": model(options={"aws_secret_access_key": "another-of-its-secrets"})}}
    assert digest_of(spec(**fields), "ada") == digest_of(spec(**before), "ada") is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": {"topic": "coffee"}},
        {"inputs": {"topic": "tea", "more": None}},
        {"inputs": {}},
        {"crew": spec().crew.model_copy(update={"planning": True})},
        {"planning_model": "gpt"},
        {"manager_model": "gpt"},
        {"models": {"gpt": model(model="gpt-4.1-mini")}},
        {"models": {"gpt": model(provider="azure")}},
        {"models": {"gpt": model(base_url="https://models.test/v1")}},
        {"models": {"gpt": model(options={"api_version": "2"})}},
        {"models": {"gpt": model(), "other": model(name="other")}},
        with_tools(),
        {"tasks": [spec().tasks[0].model_copy(update={"context_texts": ["More"]})]},
    ],
)
def test_an_answer_hangs_on_these(fields):
    assert digest_of(spec(**fields), "ada") not in {digest_of(spec(), "ada"), None}


def test_an_answer_is_its_owners():
    assert digest_of(spec(), "ada") != digest_of(spec(), "bob")


def test_the_password_of_an_address_is_a_key():
    one, other = (
        spec(models={"gpt": model(base_url=f"https://ada:{key}@models.test")})
        for key in ("one-of-them", "another")
    )
    assert digest_of(one, "ada") == digest_of(other, "ada")


CUSTOM = RunTool(name="calculator", description="Ask", endpoint="https://crm.test/ask")
SERVED = McpTool(name="calculator", remote_name="add", description="Add", parameters={})


@pytest.mark.parametrize(
    "fields",
    [
        {"memory": RunMemory(file="kasal.db", remember=False)},
        {"client_tools": [ClientTool(name="look", for_all=True)]},
        # What is called like a tool that hangs on nothing may be another.
        {"tools": [CUSTOM]},
        {"mcp_servers": [RunMcpServer(name="files", transport="stdio", tools=[SERVED])]},
        {"tasks": [spec().tasks[0].model_copy(update={"tools": ["web_page"]})]},
    ],
)
def test_of_these_no_answer_stands_for_another(fields):
    assert why_not(spec(**fields)) is not None
    assert digest_of(spec(**fields), "ada") is None


@pytest.mark.parametrize("tool", sorted(builtin_names()))
def test_only_what_hangs_on_its_arguments_alone_is_pure(tool):
    found = why_not(spec(**with_tools("calculator", tool)))
    assert (found is None) is (tool in PURE_TOOLS)
    assert found is None or tool in found
