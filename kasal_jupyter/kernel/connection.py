"""The way to a server, however it was found."""

from __future__ import annotations

from dataclasses import dataclass, field

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
