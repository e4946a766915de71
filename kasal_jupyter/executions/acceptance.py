"""What is kept of a run as it is accepted, before anything of it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kasal_jupyter.errors import Conflict
from kasal_jupyter.executions.feed import event_of
from kasal_jupyter.schemas.base import utc_now, utc_now_precise
from kasal_jupyter.schemas.cassettes import Cassette
from kasal_jupyter.schemas.crews import Crew, WholeCrew
from kasal_jupyter.schemas.executions import Budget, CrewRemark, Execution, Verb
from kasal_jupyter.schemas.spec import RunRequest, RunSpec
from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.store.store import Store


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for, before it is checked.

    Attributes
    ----------
    whole
        The crew.
    inputs
        Values for its ``{placeholders}``.
    owner
        Whose execution it is.
    tools
        Those that the client brings along.
    budget
        What it may use up.
    model
        The model that is asked in the place of all that the crew names; None: of none.
    unrepeated
        Whether a model that fails is not asked again.
    once
        Whether a run that was asked for the same may answer.
    nth
        Which of several equal ones that are asked for together, where one may answer for another.
    cassette
        The cassette that it is recorded for, or takes its answers from.
    batch, schedule
        What has it run: the batch that it is a row of, or the schedule.
    allowances
        The budgets that it shares with others, by their ids.
    """

    whole: WholeCrew
    inputs: dict[str, Any]
    owner: str
    tools: Sequence[ClientTool] = ()
    budget: Budget | None = None
    model: str | None = None
    unrepeated: bool = False
    once: bool = False
    nth: int = 0
    cassette: Cassette | None = None
    batch: str | None = None
    schedule: str | None = None
    allowances: Sequence[str] = ()

    @property
    def part_of(self) -> dict[str, Any]:
        """What it is a part of, as fields of the message that starts it."""
        return {"batch": self.batch, "schedule": self.schedule, "allowances": list(self.allowances)}


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
    asked
        What it was asked, as it is kept.
    noted
        The crew whose version is noted as one that was run; None where that is no version of today.
    told
        The crew whose receiver is told of the run; None where nobody is.
    unasked
        Whether a server goes on with a run of itself: it does so once.
    """

    spec: RunSpec
    execution: Execution
    asked: RunRequest
    noted: WholeCrew | None = None
    told: Crew | None = None
    unasked: bool = False


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


def queued_event(spec: RunSpec, execution: Execution) -> bytes:
    """Give the first event of a run: what will be done, by which version of its crew."""
    names = {agent.id: agent.name for agent in spec.agents}
    lineage: dict[str, Any] = {}
    if spec.source is not None:
        lineage = {"verb": execution.verb, "parent": execution.parent}
    if execution.at is not None:
        lineage["at"] = execution.at
    if spec.edits:
        lineage["edits"] = [edit.model_dump(exclude={"text"}) for edit in spec.edits]
    return event_of(
        utc_now_precise(),
        "execution_status",
        status="queued",
        **lineage,
        crew_id=spec.crew.id,
        crew_name=spec.crew.name,
        crew_version=execution.crew_version,
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
    remarks: Sequence[CrewRemark] = (),
    request: KeyedRequest | None = None,
    verb: Verb = "run",
    attempt: int = 1,
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
    verb
        How it goes about: the record that it uses is the spec's.
    attempt
        Which attempt at the run it is.
    """
    now = utc_now()
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
        created_at=now,
        # A replay uses nothing, and its crew has nothing to remember of it: the books are done with it.
        booked=now[:10] if verb == "replay" else None,
        estimated_duration=expected,
        budget=spec.budget,
        models=models,
        remarks=list(remarks),
        verb=verb,
        parent=spec.source.job_id if spec.source is not None else None,
        at=spec.source.place.at if spec.source is not None and spec.source.place is not None else None,
        attempt=attempt,
        idempotency_key=request.key if request else None,
        request_digest=request.digest if request else None,
        may_answer=spec.crew.people.may_answer,
        batch=spec.batch,
        schedule=spec.schedule,
    )
