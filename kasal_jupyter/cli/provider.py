"""``jupyter kasal provider``: the keys that a server has for models and searches."""

from __future__ import annotations

import argparse
import json
import sys
from getpass import getpass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kasal_jupyter.cli.connect import add_server_options, server_of
from kasal_jupyter.cli.terminal import console_of, print_rows
from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.models.providers import PROVIDERS
from kasal_jupyter.schemas.models import ProviderInfo, ProviderSet, Scope

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers

HEADS = ("provider", "ready", "set by", "what it needs")

_ASKED = "Secrets are asked for on a terminal, and else are the lines of the standard input."


def add_provider(subparsers: Subparsers) -> None:
    """Add ``provider`` to the parser of `jupyter kasal`."""
    provider = subparsers.add_parser(
        "provider",
        help="list and set the providers of models, with their keys",
        description="Keys are stored encrypted by the server, for your own runs or for everybody's, and are "
        "never given out again.",
    )
    commands = provider.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="list the providers, and what they need")
    listing.add_argument("--json", action="store_true", help="as JSON, for programs")
    listing.set_defaults(handler=run_list)
    change = commands.add_parser(
        "set",
        help="give a provider a key, or an OpenAI-compatible server a name",
        description=f"Set a provider, in place of what was set. {_ASKED}",
    )
    change.add_argument(
        "name", metavar="NAME", help="openai, anthropic …; any other name is an OpenAI-compatible server's"
    )
    change.add_argument("--base-url", metavar="URL", help="another address than the provider's own")
    change.add_argument("--keyless", action="store_true", help="ask for no key: the server needs none")
    change.add_argument(
        "--option",
        metavar="NAME",
        action="append",
        default=[],
        help="another thing to set, e.g. api_version; its value is asked for",
    )
    change.set_defaults(handler=run_set)
    delete = commands.add_parser("delete", help="delete what is stored for a provider")
    delete.add_argument("name", metavar="NAME", help="the provider")
    delete.set_defaults(handler=run_delete)
    test = commands.add_parser("test", help="ask a provider something small: do key, address and model work?")
    test.add_argument("name", metavar="NAME", help="the provider")
    test.add_argument("--model", metavar="MODEL", help="the model to ask; else one that it serves")
    test.add_argument("--json", action="store_true", help="as JSON, for programs")
    test.set_defaults(handler=run_test)
    for each in (change, delete):
        each.add_argument(
            "--for-all", action="store_true", help="for everybody's runs, which takes an administrator"
        )
    for each in (listing, change, delete, test):
        add_server_options(each)


def run_list(args: argparse.Namespace) -> int:
    """Carry out ``provider list``; give the exit status."""
    with server_of(args) as client:
        found = client.providers()
    if args.json:
        print(json.dumps([each.model_dump() for each in found], indent=2, ensure_ascii=False))
    else:
        rows = (
            [each.name, "yes" if each.ready else "no", set_by(each), each.lack]
            for each in sorted(found, key=lambda each: not each.ready)
        )
        print_rows(console_of(sys.stdout), HEADS, rows, spare=("what it needs", "set by"))
    return 0


def run_set(args: argparse.Namespace) -> int:
    """Carry out ``provider set``; give the exit status."""
    known = PROVIDERS.get(args.name)
    takes_key = not args.keyless and (known is None or bool(known.key))
    needed = [need for need in known.needs if need in known.options] if known is not None else []
    options = dict.fromkeys([*needed, *args.option])
    with server_of(args) as client:
        fields = {
            "api_key": _secret(f"Key for {args.name}") if takes_key else None,
            "base_url": args.base_url,
            "options": {option: _secret(option) for option in options},
            "scope": _scope(args),
        }
        info = client.set_provider(args.name, _valid(fields))
    print(f"{info.title} is ready" if info.ready else info.reason)
    return 0


def run_delete(args: argparse.Namespace) -> int:
    """Carry out ``provider delete``; give the exit status."""
    with server_of(args) as client:
        client.delete_provider(args.name, scope=_scope(args))
    print(f"Nothing is stored for {args.name} any more")
    return 0


def run_test(args: argparse.Namespace) -> int:
    """Carry out ``provider test``; give the exit status, 1 where it does not work."""
    with server_of(args) as client:
        found = client.test_provider(args.name, args.model)
    print(found.model_dump_json(indent=2) if args.json else clean(found.told))
    return 0 if found.works else 1


def set_by(info: ProviderInfo) -> str:
    """Say where what counts was set."""
    return {"user": "you", "server": "an administrator", "environment": "the environment"}.get(
        info.source or "", ""
    )


def _scope(args: argparse.Namespace) -> Scope:
    return "server" if args.for_all else "user"


def _secret(what: str) -> str:
    """Read a secret: never from the command line, which everybody on the machine can see."""
    if sys.stdin.isatty():
        return getpass(f"{what}: ")
    line = sys.stdin.readline()
    if not line.strip():
        raise InvalidRequest(f"{what}: there is no line for it on the standard input")
    return line.removesuffix("\n").removesuffix("\r")


def _valid(fields: dict[str, object]) -> ProviderSet:
    try:
        return ProviderSet.model_validate({name: value for name, value in fields.items() if value})
    except ValidationError as error:
        faults = [
            Fault(".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, "))
            for fault in error.errors(include_input=False)
        ]
        raise InvalidRequest("Nothing was changed", faults=faults) from None
