"""``/schedules``: crews that are run by the clock."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.executions.schedules import INVALID_SCHEDULE
from kasal_jupyter.schemas.schedules import (
    Schedule,
    ScheduleCreate,
    ScheduleDetails,
    ScheduleList,
    ScheduleQuery,
    ScheduleRun,
    ScheduleUpdate,
)


class ScheduleResource(ApiHandler):
    """What the resources of schedules share."""

    tag = "Schedules"
    message = INVALID_SCHEDULE

    def schedule(self, schedule_id: str) -> Schedule:
        """Give the schedule that is meant."""
        found = self.parts.store.schedules.get(schedule_id)
        return self.own(found, f"schedule {schedule_id}")

    def show(self, schedule: Schedule, status: int = 200) -> None:
        """Answer with a schedule."""
        self.answer(self.parts.schedules.details(schedule), status)


class SchedulesHandler(ScheduleResource):
    """``GET`` and ``POST /schedules``."""

    @operation("List schedules", access="viewer", query=ScheduleQuery, answers={200: ScheduleList})
    async def get(self) -> None:
        """List schedules, the newest first where no other order is asked for; `search` looks in names."""
        query = self.query(ScheduleQuery)
        scope = {**self.caller.scope, "crew_id": query.crew_id}
        page = await list_page(self.parts.store.schedules, query, scope, searched=("name",))
        details = self.parts.schedules.details
        await self.answer_with(
            lambda: ScheduleList.of(query, [details(each) for each in page.documents], page.total),
            # Five times of each are reckoned.
            size=10 * len(page.documents),
        )

    @operation(
        "Create a schedule",
        access="editor",
        body=ScheduleCreate,
        answers={201: ScheduleDetails},
        errors=(404, 409),
    )
    async def post(self) -> None:
        """Have a crew be run by the clock; it is checked whole first, as before a run.

        Runs are started while a server of the data folder is up: one that is switched off starts nothing.
        """
        body = self.body(ScheduleCreate)
        self.crew(body.crew_id, field="crew_id")
        self.show(await self.parts.schedules.create(body, self.caller.owner), 201)


class ScheduleHandler(ScheduleResource):
    """``GET``, ``PUT`` and ``DELETE /schedules/{schedule_id}``."""

    @operation("Get a schedule", access="viewer", answers={200: ScheduleDetails}, errors=(404,))
    async def get(self, schedule_id: str) -> None:
        """Give a schedule, with its next times and what has become of the latest."""
        self.show(self.schedule(schedule_id))

    @operation(
        "Update a schedule",
        access="editor",
        body=ScheduleUpdate,
        answers={200: ScheduleDetails},
        errors=(404,),
    )
    async def put(self, schedule_id: str) -> None:
        """Change what is given; another expression or zone counts from now on."""
        schedule = self.schedule(schedule_id)
        self.show(await self.parts.schedules.update(schedule, self.body(ScheduleUpdate)))

    @operation("Delete a schedule", access="editor", answers={204: None}, errors=(404,))
    async def delete(self, schedule_id: str) -> None:
        """Delete a schedule; its runs stay, and go on."""
        self.schedule(schedule_id)
        await self.parts.schedules.delete(schedule_id)
        self.nothing()


class SchedulePauseHandler(ScheduleResource):
    """``POST /schedules/{schedule_id}/pause``."""

    @operation("Pause a schedule", access="editor", answers={200: ScheduleDetails}, errors=(404,))
    async def post(self, schedule_id: str) -> None:
        """Start no more runs of it; what runs goes on."""
        self.schedule(schedule_id)
        self.show(await self.parts.schedules.pause(schedule_id))


class ScheduleResumeHandler(ScheduleResource):
    """``POST /schedules/{schedule_id}/resume``."""

    @operation("Resume a schedule", access="editor", answers={200: ScheduleDetails}, errors=(404,))
    async def post(self, schedule_id: str) -> None:
        """Start its runs again, from now on; what was missed is not made good."""
        self.schedule(schedule_id)
        self.show(await self.parts.schedules.resume(schedule_id))


class ScheduleRunHandler(ScheduleResource):
    """``POST /schedules/{schedule_id}/run``."""

    @operation(
        "Run a schedule now", access="editor", answers={202: ScheduleRun}, errors=(400, 404, 409, 429, 503)
    )
    async def post(self, schedule_id: str) -> None:
        """Start a run of it now, whether or not it is paused, within its budgets."""
        execution = await self.parts.schedules.run(self.schedule(schedule_id))
        self.answer(ScheduleRun(job_id=execution.id), 202)
