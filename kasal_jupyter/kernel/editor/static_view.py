"""What stands below the editor: the crew and its latest run, as HTML that is there without a kernel too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kasal_jupyter.kernel.crews.card import CrewCard
from kasal_jupyter.kernel.runs.result import RunResult
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.live import LiveView, View
from kasal_jupyter.schemas.crews import CrewCreate


class Below:
    """Two outputs of the cell that shows the editor: the crew as it was saved last, and its latest run."""

    def __init__(self) -> None:
        self._crew: Any = None
        self._run: Any = None

    def display(self, crew: CrewCreate | None) -> None:
        """Put both below what the cell has shown so far."""
        from IPython.display import display

        self._crew = display(_crew_bundle(crew), raw=True, display_id=True)  # type: ignore[no-untyped-call]
        self._run = display(_NOTHING, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def show_crew(self, crew: CrewCreate | None) -> None:
        """Show the crew that was saved."""
        if self._crew is not None:
            self._crew.update(_crew_bundle(crew), raw=True)

    def view_of(self, result: RunResult, on_end: Callable[[], object]) -> View:
        """Give the view of a run, in its place below; it tells of the end."""
        return LiveView(result, self._run, on_end)


_NOTHING = {"text/plain": "", "text/html": ""}


def _crew_bundle(crew: CrewCreate | None) -> dict[str, str]:
    if crew is None:
        return _NOTHING
    card = CrewCard(crew)
    name = escape(one_line(crew.name, 80))
    return {
        "text/html": (
            "<details><summary style='cursor:pointer;opacity:.7;font-size:12px'>"
            f"{name} as it is saved: its card, which a saved notebook keeps</summary>"
            f"{card._repr_html_()}</details>"
        ),
        "text/plain": repr(card),
    }
