"""Addresses that a run's own user has named, held to the rules for tools.

A user may send the run's models to a server of their own, and must not reach by that what only this machine
can reach. The address was looked at when it was stored; what its name leads to may have changed since, and a
server may redirect. Each provider's client has its own way to the network; all of them look names up here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from kasal_jupyter.schemas.spec import RunEmbedder, RunModel, RunSpec
from kasal_jupyter.tools.guard import HostGuard, HostRefused, origin_of


class AddressRefused(OSError):
    """The run's user may not have this address called."""


def hold_own_addresses(spec: RunSpec) -> None:
    """Have this process call only what its user may, if the user has named any address.

    What admins and the environment have named may be called as well, at its very port. Tools are held to the
    rules by themselves.
    """
    embedder = spec.memory.embedder if spec.memory is not None else None
    named: list[RunModel | RunEmbedder] = list(spec.models.values())
    if embedder is not None:
        named.append(embedder)
    if not any(each.guarded for each in named):
        return
    search = spec.tool_settings.search
    free = [each.base_url for each in named if not each.guarded]
    free += [server.url for server in spec.mcp_servers if not server.guarded]
    free += [] if search.guarded else [search.base_url]
    # Where a proxy has to be asked, it looks the names up, and is who must hold to rules.
    free += getproxies().values()
    _guard_lookups(HostGuard(spec.allowed_hosts), _places(free))


def _places(addresses: Iterable[str | None]) -> set[tuple[str, int]]:
    return {origin_of(address)[1:] for address in addresses if address and urlsplit(address).hostname}


def _guard_lookups(guard: HostGuard, free: set[tuple[str, int]]) -> None:
    look_up = socket.getaddrinfo

    def checked(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        found = []

        def seen(_host: str, _port: int) -> list[str]:
            found.extend(look_up(host, port, *args, **options))
            return [str(each[4][0]) for each in found]

        if name is None or (name.rstrip("."), _number(port)) in free:
            return look_up(host, port, *args, **options)
        try:
            # The very addresses that will be called, not those of another look-up.
            HostGuard(guard.allowed_hosts, seen).addresses(name, 0)
        except HostRefused as error:
            raise AddressRefused(str(error)) from None
        return found

    socket.getaddrinfo = checked


def _number(port: Any) -> int:
    try:
        return int(port or 0)
    except ValueError:
        return 0
