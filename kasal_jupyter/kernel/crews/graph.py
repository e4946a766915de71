"""A crew's task graph: as HTML that outlives the kernel, and as text.

The tasks stand below each other in the order they run. What a task hands on is a line to the left of
them, in the colour of its agent: it leaves below the task's name, and enters every task that builds on it.
A task that names nothing to build on is given what came before, by the short grey line from the task above.

Each row draws its own part of every line that passes it, so that a task may be opened; see
:mod:`kasal_jupyter.kernel.views.html_parts` for the styles that survive. Without any, the rows are a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kasal_jupyter.kernel.crews.plan import Plan, Step, condition_words, plan_of
from kasal_jupyter.kernel.views import html_parts as parts
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.html_parts import labelled_text, remark
from kasal_jupyter.kernel.views.rows import STATUS_MARKS
from kasal_jupyter.schemas.crews import CrewCreate, CrewDetails

COLOURS = (parts.BLUE, parts.GREEN, parts.ORANGE, "#8d6cf0", "#0f9bb5", "#d6589f", "#a8832a", "#6b8e23")
"""The agents', in the crew's order."""

_STYLES: dict[str, str] = dict(parts.STATUS_STYLES.items())
_MARKS: dict[str, str] = dict(STATUS_MARKS.items())

LANE = 14
"""Pixels between two lines."""
MOST_LANES = 8
"""Lines side by side; what would need more is written in the tasks alone."""
ENTERS, LEAVES = 15, 25
"""Pixels below a row's upper edge at which lines meet the task."""
BETWEEN = 12
"""Pixels between two tasks."""

_BOX = "border-radius:8px;padding:7px 12px 8px;background:rgba(127,127,127,0.05);box-sizing:border-box"
_CHIP = (
    "display:inline-block;font-size:11px;line-height:16px;padding:0 7px;border-radius:9px;margin-left:6px;"
    "background:rgba(127,127,127,0.14)"
)
_DOT = "display:inline-block;width:9px;height:9px;border-radius:5px;margin-right:5px"


@dataclass(frozen=True, slots=True)
class _Lane:
    """A line: from a task to the last that builds on it. The manager's begins above all tasks."""

    source: int
    targets: frozenset[int]
    colour: str
    dashed: bool = False

    @property
    def end(self) -> int:
        return max(self.targets)

    @property
    def line(self) -> str:
        return f"2px {'dashed' if self.dashed else 'solid'} {self.colour}"


def graph_html(crew: CrewDetails | CrewCreate, *, states: Mapping[str, str] | None = None) -> str:
    """Draw a crew's tasks.

    Parameters
    ----------
    crew
        The crew; it may be unfinished.
    states
        How tasks fare (``running``, ``completed``, ``failed`` …), by their ids or names.

    Returns
    -------
    str
        HTML without scripts, links or pictures; every foreign text in it escaped.
    """
    plan = plan_of(crew)
    if not plan.steps:
        return f'<div style="{parts.MUTED};padding:6px 0">No tasks yet.</div>'
    lanes, left_out = _lanes(plan)
    drawn = [_planner_row(plan, lanes)] if plan.planner else []
    drawn += [_manager_row(plan, lanes)] if plan.manager else []
    drawn += [_row(plan, step, lanes, (states or {}).get(step.key)) for step in plan.steps]
    if left_out:
        drawn.append(remark(f"{left_out} more lines are not drawn; each task says what it builds on."))
    label = escape(f"Tasks of {one_line(plan.name, 80)}")
    return f'<div role="group" aria-label="{label}">{"".join(drawn)}</div>'


def graph_text(crew: CrewDetails | CrewCreate) -> str:
    """Write a crew's tasks as a text, a line a task."""
    plan = plan_of(crew)
    width = max((len(one_line(step.title, 40)) for step in plan.steps), default=0)
    lines = [f"◆ planner  {one_line(plan.planner, 60)}, plans before the tasks"] if plan.planner else []
    if plan.manager:
        lines.append(f"◆ manager  {one_line(plan.manager, 60)}, hands out the tasks")
    for step in plan.steps:
        branch = "└─" if step is plan.steps[-1] else "├─"
        words = [_who(step, plan), step.model or "default model", ", ".join(step.tools)]
        said = " · ".join(one_line(word, 60) for word in words if word)
        builds = f"  ← {', '.join(from_)}" if (from_ := _builds_on(step, plan)) else ""
        side = "".join(f"  {mark}" for mark in _marks(step))
        title = one_line(step.title, 40)
        lines.append(f"{branch} {step.number} {title:<{width}}  {said}{builds}{side}".rstrip())
    return "\n".join(lines) or "No tasks yet"


