"""What servers of models say they serve: asked when it is wanted, and remembered for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

import orjson

from kasal_jupyter.errors import TooManyRequests, Unavailable
from kasal_jupyter.outward import NoWayOut, authorities_for, client_options, proxy_for
from kasal_jupyter.places import MODEL_SERVERS
from kasal_jupyter.tools.guard import HostGuard, HostRefused
from kasal_jupyter.wellformed import well_formed_json

if TYPE_CHECKING:
    import httpx


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


# What an Ollama server has installed, with how much each model takes in.

MOST_SHOWN = 200
"""Models whose details are asked for: one question each."""

_AT_ONCE = 8


def installed(asker: Asker) -> Iterator[tuple[str, int | None]]:
    """Give the models that are installed and can be talked to, with the tokens that they take.

    Parameters
    ----------
    asker
        Asks the server, by its root.

    Raises
    ------
    AskFailed
        It does not say what is installed.
    """
    names = _names(asker.ask("/api/tags"))
    loaded = _loaded(asker)

    def details(name: str) -> dict[str, Any]:
        try:
            found = asker.ask("/api/show", {"model": name})
        except AskFailed:
            # It is installed all the same.
            return {}
        return found if isinstance(found, dict) else {}

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ollama") as pool:
        shown = list(pool.map(details, names[:MOST_SHOWN]))
    for place, name in enumerate(names):
        about = shown[place] if place < len(shown) else {}
        capabilities = about.get("capabilities")
        if isinstance(capabilities, list) and "completion" not in capabilities:
            continue  # It makes vectors.
        # What a loaded one was given, else what it could take at most.
        yield name, loaded.get(name) or _longest(about)


def _names(answer: Any) -> list[str]:
    listed = answer.get("models") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise AskFailed("it did not answer with a list of models")
    found = (model.get("name") or model.get("model") for model in listed if isinstance(model, dict))
    return [name for name in found if isinstance(name, str)]


def _loaded(asker: Asker) -> dict[str, int]:
    try:
        answer = asker.ask("/api/ps")
    except AskFailed:
        return {}
    listed = answer.get("models") if isinstance(answer, dict) else None
    return {
        model["name"]: model["context_length"]
        for model in (listed if isinstance(listed, list) else ())
        if isinstance(model, dict)
        and isinstance(model.get("name"), str)
        and type(model.get("context_length")) is int
        and model["context_length"] > 0
    }


def _longest(about: dict[str, Any]) -> int | None:
    info = about.get("model_info")
    if not isinstance(info, dict):
        return None
    sizes = (value for name, value in info.items() if str(name).endswith(".context_length"))
    return next((size for size in sizes if type(size) is int and size > 0), None)


# Asking a server of models something small: within a time, up to a size, and without a word of keys.

MOST_BYTES = 4_000_000
"""Where an answer is given up: the longest list that is known, OpenRouter's, has 0.6 MB."""


class AskFailed(Exception):
    """There is no answer; the text says why, without keys and addresses.

    Attributes
    ----------
    reached
        Whether somebody has answered, though not with what was asked for: the rest of it may work.
    """

    def __init__(self, message: str, *, reached: bool = False) -> None:
        super().__init__(message)
        self.reached = reached


def too_slow(seconds: float) -> str:
    """Say that a server took too long."""
    return f"it did not answer within {seconds:g} seconds"


class Asker:
    """Asks one server, from a thread.

    Parameters
    ----------
    base_url
        Its address; what is asked for is appended.
    api_key
        Sent to that server alone; None to send none.
    seconds
        How long everything may take together.
    guard
        Which hosts may be called; None for any.
    """

    def __init__(self, base_url: str, api_key: str | None, seconds: float, guard: HostGuard | None) -> None:
        # httpx takes 50 ms to import, so it is there only for those who need it.
        import httpx

        self._base_url = base_url.rstrip("/")
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            # No redirects: the key is for this server.
            way = (
                {"transport": self._transport(guard), "trust_env": False}
                if guard
                else client_options(base_url)
            )
            self._client = httpx.Client(timeout=seconds, headers=headers, **way)
        except UnicodeEncodeError:
            raise AskFailed("it cannot be asked: its key has characters that no key has") from None
        except NoWayOut as error:
            raise AskFailed(f"it cannot be asked: {error}") from None

    def _transport(self, guard: HostGuard) -> httpx.BaseTransport:
        from kasal_jupyter.tools.guarded_transport import Deadline, GuardedTransport

        return GuardedTransport(guard, Deadline(self._seconds), authorities_for(self._base_url))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Give what the server answers, read as JSON.

        Parameters
        ----------
        path
            What is asked for, e.g. ``/models``.
        body
            What is posted; None to get.

        Raises
        ------
        AskFailed
            It does not answer, not in time, not with 200, or not in JSON.
        """
        import httpcore
        import httpx

        try:
            with self._client.stream(
                "GET" if body is None else "POST", f"{self._base_url}{path}", json=body
            ) as answer:
                if answer.status_code != 200:
                    refused = answer.status_code in {401, 403}
                    raise AskFailed(f"it answered with status {answer.status_code}", reached=not refused)
                return orjson.loads(well_formed_json(self._body(answer)))
        except (httpx.TimeoutException, httpcore.TimeoutException):
            raise AskFailed(too_slow(self._seconds)) from None
        except (httpx.ConnectError, httpcore.ConnectError):
            proxy = proxy_for(self._base_url)
            through = f" through the proxy {proxy.shown}" if proxy is not None else ""
            raise AskFailed(f"it cannot be reached{through}") from None
        except HostRefused as error:
            raise AskFailed(f"it may not be called: {error}") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpcore.ProtocolError, httpcore.NetworkError):
            raise AskFailed("it cannot be asked: look at its base_url and its key") from None
        except (ValueError, RecursionError):
            raise AskFailed("it did not answer with a list of models", reached=True) from None

    def _body(self, answer: httpx.Response) -> bytes:
        """Read an answer whole, within the limits of its size and of the time it takes in all."""
        body = bytearray()
        for piece in answer.iter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise ValueError("too large")
            if time.monotonic() > self._until:
                # httpx itself limits the time between two pieces only.
                raise AskFailed(too_slow(self._seconds))
        return bytes(body)
