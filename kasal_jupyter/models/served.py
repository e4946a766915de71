"""What an OpenAI-compatible server says it serves: asked when it is wanted, and remembered for a while."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

TIME_LIMIT = 3.0
"""Seconds that the server may take for its list."""

MOST_BYTES = 4_000_000
"""Where a list is given up: the longest known, OpenRouter's, has 0.6 MB."""

MOST_MODELS = 2_000

LONGEST_NAME = 180
"""Characters: with ``openai/`` before it, an agent can still have it."""

REMEMBERED = 60.0
"""Seconds that a list counts as the current one."""

FAILURE_REMEMBERED = 10.0
"""Seconds until a server that did not answer is asked again."""

_WINDOWS = ("max_model_len", "context_window", "context_length")
"""What vLLM, Groq and OpenRouter call the tokens that a model takes; OpenAI's API has no word for it."""


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
    """

    models: tuple[ServedModel, ...] = ()
    failure: str | None = None


@dataclass(slots=True, eq=False, repr=False)
class ServedModels:
    """Asks ``GET /models`` of one server after the other, as the environment names them.

    Whoever asks while a question is on its way gets the answer to that one.
    """

    _asked: tuple[str, str | None] | None = None
    _answer: asyncio.Task[Served] | None = None
    _until: float = field(default=0.0)

    async def of(self, base_url: str, api_key: str | None) -> Served:
        """Give what a server serves, no older than a minute.

        Parameters
        ----------
        base_url
            As OpenAI's client takes it, e.g. ``http://127.0.0.1:11434/v1``.
        api_key
            Sent to that server alone; None to send none.
        """
        asked = (base_url, api_key)
        if self._answer is None or asked != self._asked or (self._answer.done() and self._old()):
            self._asked = asked
            self._answer = asyncio.get_running_loop().create_task(asyncio.to_thread(_ask, base_url, api_key))
            self._answer.add_done_callback(self._remember)
        try:
            # Names can take their time to be looked up, of which httpx's limits know nothing.
            async with asyncio.timeout(TIME_LIMIT):
                return await asyncio.shield(self._answer)
        except TimeoutError:
            return _too_slow()

    def _old(self) -> bool:
        return time.monotonic() > self._until

    def _remember(self, answer: asyncio.Task[Served]) -> None:
        if answer is self._answer and not answer.cancelled():
            failed = answer.exception() is not None or answer.result().failure is not None
            self._until = time.monotonic() + (FAILURE_REMEMBERED if failed else REMEMBERED)


def place_of(base_url: str) -> str:
    """Give the host and port of an address, without the user and the password it may have."""
    try:
        return urlsplit(base_url).netloc.rpartition("@")[2] or "the server"
    except ValueError:
        return "the server"


def _too_slow() -> Served:
    return Served(failure=f"it did not answer within {TIME_LIMIT:g} seconds")


def _ask(base_url: str, api_key: str | None) -> Served:
    # The loop goes on meanwhile; and httpx, which takes 50 ms to import, is there only for those who need it.
    import httpx

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        # No redirects: the key is for this server.
        with (
            httpx.Client(timeout=TIME_LIMIT, headers=headers) as client,
            client.stream("GET", f"{base_url.rstrip('/')}/models") as answer,
        ):
            if answer.status_code != 200:
                return Served(failure=f"it answered with status {answer.status_code}")
            return _read(_body(answer))
    except httpx.TimeoutException:
        return _too_slow()
    except httpx.ConnectError:
        return Served(failure="it cannot be reached")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError):
        return Served(failure="it cannot be asked: look at OPENAI_BASE_URL and OPENAI_API_KEY")
    except ValueError:
        return Served(failure="it did not answer with a list of models")


def _body(answer: Any) -> bytes:
    """Read an answer whole, within the limits of its size and of the time it takes in all.

    Raises
    ------
    ValueError
        It is too large.
    httpx.ReadTimeout
        It comes too slowly: httpx itself limits the time between two pieces.
    """
    import httpx

    until = time.monotonic() + TIME_LIMIT
    body = bytearray()
    for piece in answer.iter_bytes():
        body += piece
        if len(body) > MOST_BYTES:
            raise ValueError("too large")
        if time.monotonic() > until:
            raise httpx.ReadTimeout("too slow")
    return bytes(body)


def _read(body: bytes) -> Served:
    """Read a list as OpenAI's API has it, ``{"data": [{"id": …}, …]}``.

    Raises
    ------
    ValueError
        It is none.
    """
    given = orjson.loads(body)
    listed = given.get("data") if isinstance(given, dict) else given
    if not isinstance(listed, list):
        raise ValueError("no list")  # noqa: TRY004 - it is what came that is wrong, like other bytes
    models: dict[str, ServedModel] = {}
    for model in listed[:MOST_MODELS]:
        name = model.get("id") if isinstance(model, dict) else None
        if isinstance(name, str) and name.strip() and name.isprintable() and len(name) <= LONGEST_NAME:
            models.setdefault(name, ServedModel(name, _window(model)))
    return Served(tuple(models.values()))


def _window(model: dict[str, Any]) -> int | None:
    found = (model.get(name) for name in _WINDOWS)
    return next((size for size in found if type(size) is int and size > 0), None)
