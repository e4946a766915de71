"""`kasal.compare()`: a comparison in a notebook, with how far it has come while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kasal_jupyter.kernel.comparison.comparison import Comparison, carry_out, read_asked
from kasal_jupyter.kernel.comparison.judge import Judge
from kasal_jupyter.kernel.comparison.view import progress_text
from kasal_jupyter.kernel.runs.run_list import read_budget
from kasal_jupyter.kernel.session import notebook_origin, the_session
from kasal_jupyter.kernel.views import html_parts as parts
from kasal_jupyter.kernel.views.clean import escape

if TYPE_CHECKING:
    from kasal_jupyter.kernel.comparison.arms import Standing
    from kasal_jupyter.kernel.crews.crew import Crew

REDRAW_SECONDS = 0.5
"""Least time between two redraws."""


def compare(
    crews: Sequence[Crew | str] | Crew | str,
    data: Any,
    *,
    score: Callable[..., Any] | Judge | str,
    expected: str | None = None,
    repeats: int = 1,
    models: Sequence[str] = (),
    budget: Mapping[str, float] | None = None,
    concurrency: int | None = None,
    fresh: bool = False,
    seed: int = 0,
) -> Comparison:
    """Run the same rows through crews, versions or models, score the answers, and say which is better.

    Parameters
    ----------
    crews
        The crews, or their names: ``["Support", "Support@3"]`` compares the newest version with the third.
        All are compared with the first.
    data
        The rows: a DataFrame or a list of dictionaries, whose columns are the crews' inputs, or the name of
        a dataset.
    score
        A function of ``output`` and ``expected`` (or ``inputs``, ``structured``, ``job_id``) that gives a
        number, higher is better, or a truth value; a :class:`Judge`; or one of ``exact``, ``contains``,
        ``regex``, ``regex:PATTERN``, ``numeric``, ``numeric:0.01``, ``numeric:1%``, ``json:FIELD``.
    expected
        The column that has what is expected; by default one of that name.
    repeats
        How often each row is run: a row's repeats are averaged before anything else.
    models
        Models that are asked in the place of all that the crews name: each crew with each of them.
    budget
        What each run may use up: ``max_cost`` (US dollars), ``max_tokens``, ``max_seconds``.
    concurrency
        Runs of all crews together that go on at the same time.
    fresh
        Whether all is run, also what an earlier comparison has run: of the same crews in the same versions,
        on the same rows. By default that is not paid for again.
    seed
        What the bootstrap's lot is drawn with.

    Raises
    ------
    CellError
        It cannot be compared; the message says why. Nothing was run then.
    """
    session = the_session()
    named = [crews] if isinstance(crews, str) or not isinstance(crews, Sequence) else list(crews)
    asked = read_asked(
        session.client, named, data, score, expected=expected, repeats=repeats, models=models, seed=seed
    )
    progress = Progress()
    comparison = carry_out(
        session.client,
        asked,
        concurrency=concurrency,
        fresh=fresh,
        budget=read_budget(budget),
        told=progress.told,
        origin=notebook_origin(),
    )
    progress.end(comparison)
    return comparison


class Progress:
    """How far each crew has come, under the cell; nothing where there is no notebook."""

    def __init__(self) -> None:
        from IPython.core.getipython import get_ipython

        self._handle: Any = None
        self._drawn_at = 0.0
        self._shows = hasattr(get_ipython(), "kernel")

    def told(self, standings: Mapping[str, Standing]) -> None:
        """Take in how far they have come, and show it in time."""
        if not self._shows or time.monotonic() - self._drawn_at < REDRAW_SECONDS:
            return
        self._drawn_at = time.monotonic()
        text = progress_text(standings)
        self._update({"text/plain": text, "text/html": f'<div style="{parts.MUTED}">{escape(text)}</div>'})

    def end(self, comparison: Comparison) -> None:
        """Show what has come of it, in the same place."""
        if self._shows:
            comparison.draw(self._update)

    def _update(self, shown: dict[str, Any]) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(shown, raw=True)
