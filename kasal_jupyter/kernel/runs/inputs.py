"""The values of a notebook as the inputs of a run: what JSON can say, and descriptions of frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.frames.frames import is_frame
from kasal_jupyter.kernel.functions.notebook_tools import NotebookTool, registered
from kasal_jupyter.kernel.plain_values import NotPlain, plain
from kasal_jupyter.schemas.crews import CrewDetails
from kasal_jupyter.schemas.rules.placeholders import names, texts_of
from kasal_jupyter.schemas.tools import ClientTool


@dataclass(slots=True)
class GivenInputs:
    """What a run is started with.

    Attributes
    ----------
    inputs
        By name, as JSON knows them. A frame's is its profile card.
    tools
        The notebook's tools that go along, by name: those that the crew names, and those for the frames.
    bound
        Names of those for the frames.
    """

    inputs: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, NotebookTool] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)

    @property
    def definitions(self) -> list[ClientTool]:
        """What the server is told of the tools."""
        return [tool.definition for tool in self.tools.values()]


def read_values(values: Mapping[str, Any], crew: CrewDetails | None) -> GivenInputs:
    """Turn a notebook's values into a run's inputs, and choose the notebook's tools that go along.

    Texts, numbers, lists and what else JSON can say are sent as they are; for all else see
    :func:`~kasal_jupyter.kernel.plain_values.plain`. Of a frame or a column (pandas, polars, pyarrow,
    anything with the dataframe interchange or Arrow's stream) the run gets a description of at most 2 kB and
    tools to look into it, never the rows.

    Parameters
    ----------
    values
        By name.
    crew
        The crew that they are for: it takes the tools along that its agents and tasks name, and a frame that
        none of its texts mentions is described by a tool. None: it is not known.

    Raises
    ------
    CellError
        One cannot be sent; the message names it, and says what to do.
    """
    agents, tasks = (crew.agents, crew.tasks) if crew is not None else ([], [])
    named = {name for agent in agents for name in agent.tools}
    named |= {name for task in tasks for name in task.tools}
    given = GivenInputs(tools={name: tool for name, tool in registered().items() if name in named})
    for name, value in values.items():
        if not is_frame(value):
            try:
                given.inputs[name] = plain(value, name)
            except NotPlain as error:
                raise CellError(str(error)) from None
            continue
        from kasal_jupyter.kernel.frames.frame_tools import tools_of
        from kasal_jupyter.kernel.frames.frames import read_frame
        from kasal_jupyter.kernel.frames.profile import profile_card

        frame = read_frame(value, name)
        card = given.inputs[name] = profile_card(frame, name)
        # Of these two, agents see nothing.
        unseen = (".guardrail", ".output_file")
        texts = texts_of(agents, tasks)
        shown = any(name in names(text) for text, where in texts if not where.endswith(unseen))
        for tool in tools_of(frame, name, None if shown else card):
            if tool.name in given.tools:
                raise CellError(
                    f"The tools for {name} would be called as another input's or the notebook's own; "
                    f"rename one of them ({tool.name})"
                )
            given.tools[tool.name] = tool
            given.bound.add(tool.name)
    return given
