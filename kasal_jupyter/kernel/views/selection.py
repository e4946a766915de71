"""Which steps of a long run a view draws: not the first ones only, but some of every task.

The whole is in the result's ``spans()``; a saved notebook has room for some of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from kasal_jupyter.events.trace import Span, Trace

FAILED_SHARE = 0.2
"""Share of the room that failed steps take before any others."""


def fair_choice(trace: Trace, most: int) -> set[int] | None:
    """Choose about ``most`` spans of a run that is over: failed ones, and of each parent its first and last.

    Returns
    -------
    set of int or None
        Ids, with those of all spans around the chosen ones; None where there is room for all.
    """
    if len(trace.spans) <= most:
        return None
    failed = (span for span in trace.spans.values() if span.state == "failed")
    chosen = _with_those_around(trace, islice(failed, round(most * FAILED_SHARE)))
    families = [trace.roots, *(span.children for span in trace.spans.values() if span.children)]
    room = most - len(chosen)
    quota = _quota([len(family) for family in families], room)
    if quota:
        steps = (span for family in families for span in _ends(family, quota))
        return _cut(trace, chosen | _with_those_around(trace, steps), 2 * most)
    # More parents than there is room for: spans stand in the order in which they began, parents first.
    return _cut(trace, chosen | set(islice(trace.spans, room)), most)


def latest_choice(trace: Trace, most: int) -> set[int]:
    """Choose about ``most`` spans of a run that goes on: what runs, what began last, what is around it."""
    spans = trace.spans
    running = [span for span in spans.values() if span.end is None]
    # What runs deepest began last.
    chosen = _with_those_around(trace, running[-most // 2 :])
    for task in islice(reversed(trace.roots), most // 3):
        chosen.add(task.id)
    for span in reversed(spans.values()):
        if len(chosen) >= most:
            break
        chosen |= _with_those_around(trace, (span,))
    return _cut(trace, chosen, 2 * most)


def _quota(sizes: list[int], room: int) -> int:
    """Give the most that each family may have so that all fit; 0 where not one of each does."""
    low, high = 0, max(sizes, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(size, middle) for size in sizes) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _ends(family: list[Span], quota: int) -> list[Span]:
    """Give the first of a family, and its last, which mostly says how it ended."""
    return family if len(family) <= quota else [*family[: quota - 1], family[-1]]


def _cut(trace: Trace, chosen: set[int], most: int) -> set[int]:
    """Keep what began first where agents that delegate to agents made the choice too large."""
    return (
        chosen if len(chosen) <= most else set(islice((span for span in trace.spans if span in chosen), most))
    )


def _with_those_around(trace: Trace, spans: Iterable[Span]) -> set[int]:
    found: set[int] = set()
    for span in spans:
        above: Span | None = span
        while above is not None and above.id not in found:
            found.add(above.id)
            above = trace.spans.get(above.parent_id) if above.parent_id is not None else None
    return found
