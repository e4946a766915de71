"""What somebody makes of a run: a thumb, and what its answer should have been."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.session import the_session
from kasal_jupyter.kernel.views.figures import THUMBS
from kasal_jupyter.schemas.datasets import Rating, Thumb

if TYPE_CHECKING:
    from kasal_jupyter.kernel.runs.result import RunResult
    from kasal_jupyter.kernel.runs.run_list import Run
    from kasal_jupyter.schemas.datasets import RatingGiven


def rate(
    run: RunResult | Run | str,
    thumb: Thumb,
    answer: str | None = None,
    *,
    note: str | None = None,
) -> RatingGiven:
    """Say whether a run's answer is good, and what it should have been; a dataset is made of such.

    Parameters
    ----------
    run
        The run, or its id.
    thumb
        ``up`` or ``down``.
    answer
        What the answer should have been.
    note
        Why, for people.

    Raises
    ------
    CellError
        That is no thumb.
    KasalError
        It has not ended yet, or there is no such run.
    """
    if thumb not in THUMBS:
        raise CellError(f"A run is rated up or down, and not {thumb!r}")
    job_id = run if isinstance(run, str) else run.job_id
    given = {"thumb": thumb, "answer": answer, "note": note}
    return the_session().client.rate(job_id, Rating.model_validate(given))
