"""Braces as CrewAI reads them: around a name of ASCII letters one pair is the input's, all others are text.

CrewAI has no word for the text ``{topic}`` itself (see :mod:`kasal_jupyter.schemas.placeholders` for
ours).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from kasal_jupyter.schemas.agents import CrewAgent
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.exchange import Remark
from kasal_jupyter.schemas.placeholders import AGENT_TEXTS, rewrite
from kasal_jupyter.schemas.tasks import CrewTask

_TASK = ("description", "expected_output", "output_file")

M = TypeVar("M", CrewAgent, CrewTask)


def from_crewai(text: object) -> object:
    """Give a text of CrewAI's with its braces as ours; what is no text, as it is."""
    if not isinstance(text, str):
        return text

    def ours(name: str, depth: int) -> int:
        return 2 * depth - 1 if name.isascii() else 2 * depth

    return rewrite(text, ours)


def to_crewai(crew: CrewCreate, remarks: list[Remark], given: str) -> tuple[CrewCreate, dict[str, str]]:
    """Write a crew's texts with CrewAI's braces.

    Parameters
    ----------
    crew
        The crew.
    remarks
        Takes what CrewAI cannot say.
    given
        What is to be said of a name in braces that is plain text: to CrewAI it is an input.

    Returns
    -------
    crew
        The crew.
    inputs
        Those that it takes there, each with its value where that is always the same: what stands in braces
        as plain text has to be given as what it is, ``{name}``.
    """
    made = _Written(remarks, given)
    agents = [made.member(agent, AGENT_TEXTS, f"agents[{place}]") for place, agent in enumerate(crew.agents)]
    tasks = [made.member(task, _TASK, f"tasks[{place}]") for place, task in enumerate(crew.tasks)]
    literal = {name: f"{{{name}}}" for name in made.literal if name not in made.inputs}
    return crew.model_copy(update={"agents": agents, "tasks": tasks}), made.inputs | literal


@dataclass(slots=True)
class _Written:
    remarks: list[Remark]
    given: str
    inputs: dict[str, str] = field(default_factory=dict)
    literal: dict[str, None] = field(default_factory=dict)

    def member(self, member: M, names: tuple[str, ...], where: str) -> M:
        texts = {name: text for name in names if (text := getattr(member, name)) is not None}
        update = {name: self._text(text, f"{where}.{name}") for name, text in texts.items()}
        return member.model_copy(update=update)

    def _text(self, text: str, where: str) -> str:
        literal: dict[str, None] = {}
        foreign: dict[str, None] = {}

        def theirs(name: str, depth: int) -> int:
            pairs, filled = divmod(depth, 2)
            if not name.isascii():
                foreign.update(dict.fromkeys([name] if filled else ()))
            elif filled:
                self.inputs[name] = ""
            else:
                literal[name] = None
            return pairs + filled

        written = rewrite(text, theirs)
        self.literal |= literal
        for name in literal:
            self.remarks.append(Remark(field=where, reason=f"{{{name}}} is an input there, {self.given}"))
        for name in foreign:
            reason = f"CrewAI takes ASCII letters alone in an input's name, and leaves {{{name}}} as it is"
            self.remarks.append(Remark(field=where, reason=reason))
        return written
