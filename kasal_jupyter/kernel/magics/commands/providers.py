"""`%kasal providers` and `%kasal provider`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kasal_jupyter.errors import nearest
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import Parser, add_optional, one_of
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.figures import counted

if TYPE_CHECKING:
    from argparse import Namespace

    from kasal_jupyter.kernel.session import Session
    from kasal_jupyter.schemas.models import ProviderInfo, ProviderTested

HEADS = ["", "provider", "for", "set by", "what it needs"]

_SET_BY = {"user": "you", "server": "an administrator", "environment": "the server's environment"}


providers_arguments = add_optional("provider", "part of the names to show")


def providers_command(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List the providers: those that are ready first. Keys are set in a terminal, never in a notebook."""
    del cell
    providers = session.client.providers()
    wanted = [each for each in providers if not words.provider or words.provider.lower() in each.name]
    if not wanted:
        near = nearest(words.provider, [each.name for each in providers])
        raise CellError(f"There is no provider with {words.provider!r} in its name{near}")
    wanted.sort(key=lambda each: not each.ready)
    ready = sum(each.ready for each in wanted)
    title = (
        f"{counted(ready, 'provider')} can be used; %kasal provider test NAME asks one. "
        "In a terminal, `jupyter kasal provider set NAME` asks for a key, which the server stores encrypted"
    )
    return Shown(title, HEADS, [_cells(each) for each in wanted])


def provider_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal provider``."""
    parser.add_argument("action", metavar="test", type=one_of(("test",)), help="the only thing to do here")
    parser.add_argument("name", metavar="NAME", help="the provider, as %%kasal providers lists it")
    parser.add_argument("--model", metavar="MODEL", help="the model to ask; else one that it serves")


def provider_command(session: Session, words: Namespace, cell: str | None) -> Tested:
    """Test a provider; what does not work fails the cell, with what to do."""
    del cell
    found = session.client.test_provider(words.name, words.model)
    if not found.works:
        raise CellError(found.message)
    return Tested(found)


class Tested:
    """What the test of a provider has shown."""

    def __init__(self, found: ProviderTested) -> None:
        self.found = found

    def __repr__(self) -> str:
        return clean(self.found.told)


def _cells(provider: ProviderInfo) -> list[str]:
    return [
        "✔" if provider.ready else "✖",
        provider.name if provider.name == provider.title else f"{provider.name} ({provider.title})",
        "models" if provider.kind == "models" else "searching the web",
        _SET_BY.get(provider.source or "", ""),
        "; ".join(filter(None, [provider.lack, provider.remark])),
    ]
