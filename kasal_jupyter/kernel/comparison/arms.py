"""What is compared: crews, their versions, or the models they ask; and running them over the same rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kasal_jupyter.errors import InvalidRequest, KasalError, NotFound
from kasal_jupyter.kernel.crews.plan import inputs_of
from kasal_jupyter.kernel.crews.stored_crews import NOTEBOOK, find_crew
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.runs.batches import start_batch
from kasal_jupyter.schemas.batches import FINISHED, Batch, BatchCreate, BatchRow, RowGiven

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.crews import CrewDetails
    from kasal_jupyter.schemas.executions import Budget

POLL_SECONDS = 0.5
"""How often it is looked how batches stand."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One of those that are compared.

    Attributes
    ----------
    label
        What it is called in tables.
    crew
        The crew.
    version
        The version of it that runs.
    model
        The model that is asked in the place of all that it names; None: of none.
    """

    label: str
    crew: CrewDetails
    version: int
    model: str | None = None

    @property
    def inputs(self) -> set[str]:
        """The names of the inputs that it takes."""
        return set(inputs_of(self.crew))


@dataclass(frozen=True, slots=True)
class Ran:
    """What has come of one row, run once.

    Attributes
    ----------
    job_id
        The execution; None where there is none.
    status
        How it ended.
    output, structured
        Its answer, as text, and as JSON where it gives such.
    error
        Why there is none.
    cost
        US dollars; None where that is not known.
    seconds
        How long it took.
    """

    job_id: str | None
    status: str
    output: str | None
    structured: Any
    error: str | None
    cost: float | None
    seconds: float | None

    @property
    def completed(self) -> bool:
        """Whether it has an answer."""
        return self.status == "completed" and self.output is not None


@dataclass(slots=True)
class Standing:
    """How far an arm has come.

    Attributes
    ----------
    total, done, failed
        Runs.
    cost
        US dollars so far; None where a run's is not known.
    """

    total: int
    done: int = 0
    failed: int = 0
    cost: float | None = 0.0


Told = Callable[[Sequence[Standing]], None]


def read_arms(
    client: Client, crews: Iterable[Any], models: Sequence[str] = (), *, command: str = NOTEBOOK
) -> list[Arm]:
    """Give what is compared: each crew, or each with each of the models.

    Parameters
    ----------
    client
        The server.
    crews
        Names or ids, ``NAME@VERSION`` for a version, or crews in Python, which are saved.
    models
        Models that are asked in the place of all that the crews name.
    command
        How commands begin where the answer is read.

    Raises
    ------
    CellError
        There is no such crew or version, or one is named twice.
    """
    found = [_found(client, each, command) for each in crews]
    ids = [crew.id for crew, _ in found]
    holders = {crew.name: {each.id for each, _ in found if each.name == crew.name} for crew, _ in found}
    arms = []
    for crew, version in found:
        told = f"{crew.name} ({crew.id})" if len(holders[crew.name]) > 1 else crew.name
        if version != crew.version or ids.count(crew.id) > 1:
            told = f"{told} v{version}"
        arms += [Arm(f"{told} · {model}", crew, version, model) for model in models] or [
            Arm(told, crew, version)
        ]
    labels = [arm.label for arm in arms]
    if twice := next((each for each in labels if labels.count(each) > 1), None):
        raise CellError(
            f"{twice} is named twice; a crew is compared with another, its version, or another model"
        )
    return arms


def _found(client: Client, word: Any, command: str) -> tuple[CrewDetails, int]:
    if not isinstance(word, str):
        saved = getattr(word, "save", None)
        if saved is None:
            raise CellError(f"A crew, or its name, is compared, and not {type(word).__name__}")
        crew = client.crew(saved().id)
        return crew, crew.version
    name, at, number = word.rpartition("@")
    try:
        if at and number.isdecimal():
            crew = find_crew(client, name, command=command)
            client.crew_version(crew.id, int(number))
            return crew, int(number)
        crew = find_crew(client, word, command=command)
    except (NotFound, InvalidRequest) as error:
        raise CellError(error.message) from None
    return crew, crew.version


def require_runnable(client: Client, arm: Arm, inputs: dict[str, Any]) -> None:
    """Refuse an arm that could not run now, as far as that is known before it does: of a crew as it is.

    Raises
    ------
    CellError
        It could not; the message says why.
    """
    if arm.model is not None or arm.version != arm.crew.version:
        return
    checked = client.check(arm.crew.id, inputs)
    if not checked.runnable:
        why = "; ".join(fault.reason for fault in checked.faults)
        raise CellError(f"{arm.label} cannot run: {why}")


def run_arms(
    client: Client,
    arms: Sequence[Arm],
    rows: Sequence[Sequence[dict[str, Any]]],
    *,
    concurrency: int | None = None,
    budget: Budget | None = None,
    fresh: bool = False,
    told: Told = lambda _: None,
) -> list[list[Ran]]:
    """Run each arm over its rows, all at the same time: the machine is as busy for one as for another.

    An arm is a batch, whose name says what runs. Asked for again it goes on where it was: what has completed
    for the same rows is not run again, and what has failed is.

    Parameters
    ----------
    client
        The server.
    arms
        What is run.
    rows
        The inputs of each arm's rows.
    concurrency
        Runs of all arms together that go on at the same time.
    budget
        What each run may use up.
    fresh
        Whether all is run, whatever was run already.
    told
        Told now and then how far each has come.

    Returns
    -------
    list of list of Ran
        Of each arm, what has come of its rows, in their order.

    Raises
    ------
    CellError
        One begins no row any more, as where a budget is used up or somebody has stopped it; the others are
        stopped.
    """
    each = None if concurrency is None else max(1, concurrency // len(arms))
    batches: list[Batch] = []
    try:
        for arm, inputs in zip(arms, rows, strict=True):
            body = _batch_of(arm, inputs, budget, each, fresh=fresh)
            batches.append(start_batch(client, body, retry_failed=True)[0])
        while True:
            told([_standing(batch) for batch in batches])
            for batch in batches:
                _require_going_on(batch)
            if all(batch.status in FINISHED for batch in batches):
                break
            time.sleep(POLL_SECONDS)
            batches = [batch if batch.status in FINISHED else client.batch(batch.id) for batch in batches]
    except BaseException:
        for batch in batches:
            # Some may have ended.
            with suppress(KasalError):
                client.tell_batch(batch.id, "stop")
        raise
    return [[_ran(row) for row in client.batch_rows(batch.id)] for batch in batches]


def _require_going_on(batch: Batch) -> None:
    """Refuse a batch that begins no row any more: those that are left have not failed, and score nothing.

    Somebody may have it stand still, and go on again: that is waited for.
    """
    if batch.status in {"stopped", "failed"} or (batch.status == "paused" and batch.reason is not None):
        why = batch.reason.message if batch.reason is not None else "it was stopped"
        raise CellError(f"{batch.name} did not come to its end: {why}")


def _batch_of(
    arm: Arm, rows: Sequence[dict[str, Any]], budget: Budget | None, concurrency: int | None, *, fresh: bool
) -> BatchCreate:
    asks = f" {arm.model}" if arm.model is not None else ""
    return BatchCreate(
        crew_id=arm.crew.id,
        crew_version=arm.version,
        name=f"Comparison: {arm.crew.name[:100]} v{arm.version}{asks[:60]}",
        model=arm.model,
        rows=[RowGiven(inputs=inputs) for inputs in rows],
        run_budget=budget,
        concurrency=concurrency,
        # A row's repeats are equal, and each is run: as the first, the second, … of its equals.
        once=not fresh,
    )


def _standing(batch: Batch) -> Standing:
    done = batch.counts.completed + batch.counts.failed + batch.counts.stopped
    return Standing(batch.total, done, batch.counts.failed, batch.cost)


def _ran(row: BatchRow) -> Ran:
    return Ran(row.job_id, row.status, row.output, row.structured, row.failure, row.cost, row.duration)
