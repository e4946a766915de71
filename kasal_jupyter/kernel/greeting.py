"""What `%kasal` alone says: where it is connected, what can run, and what to type next."""

from __future__ import annotations

from kasal_jupyter.errors import KasalError, NotFound
from kasal_jupyter.kernel.clean import one_line
from kasal_jupyter.kernel.client import Client
from kasal_jupyter.kernel.command_line import quoted
from kasal_jupyter.kernel.session import Session

_FEW = 6
"""Names that are told before the rest is counted."""


def greeting(session: Session) -> str:
    """Give the lines; without a server they say so, and what to do."""
    try:
        client = session.client
        crews = [each.name for each in client.crews()]
    except KasalError as error:
        return f"Not connected. {error.message}\n`%kasal doctor` looks for the reason"
    return "\n".join(
        [
            f"Connected to {client.url} ({client.connection.origin})",
            f"Models  {_models(client)}",
            f"Crews   {_some(crews) or 'none yet'}",
            f"Next    {_next(crews)}",
        ]
    )


def _models(client: Client) -> str:
    try:
        models = client.models()
    except NotFound:
        return "this server does not list them; it is older than the notebook's Kasal"
    ready = sorted((each for each in models if each.available), key=lambda each: not each.default)
    names = [f"{each.name} (default)" if each.default else each.name for each in ready]
    others = len(models) - len(ready)
    more = f"; {others} more cannot run yet, %kasal models says why" if others else ""
    return f"{_some(names) or 'none can run'}{more}"


def _next(crews: list[str]) -> str:
    first = f"%kasal run {quoted(crews[0])}" if crews else "%kasal demo"
    return f"{first} · %%kasal crew NAME with YAML below · %kasal ps · %kasal --help"


def _some(names: list[str]) -> str:
    shown = ", ".join(one_line(name, 40) for name in names[:_FEW])
    return f"{shown} and {len(names) - _FEW} more" if len(names) > _FEW else shown
