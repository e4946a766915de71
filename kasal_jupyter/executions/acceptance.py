"""What is kept of a run as it is accepted, before anything of it is done."""

from __future__ import annotations

from dataclasses import dataclass

from kasal_jupyter.errors import Conflict
from kasal_jupyter.executions.feed import event_of
from kasal_jupyter.schemas.base import utc_now, utc_now_precise
from kasal_jupyter.schemas.executions import CrewRemark, Execution
from kasal_jupyter.schemas.spec import RunSpec
from kasal_jupyter.store.store import Store


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request that carries a key (``Idempotency-Key``): sent again, it starts nothing again.

    Attributes
    ----------
    key
        The client's key, with its owner before it: two users may choose the same.
    digest
        Of what is asked for.
    """

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that was checked, and may be accepted.

    Attributes
    ----------
    spec
        The message that starts it.
    execution
        What the store first knows of it.
    event
        Its first event.
    """

    spec: RunSpec
    execution: Execution
    event: bytes


def started_with(store: Store, request: KeyedRequest) -> Execution | None:
    """Give the execution that a request with the same key has started.

    Raises
    ------
    Conflict
        That request asked for something else.
    """
    found = store.executions.find(idempotency_key=request.key)
    if not found:
        return None
    first = found[0]
    if first.request_digest != request.digest:
        raise Conflict(
            f"The Idempotency-Key was used for another request, which started {first.id}; take a new one"
        )
    return first


def queued_event(spec: RunSpec, crew_version: int | None) -> bytes:
    """Give the first event of a run: what will be done, by which version of its crew."""
    names = {agent.id: agent.name for agent in spec.agents}
    return event_of(
        utc_now_precise(),
        "execution_status",
        status="queued",
        crew_id=spec.crew.id,
        crew_name=spec.crew.name,
        crew_version=crew_version,
        process=spec.crew.process,
        tasks=[
            {
                "id": task.id,
                "title": task.title(),
                "agent": names.get(task.agent_id) if task.agent_id else None,
                "context": task.context_tasks or [],
            }
            for task in spec.tasks
        ],
        inputs=spec.inputs,
    )


def queued_execution(
    spec: RunSpec,
    owner: str,
    server: str,
    *,
    crew_version: int | None,
    expected: int,
    models: list[str],
    remarks: list[CrewRemark],
    request: KeyedRequest | None,
) -> Execution:
    """Give what the store first knows of a run.

    Parameters
    ----------
    spec
        The run.
    owner
        Whose it is.
    server
        Which server runs it.
    crew_version
        The version of its crew; None where that is stored nowhere.
    expected
        How many seconds it may take.
    models
        Those that its crew names.
    remarks
        What the check has found that keeps nothing from running.
    request
        The key that the client sent along, if it sent one.
    """
    return Execution(
        id=spec.job_id,
        crew_id=spec.crew.id,
        crew_name=spec.crew.name,
        crew_version=crew_version,
        owner=owner,
        server=server,
        status="queued",
        progress=0,
        inputs=spec.inputs,
        created_at=utc_now(),
        estimated_duration=expected,
        budget=spec.budget,
        models=models,
        remarks=remarks,
        idempotency_key=request.key if request else None,
        request_digest=request.digest if request else None,
    )
