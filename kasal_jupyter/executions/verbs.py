"""What can be asked for of an execution: a run, an equal one's answer, a replay, a resumption, a fork.

Each is checked whole, made ready, and given to :meth:`Runs.begin`, which accepts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kasal_jupyter.errors import Conflict, NotFound
from kasal_jupyter.executions.acceptance import (
    Asked,
    KeyedRequest,
    Prepared,
    queued_execution,
    started_with,
)
from kasal_jupyter.executions.cassettes import Played
from kasal_jupyter.executions.check import Checked
from kasal_jupyter.executions.forks import Fork, plan_fork
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.executions.ledger import estimate_duration, models_of
from kasal_jupyter.executions.lineage import (
    asked_of,
    attempts_at,
    changed,
    changed_inputs,
    replay_spec,
    request_of,
    require_resumable,
    source_of,
    whole_of,
)
from kasal_jupyter.executions.once import answering, digest_of, told_why
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.places import LISTS, beside_loop
from kasal_jupyter.schemas.base import new_id
from kasal_jupyter.schemas.cassettes import Cassette
from kasal_jupyter.schemas.crews import Crew, WholeCrew
from kasal_jupyter.schemas.executions import (
    ENDED,
    Budget,
    Execution,
    ExecutionFork,
    ExecutionResume,
    ForkEstimate,
    ForkPreview,
    Verb,
)
from kasal_jupyter.schemas.spec import ForkPlace, RecordVerb, RunRequest, RunSpec
from kasal_jupyter.schemas.tools import ClientTool

Within = Callable[[str], None]
"""What is done in the change that stores an execution, told its id."""


async def start(
    runs: Runs,
    whole: WholeCrew,
    inputs: dict[str, Any],
    owner: str,
    *,
    request: KeyedRequest | None = None,
    tools: Sequence[ClientTool] = (),
    budget: Budget | None = None,
    model: str | None = None,
    unrepeated: bool = False,
    cassette: Cassette | None = None,
    batch: str | None = None,
    schedule: str | None = None,
    allowances: Sequence[str] = (),
    within: Within | None = None,
) -> Execution:
    """Accept an execution: checked whole, on disk, and queued.

    Parameters
    ----------
    runs
        Where it runs.
    whole
        The crew.
    inputs
        Values for its ``{placeholders}``.
    owner
        Whose execution it is.
    request
        The key that the client sent along: a request that comes again with it gives the execution
        that the first has started.
    tools
        Those that the client brings along and answers for.
    budget
        What it may use up.
    model
        The model that is asked in the place of all that the crew names; None: of none.
    unrepeated
        Whether a model that fails is not asked again.
    cassette
        The cassette that it is recorded for, or takes its answers from.
    batch, schedule, allowances
        What it is a part of, see :class:`Asked`.
    within
        Told its id in the change that stores it; what this raises keeps it from being accepted.

    Raises
    ------
    InvalidRequest
        The cassette is none.
    NotRunnable
        The crew cannot run like this; every fault is named, and nothing was stored.
    Conflict
        The key was used for something else.
    TooManyRequests
        The owner has as many executions waiting as one may have.
    Unavailable
        The queue is full, or the server is shutting down.
    StoreError
        It cannot be written; nothing was stored.
    """
    if request is not None and (first := started_with(runs.store, request)):
        return first
    part_of: Any = {"batch": batch, "schedule": schedule, "allowances": allowances}
    how: Any = {"unrepeated": unrepeated, "cassette": cassette, **part_of}
    asked = Asked(whole, inputs, owner, tools, budget, model, **how)
    job_id = new_id("job")

    def prepare() -> Prepared:
        if cassette is not None:
            return _taped(runs, asked, Played.read(cassette), job_id, request)
        return _prepared(runs, asked, runs.checked(job_id, asked), request)

    size = _size(asked)
    begun = runs.begin(job_id, prepare, owner, whole.crew.id, size=size, keyed=request, within=within)
    return (await begun)[0]


async def once(
    runs: Runs,
    whole: WholeCrew,
    inputs: dict[str, Any],
    owner: str,
    *,
    request: KeyedRequest | None = None,
    tools: Sequence[ClientTool] = (),
    budget: Budget | None = None,
    model: str | None = None,
    nth: int = 0,
    batch: str | None = None,
    schedule: str | None = None,
    allowances: Sequence[str] = (),
    within: Within | None = None,
) -> tuple[Execution, bool]:
    """Give a run that was asked for the same; where there is none, :func:`start` one.

    Parameters
    ----------
    runs, whole, inputs, owner, request, tools, budget, model, batch, schedule, allowances, within
        As of :func:`start`.
    nth
        Which of several equal ones that are asked for together: none of them answers for another.

    Returns
    -------
    tuple
        The execution, and whether it is such an earlier one. That has completed, or was asked for by
        this function as well, and goes on.

    Raises
    ------
    KasalError
        As :func:`start` does.
    """
    if request is not None and (first := started_with(runs.store, request)):
        return first, False
    part_of: Any = {"batch": batch, "schedule": schedule, "allowances": allowances}
    asked = Asked(whole, inputs, owner, tools, budget, model, once=True, nth=nth, **part_of)
    job_id = new_id("job")
    await runs.put_away(whole.crew.id)

    def check() -> tuple[Checked, str | None]:
        checked = runs.checked(job_id, asked)
        # Whoever is answered by an earlier run needs no key.
        known = runs.checked(job_id, asked, keyless=True) if checked.faults else checked
        return checked, digest_of(known.required(), owner, nth) if not known.faults else None

    checked, digest = await beside_loop(check, size=_size(asked), owner=owner)
    found = answering(runs.store, digest, budget)
    earlier = (await runs.current([found]))[0] if found is not None else None
    if earlier is not None and (earlier.status == "completed" or earlier.status not in ENDED):
        return earlier, True

    def prepare() -> Prepared:
        return _prepared(runs, asked, checked, request)

    size = _size(asked)
    begun = runs.begin(job_id, prepare, owner, whole.crew.id, size=size, keyed=request, within=within)
    execution, new = await begun
    return execution, not new


async def replay(runs: Runs, job_id: str, owner: str) -> Execution:
    """Have an earlier run's record run through again: nothing is asked, called, booked or remembered.

    Parameters
    ----------
    runs
        Where it runs.
    job_id
        The earlier run.
    owner
        Whose execution it is.

    Raises
    ------
    NotFound
        There is none with this id.
    Conflict
        It goes on, or was run by an older version.
    KasalError
        As :func:`start` does.
    """
    source = await runs.execution(job_id)
    if source.status not in ENDED:
        raise Conflict(f"{job_id} is {source.status}; it can be replayed when it has ended")
    asked, made = asked_of(runs.store, source), new_id("job")

    def prepare() -> Prepared:
        spec = replay_spec(asked, source, **_of_one_run(runs, made, "replay", job_id))
        if spec.memory is not None:
            # The folder may have moved.
            file = str(runs.store.path.absolute())
            spec = spec.model_copy(update={"memory": spec.memory.model_copy(update={"file": file})})
        execution = queued_execution(
            spec,
            owner,
            runs.presence.server_id,
            crew_version=source.crew_version,
            expected=1,
            models=source.models,
            verb="replay",
            attempt=source.attempt,
        )
        return Prepared(spec, execution, request_of(spec, owner, webhook=None))

    return (await runs.begin(made, prepare, owner, source.crew_id, size=_weight(asked, source)))[0]


async def resume(
    runs: Runs,
    job_id: str,
    owner: str,
    change: ExecutionResume,
    *,
    sees: Callable[[Crew], bool] = lambda _crew: True,
    unasked: bool = False,
    within: Within | None = None,
) -> Execution:
    """Go on with a run that has ended before its time: what is recorded of it is not asked again.

    Parameters
    ----------
    runs
        Where it runs.
    job_id
        That run.
    owner
        Whose execution it is.
    change
        What is other than it was.
    sees
        Says whether the crew may be run still, as it was: with its owner's keys and tools.
    unasked
        Whether a server does so of itself, since a crash has cut the run off.
    within
        As of :func:`start`.

    Raises
    ------
    NotFound
        There is none with this id, or its crew is nobody's business any more.
    Conflict
        It has completed, goes on, was run by an older version, or has failed too often at the same call.
    KasalError
        As :func:`start` does.
    """
    source = await runs.execution(job_id)
    asked, made = asked_of(runs.store, source), new_id("job")
    attempts = await runs.current(attempts_at(runs.store, asked))
    require_resumable(source, attempts, change)
    whole, before = _as_it_was(asked, source, sees)
    again = changed(whole, before, changed_inputs(source, change), owner, change)

    def prepare() -> Prepared:
        of_one_run = _of_one_run(runs, made, "resume", job_id, lineage=asked.root)
        kept_of_it = {"edits": before.edits, "cassette": before.cassette}
        return _going_on(
            runs,
            source,
            asked,
            again,
            {**of_one_run, **kept_of_it},
            verb="resume",
            attempt=1 + max(each.attempt for each in (source, *attempts)),
            root=asked.root,
            unasked=unasked,
        )

    size = _weight(asked, source)
    return (await runs.begin(made, prepare, owner, source.crew_id, size=size, within=within))[0]


async def fork(
    runs: Runs,
    job_id: str,
    owner: str,
    change: ExecutionFork,
    *,
    sees: Callable[[Crew], bool] = lambda _crew: True,
) -> tuple[Execution, ForkEstimate]:
    """Leave a run that has ended at one of its steps, and go another way from there, as a run of its own.

    Parameters
    ----------
    runs, job_id, owner, sees
        As of :func:`resume`.
    change
        The step, and what is other there.

    Returns
    -------
    tuple
        The execution, and what it may take.

    Raises
    ------
    NotFound
        There is none with this id, or its crew is nobody's business any more.
    Conflict
        It goes on, or was run by an older version.
    InvalidRequest
        There is no such step, or it cannot be changed so.
    KasalError
        As :func:`start` does.
    """
    way, made = await _way(runs, job_id, owner, change, sees), new_id("job")
    source, asked = way.source, way.asked
    again = changed(way.whole, way.before, source.inputs, owner, change)

    def prepare() -> Prepared:
        of_one_run = _of_one_run(runs, made, "fork", job_id, place=way.fork.place)
        kept_of_it = {"edits": way.fork.edits, "cassette": way.before.cassette}
        return _going_on(runs, source, asked, again, {**of_one_run, **kept_of_it}, verb="fork")

    size = _weight(asked, source)
    execution, _ = await runs.begin(made, prepare, owner, source.crew_id, size=size)
    return execution, way.fork.preview.estimate


async def preview_fork(
    runs: Runs,
    job_id: str,
    owner: str,
    change: ExecutionFork,
    *,
    sees: Callable[[Crew], bool] = lambda _crew: True,
) -> ForkPreview:
    """Say where a fork would begin, what it may take, and which texts can be changed there.

    Raises
    ------
    KasalError
        As :func:`fork` does.
    """
    return (await _way(runs, job_id, owner, change, sees)).fork.preview


@dataclass(frozen=True, slots=True)
class _Way:
    """What a fork leaves, and where."""

    source: Execution
    asked: RunRequest
    whole: WholeCrew
    before: RunSpec
    fork: Fork


async def _way(
    runs: Runs, job_id: str, owner: str, change: ExecutionFork, sees: Callable[[Crew], bool]
) -> _Way:
    source = await runs.execution(job_id)
    if source.status not in ENDED:
        raise Conflict(f"{job_id} is {source.status}; it can be forked when it has ended")
    asked = asked_of(runs.store, source)
    whole, before = _as_it_was(asked, source, sees)

    def plan() -> Fork:
        return plan_fork(Journal.open(runs.files.journal(job_id)), before, source, change, owner)

    return _Way(source, asked, whole, before, await LISTS.do(plan, owner=owner))


def _as_it_was(
    asked: RunRequest, source: Execution, sees: Callable[[Crew], bool]
) -> tuple[WholeCrew, RunSpec]:
    """Give the crew of a run as it was, and what the run was told, to who may run it still.

    Raises
    ------
    NotFound
        The crew is nobody's business any more.
    """
    whole, before = whole_of(asked, source)
    if not sees(whole.crew):
        raise NotFound(f"There is no crew {whole.crew.id}")
    return whole, before


def _going_on(
    runs: Runs,
    source: Execution,
    asked: RunRequest,
    again: Asked,
    given: dict[str, Any],
    *,
    verb: Verb,
    attempt: int = 1,
    root: str | None = None,
    unasked: bool = False,
) -> Prepared:
    """Make a run ready that goes on from another's record.

    Parameters
    ----------
    source, asked
        The other, and what it was asked.
    again
        What is asked now.
    given
        The fields of its message that say so.
    verb, attempt, root, unasked
        See :func:`queued_execution`, :func:`request_of` and :class:`Prepared`.
    """
    checked = runs.checked(given["job_id"], again)
    spec = checked.required().model_copy(update={**given, **again.part_of})
    execution = queued_execution(
        spec,
        again.owner,
        runs.presence.server_id,
        crew_version=source.crew_version,
        expected=source.estimated_duration,
        models=[again.model] if again.model else source.models,
        remarks=checked.told(),
        verb=verb,
        attempt=attempt,
    )
    kept = request_of(spec, again.owner, webhook=asked.webhook, root=root)
    return Prepared(spec, execution, kept, told=again.whole.crew, unasked=unasked)


def _taped(runs: Runs, asked: Asked, played: Played, job_id: str, request: KeyedRequest | None) -> Prepared:
    """Make a run ready that is recorded for a cassette, or takes its answers from one."""
    whole, owner = asked.whole, asked.owner
    checked = runs.checked(job_id, asked, played)
    made = _prepared(runs, asked, checked, request)
    source = runs.files.cassette(job_id)
    changes = played.changes(made.spec, runs.catalog.of(whole.crew.owner), source, runs.store.path)
    spec = made.spec.model_copy(update=changes)
    played.write(source, spec.folder)
    if not played.strict:
        # What is answered by a cassette answers for no other.
        kept = request_of(spec, owner, webhook=whole.crew.webhook)
        parent = spec.source.job_id if spec.source is not None else None
        execution = made.execution.model_copy(update={"parent": parent})
        return Prepared(spec, execution, kept, noted=whole, told=whole.crew)
    execution = queued_execution(
        spec,
        owner,
        runs.presence.server_id,
        crew_version=made.execution.crew_version,
        expected=1,
        models=list(spec.models),
        remarks=checked.told(),
        request=request,
        verb="replay",
    )
    return Prepared(spec, execution, request_of(spec, owner, webhook=None))


def _prepared(runs: Runs, asked: Asked, checked: Checked, request: KeyedRequest | None) -> Prepared:
    """Make a run ready that takes nothing from another."""
    whole, owner = asked.whole, asked.owner
    spec = checked.required().model_copy(
        update={
            "journal_bytes": runs.limits.journal_bytes,
            "unrepeated": asked.unrepeated,
            **asked.part_of,
        }
    )
    execution = queued_execution(
        spec,
        owner,
        runs.presence.server_id,
        crew_version=whole.crew.version if runs.store.crews.has(whole.crew.id) else None,
        expected=estimate_duration(runs.store, whole),
        models=models_of(whole, runs.catalog.default_model),
        remarks=[*checked.told(), *(told_why(spec) if asked.once else ())],
        request=request,
    )
    digest = digest_of(spec, owner, asked.nth)
    kept = request_of(spec, owner, webhook=whole.crew.webhook, digest=digest, once=asked.once)
    return Prepared(spec, execution, kept, noted=whole, told=whole.crew)


def _of_one_run(
    runs: Runs,
    job_id: str,
    verb: RecordVerb,
    parent: str,
    *,
    lineage: str | None = None,
    place: ForkPlace | None = None,
) -> dict[str, Any]:
    """Give the fields of the message that starts a run from another's record."""
    source = source_of(runs.store, runs.files, verb, parent, place)
    return {
        "job_id": job_id,
        "folder": str(runs.files.workspace(job_id)),
        "journal_bytes": runs.limits.journal_bytes,
        "source": source.model_copy(update={"lineage": lineage}),
    }


def _size(asked: Asked) -> int:
    """Give how much there is to check of what is asked."""
    recorded = asked.cassette.record if asked.cassette is not None else None
    return asked.whole.size + _length(asked.inputs) + len(recorded or "") // 1_000


def _weight(asked: RunRequest, source: Execution) -> int:
    """Give how much a run is, by what was stored of it."""
    return len(asked.spec.get("agents", ())) + len(asked.spec.get("tasks", ())) + _length(source.inputs)


def _length(inputs: Mapping[str, Any]) -> int:
    """Give how much inputs are: each counts, and each of their texts' 10,000 characters."""
    return len(inputs) + sum(len(each) // 10_000 for each in inputs.values() if isinstance(each, str))
