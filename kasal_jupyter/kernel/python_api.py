"""What `import kasal_jupyter as kasal` offers besides its classes: ``kasal.runs()``, ``kasal.usage()``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kasal_jupyter.kernel.runs.run_list import Runs, latest_runs
from kasal_jupyter.kernel.session import the_session

if TYPE_CHECKING:
    from kasal_jupyter.kernel.runs.usage_table import UsageTable
    from kasal_jupyter.schemas.executions import Status
    from kasal_jupyter.schemas.usage import GroupBy


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
        A list of :class:`~kasal_jupyter.kernel.runs.run_list.Run`, which a notebook shows as a table;
        ``kasal.runs()[0].result()`` is the latest one whole, with its trace, ``.again()`` repeats it, and
        ``kasal.runs().df()`` is a row a run.
    """
    session = the_session()
    crew_id = session.crew(crew).id if crew is not None else None
    found = latest_runs(session.client, limit, crew_id=crew_id, status=status)
    session.listed = [run.job_id for run in found]
    return found


def usage(
    by: GroupBy = "day", *, crew: str | None = None, since: str | None = None, until: str | None = None
) -> UsageTable:
    """Say what your runs have used, and what it cost; an admin's answer has everybody's.

    Parameters
    ----------
    by
        What it is told apart by: ``day``, ``crew``, ``model``, ``agent``, ``task``; for admins also ``user``.
    crew
        One crew's, by its name or id.
    since, until
        The first and the last day, ``2024-01-15``; by default the last 30 days.

    Returns
    -------
    UsageTable
        A notebook shows it as a table; ``.df()`` gives it as one, ``.whole`` the sums.
    """
    from kasal_jupyter.kernel.runs.usage_table import usage_table

    session = the_session()
    crew_id = session.crew(crew).id if crew is not None else None
    return usage_table(session.client, by, since=since, until=until, crew_id=crew_id)


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
