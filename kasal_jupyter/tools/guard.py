"""Which hosts a tool may call: the public ones, and those that whoever runs the server allows.

Everything else is refused: a user's tool, or a web page that redirects one, must not reach what only this
machine can reach, such as its own services, its network, or the keys a cloud hands out at 169.254.169.254.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

Resolve = Callable[[str, int], Sequence[str]]
"""Gives the addresses of a host's name. Raises :class:`OSError` where it has none."""

# Written out, since what Python calls private or global changes with its patch releases.
_REFUSED: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "this host itself"),
    ("10.0.0.0/8", "a private network"),
    ("100.64.0.0/10", "a provider's inner network"),
    ("127.0.0.0/8", "this machine"),
    ("168.63.129.16/32", "a cloud's metadata service"),
    ("169.254.0.0/16", "a link-local network, where clouds keep their metadata"),
    ("172.16.0.0/12", "a private network"),
    ("192.0.0.0/24", "a reserved network"),
    ("192.0.2.0/24", "a network of examples"),
    ("192.88.99.0/24", "a reserved network"),
    ("192.168.0.0/16", "a private network"),
    ("198.18.0.0/15", "a network of benchmarks"),
    ("198.51.100.0/24", "a network of examples"),
    ("203.0.113.0/24", "a network of examples"),
    ("224.0.0.0/4", "a multicast group"),
    ("240.0.0.0/4", "a reserved network"),
    ("::/128", "this host itself"),
    ("::1/128", "this machine"),
    ("fc00::/7", "a private network"),
    ("fe80::/10", "a link-local network"),
    ("fec0::/10", "a private network"),
    ("ff00::/8", "a multicast group"),
    ("2001::/23", "a reserved network"),
    ("2001:db8::/32", "a network of examples"),
    ("3fff::/20", "a network of examples"),
)
_NETWORKS: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), what) for network, what in _REFUSED
)
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")

_INNER = frozenset(
    {"localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "arpa"}
)
"""Ends of names that no public host has."""

NO_HOSTS = "The sandbox calls no addresses; that takes an account on this server"


_ONLY_PUBLIC = "only public hosts may be called, unless the server's administrator allows others"


class RequestFailed(ValueError):
    """A tool's request got no answer, in words for the agent."""


class HostRefused(ValueError):
    """A tool may not call this host, or there is none.

    Of a name nobody is told which of the two: it would tell what is in this machine's network. (How long the
    look-up takes may.)
    """


def system_addresses(host: str, port: int) -> list[str]:
    """Ask the operating system for a host's addresses."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def origin_of(url: str) -> tuple[str, str, int]:
    """Give a web address's scheme, host and port: what a secret was given for."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").rstrip("."), port


class HostGuard:
    """Says which addresses may be called.

    Parameters
    ----------
    allowed_hosts
        Hosts by name, addresses and networks that may be called besides the public ones, e.g.
        ``intranet.local``, ``127.0.0.1`` and ``10.0.0.0/8``. None where no host at all may be called, nor
        looked up: the sandbox's guard.
    resolve
        Looks names up; the operating system does, where none is given.

    Raises
    ------
    ValueError
        One of the allowed hosts is neither a name nor an address nor a network.
    """

    def __init__(self, allowed_hosts: Iterable[str] | None = (), resolve: Resolve = system_addresses) -> None:
        self.allowed_hosts = None if allowed_hosts is None else [*allowed_hosts]
        self._names: set[str] = set()
        self._networks: list[Network] = []
        self._resolve = resolve
        for entry in self.allowed_hosts or ():
            self._allow(entry.strip().lower().strip("[]"))

    def allowing(self, *hosts: str) -> HostGuard:
        """Give a guard that allows these hosts as well."""
        if self.allowed_hosts is None:
            return self
        return HostGuard((*self.allowed_hosts, *hosts), self._resolve)

    def _allow(self, entry: str) -> None:
        # Digits and dots alone are no name, lest a mistyped address is taken for one that nothing has.
        if _HOST.fullmatch(entry) and not re.fullmatch(r"[\d.]+", entry):
            self._names.add(entry)
            return
        try:
            self._networks.append(ipaddress.ip_network(entry))
        except ValueError:
            raise ValueError(
                f"{entry!r} is no host: give a name, an address or a network such as 10.0.0.0/8, "
                "without a scheme and a port"
            ) from None

    def addresses(self, host: str, port: int) -> list[Address]:
        """Look a host up, once, and give the addresses to connect to.

        Raises
        ------
        HostRefused
            It has none, or one of them may not be called.
        """
        self._require_open()
        try:
            found = [_address(text) for text in self._resolve(host, port)]
        except (OSError, UnicodeError):
            found = []
        self._require_allowed(host, found)
        return found

    def require_through_proxy(self, host: str, port: int) -> None:
        """Look at a host that a proxy is asked for, which looks its name up itself.

        What is found here must be allowed as if it were called from here. Where nothing is found, the proxy
        may find something: it is then who must hold to rules. A name of one word, or one of this machine's or
        its network's, is never meant for it.

        Raises
        ------
        HostRefused
            It may not be called.
        """
        self._require_open()
        try:
            found = [_address(text) for text in self._resolve(host, port)]
        except (OSError, UnicodeError):
            found = []
        name = host.lower().rstrip(".")
        if found or _is_address(host) or "." not in name or name.rpartition(".")[2] in _INNER:
            self._require_allowed(host, found)

    def check(self, url: str) -> None:
        """Look at an address before it is stored, as far as it says by itself where it leads.

        Names are looked up when they are called: it may lead elsewhere by then.

        Raises
        ------
        HostRefused
            It may not be called.
        """
        self._require_open()
        _, host, port = origin_of(url)
        if host.lower() == "localhost" or host.lower().endswith(".localhost"):
            self._require_allowed(host, [ipaddress.IPv4Address("127.0.0.1")])
            return
        try:
            # Without asking anybody; there are many ways to write an address, such as 127.1.
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            return
        self._require_allowed(host, [_address(str(each[4][0])) for each in found])

    def _require_open(self) -> None:
        if self.allowed_hosts is None:
            raise HostRefused(NO_HOSTS)

    def _require_allowed(self, host: str, found: Sequence[Address]) -> None:
        if found and host.lower().rstrip(".") in self._names:
            return
        reasons = [reason for address in found if (reason := self._refusal(address))]
        if found and not reasons:
            return
        if reasons and _is_address(host):
            raise HostRefused(f"{host} is {reasons[0]}; {_ONLY_PUBLIC}")
        raise HostRefused(f"There is no public host {host!r} to be found; {_ONLY_PUBLIC}")

    def _refusal(self, address: Address) -> str | None:
        """Say what an address is that may not be called; None for one that may."""
        if any(address in network for network in self._networks):
            return None
        if isinstance(address, ipaddress.IPv6Address):
            if (inner := _embedded(address)) is not None:
                return self._refusal(inner)
            for network, what in _NETWORKS:
                if address in network:
                    return what
            # What nobody has handed out yet is nobody's to be called.
            return None if address in _PUBLIC_V6 else "a reserved network"
        return next((what for network, what in _NETWORKS if address in network), None)


def _address(text: str) -> Address:
    # A zone, as in fe80::1%eth0, is of no interest: such addresses are refused anyway.
    return ipaddress.ip_address(text.partition("%")[0])


def _is_address(host: str) -> bool:
    try:
        _address(host)
    except ValueError:
        return False
    return True


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Give the IPv4 address that an IPv6 address stands for: mapped, 6to4 or NAT64."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
