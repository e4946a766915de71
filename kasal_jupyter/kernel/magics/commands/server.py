"""`%kasal` alone, and `%kasal connect, tools, models, providers, provider, mcp`."""

from __future__ import annotations

import json
from argparse import Namespace
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import KasalError, NotFound, nearest
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import Parser, add_optional, one_of
from kasal_jupyter.kernel.session import Session
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import clean, one_line
from kasal_jupyter.kernel.views.figures import counted

if TYPE_CHECKING:
    from kasal_jupyter.schemas.crews import CrewSummary
    from kasal_jupyter.schemas.mcp import McpServerDetails
    from kasal_jupyter.schemas.models import ModelInfo, ModelPrice, ProviderInfo, ProviderTested

TOOL_HEADS = ["tool", "where", "what it does"]
ARGUMENT_HEADS = ["argument", "type", "", "what it is"]
MOST_NAMED = 8
"""Models that are named of those that need the same."""

MODEL_HEADS = ["", "model", "provider", "$ a million tokens, in / out", "context", "what it needs"]


def connect_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal connect``."""
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="the server's base URL, without /v1; else it is found anew"
    )
    parser.add_argument("--token", metavar="TOKEN", help="Jupyter's token or a Kasal one; else KASAL_TOKEN")


def connect_command(session: Session, words: Namespace, cell: str | None) -> None:
    """Talk to another server: its base URL, without /v1."""
    del cell
    client = session.connect(words.url, words.token)
    count = len(client.crews())
    print(f"Connected to {client.url} ({client.connection.origin}): {counted(count, 'crew')}")  # noqa: T201 - it is the answer


tools_arguments = add_optional("tool", "one tool, with its arguments")


def tools_command(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List the tools that agents can use, or show one with its arguments."""
    del cell
    from kasal_jupyter.kernel.functions.notebook_tools import registered

    tools = {
        each.name: (
            "mcp" if each.server_id else "custom" if each.custom else "built in",
            each.description,
            each.parameters,
        )
        for each in session.client.tools()
    }
    # The check of a run refuses one that is called like a server's tool.
    mine = {name: each.definition for name, each in registered().items()}
    tools |= {name: ("this notebook", each.description, each.parameters) for name, each in mine.items()}
    if words.tool is None:
        rows = [[name, where, text] for name, (where, text, _) in tools.items()]
        title = "A function of the notebook becomes a tool by @kasal.tool above it" if not mine else ""
        return Shown(title, TOOL_HEADS, rows)
    if words.tool not in tools:
        near = nearest(words.tool, tools)
        raise CellError(f"There is no tool {words.tool!r}{near or '; `%kasal tools` lists them'}")
    where, text, parameters = tools[words.tool]
    return Shown(f"{words.tool} ({where}): {text}", ARGUMENT_HEADS, _arguments(parameters))


_WITHOUT_ONE = '; use "sandbox" to try without a model'
"""The end of most reasons, which a list need not repeat."""


models_arguments = add_optional("model", "part of the names to show")


