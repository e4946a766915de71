"""What `%kasal` alone says: where it is connected, what can run, and what to type next."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import KasalError, NotFound
from kasal_jupyter.kernel.session import Session
from kasal_jupyter.kernel.views.clean import one_line

if TYPE_CHECKING:
    from kasal_jupyter.schemas.crews import CrewSummary

_FEW = 6
"""Names that are told before the rest is counted."""


def greeting(session: Session) -> str:
    """Give the lines; without a server they say so, and what to do."""
    try:
        client = session.client
        crews = client.crews()
        first = _first(client, crews)
    except KasalError as error:
        return f"Not connected. {error.message}\n`%kasal doctor` looks for the reason"
    return "\n".join(
        [
            f"Connected to {client.url} ({client.connection.origin})",
            f"Models  {_models(client)}",
            f"Crews   {_some([each.name for each in crews]) or 'none yet'}",
            f"Next    {first} · %%kasal crew NAME with YAML below · %kasal ps · %kasal --help",
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


def _first(client: Client, crews: list[CrewSummary]) -> str:
    """Give what can be run at once, with the inputs it takes."""
    from kasal_jupyter.kernel.crews.card import run_words

    for each in crews:
        with suppress(NotFound):
            return f"%kasal run {run_words(client.crew(each.id))}"
    return "%kasal demo"


def _some(names: list[str]) -> str:
    shown = ", ".join(one_line(name, 40) for name in names[:_FEW])
    return f"{shown} and {len(names) - _FEW} more" if len(names) > _FEW else shown
