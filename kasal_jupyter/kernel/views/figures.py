"""Durations, counts, sizes and costs as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kasal_jupyter.events.trace import Span, Trace
from kasal_jupyter.kernel.views.clean import one_line

if TYPE_CHECKING:
    from kasal_jupyter.schemas.datasets import Rating, Thumb
    from kasal_jupyter.schemas.executions import Calls, ForkEstimate, ForkPreview, Recorded, Verb
    from kasal_jupyter.schemas.usage import Usage


def duration_text(seconds: float) -> str:
    """Write a duration: ``12 ms``, ``5.1 s``, ``2 min 05 s``, ``1 h 02 min``."""
    seconds = max(0.0, seconds)
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def moment_text(time: str, *, seconds: bool = False) -> str:
    """Write a time as the API gives it: ``2026-11-24 03:51 UTC``, everywhere; days are typed so as well.

    ``seconds`` adds them, where steps follow each other within a minute.
    """
    return f"{time[:10]} {time[11 : 19 if seconds else 16]} UTC" if time else ""


def second_text(time: str, later: float = 0.0) -> str:
    """Write a time as events have it, or some seconds later, to the second: ``2026-11-24 03:51:07 UTC``."""
    from datetime import timedelta

    from kasal_jupyter.schemas.base import parse_time

    moment = (parse_time(time) + timedelta(seconds=later)).isoformat()
    return f"{moment_text(moment)[:-4]}:{moment[17:19]} UTC"


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Write a count with its noun: ``1 task``, ``1,204 characters``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def size_text(size: int) -> str:
    """Write a size in bytes: ``340 bytes``, ``12 kB``, ``1.3 MB``."""
    if size < 1_000:
        return counted(size, "byte")
    if size < 999_500:
        return f"{size / 1_000:.0f} kB" if size >= 9_950 else f"{size / 1_000:.1f} kB"
    return f"{size / 1_000_000:.1f} MB"


def cost_text(dollars: float | None) -> str:
    """Write a cost: ``$0.0150``, ``$1.20``, ``$0`` for what is free; ``unknown`` is not free."""
    if dollars is None:
        return "unknown"
    if dollars <= 0:
        return "$0"
    if dollars < 0.00005:
        return "<$0.0001"
    return f"${dollars:.4f}" if dollars < 0.99995 else f"${dollars:,.2f}"


def spent_text(usage: Usage) -> str:
    """Write a cost of which a part may be unknown: ``$0.0150``, ``at least $0.0150``, ``unknown``."""
    if usage.cost is None and usage.cost_at_least > 0:
        return f"at least {cost_text(usage.cost_at_least)}"
    return cost_text(usage.cost)


def span_cost_text(span: Span) -> str:
    """Write what a span cost; empty where no model answered in it."""
    return "" if span.cost == 0 and not span.total_tokens else cost_text(span.cost)


def run_cost_text(trace: Trace) -> str:
    """Write what a run cost so far: ``$0.0150``, ``cost unknown``; empty where no model was asked."""
    cost = trace.summary.cost
    if cost is None:
        return "cost unknown"
    return cost_text(cost) if trace.summary.total_tokens else ""


def calls_text(calls: Calls) -> str:
    """Write how calls were answered: ``41 recorded, 3 live, $0.42 saved``; empty where all were live."""
    if not calls.recorded:
        return ""
    live = f"{calls.live:,} live" if calls.live else ""
    return ", ".join(filter(None, (f"{calls.recorded:,} recorded", live, saved_text(calls.saved))))


def saved_text(dollars: float | None) -> str:
    """Write what was saved: ``$0.4200 saved``, ``cost saved is unknown``; empty where it is nothing."""
    if dollars == 0:
        return ""
    return "cost saved is unknown" if dollars is None else f"{cost_text(dollars)} saved"


def lineage_text(verb: Verb, parent: str | None) -> str:
    """Write whose record a run uses: ``replay of job_4t9k2m0x7q1z``; empty where it is a run of its own."""
    return f"{verb} of {parent}" if parent is not None else ""


def estimate_text(estimate: ForkEstimate) -> str:
    """Write what a fork may take: ``3 calls live, about $0.0400``; of a run that was cut short, at least."""
    least = "at least " if estimate.at_least else ""
    calls = f"{least}{counted(estimate.calls, 'call')} live" if estimate.calls else f"{least}no call live"
    if estimate.cost is None:
        return f"{calls}, their cost is unknown"
    return f"{calls}, about {cost_text(estimate.cost)}" if estimate.cost else calls


def preview_text(preview: ForkPreview) -> str:
    """Write where a fork begins, and what it may take: ``From step 5 (gpt-4, Report): 3 calls live``."""
    where = f", {one_line(preview.task, 60)}" if preview.task else ""
    name = one_line(preview.name, 60)
    return f"From step {preview.span} ({name}{where}): {estimate_text(preview.estimate)}"


def answered_text(recorded: Recorded) -> str:
    """Write which earlier run answers: ``from job_4t9k2m0x7q1z, 3 min ago, $0.42 saved``."""
    age = recorded["age_seconds"]
    unit, seconds = next(
        (each for each in (("day", 86_400), ("h", 3_600), ("min", 60)) if age >= each[1]), ("s", 1)
    )
    ago = f"{counted(age // seconds, unit) if unit == 'day' else f'{age // seconds} {unit}'} ago"
    return ", ".join(filter(None, (f"from {recorded['from']}", ago, saved_text(recorded["saved"]))))


def run_figures(trace: Trace) -> str:
    """Write what a run did: ``3 tasks · 6 model calls · 4 tool calls · 1 error recovered``."""
    summary = trace.summary
    parts = []
    if summary.tasks_total:
        done = "" if summary.tasks_done == summary.tasks_total else f"{summary.tasks_done} of "
        parts.append(done + counted(summary.tasks_total, "task"))
    if summary.llm_calls:
        parts.append(counted(summary.llm_calls, "model call"))
    if summary.tool_calls:
        parts.append(counted(summary.tool_calls, "tool call"))
    if answered := calls_text(summary.answers.calls()):
        parts.append(answered)
    # The calls that failed: the tasks and the run that they took down are no further errors.
    errors = sum(span.state == "failed" and span.kind in {"llm", "tool"} for span in trace.spans.values())
    if errors:
        recovered = " recovered" if summary.status == "completed" else ""
        parts.append(counted(errors, "error") + recovered)
    return " · ".join(parts)


def place_text(position: int) -> str:
    """Write a run's place in its server's line: ``number 3 in the queue``."""
    return f"number {position:,} in the queue"


THUMBS: dict[Thumb, str] = {"up": "👍", "down": "👎"}


def rating_text(rating: Rating | None, most: int = 60) -> str:
    """Write a rating in short: ``👎 should be: refund``; empty where there is none."""
    if rating is None:
        return ""
    answer = f" should be: {one_line(rating.answer, most)}" if rating.answer is not None else ""
    note = f" ({one_line(rating.note, most)})" if rating.note else ""
    return f"{THUMBS[rating.thumb]}{answer}{note}"
