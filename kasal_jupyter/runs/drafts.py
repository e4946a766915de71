"""Crews that are not stored: whether they could be, and whether they would run."""

from __future__ import annotations

from kasal_jupyter.errors import Fault
from kasal_jupyter.runs.check import check_run, placeholders
from kasal_jupyter.runs.service import Runs
from kasal_jupyter.schemas.base import utc_now
from kasal_jupyter.schemas.crews import Crew, CrewCreate, WholeCrew
from kasal_jupyter.store.assembly import assemble


def draft(body: CrewCreate, owner: str) -> WholeCrew:
    """Make of a body what storing it would make, without storing it.

    Raises
    ------
    InvalidRequest
        It could not be stored; with every fault by field.
    """
    now = utc_now()
    crew = Crew(
        **body.model_dump(exclude={"agents", "tasks"}),
        id="crew_draft",
        owner=owner,
        created_at=now,
        updated_at=now,
    )
    return assemble(crew, body.agents, body.tasks, before=None)


def draft_faults(runs: Runs, whole: WholeCrew) -> list[Fault]:
    """Find what would keep a crew from running, whatever its inputs' values were.

    Parameters
    ----------
    runs
        Where it would run: its models, and the tools of the crew's owner.
    whole
        The crew.
    """
    inputs = {name: "" for name, _ in placeholders(whole)}
    owner = whole.crew.owner
    return check_run(
        "", whole, inputs, catalog=runs.catalog.of(owner), toolbox=runs.toolbox(owner), folder=""
    ).faults
