"""What servers of models say they serve: asked when it is wanted, and remembered for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from kasal_jupyter.errors import TooManyRequests, Unavailable
from kasal_jupyter.models.ollama import installed
from kasal_jupyter.models.small_requests import Asker, AskFailed, too_slow
from kasal_jupyter.places import MODEL_SERVERS
from kasal_jupyter.tools.guard import HostGuard

TIME_LIMIT = 3.0
"""Seconds that a server may take for its list."""

MOST_MODELS = 2_000

MOST_SERVERS = 64
"""Servers whose answers are remembered."""

LONGEST_NAME = 160
"""Characters: with its provider before it, an agent can still have it."""

REMEMBERED = 60.0
"""Seconds that a list counts as the current one."""

FAILURE_REMEMBERED = 10.0
"""Seconds until a server that did not answer is asked again."""

_WINDOWS = ("max_model_len", "max_context_length", "context_window", "context_length")
"""What vLLM, LM Studio, Groq and OpenRouter call the tokens that a model takes; OpenAI's API has no word."""

Protocol = Literal["openai", "ollama"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as its server calls it, and the tokens it takes, where the server says so."""

    name: str
    context_window: int | None


@dataclass(frozen=True, slots=True)
class Served:
    """What a server answered.

    Attributes
    ----------
    models
        In its order.
    failure
        Why there is no list, in words that hold neither keys nor addresses; None where there is one.
    reached
        Whether it has answered nevertheless: it may serve models that it does not list.
    """

    models: tuple[ServedModel, ...] = ()
    failure: str | None = None
    reached: bool = True


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question: nobody gets the answer to another one's, who may have another key."""

    base_url: str
    api_key: str | None = field(repr=False)
    protocol: Protocol
    guard: HostGuard | None


@dataclass(slots=True)
class _Answer:
    task: asyncio.Task[Served]
    until: float = 0.0

    def current(self) -> bool:
        return not self.task.done() or time.monotonic() <= self.until


@dataclass(slots=True, eq=False, repr=False)
class ServedModels:
    """Asks servers for their models, any number at the same time.

    Whoever asks while the same question is on its way gets the answer to that one.
    """

    _answers: dict[_Asked, _Answer] = field(default_factory=dict)

    async def of(
        self,
        base_url: str,
        api_key: str | None,
        protocol: Protocol = "openai",
        guard: HostGuard | None = None,
    ) -> Served:
        """Give what a server serves, no older than a minute.

        Parameters
        ----------
        base_url
            As :class:`~kasal_jupyter.schemas.spec.RunModel` has it, e.g. ``http://127.0.0.1:8000/v1`` of an
            OpenAI-compatible server and ``http://127.0.0.1:11434`` of Ollama.
        api_key
            Sent to that server alone; None to send none.
        protocol
            How it is spoken to.
        guard
            Which hosts may be called; None for any.
        """
        asked = _Asked(base_url, api_key, protocol, guard)
        answer = self._answers.get(asked)
        if answer is None or not answer.current():
            answer = self._ask(asked)
        try:
            # Names can take their time to be looked up, of which httpx's limits know nothing.
            async with asyncio.timeout(TIME_LIMIT):
                return await asyncio.shield(answer.task)
        except TimeoutError:
            return Served(failure=too_slow(TIME_LIMIT), reached=False)

    def _ask(self, asked: _Asked) -> _Answer:
        self._answers.pop(asked, None)
        while len(self._answers) >= MOST_SERVERS:
            del self._answers[next(iter(self._answers))]
        work = _asked_in_turn(asked)
        answer = _Answer(asyncio.get_running_loop().create_task(work))
        self._answers[asked] = answer

        def remember(task: asyncio.Task[Served]) -> None:
            if not task.cancelled():
                failed = task.exception() is not None or task.result().failure is not None
                answer.until = time.monotonic() + (FAILURE_REMEMBERED if failed else REMEMBERED)

        answer.task.add_done_callback(remember)
        return answer


def place_of(base_url: str) -> str:
    """Give the host and port of an address, without the user and the password it may have."""
    try:
        return urlsplit(base_url).netloc.rpartition("@")[2] or "the server"
    except ValueError:
        return "the server"


async def _asked_in_turn(asked: _Asked) -> Served:
    try:
        return await MODEL_SERVERS.do(lambda: _ask(asked, TIME_LIMIT), owner=asked.base_url)
    except (TooManyRequests, Unavailable) as error:
        return Served(failure=str(error), reached=False)


def _ask(asked: _Asked, seconds: float) -> Served:
    try:
        with Asker(asked.base_url, asked.api_key, seconds, asked.guard) as asker:
            listed = installed(asker) if asked.protocol == "ollama" else _listed(asker.ask("/models"))
            return Served(_usable(listed))
    except AskFailed as error:
        return Served(failure=str(error), reached=error.reached)


def _listed(answer: Any) -> Iterator[tuple[Any, int | None]]:
    """Read a list as OpenAI's API has it, ``{"data": [{"id": …}, …]}``.

    Raises
    ------
    AskFailed
        It is none.
    """
    listed = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(listed, list):
        raise AskFailed("it did not answer with a list of models", reached=True)
    return ((model.get("id"), _window(model)) for model in listed if isinstance(model, dict))


def _usable(listed: Iterable[tuple[Any, int | None]]) -> tuple[ServedModel, ...]:
    models: dict[str, ServedModel] = {}
    for name, window in listed:
        if isinstance(name, str) and name.strip() and name.isprintable() and len(name) <= LONGEST_NAME:
            models.setdefault(name, ServedModel(name, window))
        if len(models) == MOST_MODELS:
            break
    return tuple(models.values())


def _window(model: dict[str, Any]) -> int | None:
    found = (model.get(name) for name in _WINDOWS)
    return next((size for size in found if type(size) is int and size > 0), None)
