"""``/health``, ``/maintenance``, ``/metrics`` and ``/usage``: the server as a whole."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from kasal_jupyter.api.handler import ApiHandler, require
from kasal_jupyter.api.operation import Media, operation
from kasal_jupyter.executions.usage_report import usage_of
from kasal_jupyter.places import LISTS
from kasal_jupyter.schemas.cluster import ClusterReport
from kasal_jupyter.schemas.retention import PruneReport, PruneRequest
from kasal_jupyter.schemas.server import Health, MaintenanceState, MaintenanceUpdate
from kasal_jupyter.schemas.usage import UsageList, UsageQuery
from kasal_jupyter.version import __version__


class MaintenanceHandler(ApiHandler):
    """``GET /maintenance`` and ``PUT /maintenance``."""

    tag = "Administration"
    message = "Invalid maintenance mode"

    @operation(
        "Tell whether the server is in maintenance mode",
        access="viewer",
        answers={200: MaintenanceState},
        in_maintenance=True,
    )
    async def get(self) -> None:
        """Give the mode's state."""
        self.answer(self.parts.maintenance.state)

    @operation(
        "Switch maintenance mode on or off",
        access="admin",
        body=MaintenanceUpdate,
        answers={200: MaintenanceState},
        in_maintenance=True,
    )
    async def put(self) -> None:
        """Have everything else answered with 503, on every server of the data folder, or no longer.

        Executions that run go on, and can be stopped.
        """
        self.answer(await self.parts.maintenance.switch(self.body(MaintenanceUpdate)))


class PruneHandler(ApiHandler):
    """``POST /prune``."""

    tag = "Administration"
    message = "Invalid pruning"

    @operation(
        "Prune executions",
        access="admin",
        body=PruneRequest,
        answers={200: PruneReport},
        errors=(409,),
    )
    async def post(self) -> None:
        """Compress and delete what is kept no longer, as the server does of itself once an hour.

        With `dry_run` nothing is done: the answer says what would be. What executions have used stays in the
        books. 409 where a server of the data folder is doing it.
        """
        self.answer(await self.parts.retention.prune(self.body(PruneRequest)))


class HealthHandler(ApiHandler):
    """``GET /health``."""

    tag = "Administration"

    @operation("Tell whether the server works", access="anyone", answers={200: Health})
    async def get(self) -> None:
        """Say that the server answers, and whether it takes requests. It needs no token."""
        enabled = self.parts.maintenance.state.enabled
        self.answer(Health(status="maintenance" if enabled else "ok", version=__version__))


class BackendHandler(ApiHandler):
    """``GET /backend``."""

    tag = "Administration"

    @operation("Tell what executions are run on", access="viewer", answers={200: ClusterReport})
    async def get(self) -> None:
        """Look at the cluster that executions are run on, where there is one.

        Each worker says what executions hang on there, and in what that differs from the server's.
        """
        self.answer(await self.parts.runs.examined())


class MetricsHandler(ApiHandler):
    """``GET /metrics``."""

    tag = "Administration"

    @operation(
        "Give figures for Prometheus",
        access="admin",
        answers={200: Media("text/plain", "Prometheus's text format.")},
        in_maintenance=True,
    )
    async def get(self) -> None:
        """Give the figures of the process, Jupyter's own among them.

        Where Jupyter's ``/metrics`` is served, it shows the same.
        """
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(await LISTS.do(lambda: generate_latest(REGISTRY), owner=self.caller.owner))


# ``/usage``: what was used, by whom, for what and when.


class UsageHandler(ApiHandler):
    """``GET /usage``."""

    tag = "Usage and Cost"

    @operation("Get usage and cost", access="viewer", query=UsageQuery, answers={200: UsageList})
    async def get(self) -> None:
        """Say what your runs have used, told apart by day, crew, model, agent or task.

        An admin sees everybody's, and by user. A cost is null where the price of some calls is unknown, as
        many as `unknown_costs` says: it is `cost_at_least` or more. `stored` is how much you, or the `user`
        asked for, have stored now, of whatever days the rest is.
        """
        query = self.query(UsageQuery)
        if query.group_by == "user" or query.user is not None:
            require("admin", self.caller)
        scope = {"owner": query.user, **self.caller.scope, "crew_id": query.crew_id}
        given = {name: value for name, value in scope.items() if value is not None}
        self.answer(await usage_of(self.parts.runs, query, given, query.user or self.caller.owner))