def models_command(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List the models: those that can run first."""
    del cell
    models = session.client.models()
    wanted = [each for each in models if not words.model or words.model.lower() in each.name.lower()]
    if not wanted:
        near = nearest(words.model, [each.name for each in models])
        raise CellError(f"There is no model with {words.model!r} in its name{near}")
    wanted.sort(key=lambda each: (not each.available, not each.default))
    ready = sum(each.available for each in wanted)
    title = f"{counted(ready, 'model')} can run now" + (
        "" if ready == len(wanted) else f", {len(wanted) - ready} more with what they need"
    )
    rows = [[*_model_cells(each), _retired(each)] for each in wanted if each.available]
    lacking = [each for each in wanted if not each.available]
    # Whoever asks for a few wants their prices; of all of them, what a provider needs is said once.
    return Shown(title, MODEL_HEADS, [*rows, *(_each(lacking) if words.model else _grouped(lacking))])


def _grouped(models: list[ModelInfo]) -> list[list[str]]:
    """Give models that cannot run: a row for all of a provider that need the same."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in models:
        groups.setdefault((each.provider, _lack(each)), []).append(each.name)
    return [["✖", _few(names), provider, "", "", lack] for (provider, lack), names in groups.items()]


def _each(models: list[ModelInfo]) -> list[list[str]]:
    """Give models that cannot run, a row each; what they need where it is not what the one before needs."""
    before = [None, *map(_lack, models)]
    return [
        [*_model_cells(each), "the same" if _lack(each) == lack else _lack(each)]
        for each, lack in zip(models, before, strict=False)
    ]


def _lack(model: ModelInfo) -> str:
    # Each reason begins with the model's own name; what runs without one stands above.
    reason = (model.reason or "it cannot run now").removeprefix(f"{model.name!r}: ")
    return reason.removesuffix(_WITHOUT_ONE)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"


def price_text(price: ModelPrice | None) -> str:
    """Write a price: in US dollars a million tokens, what goes in and what comes out; or *unknown*."""
    if price is None:
        return "unknown"
    return f"{price.input:,.2f} / {price.output:,.2f}"


def _model_cells(model: ModelInfo) -> list[str]:
    context = f"{model.context_window:,}" if model.context_window is not None else "unknown"
    name = f"{model.name} (default)" if model.default else model.name
    mark = "✔" if model.available else "✖"
    return [mark, name, model.provider, price_text(model.price), context]


def _retired(model: ModelInfo) -> str:
    return f"retired on {model.retired}: {model.successor} answers" if model.successor else ""


def _arguments(parameters: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name, schema in parameters.get("properties", {}).items():
        needed = "needed" if name in parameters.get("required", ()) else "may be left out"
        kind = str(schema.get("type") or json.dumps({k: v for k, v in schema.items() if k != "description"}))
        rows.append([name, kind, needed, str(schema.get("description", ""))])
    return rows


# -- providers ------------------------------------------------------------------------------------------

# `%kasal providers` and `%kasal provider`.

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


# -- MCP servers ----------------------------------------------------------------------------------------

# `%kasal mcp`: the MCP servers, and the tools of one.

SERVER_HEADS = ["server", "what it is", "where", "tools"]
MCP_TOOL_HEADS = ["tool", "there", "what it does"]

NO_SERVERS = (
    "There are no MCP servers yet; `jupyter kasal mcp add NAME -- COMMAND` or `… add NAME URL` in a terminal "
    "registers one"
)


mcp_arguments = add_optional("server", "one server, with its tools")


def mcp_command(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List the MCP servers, or show the tools of one."""
    del cell
    servers = {each.name: each for each in session.client.mcp_servers()}
    if words.server is None:
        return Shown(
            "" if servers else NO_SERVERS, SERVER_HEADS, [server_cells(each) for each in servers.values()]
        )
    if words.server not in servers:
        near = nearest(words.server, servers)
        raise CellError(f"There is no MCP server {words.server!r}{near or '; `%kasal mcp` lists them'}")
    server = servers[words.server]
    return Shown(
        f"{server.name}: {server.description or server.version or place_of(server)}",
        MCP_TOOL_HEADS,
        tool_cells(server),
    )


def server_cells(server: McpServerDetails) -> list[str]:
    """Give a server's row."""
    what = server.description or server.version or ""
    count = counted(len(server.tools), "tool")
    if server.left_out:
        count += f", {len(server.left_out)} left out"
    return [server.name, what, place_of(server), count]


def tool_cells(server: McpServerDetails) -> list[list[str]]:
    """Give the rows of a server's tools: what agents call them, what the server does, what they do."""
    rows = [[tool.name, tool.remote_name, tool.description] for tool in server.tools]
    return [*rows, *(["(left out)", each.remote_name, each.reason] for each in server.left_out)]


def place_of(server: McpServerDetails) -> str:
    """Say how a server is reached; of one that is shared by another, that it is."""
    if server.url is not None:
        return server.url
    if server.command is not None:
        return " ".join([server.command, *server.args])
    return "shared"


# -- the greeting ------------------------------------------------------------------------------------------

# What `%kasal` alone says: where it is connected, what can run, and what to type next.

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
