"""Where CrewAI is wrong, what is done in its place; each with a test that fails when it is no longer so."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import crewai.agent.core
from crewai.utilities.prompts import Prompts

# -- prompts -------------------------------------------------------------------------------------------

_KEPT = "\ue002"
"""Stands behind a brace of an agent's own text, so that nothing more is filled in there."""

_AGENTS = re.compile(r"\{(goal|role|backstory)\}")
_TASKS = re.compile(rf"\{{({_KEPT})?(input|tool_names|tools)\}}")
_UNFILLED = SimpleNamespace(goal="{goal}", role="{role}", backstory="{backstory}")


class FilledOnce(Prompts):
    """CrewAI's prompts, in which what an agent's texts say is no place for more.

    CrewAI replaces ``{goal}``, ``{role}`` and ``{backstory}`` one after the other, and then ``{input}``,
    ``{tool_names}`` and ``{tools}`` in all of that: a goal, an input or a result that has one of these words
    in braces would be given another text in its place.
    """

    def _build_prompt(self, *args: Any, **templates: Any) -> str:
        unfilled = self.model_copy(update={"agent": _UNFILLED})
        template = super(FilledOnce, unfilled)._build_prompt(*args, **templates)
        return _AGENTS.sub(lambda found: self._text(found[1]), template)

    def _text(self, name: str) -> str:
        text: str = getattr(self.agent, name)
        return _TASKS.sub(lambda found: f"{{{_KEPT}{found[2]}}}", text)


def format_prompt(prompt: str, inputs: dict[str, str]) -> str:
    """Fill a task and the names of the tools into a prompt, once; for ``AgentExecutor._format_prompt``."""
    return _TASKS.sub(lambda found: f"{{{found[2]}}}" if found[1] else inputs[found[2]], prompt)


_core: Any = crewai.agent.core
_core.Prompts = FilledOnce
