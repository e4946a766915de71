"""A tool: what an agent can call, as CrewAI, the API and the notebook all see it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from kasal_jupyter.errors import NotFound
from kasal_jupyter.hiding import here
from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.tools import builtin
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
    about
        What else its event says: which result is reviewed, or which call is to be made.
    """

    text: str
    choices: tuple[str, ...] = ()
    timeout: float = 3_600.0
    about: Mapping[str, Any] = field(default_factory=dict)


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
    call_key
        What tells the call from every other one, and is the same where it is made again: in an attempt that
        goes on with the run, say. None: nothing does.
    """

    folder: Path
    guard: HostGuard = field(default_factory=HostGuard)
    settings: RunToolSettings = field(default_factory=RunToolSettings, repr=False)
    ask: Ask = field(default=_nobody, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    call_key: str | None = None


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


IDEMPOTENCY_KEY = "Idempotency-Key"
"""The header of the IETF's draft, which services of payments, mails and the like know."""

# How tools give a model what is long: a portion at a time, with where to go on.

MAX_CHARACTERS = 50_000
"""Most of a text that is given to a model at once."""


def portion(text: str, start: int = 0, *, complete: bool = True, most: int = MAX_CHARACTERS) -> str:
    """Give a part of a text, and say where the next begins.

    Parameters
    ----------
    text
        The text, as far as it is known.
    start
        The first character that is wanted.
    complete
        Whether the text is all there is.
    most
        Characters to give at the most.

    Raises
    ------
    ValueError
        It ends before that character.
    """
    # Whole, so that every part of it is counted alike.
    text = here().hide(text) if complete else here().split(text)[0]
    if start >= len(text) and start > 0:
        raise ValueError(f"It has {len(text):,} characters only; start must be smaller.")
    part = text[start : start + most]
    end = start + len(part)
    if end < len(text):
        return f"{part}\n[It goes on: {len(text):,} characters in all. start={end} gives what follows.]"
    if not complete:
        return f"{part}\n[It goes on, but no more of it is read.]"
    return part


def keyed(method: str, call_key: str | None) -> dict[str, str]:
    """Give the header by which a service knows a request again that changes something."""
    return {IDEMPOTENCY_KEY: call_key} if call_key is not None and method not in {"GET", "HEAD"} else {}


def status_text(status: int) -> str:
    """Write an HTTP status with its phrase."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


# The tools that come with the product. Each is one module of :mod:`kasal_jupyter.tools.builtin`.


@cache
def builtin_tools() -> tuple[Tool, ...]:
    """Give every built-in tool, by name: the ``TOOL`` of each module in ``builtin``."""
    modules = (import_module(f"{builtin.__name__}.{found.name}") for found in iter_modules(builtin.__path__))
    return tuple(sorted((module.TOOL for module in modules), key=lambda tool: tool.name))


@cache
def builtin_names() -> frozenset[str]:
    """Give the built-in tools' names, without loading any: each is its module's."""
    return frozenset(found.name for found in iter_modules(builtin.__path__))


def find_tool(name: str) -> Tool:
    """Give the tool of that name.

    Raises
    ------
    NotFound
        There is none.
    """
    for tool in builtin_tools():
        if tool.name == name:
            return tool
    raise NotFound(f"There is no tool named {name!r}.")
