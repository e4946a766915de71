"""The way to a server, however it was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from kasal_jupyter import errors

PRIVATE = "a private server"
"""The origin of a connection to the server that was started for this user, see :mod:`.private_server`."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server is, and what lets us in.

    Attributes
    ----------
    url
        The Jupyter server's base URL, without ``/v1`` and without a slash at the end.
    token
        Jupyter's token or a Kasal one; empty where the server asks for none.
    origin
        How the server was found, in words: ``KASAL_URL``, ``JupyterHub``, ``the Jupyter server of this
        kernel``, ``a private server``.
    """

    url: str
    token: str = field(repr=False)
    origin: str = field(default="the given address", compare=False)

    @property
    def private(self) -> bool:
        """Whether it is a server that was started for this user: it may end, and be started again."""
        return self.origin == PRIVATE

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"token {self.token}"} if self.token else {}

    @property
    def socket_url(self) -> str:
        """The address of the WebSocket."""
        return f"ws{self.url.removeprefix('http')}/v1/ws"


def print_line(text: str) -> None:
    """Tell the user something, where the answers of their commands are shown."""
    print(text, flush=True)  # noqa: T201 - whoever works in a notebook or a terminal is told there


def _below(kind: type[errors.KasalError]) -> list[type[errors.KasalError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in _below(below))]


_BY_CODE: dict[str, type[errors.KasalError]] = {
    # A class that inherits its code is a special case that the code alone does not tell.
    kind.code: kind
    for kind in reversed(_below(errors.KasalError))
    if "code" in vars(kind) and kind.__module__ == errors.__name__
}
_BY_STATUS = {kind.status: kind for kind in _BY_CODE.values()}
"""The most general class of each status: the tree's lower classes come first above."""


def read_refusal(error: dict[str, Any], status: int = 500) -> errors.KasalError:
    """Make the error that an error body's ``error`` object describes; ``status`` tells where its code is new.

    Raises
    ------
    KeyError, TypeError
        It is no such object.
    """
    details = error.get("details") or {}
    listed = details.get("errors") or ([details] if details else [])
    faults = [errors.Fault(each["field"], each["reason"]) for each in listed]
    kind = _BY_CODE.get(error["code"]) or _BY_STATUS.get(status, errors.KasalError)
    return kind(error["message"], faults=faults)


def refusal_of(status: int, content: bytes) -> errors.KasalError:
    """Make the error that an answer of the API stands for, whatever else answered in its place."""
    try:
        return read_refusal(orjson.loads(content)["error"], status)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        kind = _BY_STATUS.get(status, errors.KasalError)
        return kind(f"The server answered {status}, and not as Kasal does; is the extension enabled there?")
