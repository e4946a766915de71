"""Schedules as notebook and terminal show and change them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any, get_args

from kasal_jupyter.errors import InvalidRequest, NotFound, nearest
from kasal_jupyter.kernel.magics.command_line import bound, count, one_of
from kasal_jupyter.kernel.runs.run_list import add_budget, budget_of
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.figures import counted
from kasal_jupyter.schemas.schedules import (
    SWITCHED_OFF,
    Overlap,
    ScheduleCreate,
    ScheduleDetails,
    TotalBudget,
)

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client

SCHEDULE_HEADS = ["schedule", "crew", "when", "zone", "state", "next", "latest", "id"]

NO_SCHEDULES = "There are no schedules; one begins with a crew, --cron and a budget"

NEEDS_BUDGET = "What is run by the clock needs a budget: --max-cost DOLLARS or --max-tokens N, for each run"

ACTIONS = ("show", "pause", "resume", "run", "remove")
"""What can be done with a schedule that there is."""


def add_schedule_options(parser: ArgumentParser) -> None:
    """Have a parser take what makes a schedule, and what is done with one."""
    parser.add_argument("--cron", metavar="CRON", help="when: '0 7 * * MON-FRI' is at seven on working days")
    parser.add_argument("--zone", metavar="ZONE", default="UTC", help="the clock's, Europe/Berlin; else UTC")
    parser.add_argument("--name", metavar="NAME", help="what it is called; else as its crew")
    add_budget(parser)
    parser.add_argument("--total-cost", metavar="DOLLARS", type=bound, help="what all runs may cost together")
    parser.add_argument("--total-tokens", metavar="N", type=count, help="what all runs may use together")
    parser.add_argument(
        "--overlap",
        metavar="WAY",
        type=one_of(get_args(Overlap)),
        default="skip",
        help="where the run before goes on: skip the time, or queue",
    )
    parser.add_argument(
        "--catch-up", metavar="S", type=count, default=3_600, help="seconds that a run may be late"
    )
    parser.add_argument(
        "--most-failures", metavar="N", type=count, default=3, help="pause after so many in a row"
    )
    words = ("show one with what became of its times", "pause one", "have one go on, from now", "run one now")
    for action, text in zip(ACTIONS, (*words, "remove one; its runs stay"), strict=True):
        parser.add_argument(f"--{action}", metavar="SCHEDULE", help=f"{text}, by its name or id")


def schedule_of(words: Namespace, crew_id: str, crew_name: str, inputs: dict[str, Any]) -> ScheduleCreate:
    """Give the schedule that the words make.

    Raises
    ------
    InvalidRequest
        They name no time, or no budget.
    """
    if words.cron is None:
        raise InvalidRequest("Say when it is to be run: --cron '0 7 * * MON-FRI'")
    budget = budget_of(words)
    if budget is None or (budget.max_cost is None and budget.max_tokens is None):
        raise InvalidRequest(NEEDS_BUDGET)
    total = TotalBudget(max_cost=words.total_cost, max_tokens=words.total_tokens)
    return ScheduleCreate(
        name=words.name or crew_name,
        crew_id=crew_id,
        inputs=inputs,
        cron=str(words.cron),
        timezone=str(words.zone),
        budget=budget,
        total_budget=total if total != TotalBudget() else None,
        overlap=words.overlap,
        catch_up_seconds=words.catch_up,
        most_failures=words.most_failures,
    )


def done_with(client: Client, words: Namespace) -> tuple[str, ScheduleDetails] | None:
    """Do with a schedule what the words ask for, and say so; None where they ask for nothing of the kind.

    Raises
    ------
    NotFound
        There is none, with the nearest name; or there are several of the name.
    """
    asked = [action for action in ACTIONS if getattr(words, action) is not None]
    if not asked:
        return None
    if len(asked) > 1:
        raise InvalidRequest(f"One at a time: {', '.join(f'--{each}' for each in asked)}")
    action = asked[0]
    found = find_schedule(client, str(getattr(words, action)))
    match action:
        case "pause" | "resume":
            now = client.turn_schedule(found.id, action)
            return f"{now.name} is {'paused' if now.paused else f'on; its next run is at {now.next[0]}'}", now
        case "run":
            return f"{found.name} is run now: {client.run_schedule(found.id).job_id}", found
        case "remove":
            client.delete_schedule(found.id)
            return f"{found.name} is removed; its runs stay", found
        case _:
            return "", found


def find_schedule(client: Client, word: str) -> ScheduleDetails:
    """Give the schedule of a name or an id.

    Raises
    ------
    NotFound
        There is none, with the nearest name; or there are several, with their ids.
    """
    known = client.schedules()
    found = [each for each in known if each.id == word] or [each for each in known if each.name == word]
    if not found:
        raise NotFound(f"There is no schedule {word}{nearest(word, [each.name for each in known])}")
    if len(found) > 1:
        raise NotFound(f"There are several schedules {word}: {', '.join(each.id for each in found)}")
    return found[0]


def schedules_table(schedules: list[ScheduleDetails]) -> Shown:
    """Show schedules, a row each."""
    title = f"{counted(len(schedules), 'schedule')}. {SWITCHED_OFF}" if schedules else NO_SCHEDULES
    return Shown(title, SCHEDULE_HEADS, [schedule_cells(each) for each in schedules])


def schedule_cells(schedule: ScheduleDetails) -> list[str]:
    """Give a schedule's row."""
    latest = schedule.slots[0] if schedule.slots else None
    return [
        schedule.name,
        schedule.crew_name,
        schedule.cron,
        schedule.timezone,
        f"paused: {schedule.reason}" if schedule.reason else "paused" if schedule.paused else "on",
        "" if schedule.paused else time_text(schedule.next[0]),
        f"{latest.state} {latest.job_id or ''}".strip() if latest is not None else "",
        schedule.id,
    ]


def schedule_shown(schedule: ScheduleDetails) -> Shown:
    """Show one schedule: its next five times, and what became of the latest."""
    spent = ""
    if schedule.total_budget is not None:
        spent = f" Its runs have used ${schedule.cost or 0:.4g} and {schedule.tokens or 0:,} tokens together."
    state = f" Paused: {schedule.reason}." if schedule.reason else " Paused." if schedule.paused else ""
    title = (
        f"{schedule.name}: {schedule.crew_name} at {schedule.cron} ({schedule.timezone}).{state}{spent} "
        f"{schedule.remark}"
    )
    coming = [["to come", time_text(each), "", ""] for each in schedule.next]
    past = [[each.state, each.slot, each.job_id or "", each.reason or ""] for each in schedule.slots]
    return Shown(title, ["", "time", "run", "why"], [*coming, *past])


def time_text(time: str) -> str:
    """Write a time in its own zone, without seconds."""
    return f"{time[:10]} {time[11:16]}{time[19:]}"
