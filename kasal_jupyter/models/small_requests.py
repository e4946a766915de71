"""Asking a server of models something small: within a time, up to a size, and without a word of keys."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import orjson

from kasal_jupyter.outward import NoWayOut, authorities_for, client_options, proxy_for
from kasal_jupyter.tools.guard import HostGuard, HostRefused
from kasal_jupyter.wellformed import well_formed_json

if TYPE_CHECKING:
    import httpx

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
