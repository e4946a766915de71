"""``/usage``: what was used, by whom, for what and when."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler, require
from kasal_jupyter.api.operation import operation
from kasal_jupyter.executions.books.usage_report import usage_of
from kasal_jupyter.schemas.usage import UsageList, UsageQuery


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
