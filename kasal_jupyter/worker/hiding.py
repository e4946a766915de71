"""Keys that a model or a tool says: taken out before the crew goes on with them.

What leaves the run has none in any case (see ``outbox``). Without this, an agent that was told a key could
write it into a file, or send it somewhere by a tool.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crewai.hooks.dispatch import InterceptionPoint
from crewai.hooks.llm_hooks import LLMCallHookContext
from crewai.hooks.tool_hooks import ToolCallHookContext

from kasal_jupyter.worker.outbox import HIDDEN, MIN_SECRET


class KeyHider:
    """Takes keys out of what models answer, of what tools are called with, and of what they give.

    Parameters
    ----------
    secrets
        The keys.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [secret for secret in dict.fromkeys(secrets) if len(secret) >= MIN_SECRET]

    def hooks(self) -> dict[InterceptionPoint, Any]:
        """Give CrewAI's hooks, by their points; none where there are no keys."""
        if not self._secrets:
            return {}
        return {
            InterceptionPoint.POST_MODEL_CALL: self.answer,
            InterceptionPoint.PRE_TOOL_CALL: self.arguments,
            InterceptionPoint.POST_TOOL_CALL: self.result,
        }

    def answer(self, context: LLMCallHookContext) -> str | None:
        """Give a model's answer without keys; None where it has none."""
        return self._changed(context.response)

    def arguments(self, context: ToolCallHookContext) -> None:
        """Take keys out of a tool's arguments."""
        # CrewAI keeps the dictionary itself.
        for name, value in list(context.tool_input.items()):
            context.tool_input[name] = self._without(value)

    def result(self, context: ToolCallHookContext) -> str | None:
        """Give a tool's result without keys; None where it has none."""
        return self._changed(context.tool_result)

    def _changed(self, text: str | None) -> str | None:
        if text is None or (hidden := self._without(text)) == text:
            return None
        return str(hidden)

    def _without(self, value: Any) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, HIDDEN)
            return value
        if isinstance(value, dict):
            return {self._without(name): self._without(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self._without(part) for part in value]
        return value
