"""Crews that are not stored: whether they could be, and whether they would run."""

from __future__ import annotations

from kasal_jupyter.errors import Fault
from kasal_jupyter.places import aside
from kasal_jupyter.runs.check import check_run, placeholders
from kasal_jupyter.runs.service import Runs
from kasal_jupyter.schemas.crews import CrewCreate, WholeCrew
from kasal_jupyter.store.crews import made_of


async def draft(body: CrewCreate, owner: str) -> WholeCrew:
    """Make of a body what storing it would make, without storing it.

    Raises
    ------
    InvalidRequest
        It could not be stored; with every fault by field.
    """
    size = len(body.agents) + len(body.tasks)
    return await aside(lambda: made_of(body, "crew_draft", owner), size=size, owner=owner)


async def draft_faults(runs: Runs, whole: WholeCrew) -> list[Fault]:
    """Find what would keep a crew from running, whatever its inputs' values were.

    Parameters
    ----------
    runs
        Where it would run: its models, and the tools of the crew's owner.
    whole
        The crew.
    """
    owner = whole.crew.owner

    def faults() -> list[Fault]:
        inputs = {name: "" for name, _ in placeholders(whole)}
        return check_run(
            "", whole, inputs, catalog=runs.catalog.of(owner), toolbox=runs.toolbox(owner), folder=""
        ).faults

    return await aside(faults, size=whole.size, owner=owner)
