"""Whether a crew would run: one that is stored, or one that is not yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kasal_jupyter.crews.crews import made_of
from kasal_jupyter.errors import MOST_FAULTS, Fault
from kasal_jupyter.executions.check import check_run, placeholders
from kasal_jupyter.executions.ledger import estimate, estimate_duration
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.models.listing import doubts
from kasal_jupyter.places import beside_loop
from kasal_jupyter.schemas.crews import CrewChecked, CrewCreate, CrewFault, WholeCrew
from kasal_jupyter.schemas.executions import CrewRemark
from kasal_jupyter.schemas.tools import ClientTool


async def doubted_models(runs: Runs, whole: WholeCrew) -> dict[str, str]:
    """Say of the models that a crew names, by name, what makes it doubtful that they are served."""
    return await doubts(runs.catalog.of(whole.crew.owner), {name for name, _ in _models(whole)})


def dry_run(
    runs: Runs,
    whole: WholeCrew,
    inputs: Mapping[str, Any],
    tools: Sequence[ClientTool],
    doubted: Mapping[str, str],
) -> CrewChecked:
    """Check a crew as :func:`~kasal_jupyter.executions.verbs.start` does.

    Parameters
    ----------
    runs
        Where it would run: its models and the tools of the crew's owner.
    whole, inputs, tools
        What it would be started with.
    doubted
        What :func:`doubted_models` gave.
    """
    checked = check_run(
        "",
        whole,
        inputs,
        catalog=runs.catalog.of(whole.crew.owner),
        toolbox=runs.toolbox(whole.crew.owner),
        folder="",
        client_tools=tools,
        recall=runs.memories.of if runs.memories is not None else None,
    )
    unsure = [
        CrewRemark(field=field, remark=said, doubt=True)
        for name, field in _models(whole)
        if (said := doubted.get(name)) is not None
    ]
    return CrewChecked(
        runnable=not checked.faults,
        faults=[CrewFault(field=fault.field, reason=fault.reason) for fault in checked.faults],
        remarks=[*checked.told(), *unsure[:MOST_FAULTS]],
        estimated_duration=estimate_duration(runs.store, whole),
        estimate=estimate(runs.store, whole, runs.catalog.default_model),
    )


def _models(whole: WholeCrew) -> Iterator[tuple[str, str]]:
    """Give each model that a crew names with its field."""
    for place, agent in enumerate(whole.agents):
        named = [(agent.model, "model")] + [
            (each, f"fallbacks[{rank}]") for rank, each in enumerate(agent.fallbacks)
        ]
        yield from ((model, f"agents[{place}].{field}") for model, field in named if model is not None)
    for field in ("manager_model", "planning_model"):
        if (model := getattr(whole.crew, field)) is not None:
            yield model, field


# Crews that are not stored: whether they could be, and whether they would run.


async def draft(body: CrewCreate, owner: str) -> WholeCrew:
    """Make of a body what storing it would make, without storing it.

    Raises
    ------
    InvalidRequest
        It could not be stored; with every fault by field.
    """
    size = len(body.agents) + len(body.tasks)
    return await beside_loop(lambda: made_of(body, "crew_draft", owner), size=size, owner=owner)


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

    return await beside_loop(faults, size=whole.size, owner=owner)
