"""A dry run: what would keep a crew from running, without starting or storing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kasal_jupyter.errors import NotRunnable
from kasal_jupyter.runs.check import prepare_run
from kasal_jupyter.runs.estimate import estimate
from kasal_jupyter.runs.service import Runs
from kasal_jupyter.schemas.crews import CrewChecked, CrewFault, WholeCrew
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
    faults = []
    try:
        prepare_run(
            "",
            whole,
            inputs,
            catalog=runs.catalog,
            toolbox=runs.toolbox(whole.crew.owner),
            folder="",
            client_tools=tools,
        )
    except NotRunnable as error:
        faults = [CrewFault(field=fault.field, reason=fault.reason) for fault in error.faults]
    return CrewChecked(runnable=not faults, faults=faults, estimated_duration=estimate(runs.store, whole))
