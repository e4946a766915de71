"""Runs that go on from others: what a run was asked, as it is stored, and what another takes over of it.

A replay is started with what the earlier run was started with, and nothing else: no key is looked up, and no
crew of today is read. A resumption is checked anew, with the keys and tools of today, for what is asked live.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic import ValidationError

from kasal_jupyter.auth.gate import SERVER_OWNER
from kasal_jupyter.errors import Conflict, NotFound
from kasal_jupyter.events.packed import has_journal
from kasal_jupyter.events.summary import RunSummary
from kasal_jupyter.executions.acceptance import Asked
from kasal_jupyter.executions.files import JOURNAL, RunFiles
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.executions import (
    ENDED,
    Budget,
    Execution,
    ExecutionChange,
    ExecutionResume,
    Status,
    Verb,
)
from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.schemas.spec import (
    ForkPlace,
    RecordVerb,
    RunEmbedder,
    RunRequest,
    RunSearch,
    RunSource,
    RunSpec,
)
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.schemas.usage import Usage
from kasal_jupyter.schemas.webhooks import Webhook
from kasal_jupyter.store.store import Store

MOST_ATTEMPTS = 3
"""Attempts at a run that may fail at one and the same call."""

_PART_OF = ("batch", "schedule", "allowances")
"""Fields of the message that say what the run is a part of: whoever goes on with it is so, too."""

_OF_ONE_RUN = frozenset(
    {"job_id", "inputs", "folder", "clock", "source", "own", "journal_bytes", "unrepeated", *_PART_OF}
)
"""Fields of the message that are not stored with it: another run's, or those that stand elsewhere."""


def request_of(
    spec: RunSpec,
    owner: str,
    *,
    webhook: Webhook | None,
    root: str | None = None,
    digest: str | None = None,
    once: bool = False,
) -> RunRequest:
    """Give what is stored of what a run is asked.

    Parameters
    ----------
    spec
        The message that starts it.
    owner
        Whose it is.
    webhook
        Who is told of its events.
    root
        The first attempt at the run; None: this is it.
    digest, once
        See :class:`RunRequest`.
    """
    return RunRequest(
        id=spec.job_id,
        owner=owner,
        spec=_entrusted_to_nobody(spec).model_dump(mode="json", exclude=set(_OF_ONE_RUN)),
        webhook=webhook,
        root=root or spec.job_id,
        parent=spec.source.job_id if spec.source is not None else None,
        place=spec.source.place if spec.source is not None else None,
        digest=digest,
        once=once,
        **part_of(spec),
    )


def part_of(spec: RunSpec) -> dict[str, Any]:
    """Give what a run is a part of: the fields of its message, and of what it was asked."""
    return {name: getattr(spec, name) for name in _PART_OF}


