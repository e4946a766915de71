"""What is compared: crews, their versions, or the models they ask; and running them over the same rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kasal_jupyter.errors import InvalidRequest, KasalError, NotFound
from kasal_jupyter.kernel.crews.stored_crews import NOTEBOOK, find_crew
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.schemas.placeholders import names, texts_of

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.crews import CrewDetails
    from kasal_jupyter.schemas.executions import Budget, ExecutionStatus

POLL_SECONDS = 0.25
"""How often it is looked how runs stand."""

AT_ONCE = 8
"""Runs of all crews together that go on at the same time, where nothing else is said."""


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
        return {name for text, _ in texts_of(self.crew.agents, self.crew.tasks) for name in names(text)}


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
    shared = [crew.name for crew, _ in found]
    arms = []
    for crew, version in found:
        told = (
            f"{crew.name} v{version}" if version != crew.version or shared.count(crew.name) > 1 else crew.name
        )
        label = (
            f"{told} {crew.id}" if [each.id for each, v in found if v == version].count(crew.id) > 1 else told
        )
        arms += [Arm(f"{label} · {model}", crew, version, model) for model in models] or [
            Arm(label, crew, version)
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


def run_arms(
    client: Client,
    arms: Sequence[Arm],
    rows: Sequence[Sequence[dict[str, Any]]],
    *,
    concurrency: int | None = None,
    budget: Budget | None = None,
    told: Told = lambda _: None,
) -> list[list[Ran]]:
    """Run each arm over its rows, all at the same time: the machine is as busy for one as for another.

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
    told
        Told now and then how far each has come.

    Returns
    -------
    list of list of Ran
        Of each arm, what has come of its rows, in their order.
    """
    if named := [arm.label for arm in arms if arm.model is not None or arm.version != arm.crew.version]:
        raise CellError(f"{named[0]}: this server runs a crew's newest version alone, with its own models")
    running = _Running(client, budget, [Standing(len(each)) for each in rows])
    places = [(row, arm) for arm, each in enumerate(rows) for row in range(len(each))]
    with ThreadPoolExecutor(concurrency or AT_ONCE) as pool:
        # Row by row, so that no arm has the machine for itself at the end.
        waiting = {
            (row, arm): pool.submit(running.one, arms[arm].crew.id, rows[arm][row], arm)
            for row, arm in sorted(places)
        }
        try:
            while not all(each.done() for each in waiting.values()):
                told(running.standings)
                time.sleep(POLL_SECONDS)
        except BaseException:
            running.stop()
            raise
    told(running.standings)
    return [[waiting[row, arm].result() for row in range(len(each))] for arm, each in enumerate(rows)]


class _Running:
    def __init__(self, client: Client, budget: Budget | None, standings: list[Standing]) -> None:
        self._client = client
        self._budget = budget
        self.standings = standings
        self._jobs: set[str] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def one(self, crew_id: str, inputs: dict[str, Any], arm: int) -> Ran:
        ran = self._run(crew_id, inputs)
        with self._lock:
            standing = self.standings[arm]
            standing.done += 1
            standing.failed += not ran.completed
            standing.cost = None if standing.cost is None or ran.cost is None else standing.cost + ran.cost
        return ran

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            jobs = list(self._jobs)
        for job_id in jobs:
            try:
                self._client.stop(job_id)
            except KasalError:
                continue  # It has ended by itself.

    def _run(self, crew_id: str, inputs: dict[str, Any]) -> Ran:
        if self._stopped:
            return Ran(None, "stopped", None, None, None, 0.0, None)
        try:
            job_id = self._client.start(crew_id, inputs, budget=self._budget).job_id
            with self._lock:
                self._jobs.add(job_id)
            while (found := self._client.execution(job_id)).status not in ENDED:
                time.sleep(POLL_SECONDS)
        except KasalError as error:
            return Ran(None, "failed", None, None, error.message, None, None)
        with self._lock:
            self._jobs.discard(job_id)
        return _ran(found)


def _ran(found: ExecutionStatus) -> Ran:
    error = f"{found.error.code}: {found.error.message}" if found.error is not None else None
    return Ran(found.job_id, found.status, found.result, None, error, found.usage.cost, found.duration)
