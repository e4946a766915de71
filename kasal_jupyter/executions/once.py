"""Runs that need not be run: one that was asked for the same has been answered already.

The answer of a run hangs on its crew, its inputs, its models and the version of the product, and on nothing
else where the crew has no memory and no tool that looks at the world. Of such a run a digest is kept beside
its execution. What is in doubt is in the digest, or there is none: an earlier answer that is wrong is worth
less than one that is paid for twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import orjson

from kasal_jupyter.hiding import password_of
from kasal_jupyter.schemas.executions import ENDED, Budget, CrewRemark, Execution
from kasal_jupyter.schemas.spec import RunModel, RunSpec
from kasal_jupyter.store.store import Store
from kasal_jupyter.version import __version__

PURE_TOOLS = frozenset({"calculator"})
"""The built-in tools whose answers hang on their arguments alone."""

LATEST = 20
"""Equal runs that are looked at: of those before them, one may have completed all the same."""

_CHANGING = frozenset({"created_at", "updated_at", "version", "status", "agents_count", "webhook"})
"""Fields of crews, agents and tasks that no answer hangs on."""


def why_not(spec: RunSpec) -> str | None:
    """Say why no earlier run can answer for this one; None where one can."""
    if spec.memory is not None:
        return "the crew recalls what it remembers and knows, which may be something else each time"
    if spec.client_tools:
        names = ", ".join(tool.name for tool in spec.client_tools[:3])
        return f"it calls tools of the notebook ({names}), which may answer something else each time"
    given = {tool.name for tool in spec.tools} | {
        tool.name for server in spec.mcp_servers for tool in server.tools
    }
    for tool in _tools(spec):
        if tool not in PURE_TOOLS or tool in given:
            return f"its tool {tool} looks at the world, which may be another one each time"
    return None


def told_why(spec: RunSpec) -> list[CrewRemark]:
    """Give the remark on a run that was asked for with ``once``, and that no earlier run can answer for."""
    reason = why_not(spec)
    return [CrewRemark(field="once", remark=f"It is run anew: {reason}")] if reason is not None else []


def digest_of(spec: RunSpec, owner: str, nth: int = 0) -> str | None:
    """Give a digest of all that the answer of a run hangs on; None where it hangs on more.

    Parameters
    ----------
    spec
        The run.
    owner
        Whose it is: an answer is nobody else's.
    nth
        Which of several equal ones that are asked for together: none of them answers for another.
    """
    if why_not(spec) is not None:
        return None
    written = orjson.dumps(
        {
            "product": __version__,
            "owner": owner,
            "crew": spec.crew.model_dump(mode="json", exclude=set(_CHANGING)),
            "agents": [agent.model_dump(mode="json", exclude=set(_CHANGING)) for agent in spec.agents],
            "tasks": [task.model_dump(mode="json", exclude=set(_CHANGING)) for task in spec.tasks],
            "inputs": spec.inputs,
            "models": {name: _settled(model) for name, model in spec.models.items()},
            "manager_model": spec.manager_model,
            "planning_model": spec.planning_model,
            **({"nth": nth} if nth else {}),
        },
        option=orjson.OPT_SORT_KEYS,
    )
    return hashlib.sha256(written).hexdigest()


def answering(store: Store, digest: str | None, budget: Budget | None) -> Execution | None:
    """Find the run that answers for one of this digest, as it is stored.

    It is the newest that has completed; else one that was asked for with ``once`` as well, within the same
    budget, and goes on.

    Parameters
    ----------
    store
        Where executions are.
    digest
        As :func:`digest_of` gives it.
    budget
        What the run may use up: one that goes on may end for its own.
    """
    going_on = None
    for execution, shared in _equal(store, digest):
        if execution.status == "completed":
            return execution
        if shared and execution.status not in ENDED and execution.budget == budget:
            going_on = going_on or execution
    return going_on


def _equal(store: Store, digest: str | None) -> Iterator[tuple[Execution, bool]]:
    if digest is None:
        return
    for request in store.run_requests.page(order="newest", limit=LATEST, digest=digest).documents:
        if (execution := store.executions.readable(request.id)) is not None:
            yield execution, request.once


def _tools(spec: RunSpec) -> Iterator[str]:
    for agent in spec.agents:
        yield from agent.tools
    for task in spec.tasks:
        yield from task.tools


def _settled(model: RunModel) -> dict[str, Any]:
    """Give what an answer hangs on of a model: not its key."""
    password = password_of(model.base_url)
    return {
        "provider": model.provider,
        "model": model.model,
        "address": (model.base_url or "").replace(password, "") if password else model.base_url,
        "options": model.open_options,
    }