def _entrusted_to_nobody(spec: RunSpec) -> RunSpec:
    """Leave out what is for the run's process alone: keys, and what of addresses may be one."""
    models = {name: model.entrusted_to_nobody() for name, model in spec.models.items()}
    servers = [
        RunMcpServer(name=server.name, transport=server.transport, timeout=server.timeout, tools=server.tools)
        for server in spec.mcp_servers
    ]
    return spec.model_copy(
        update={
            "models": models,
            "tools": [tool.model_copy(update={"secret": None}) for tool in spec.tools],
            "mcp_servers": servers,
            "tool_settings": spec.tool_settings.model_copy(update={"search": RunSearch()}),
            "memory": spec.memory and spec.memory.model_copy(update={"embedder": RunEmbedder()}),
        }
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """What is looked at of a run to say whether it may take answers from others."""

    id: str
    status: Status
    verb: Verb
    parent: str | None
    resumed_by: str | None
    to_resume: bool
    booked: str | None

    @property
    def may_take(self) -> bool:
        """Whether it goes on, or would take answers of the run it is from, if somebody went on with it.

        One that has completed has all of them in its own record.
        """
        if self.status not in ENDED:
            return True
        unfinished = self.status != "completed" and self.resumed_by is None
        return unfinished and self.verb in {"resume", "fork"}


def readers_of(store: Store, job_id: str) -> Iterator[Execution]:
    """Give the executions that use a run's record, or that of one which does."""
    line, seen = [job_id], {job_id}
    while line:
        for reader_id in store.run_requests.ids(parent=line.pop()):
            if reader_id not in seen:
                seen.add(reader_id)
                line.append(reader_id)
                if (reader := store.executions.readable(reader_id)) is not None:
                    yield reader


def standing_of(execution: Execution) -> Standing:
    """Give how an execution stands."""
    return Standing(**{each.name: getattr(execution, each.name) for each in fields(Standing)})


def require_unused(store: Store, job_id: str, *, unasked: bool, ended: Collection[str] = ()) -> None:
    """See to it that a run may be deleted: nobody takes answers from it. Within the change that deletes it.

    Parameters
    ----------
    store
        Where they are.
    job_id
        The run.
    unasked
        Whether nobody has asked for it: then what could still be gone on with counts as well.
    ended
        Executions of which it is known that they have ended, whatever is stored.

    Raises
    ------
    Conflict
        Another does.
    """
    for reader in readers_of(store, job_id):
        going = reader.status not in ENDED and reader.id not in ended
        if going or (unasked and standing_of(reader).may_take):
            raise Conflict(f"{reader.id} takes its answers from {job_id}; stop that first")


def require_sources(store: Store, source: RunSource | None) -> None:
    """See to it that what a run takes its answers from is there. Within the change that stores it.

    Raises
    ------
    NotFound
        It was deleted meanwhile.
    """
    while source is not None:
        # A cassette lies beside the run itself.
        if source.journal.endswith(JOURNAL) and not store.executions.has(source.job_id):
            raise NotFound(f"There is no execution {source.job_id} any more")
        source = source.before


def asked_of(store: Store, execution: Execution) -> RunRequest:
    """Give what an earlier run was asked.

    Raises
    ------
    Conflict
        It is not known: an older version of the product has run it.
    """
    request = store.run_requests.readable(execution.id)
    if request is None:
        raise Conflict(
            f"{execution.id} was run by an older version, which has not kept what it was asked; "
            f"run its crew again: `%kasal run --again {execution.id}`"
        )
    return request


def replay_spec(request: RunRequest, earlier: Execution, **of_one_run: Any) -> RunSpec:
    """Give the message that starts a replay.

    Parameters
    ----------
    request, earlier
        What the earlier run was asked, and that run.
    of_one_run
        The new run's ``job_id``, ``folder`` and ``source``.

    Raises
    ------
    Conflict
        What was stored does not fit this version.
    """
    alone: dict[str, Any] = {"batch": None, "schedule": None, "allowances": []}
    return _spec_of(request, earlier, **alone, **of_one_run)


def whole_of(request: RunRequest, earlier: Execution) -> tuple[WholeCrew, RunSpec]:
    """Give a crew as it was when it ran, models and all, and the message that it was started with.

    Raises
    ------
    Conflict
        What was stored does not fit this version.
    """
    spec = _spec_of(request, earlier, job_id=request.id, folder="")
    models = {"manager_model": spec.manager_model or spec.crew.manager_model}
    models["planning_model"] = spec.planning_model or spec.crew.planning_model
    crew = spec.crew.model_copy(update={**models, "webhook": request.webhook})
    tasks = [Task.model_validate(task.model_dump()) for task in spec.tasks]
    return WholeCrew(crew=crew, agents=spec.agents, tasks=tasks), spec


def _spec_of(request: RunRequest, earlier: Execution, **of_one_run: Any) -> RunSpec:
    try:
        kept = {**request.spec, **request.model_dump(include=set(_PART_OF)), "inputs": earlier.inputs}
        return RunSpec.model_validate({**kept, **of_one_run})
    except ValidationError as error:
        raise Conflict(
            f"{earlier.id} was run by another version, and what it was asked does not fit this one; run its "
            f"crew again: `%kasal run --again {earlier.id}`"
        ) from error


def changed_inputs(source: Execution, change: ExecutionResume) -> dict[str, Any]:
    """Give the inputs of a resumption."""
    return {**source.inputs, **change.inputs}


def changed(
    whole: WholeCrew, before: RunSpec, inputs: dict[str, Any], owner: str, change: ExecutionChange
) -> Asked:
    """Give what is asked by who goes on with a run: all as it was, but for what is changed."""
    tools = changed_tools(before.client_tools, change.tools)
    budget = changed_budget(before.budget, change.budget)
    return Asked(whole, inputs, owner, tools, budget, model=change.model, **part_of(before))


def changed_budget(before: Budget | None, change: Budget | None) -> Budget | None:
    """Give the budget of a resumption: what is given changes, null takes a bound away."""
    if change is None:
        return before
    kept = before.model_dump() if before is not None else {}
    bounds = Budget.model_validate({**kept, **change.model_dump(exclude_unset=True)})
    return bounds if any(bound is not None for bound in bounds.model_dump().values()) else None


def changed_tools(before: Sequence[ClientTool], given: Sequence[ClientTool]) -> list[ClientTool]:
    """Give the client's tools of a resumption: by their names, those that are given go before the others."""
    return list({tool.name: tool for tool in (*before, *given)}.values())


def attempts_at(store: Store, request: RunRequest) -> list[Execution]:
    """Give all attempts at the run of a request, oldest first, as they are stored."""
    found = (store.executions.readable(each.id) for each in store.run_requests.find(root=request.root))
    return [each for each in found if each is not None and each.verb != "replay"]


def require_resumable(source: Execution, attempts: Sequence[Execution], change: ExecutionResume) -> None:
    """See to it that a run may be resumed.

    Raises
    ------
    Conflict
        It has completed or goes on, it is resumed already, or too many attempts have failed alike.
    """
    if source.status not in ENDED:
        raise Conflict(f"{source.id} is {source.status}; it can be resumed when it has ended before its time")
    if source.status == "completed":
        raise Conflict(f"{source.id} has completed: nothing is left of it to do; replay it, or run it again")
    if source.verb == "replay":
        raise Conflict(f"{source.id} is a replay of {source.parent}; resume that one")
    going = next((each for each in attempts if each.status not in ENDED), None)
    if going is not None:
        raise Conflict(f"{going.id} is {going.status}, which is an attempt at the same run")
    failed_at = source.failed_at
    # What was cut off has failed at nothing.
    if failed_at is None or source.status != "failed" or change.inputs or change.model or change.tools:
        return
    alike = [
        each
        for each in attempts
        if each.status == "failed" and each.failed_at is not None and each.failed_at.call == failed_at.call
    ]
    if len(alike) >= MOST_ATTEMPTS:
        raise Conflict(
            f"{len(alike)} attempts have failed at the same call, {failed_at.words}; one more would, too. "
            "Resume it with other inputs or another model, or mend what it calls and run it again"
        )


def why_left(store: Store, execution: Execution, summary: RunSummary) -> str | None:
    """Say why nobody goes on with a run that a crash has cut off; None where a server may, unasked.

    Parameters
    ----------
    store
        Where it is stored.
    execution, summary
        The run, which is not stored as ended yet, and what its journal tells.
    """
    request = store.run_requests.readable(execution.id)
    if request is None:
        return "an older version has run it"
    if (reason := why_not_unasked(store, execution, summary.usage())) is not None:
        return reason
    if summary.started_at is None or summary.questions:
        # It waited for its turn or for a person, however often a server ended meanwhile.
        return None
    call = summary.under_way
    cut = 1 + sum(
        each.started_at is not None
        and each.status in {"failed", "interrupted"}
        and (each.failed_at.call if each.failed_at else None) == (call.call if call else None)
        for each in attempts_at(store, request)
        if each.id != execution.id
    )
    if cut >= MOST_ATTEMPTS:
        return f"{cut} attempts have ended like this at the same {f'call, {call.words}' if call else 'point'}"
    return None


def why_not_unasked(store: Store, execution: Execution, used: Usage) -> str | None:
    """Say why no server may go on with a run of itself, whatever became of it; None where one may."""
    user = store.users.readable(execution.owner)
    if user is not None and user.disabled:
        return "its user was disabled"
    crew = store.crews.readable(execution.crew_id)
    all_crews = execution.owner == SERVER_OWNER if user is None else user.role == "admin"
    if crew is None or not (all_crews or crew.owner == execution.owner):
        return "its crew is gone"
    if left_of(execution.budget, used) is None:
        return "its budget is used up"
    return None


def left_of(budget: Budget | None, used: Usage) -> Budget | None:
    """Give what is left of a budget, whatever it bounds; None where it is used up."""
    if budget is None:
        return Budget()
    spent = used.cost if used.cost is not None else used.cost_at_least
    cost = budget.max_cost and budget.max_cost - spent
    tokens = budget.max_tokens and budget.max_tokens - used.total_tokens
    if any(left is not None and left <= 0 for left in (cost, tokens)):
        return None
    return Budget(max_cost=cost, max_tokens=tokens, max_seconds=budget.max_seconds)


def follow_up(store: Store, job_id: str, by: str, *, unasked: bool) -> None:
    """Note with a run which one goes on with it, within the change that stores that one.

    Parameters
    ----------
    store
        Where they are.
    job_id, by
        The run, and the one that goes on with it.
    unasked
        Whether a server does so of itself; of several servers, one does.

    Raises
    ------
    Conflict
        It has been done.
    """
    source = store.executions.readable(job_id)
    if source is None:
        return
    if unasked and not source.to_resume:
        raise Conflict(f"{job_id} is not to be resumed any more")
    store.executions.update(job_id, {"resumed_by": by, "to_resume": False})


def require_alone(store: Store, asked: RunRequest) -> None:
    """See to it that of two attempts at one run only one goes on; within the change that stores it.

    Raises
    ------
    Conflict
        Another goes on.
    """
    if asked.root == asked.id:
        return
    for each in attempts_at(store, asked):
        if each.status not in ENDED:
            raise Conflict(f"{each.id} is {each.status}, which is an attempt at the same run")


def source_of(
    store: Store, files: RunFiles, verb: RecordVerb, job_id: str, place: ForkPlace | None = None
) -> RunSource:
    """Give a run as what another takes its answers from; who resumes it, also what it took its own from."""
    source = RunSource(verb=verb, job_id=job_id, journal=str(files.journal(job_id).absolute()), place=place)
    execution = store.executions.readable(job_id) if verb == "resume" else None
    if execution is None or execution.parent is None:
        return source
    if execution.verb == "run":
        recorded = files.cassette(job_id)
        cassette = RunSource(verb="run", job_id=execution.parent, journal=str(recorded.absolute()))
        return source.model_copy(update={"before": cassette}) if recorded.exists() else source
    if not has_journal(files.journal(execution.parent)):
        return source
    asked = store.run_requests.readable(job_id)
    place = asked.place if asked is not None else None
    before = source_of(store, files, execution.verb, execution.parent, place)
    return source.model_copy(update={"before": before})
