"""``jupyter kasal mcp``: the MCP servers, whose tools agents can use."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from kasal_jupyter.cli import WrongUsage
from kasal_jupyter.cli.connect import add_server_options, say, server_of
from kasal_jupyter.cli.terminal import console_of, print_rows
from kasal_jupyter.errors import NotFound, nearest
from kasal_jupyter.kernel.magics.commands.server import (
    MCP_TOOL_HEADS,
    NO_SERVERS,
    SERVER_HEADS,
    server_cells,
    tool_cells,
)
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.figures import counted

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.mcp import McpServerDetails

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


def add_mcp(subparsers: Subparsers) -> None:
    """Add ``mcp`` to the parser of `jupyter kasal`."""
    mcp = subparsers.add_parser(
        "mcp",
        help="list, add and remove MCP servers",
        description="List the MCP servers, whose tools agents can use; or add, refresh or remove one.",
    )
    mcp.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(mcp)
    mcp.set_defaults(handler=run_list)
    actions = mcp.add_subparsers(metavar="add|list|refresh|remove")
    _register_add(actions)
    listed = actions.add_parser("list", help="list the servers, or one's tools")
    listed.add_argument("name", nargs="?", metavar="NAME", help="one server, with its tools")
    listed.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(listed)
    listed.set_defaults(handler=run_list)
    refresh = actions.add_parser("refresh", help="list a server's tools anew")
    refresh.add_argument("name", metavar="NAME", help="the server")
    add_server_options(refresh)
    refresh.set_defaults(handler=run_refresh)
    remove = actions.add_parser("remove", help="remove a server")
    remove.add_argument("name", metavar="NAME", help="the server")
    remove.add_argument("--force", action="store_true", help="even where agents or tasks use its tools")
    add_server_options(remove)
    remove.set_defaults(handler=run_remove)


def _register_add(actions: Subparsers) -> None:
    add = actions.add_parser(
        "add",
        help="register a server",
        description="Connect to an MCP server and register it: a program, whose words stand behind --, or "
        "the address of a streamable-HTTP endpoint.",
        epilog="jupyter kasal mcp add files -- npx -y @modelcontextprotocol/server-filesystem /data; "
        "jupyter kasal mcp add tickets https://mcp.example.com/mcp --header 'Authorization: Bearer …'",
    )
    add.add_argument("name", metavar="NAME", help="what the names of its tools begin with")
    add.add_argument("target", nargs="+", metavar="URL | -- COMMAND", help="where or what it is")
    add.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="a variable of the program's; without a value it is this terminal's. Kept encrypted",
    )
    add.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="a header. Kept encrypted"
    )
    add.add_argument("--tool", action="append", metavar="TOOL", help="take this tool, and no others but such")
    add.add_argument("--timeout", type=float, metavar="S", help="seconds that a call may take (default: 60)")
    add.add_argument("--description", metavar="TEXT", help="what it is for")
    add.add_argument("--shared", action="store_true", help="for everybody's crews; for admins")
    add_server_options(add)
    add.set_defaults(handler=run_add)


def run_add(args: argparse.Namespace) -> int:
    """Carry out ``mcp add``; give the exit status."""
    # Not at the top: `--help` does without the schemas.
    from pydantic import ValidationError

    from kasal_jupyter.schemas.mcp import McpServerCreate

    try:
        body = McpServerCreate.model_validate(_fields(args))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise WrongUsage(f"{where}: {first['msg']}" if where else first["msg"]) from None
    say(f"Connecting to {args.name} …")
    with server_of(args) as client:
        registered = client.add_mcp_server(body)
    print(f"{args.name} is registered: {counted(len(registered.tools), 'tool')}")
    for name in registered.tools:
        print(f"  {clean(name)}")
    for each in registered.left_out:
        say(clean(f"  without {each.remote_name}: {each.reason}"))
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Carry out ``mcp`` and ``mcp list``; give the exit status."""
    name = getattr(args, "name", None)
    with server_of(args) as client:
        servers = client.mcp_servers() if name is None else [_named(client, name)]
    if args.json:
        print(json.dumps([each.model_dump() for each in servers], indent=2, ensure_ascii=False))
    elif not servers:
        print(NO_SERVERS)
    elif name is not None:
        print_rows(console_of(sys.stdout), MCP_TOOL_HEADS, tool_cells(servers[0]), spare=("there",))
    else:
        rows = [server_cells(each) for each in servers]
        print_rows(console_of(sys.stdout), SERVER_HEADS, rows, spare=("what it is",))
    return 0


def run_refresh(args: argparse.Namespace) -> int:
    """Carry out ``mcp refresh``; give the exit status."""
    with server_of(args) as client:
        found = client.refresh_mcp_server(_named(client, args.name).server_id)
    for sign, names in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for name in names:
            print(f"{sign} {clean(name)}")
    print(f"{args.name} has {counted(len(found.tools), 'tool')}")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    """Carry out ``mcp remove``; give the exit status."""
    with server_of(args) as client:
        client.delete_mcp_server(_named(client, args.name).server_id, force=args.force)
    print(f"{args.name} is removed")
    return 0


def _named(client: Client, name: str) -> McpServerDetails:
    servers = {each.name: each for each in client.mcp_servers()}
    if name not in servers:
        raise NotFound(f"There is no MCP server {name!r}{nearest(name, servers)}")
    return servers[name]


def _fields(args: argparse.Namespace) -> dict[str, Any]:
    """Give the body that the words stand for."""
    fields: dict[str, Any] = {
        "name": args.name,
        "env": dict(_variable(each) for each in args.env),
        "headers": dict(_header(each) for each in args.header),
        "tools": args.tool,
        "shared": args.shared,
    }
    fields |= {
        word: getattr(args, word) for word in ("timeout", "description") if getattr(args, word) is not None
    }
    first, *rest = args.target
    if _ADDRESS.match(first):
        if rest:
            raise WrongUsage(f"Behind the address stands {' '.join(rest)!r}; an address has no arguments")
        return {**fields, "transport": "http", "url": first}
    return {**fields, "transport": "stdio", "command": first, "args": rest}


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        if name not in os.environ:
            raise WrongUsage(f"--env {name}: this terminal has no such variable; give NAME=VALUE")
        value = os.environ[name]
    return name, value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        # Not the text itself: it may be a key.
        raise WrongUsage("--header takes a name and a value, 'Authorization: Bearer …'")
    return name.strip(), value.strip()
