"""A crew's card: what it is, whether it could run, its task graph, its agents, and how to run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kasal_jupyter.errors import Forbidden
from kasal_jupyter.kernel.crews.graph import agent_colour, dot, graph_html, graph_text
from kasal_jupyter.kernel.crews.plan import field_by_name, inputs_of, plan_of
from kasal_jupyter.kernel.magics.command_line import quoted
from kasal_jupyter.kernel.views import html_parts as parts
from kasal_jupyter.kernel.views.cards import Checked
from kasal_jupyter.kernel.views.clean import clean, escape, one_line
from kasal_jupyter.kernel.views.figures import counted, moment_text
from kasal_jupyter.kernel.views.html_parts import labelled_text
from kasal_jupyter.schemas.agents import AgentFields
from kasal_jupyter.schemas.crews import CrewChecked, CrewCreate, CrewDetails
from kasal_jupyter.schemas.readiness import content_faults

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.tools import ClientTool

_MOST_REASONS = 10
"""Faults that a card lists."""

_CODE = f"font-family:monospace;font-size:12px;padding:1px 6px;border-radius:4px;background:{parts.PANEL}"


def run_words(crew: CrewDetails | CrewCreate) -> str:
    """Give what stands behind `run` for a crew: its name, and a place for each of its inputs."""
    return " ".join([quoted(crew.name), *(f"{name}=…" for name in inputs_of(crew))])


class CrewCard:
    """A crew to look at, as HTML and as text.

    Parameters
    ----------
    crew
        The crew, stored or not yet.
    verb
        What was just done with it: ``created``, ``updated``; may be empty.
    checked
        What a run's own check has found, whatever the inputs; None where it was not checked: then the card
        tells what its content lacks, and does not say that it is ready.
    """

    def __init__(
        self, crew: CrewDetails | CrewCreate, verb: str = "", checked: CrewChecked | None = None
    ) -> None:
        self.crew = crew
        self.verb = verb
        self.checked = checked
        self.inputs = inputs_of(crew)

    def __repr__(self) -> str:
        state = self._state()[1]
        head = [*([state] if state else []), *self._facts()]
        lines = [f"{one_line(self.crew.name, 120)}  {' · '.join(head)}"]
        if self.crew.description:
            lines.append(one_line(self.crew.description, 160))
        lines.append(graph_text(self.crew))
        lines += [f"✖ {clean(reason)}" for reason in self._reasons()]
        if self.inputs:
            lines.append(f"Inputs: {', '.join(self.inputs)}")
        lines.append(f"Run it: {clean(self.command())}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        name = escape(one_line(self.crew.name, 120))
        style, state = self._state()
        told = [f'<span style="font-weight:600;{style}">{escape(state)}</span>'] if state else []
        told += [f"<span>{escape(fact)}</span>" for fact in self._facts()]
        facts = "&emsp;".join(f"{parts.separator()}{each}" for each in told)
        return (
            f'<div {parts.NO_FORMULAS} style="{parts.CARD}" role="group" '
            f'aria-label="Crew {name}">'
            f'<div style="font-size:15px"><span style="font-weight:600">{name}</span>&emsp;'
            f"{facts}</div>"
            f"{self._identity()}{self._description()}{self._troubles()}"
            f'<div style="margin-top:12px">{graph_html(self.crew)}</div>'
            f"{self._agents()}{self._footer()}</div>"
        )

    def command(self) -> str:
        """Give the line that runs the crew."""
        return f"%kasal run {run_words(self.crew)}"

    def _state(self) -> tuple[str, str]:
        if self.checked is not None and self.checked.runnable and self._reasons():
            return f"color:{parts.ORANGE}", "◷ perhaps not ready"
        if self._reasons():
            return f"color:{parts.ORANGE}", "◷ not ready"
        if self.checked is None:
            return "", ""
        return parts.STATUS_STYLES["completed"], "✔ ready"

    def _reasons(self) -> list[str]:
        if self.checked is not None:
            found = [(fault.field, fault.reason) for fault in self.checked.faults]
            found += [(each.field, each.remark) for each in self.checked.remarks if each.doubt]
            more = len(found) - _MOST_REASONS
            said = [self._reason(*each) for each in found[:_MOST_REASONS]]
            return [
                *said,
                *([f"and {counted(more, 'fault')} more; %kasal check names them"] if more > 0 else []),
            ]
        if not isinstance(self.crew, CrewDetails):
            plan = plan_of(self.crew)
            return [] if plan.steps and plan.agents else ["It has no tasks and agents yet"]
        crew = self.crew
        return [fault.reason for fault in content_faults(crew.configuration, crew.agents, crew.tasks)]

    def _reason(self, field: str, reason: str) -> str:
        """Say what is wrong; where that is, as far as the reason does not say so itself."""
        return f"{field_by_name(field, self.crew)}: {reason}" if "[" in field else reason

    def _facts(self) -> list[str]:
        crew = self.crew
        how = crew.configuration if isinstance(crew, CrewDetails) else crew
        return [
            *([self.verb] if self.verb else []),
            how.process,
            counted(len(crew.agents), "agent"),
            counted(len(crew.tasks), "task"),
            *(["remembers"] if how.memory else []),
            *(["calls need approval"] if how.needs_approval else []),
            *([f"reports to {one_line(how.webhook.url, 80)}"] if how.webhook else []),
        ]

    def _identity(self) -> str:
        if not isinstance(self.crew, CrewDetails):
            return ""
        changed = moment_text(self.crew.updated_at)
        return (
            f'<div style="font-size:12px;text-align:right;{parts.MUTED}">'
            f"{escape(self.crew.id)} · {escape(changed)}</div>"
        )

    def _description(self) -> str:
        text = one_line(self.crew.description, 600)
        return f'<div style="margin-top:2px">{escape(text)}</div>' if text else ""

    def _troubles(self) -> str:
        return "".join(
            f'<div style="margin-top:6px;padding:3px 9px;border-left:3px solid {parts.ORANGE};'
            f'background:{parts.PANEL}">{escape(reason)}</div>'
            for reason in self._reasons()
        )

    def _agents(self) -> str:
        if not self.crew.agents:
            return ""
        agents = "".join(_agent(place, agent) for place, agent in enumerate(self.crew.agents))
        return (
            f'<details style="margin-top:12px"><summary style="cursor:pointer;font-size:12px;{parts.MUTED}">'
            f"{counted(len(self.crew.agents), 'agent')}: goals, models and tools</summary>"
            f"{agents}</details>"
        )

    def _footer(self) -> str:
        inputs = ""
        if self.inputs:
            names = ", ".join(f'<span style="{_CODE}">{escape(name)}</span>' for name in self.inputs)
            inputs = f'<span style="{parts.MUTED}">inputs</span> {names}&emsp;{parts.separator()}'
        return (
            f'<div style="margin-top:10px;font-size:12px">{inputs}<span style="{parts.MUTED}">run it</span> '
            f'<span style="{_CODE}">{escape(self.command())}</span></div>'
        )


def _agent(place: int, agent: AgentFields) -> str:
    facts = [agent.model or "default model", ", ".join(agent.tools)]
    if agent.allow_delegation:
        facts.append("may delegate")
    if agent.needs_approval:
        facts.append(f"asks before {', '.join(agent.needs_approval)}")
    if agent.fallbacks:
        facts.append(f"else {', '.join(agent.fallbacks)}")
    if agent.max_execution_time is not None:
        facts.append(f"{counted(agent.max_execution_time, 'second')} a task")
    role = f" · {escape(one_line(agent.role, 80))}" if agent.name and agent.name != agent.role else ""
    said = " · ".join(escape(one_line(fact, 120)) for fact in facts if fact)
    return (
        f'<div style="margin:8px 0 0 2px"><div>{dot(agent_colour(place))}'
        f'<span style="font-weight:600">{escape(one_line(agent.name or agent.role, 80))}</span>'
        f'<span style="{parts.MUTED}">{role} · {said}</span></div>'
        f'<div style="margin-left:14px">{labelled_text("goal", agent.goal)}'
        f"{labelled_text('backstory', agent.backstory) if agent.backstory else ''}</div></div>"
    )


def stored_card(client: Client, crew: CrewDetails, verb: str = "") -> CrewCard:
    """Give a crew's card, which says whether it could run: by a run's own check, whatever its inputs."""
    try:
        checked = client.check(crew.id, *_as_run(crew, dict.fromkeys(inputs_of(crew), "")))
    except Forbidden:
        # Who may only look cannot run it either.
        return CrewCard(crew, verb)
    return CrewCard(crew, verb, checked)


def check_crew(client: Client, crew: CrewDetails, values: dict[str, Any]) -> Checked:
    """Check a crew with the values, and with the notebook's tools, that a run would take along."""
    return Checked(crew, client.check(crew.id, *_as_run(crew, values)))


def _as_run(crew: CrewDetails, values: dict[str, Any]) -> tuple[dict[str, Any], list[ClientTool]]:
    """Give the inputs and the notebook's tools that a run would be started with."""
    from kasal_jupyter.kernel.runs.runner import read_values

    given = read_values(values, crew)
    return given.inputs, given.definitions
