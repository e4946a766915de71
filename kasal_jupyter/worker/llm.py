"""What all our LLMs have in common."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from crewai.llms.base_llm import BaseLLM
from pydantic import Field

from kasal_jupyter.schemas.events import TokenUsage
from kasal_jupyter.worker.stop import StopSignal

asked: ContextVar[Sequence[Any]] = ContextVar("kasal_asked", default=())
"""The messages of the model call that is being reported.

CrewAI's event has them too, but cut off at a depth where tool calls are no longer readable.
"""


class ReportedLLM(BaseLLM):
    """An LLM whose calls can be reported whole.

    Attributes
    ----------
    label
        The model's name as the agent says it; events and errors carry it.
    signal
        What the model looks at before each call, and tells about failures.
    """

    label: str = ""
    signal: StopSignal = Field(default_factory=StopSignal, exclude=True)

    def cost(self, usage: TokenUsage | None, at: datetime) -> float | None:
        """Give what a call at a time has cost, in US dollars; None where that is unknown."""
        del usage, at
        return None

    def _emit_call_started_event(self, messages: str | list[Any], *args: Any, **kwargs: Any) -> None:
        token = asked.set([{"role": "user", "content": messages}] if isinstance(messages, str) else messages)
        try:
            super()._emit_call_started_event(messages, *args, **kwargs)
        finally:
            asked.reset(token)