def agent_colour(place: int | None) -> str:
    """Give the colour of the agent at that place in its crew; grey where there is none."""
    return parts.GREY if place is None else COLOURS[place % len(COLOURS)]


def dot(colour: str) -> str:
    """Give the coloured sign of an agent."""
    return f'<span style="{_DOT};background:{colour}"></span>'


def _lanes(plan: Plan) -> tuple[list[list[_Lane]], int]:
    """Lay the lines side by side, the shortest next to the tasks; say how many found no room."""
    wanted = [
        _Lane(step.place, frozenset(targets), agent_colour(step.agent_place))
        for step in plan.steps
        if (targets := [later.place for later in plan.steps if step.place in later.after])
    ]
    wanted.sort(key=lambda lane: (lane.end - lane.source, lane.source))
    if plan.manager:
        everyone = frozenset(step.place for step in plan.steps)
        wanted.append(_Lane(-1, everyone, parts.GREY, dashed=True))
    lanes: list[list[_Lane]] = []
    left_out = 0
    for lane in wanted:
        free = next((each for each in lanes if all(_apart(lane, other) for other in each)), None)
        if free is not None:
            free.append(lane)
        elif len(lanes) < MOST_LANES:
            lanes.append([lane])
        else:
            left_out += 1
    return lanes, left_out


def _apart(one: _Lane, other: _Lane) -> bool:
    # A line that ends at a task, and one that begins there, are told apart by where they meet it.
    return one.end <= other.source or other.end <= one.source


def _row(plan: Plan, step: Step, lanes: list[list[_Lane]], state: str | None) -> str:
    gutter = _gutter(lanes)
    colour = agent_colour(step.agent_place)
    edge = "dashed" if step.task.async_execution else "solid"
    last = step.place == len(plan.steps) - 1
    lines = _segments(step.place, lanes, gutter)
    if not last and not plan.manager:
        weight = (
            "rgba(127,127,127,0.55)"
            if step.place in plan.steps[step.place + 1].given
            else "rgba(127,127,127,0.2)"
        )
        lines += (
            f'<span style="position:absolute;left:{gutter + 22}px;bottom:0;height:{BETWEEN}px;width:2px;'
            f'background:{weight}"></span>'
        )
    border = f"border:1px {edge} rgba(127,127,127,0.32);border-left:4px {edge} {colour}"
    return (
        f'<div style="position:relative;padding-left:{gutter}px;padding-bottom:{0 if last else BETWEEN}px">'
        f'{lines}<details style="{_BOX};{border}">'
        f'<summary style="cursor:pointer">{_headline(step, state)}{_facts(step, plan, colour)}</summary>'
        f"{_inside(step)}</details></div>"
    )


def _headline(step: Step, state: str | None) -> str:
    marks = _marks(step)
    if step.task.output_schema is not None:
        marks.append("JSON")
    chips = "".join(f'{parts.separator()}<span style="{_CHIP}">{escape(mark)}</span>' for mark in marks)
    if state is not None:
        style = _STYLES.get(state, f"color:{parts.GREY}")
        mark = _MARKS.get(state, "○")
        chips += (
            f'{parts.separator()}<span style="float:right;font-size:12px;font-weight:600;{style}">'
            f"{mark} {escape(one_line(state, 20))}</span>"
        )
    return (
        f'<span style="{parts.MUTED}">{step.number}</span>{parts.hidden(".")} '
        f'<span style="font-weight:600;font-size:14px">{escape(one_line(step.title, 90))}</span>{chips}'
    )


def _marks(step: Step) -> list[str]:
    """Give what is special about a task, each in a few words."""
    task = step.task
    marks = ["⇉ the next task does not wait"] if task.async_execution else []
    if task.condition is not None:
        marks.append(f"◇ {one_line(condition_words(task.condition), 80)}")
    if task.guardrail is not None:
        marks.append("⛨ guardrail")
    if task.output_file is not None:
        marks.append(f"→ {one_line(task.output_file, 60)}")
    return marks


