"""What goes wrong with an MCP server, in words for agents and for whoever registers it."""

from __future__ import annotations


class McpFailed(ValueError):
    """A server cannot be reached, is none, or did not do what it was asked.

    Parameters
    ----------
    text
        What happened.
    field
        The field of its registration that is to blame: ``command`` or ``url``, where one is.
    """

    def __init__(self, text: str, *, field: str | None = None) -> None:
        super().__init__(text)
        self.field = field
