"""What `import kasal_jupyter as kasal` offers besides its classes: ``kasal.runs()``, ``kasal.connect()``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kasal_jupyter.kernel.executions import Runs, latest_runs
from kasal_jupyter.kernel.session import the_session

if TYPE_CHECKING:
    from kasal_jupyter.schemas.executions import Status


def runs(limit: int = 20, *, crew: str | None = None, status: Status | None = None) -> Runs:
    """Give the latest runs, newest first, wherever they were started.

    Parameters
    ----------
    limit
        How many, at most 500.
    crew
        One crew's, by its name or id.
    status
        Those in one state: ``queued``, ``running``, ``completed``, ``failed``, ``stopped``, ``interrupted``.

    Returns
    -------
    Runs
        A list of :class:`~kasal_jupyter.kernel.executions.Run`, which a notebook shows as a table;
        ``kasal.runs()[0].result()`` is the latest one whole, with its trace.
    """
    session = the_session()
    crew_id = session.crew(crew).id if crew is not None else None
    return latest_runs(session.client, limit, crew_id=crew_id, status=status)


def connect(url: str | None = None, token: str | None = None) -> str:
    """Talk to another server from now on, in the magics as well.

    Parameters
    ----------
    url
        The server's base URL, without ``/v1``, or an address copied from the browser; without it the server
        is found as at the start.
    token
        Jupyter's token or a Kasal one; ``KASAL_TOKEN`` where it is not given.

    Returns
    -------
    str
        The base URL of the server that is used now.

    Raises
    ------
    KasalError
        It cannot be reached, or does not let us in; the one before is used on.
    """
    return the_session().connect(url, token).url