def _facts(step: Step, plan: Plan, colour: str) -> str:
    """Give the second line: who does it, with what, and after what."""
    model = escape(one_line(step.model, 60)) if step.model else "default model"
    said = f'{escape(_who(step, plan))} <span style="{parts.MUTED}">· {model}'
    if step.tools:
        said += f" · {escape(one_line(', '.join(step.tools), 120))}"
    if builds_on := _builds_on(step, plan):
        said += f" · ← {escape(one_line(', '.join(builds_on), 160))}"
    return (
        f'<div style="font-size:12px;margin-top:1px">{dot(colour)}{parts.separator("- ")}{said}</span></div>'
    )


def _inside(step: Step) -> str:
    task = step.task
    texts = [
        labelled_text("what to do", task.description),
        labelled_text("what is expected", task.expected_output),
        *(labelled_text("is told as well", text) for text in step.texts),
    ]
    if task.guardrail is not None:
        texts.append(labelled_text("what its result must be like", task.guardrail))
    if task.output_schema is not None:
        from kasal_jupyter.kernel.views.rows import as_json

        texts.append(labelled_text("schema of the result", as_json(task.output_schema)))
    return f'<div style="margin-top:6px">{"".join(texts)}</div>'


def _who(step: Step, plan: Plan) -> str:
    if step.agent is None:
        return "the manager chooses" if plan.manager else "nobody yet"
    return one_line(step.agent, 60) + ("" if step.agent_place is not None else " (no such agent)")


def _builds_on(step: Step, plan: Plan) -> list[str]:
    if len(step.given) > 1:
        return ["all before it"]
    return [one_line(plan.steps[place].title, 40) for place in (step.after or step.given)]


def _planner_row(plan: Plan, lanes: list[list[_Lane]]) -> str:
    return _head_row("Planner", plan.planner or "", "plans before the tasks", "", _gutter(lanes))


def _manager_row(plan: Plan, lanes: list[list[_Lane]]) -> str:
    gutter = _gutter(lanes)
    does = "hands out the tasks and judges the results"
    return _head_row("Manager", plan.manager or "", does, _segments(-1, lanes, gutter), gutter)


def _head_row(name: str, who: str, does: str, lines: str, gutter: int) -> str:
    return (
        f'<div style="position:relative;padding-left:{gutter}px;padding-bottom:{BETWEEN}px">{lines}'
        f'<div style="{_BOX};border:1px dashed rgba(127,127,127,0.5)">'
        f'<span style="font-weight:600;font-size:14px">{name}</span> '
        f'<span style="{parts.MUTED};font-size:12px">{escape(one_line(who, 60))} · {does}</span></div></div>'
    )


def _gutter(lanes: list[list[_Lane]]) -> int:
    return LANE * len(lanes) + (8 if lanes else 0)


def _segments(place: int, lanes: list[list[_Lane]], gutter: int) -> str:
    """Give a row's parts of the lines that begin, pass or end there."""
    drawn = ""
    for number, lane_of in enumerate(lanes):
        left = gutter - 8 - LANE * (number + 1) + 4
        for lane in lane_of:
            if lane.source == place:
                drawn += _piece(left, f"top:{LEAVES}px;bottom:0", gutter - left, lane, "top")
            elif lane.source < place <= lane.end:
                if place < lane.end:
                    drawn += _piece(left, "top:0;bottom:0", 2, lane, "")
                if place in lane.targets:
                    drawn += _piece(left, f"top:0;height:{ENTERS}px", gutter - left - 4, lane, "bottom")
                    drawn += _arrow(gutter, lane.colour)
    return drawn


def _piece(left: int, height: str, width: int, lane: _Lane, corner: str) -> str:
    bent = f"border-{corner}:{lane.line};border-{corner}-left-radius:8px;" if corner else ""
    return (
        f'<span style="position:absolute;left:{left}px;{height};width:{width}px;box-sizing:border-box;'
        f'border-left:{lane.line};{bent}"></span>'
    )


def _arrow(gutter: int, colour: str) -> str:
    return (
        f'<span style="position:absolute;left:{gutter - 7}px;top:{ENTERS - 6}px;width:0;height:0;'
        f"border-top:5px solid transparent;border-bottom:5px solid transparent;border-left:7px solid {colour}"
        '"></span>'
    )
