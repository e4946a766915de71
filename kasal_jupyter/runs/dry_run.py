"""A dry run: what would keep a crew from running, without starting or storing anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kasal_jupyter.errors import MOST_FAULTS
from kasal_jupyter.models.listing import doubts
from kasal_jupyter.places import aside
from kasal_jupyter.runs.check import Checked, check_run
from kasal_jupyter.runs.estimate import estimate, estimate_duration
from kasal_jupyter.runs.service import Runs
from kasal_jupyter.schemas.crews import CrewChecked, CrewFault, WholeCrew
from kasal_jupyter.schemas.executions import CrewRemark
from kasal_jupyter.schemas.tools import ClientTool


async def dry_run(
    runs: Runs,
    whole: WholeCrew,
    inputs: Mapping[str, Any],
    tools: Sequence[ClientTool] = (),
    *,
    asked_by: str,
) -> CrewChecked:
    """Check a crew as :meth:`Runs.start` does, and look whether its models are known to be served.

    Parameters
    ----------
    runs
        Where it would run: its models and the tools of the crew's owner.
    whole, inputs, tools
        What it would be started with.
    asked_by
        For whom: a large crew is checked in a thread, in turn.
    """
    catalog = runs.catalog.of(whole.crew.owner)

    def check() -> Checked:
        return check_run(
            "",
            whole,
            inputs,
            catalog=catalog,
            toolbox=runs.toolbox(whole.crew.owner),
            folder="",
            client_tools=tools,
            recall=runs.memories.of if runs.memories is not None else None,
        )

    checked = await aside(check, size=whole.size + len(inputs), owner=asked_by)
    named = list(_models(whole))
    doubted = await doubts(catalog, {name for name, _ in named})
    unsure = [
        CrewRemark(field=field, remark=doubted[name], doubt=True) for name, field in named if name in doubted
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
