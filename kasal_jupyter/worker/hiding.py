"""Secrets that a model or a tool says: taken out before the crew goes on with them.

What leaves the run has none in any case (see ``outbox``). Without this, an agent that was told a key could
write it into a file, or send it somewhere by a tool.
"""

from __future__ import annotations

from typing import Any

from crewai.hooks.dispatch import InterceptionPoint
from crewai.hooks.llm_hooks import LLMCallHookContext
from crewai.hooks.tool_hooks import ToolCallHookContext

from kasal_jupyter.hiding import Hider


def hiding_hooks(hider: Hider) -> dict[InterceptionPoint, Any]:
    """Give CrewAI's hooks that hide secrets in what models say, and in tools' arguments and results."""
    if not hider:
        return {}

    def changed(text: str | None) -> str | None:
        # None: it stays as it is.
        hidden = hider.hide(text) if text is not None else None
        return None if hidden == text else hidden

    def answer(context: LLMCallHookContext) -> str | None:
        return changed(context.response)

    def arguments(context: ToolCallHookContext) -> None:
        # CrewAI keeps the dictionary itself.
        for name, value in list(context.tool_input.items()):
            context.tool_input[name] = hider.hide(value)

    def result(context: ToolCallHookContext) -> str | None:
        return changed(context.tool_result)

    return {
        InterceptionPoint.POST_MODEL_CALL: answer,
        InterceptionPoint.PRE_TOOL_CALL: arguments,
        InterceptionPoint.POST_TOOL_CALL: result,
    }
