"""A dry run: what would keep a crew from running, without starting or storing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kasal_jupyter.runs.check import check_run
from kasal_jupyter.runs.estimate import estimate, estimate_duration
from kasal_jupyter.runs.service import Runs
from kasal_jupyter.schemas.crews import CrewChecked, CrewFault, CrewRemark, WholeCrew
from kasal_jupyter.schemas.tools import ClientTool


def dry_run(
    runs: Runs, whole: WholeCrew, inputs: Mapping[str, Any], tools: Sequence[ClientTool] = ()
) -> CrewChecked:
    """Check a crew as :meth:`Runs.start` does.

    Parameters
    ----------
    runs
        Where it would run: its models and the tools of the crew's owner.
    whole, inputs, tools
        What it would be started with.
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
    return CrewChecked(
        runnable=not checked.faults,
        faults=[CrewFault(field=fault.field, reason=fault.reason) for fault in checked.faults],
        remarks=[CrewRemark(field=remark.field, remark=remark.reason) for remark in checked.remarks],
        estimated_duration=estimate_duration(runs.store, whole),
        estimate=estimate(runs.store, whole, runs.catalog.default_model),
    )
