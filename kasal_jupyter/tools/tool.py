"""A tool: what an agent can call, as CrewAI, the API and the notebook all see it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.tools.guard import NO_HOSTS, HostGuard


@dataclass(frozen=True, slots=True)
class Question:
    """What an agent asks a human.

    Attributes
    ----------
    text
        The question.
    choices
        Answers to choose from; none where any text is one.
    timeout
        Seconds that an answer is waited for.
    """

    text: str
    choices: tuple[str, ...] = ()
    timeout: float = 3_600.0


Ask = Callable[[Question], str]
"""Gives a human's answer. Raises :class:`ValueError` where there is none, in words for the agent."""


def _nobody(_question: Question) -> str:
    raise ValueError("Nobody can be asked here")


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know about the run that calls it.

    Attributes
    ----------
    folder
        The run's own working folder: the only place a tool may write files.
    guard
        Which hosts may be called.
    settings
        What the deployer has set for tools.
    ask
        Asks a human.
    sleep
        Waits so many seconds, or until the run must end.
    """

    folder: Path
    guard: HostGuard = field(default_factory=HostGuard)
    settings: RunToolSettings = field(default_factory=RunToolSettings, repr=False)
    ask: Ask = field(default=_nobody, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)


def _usable(_settings: RunToolSettings) -> None:
    """Say that nothing keeps a tool from being used."""


def always(_arguments: Mapping[str, Any]) -> bool:
    """Say that any call may be made twice: the ``idempotent`` of tools without side effects."""
    return True


def never(_arguments: Mapping[str, Any]) -> bool:
    """Say that a call made twice may do more than once."""
    return False


def without_network(settings: RunToolSettings) -> str | None:
    """Say why a tool cannot be used that calls addresses: the ``unavailable`` of such tools."""
    return None if settings.network else NO_HOSTS


@dataclass(frozen=True, slots=True)
class Tool:
    """Something an agent can call.

    Attributes
    ----------
    name
        Unique; lower case with underscores, so that every provider takes it as it is.
    description
        For the model: what it does and when to use it.
    category
        A heading to list it under.
    parameters
        The JSON schema of the arguments, an object. The sandbox model takes its
        arguments from the ``examples`` given there.
    function
        Called with the context and the arguments by name. Raises ``ValueError``
        with a sentence that tells the agent what to do differently.
    idempotent
        Says of a call's arguments whether it does no more than once where it is made twice: a resumed run
        makes such a call again whose end it does not know.
    unavailable
        Says why the tool cannot be used with what the deployer has set, and what to do; None where it can.
    """

    name: str
    description: str
    category: str
    parameters: dict[str, Any]
    function: Callable[..., str] = field(repr=False)
    idempotent: Callable[[Mapping[str, Any]], bool] = field(default=never, repr=False)
    unavailable: Callable[[RunToolSettings], str | None] = field(default=_usable, repr=False)

    def run(self, context: ToolContext, /, **arguments: Any) -> str:
        """Call the tool.

        Parameters
        ----------
        context
            The run it is called in.
        **arguments
            The arguments, already validated against ``parameters``. ``None`` stands for an
            argument that was not given.

        Raises
        ------
        ValueError
            It cannot be called, or fails; in words for the agent.
        """
        # The check of a crew has said so before; it is not what the rule hangs on.
        if reason := self.unavailable(context.settings):
            raise ValueError(reason)
        given = {name: value for name, value in arguments.items() if value is not None}
        return self.function(context, **given)
