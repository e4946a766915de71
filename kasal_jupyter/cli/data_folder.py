"""``jupyter kasal user`` and ``db``: what is done to the data folder itself, whether a server runs or not."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from kasal_jupyter.errors import Fault, InvalidRequest, KasalError, StoreError
from kasal_jupyter.kernel.views.figures import size_text
from kasal_jupyter.schemas.allowances import PERIODS, Limits
from kasal_jupyter.schemas.users import Role, Tier, User, UserCreate, UserDetails, UserUpdate

if TYPE_CHECKING:
    from kasal_jupyter.auth.users import Users
    from kasal_jupyter.cli.connect import Subparsers


M = TypeVar("M", bound=BaseModel)

_PASSWORD = "The password is asked for on a terminal, and else is the first line of the standard input."  # noqa: S105


def add_user(subparsers: Subparsers) -> None:
    """Add ``user`` to the parser of `jupyter kasal`."""
    user = subparsers.add_parser(
        "user",
        help="add, list and change users",
        description="Users log in to the API with an e-mail address and a password. Servers may go on "
        "working meanwhile: what is changed here holds for their next request.",
    )
    commands = user.add_subparsers(title="commands", required=True, metavar="COMMAND")

    add = _command(commands, "add", "add a user", run_add, f"Add a user. {_PASSWORD}")
    _add_rights(add, tier="free", role="editor")
    _add_limits(add)
    listing = _command(commands, "list", "list the users", run_list, "List the users.", email=False)
    listing.add_argument("--json", action="store_true", help="as JSON, for programs")
    change = _command(
        commands,
        "set",
        "change a user's tier, role or limits",
        run_set,
        "Change a user's tier, role, or what their runs may cost.",
    )
    _add_rights(change)
    _add_limits(change)
    _command(
        commands,
        "passwd",
        "give a user another password",
        run_passwd,
        f"Give a user another password, which ends their logins. {_PASSWORD}",
    )
    _command(
        commands,
        "disable",
        "let a user in no longer",
        run_disable,
        "End a user's logins and stop their API keys, at once. What they made stays.",
    )
    _command(commands, "enable", "let a disabled user in again", run_enable, "Let a disabled user in again.")


def run_add(args: argparse.Namespace) -> int:
    """Carry out ``user add``; give the exit status."""
    fields = {"email": args.email, "tier": args.tier, "role": args.role, "limits": _limits(args)}
    # What is wrong with the rest is told before anybody thinks of a password.
    _valid(UserCreate, {**fields, "password": "a valid one"})
    with _users(args, create=True) as users:
        if (there := users.find(args.email)) is not None:
            raise InvalidRequest(f"There is already a user {there.email}; change them with `set` or `passwd`")
        body = _valid(UserCreate, {**fields, "password": _ask_password()})
        user = _run(users.create(body))
    print(f"added {user.email} ({user.id}): tier {user.tier}, role {user.role}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Carry out ``user list``; give the exit status."""
    with _users(args) as users:
        found = [users.details(user) for user in users.all()]
    if args.json:
        print(json.dumps([user.model_dump() for user in found], indent=2))
    elif not found:
        print("There are no users. Add one with: jupyter kasal user add EMAIL")
    else:
        rows = [("EMAIL", "TIER", "ROLE", "STORED", "CREATED", "ID"), *map(_row, found)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def run_set(args: argparse.Namespace) -> int:
    """Carry out ``user set``; give the exit status."""
    given = {name: value for name in ("tier", "role") if (value := getattr(args, name)) is not None}
    limits = _limits(args)
    if not given and not limits:
        raise InvalidRequest("Say what is to change: --tier, --role, --max-cost-day or --max-cost-month")
    with _users(args) as users:
        user = users.by_email(args.email)
        if limits:
            given["limits"] = {**user.limits.model_dump(), **limits}
        user = _run(users.update(user.id, _valid(UserUpdate, given)))
    print(f"changed {user.email}: tier {user.tier}, role {user.role}{limits_text(user.limits)}")
    return 0


def run_passwd(args: argparse.Namespace) -> int:
    """Carry out ``user passwd``; give the exit status."""
    user = _update(args, lambda: _valid(UserUpdate, {"password": _ask_password()}))
    print(f"changed the password of {user.email}; their logins have ended")
    return 0


def run_disable(args: argparse.Namespace) -> int:
    """Carry out ``user disable``; give the exit status."""
    print(f"disabled {_update(args, lambda: UserUpdate(disabled=True)).email}")
    return 0


def run_enable(args: argparse.Namespace) -> int:
    """Carry out ``user enable``; give the exit status."""
    print(f"enabled {_update(args, lambda: UserUpdate(disabled=False)).email}")
    return 0


def _command(
    commands: Subparsers,
    name: str,
    summary: str,
    handler: Callable[[argparse.Namespace], int],
    description: str,
    *,
    email: bool = True,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=description)
    if email:
        parser.add_argument("email", metavar="EMAIL", help="the user's e-mail address")
    parser.add_argument(
        "--data-folder",
        type=Path,
        metavar="D",
        help="the data folder (default: Kasal's in Jupyter's data folder)",
    )
    parser.set_defaults(handler=handler)
    return parser


def _add_rights(parser: argparse.ArgumentParser, tier: Tier | None = None, role: Role | None = None) -> None:
    parser.add_argument(
        "--tier",
        choices=get_args(Tier),
        default=tier,
        help="how many requests they may make" + (f" (default: {tier})" if tier else ""),
    )
    parser.add_argument(
        "--role",
        choices=get_args(Role),
        default=role,
        help="viewer reads, editor makes and runs, admin sees everybody's"
        + (f" (default: {role})" if role else ""),
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    for period in PERIODS:
        parser.add_argument(
            f"--max-cost-{period}",
            metavar="DOLLARS",
            type=_dollars,
            help=f"what their runs may cost a {period} of UTC, all together; 'none' for any amount",
        )


def _dollars(text: str) -> float | Literal["none"]:
    return "none" if text == "none" else float(text)


def _limits(args: argparse.Namespace) -> dict[str, float | None]:
    """Give the limits that are named on the command line."""
    given = {f"max_cost_{period}": getattr(args, f"max_cost_{period}") for period in PERIODS}
    return {name: None if most == "none" else most for name, most in given.items() if most is not None}


def limits_text(limits: Limits) -> str:
    """Write what a user may spend, to be put behind something else; nothing, where that is any amount."""
    bounds = ((limits.max_cost_day, "day"), (limits.max_cost_month, "month"))
    return "".join(f", ${most:g} a {period}" for most, period in bounds if most is not None)


@contextmanager
def _users(args: argparse.Namespace, *, create: bool = False) -> Iterator[Users]:
    """Open the users of a data folder, which is made only where that is asked for: it may be a slip."""
    from kasal_jupyter.auth.users import Passwords, Users
    from kasal_jupyter.store.folder import FILE_NAME, default_data_folder
    from kasal_jupyter.store.store import Store

    folder: Path = args.data_folder or default_data_folder()
    if not create and not (folder / FILE_NAME).is_file():
        raise StoreError(f"There is no store in {folder}; `jupyter kasal user add` makes one")
    passwords = Passwords()
    with Store.open(folder) as store:
        try:
            yield Users(store, passwords)
        finally:
            passwords.close()


def _update(args: argparse.Namespace, change: Callable[[], UserUpdate]) -> User:
    with _users(args) as users:
        # That there is no such user is told before a password is asked for.
        user = users.by_email(args.email)
        return _run(users.update(user.id, change()))


T = TypeVar("T")


def _run(work: Awaitable[T]) -> T:
    async def wait() -> T:
        return await work

    return asyncio.run(wait())


def _ask_password() -> str:
    """Read a password: twice from whoever sits there, else a line, which may end with the input."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        if not line:
            raise InvalidRequest("There is no password on the standard input")
        return line.removesuffix("\n").removesuffix("\r")
    password = getpass("Password: ")
    if getpass("Again: ") != password:
        raise InvalidRequest("The two passwords differ; nothing was changed")
    return password


def _valid(model: type[M], fields: dict[str, Any]) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        faults = [
            Fault(".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, "))
            for fault in error.errors()
        ]
        raise InvalidRequest("Nothing was changed", faults=faults) from None


def _row(user: UserDetails) -> tuple[str, ...]:
    email = f"{user.email} (disabled)" if user.disabled else user.email
    return (email, user.tier, user.role, size_text(user.stored.bytes), user.created_at[:10], user.id)


# -- the store as a JSON file, and back -----------------------------------------------------------------

# ``jupyter kasal db``: the store as a JSON file, and back.


def add_db(subparsers: Subparsers) -> None:
    """Add ``db`` to the parser of `jupyter kasal`."""
    database = subparsers.add_parser("db", help="export the store to a JSON file, or import one")
    commands = database.add_subparsers(title="commands", required=True, metavar="COMMAND")

    export = commands.add_parser(
        "export",
        help="write everything into a JSON file that TinyDB opens",
        description="Write crews, executions, users and all else into a JSON file that TinyDB opens. "
        "Servers may go on working meanwhile. Traces are in the data folder's runs/ and not in the file.",
    )
    export.add_argument("file", type=Path, metavar="FILE", help="the JSON file; an older one is replaced")
    _add_data_folder(export)
    export.set_defaults(handler=run_export)

    import_ = commands.add_parser(
        "import",
        help="take such a file into an empty store",
        description="Take a JSON file written by `db export` or by TinyDB into the store. "
        "Every document is checked first; if anything is wrong, nothing changes.",
    )
    import_.add_argument("file", type=Path, metavar="FILE", help="the JSON file")
    import_.add_argument("--replace", action="store_true", help="delete what the store holds first")
    _add_data_folder(import_)
    import_.set_defaults(handler=run_import)


def run_export(args: argparse.Namespace) -> int:
    """Carry out ``db export``; give the exit status."""
    from kasal_jupyter.store.dump import export_json

    return _report("exported", args, lambda folder: export_json(folder, args.file))


def run_import(args: argparse.Namespace) -> int:
    """Carry out ``db import``; give the exit status."""
    from kasal_jupyter.memory.findable import SCHEMAS
    from kasal_jupyter.store.dump import import_json

    return _report(
        "imported", args, lambda folder: import_json(folder, args.file, SCHEMAS, replace=args.replace)
    )


def _add_data_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-folder",
        type=Path,
        metavar="D",
        help="the data folder (default: Kasal's in Jupyter's data folder)",
    )


def _report(done: str, args: argparse.Namespace, action: Callable[[Path], dict[str, int]]) -> int:
    from kasal_jupyter.store.folder import default_data_folder

    try:
        counts = action(args.data_folder or default_data_folder())
    except KasalError as error:
        print(f"jupyter kasal db: {error.message}", file=sys.stderr)
        # The message names the first fault itself.
        for fault in error.faults[1:]:
            print(f"  {fault.field}: {fault.reason}", file=sys.stderr)
        return 1
    print(f"{done}:", ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing")
    return 0
