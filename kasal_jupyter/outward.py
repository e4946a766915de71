"""The way out of this machine: the environment's proxies and authorities, and none for itself.

``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` count, and the system's own settings where
there are none; ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name authorities. What is wrong with one of them is
told by its name, and only to what goes that way: what is on this machine is never asked through a proxy.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl

_SCHEMES = {"http", "https", "socks5", "socks5h"}
"""How a proxy may be spoken to."""

_SPELLINGS = {"socks": "socks5"}
"""What desktops and curl write."""

_WEB = {"ws": "http", "wss": "https"}


class NoWayOut(OSError):
    """A variable of the environment keeps a request from being made; the text names it, and no password."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and where it is named.

    Attributes
    ----------
    variable
        The variable of the environment.
    url
        Its address, in a spelling that every client takes; it may hold a password.
    """

    variable: str
    url: str

    def __repr__(self) -> str:
        return f"Proxy({self.shown!r})"

    @property
    def shown(self) -> str:
        """Its address, without a password, and the variable that names it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} of {self.variable}"


def is_loopback(address: str) -> bool:
    """Say whether an address is one of this machine by what it says; no name is looked up."""
    import ipaddress

    try:
        host = (urlsplit(address).hostname or "").rstrip(".")
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(address: str) -> Proxy | None:
    """Give the proxy that an address is asked through; None where it is asked directly.

    Raises
    ------
    NoWayOut
        It is none that can be asked.
    """
    from urllib.request import getproxies, proxy_bypass

    try:
        parts = urlsplit(address)
    except ValueError:
        # It is no address, which its client says.
        return None
    if is_loopback(address) or not parts.hostname:
        return None
    scheme = _WEB.get(parts.scheme, parts.scheme)
    named = getproxies()
    kind = scheme if named.get(scheme) else "all"
    url = named.get(kind)
    if not url or proxy_bypass(parts.netloc.rpartition("@")[2]) or proxy_bypass(parts.hostname):
        return None
    return _readable(_variable(kind), url)


def authorities() -> ssl.SSLContext:
    """Give whom to trust: those that ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name, else certifi's.

    Raises
    ------
    NoWayOut
        There are none.
    """
    return _authorities(os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", ""))


def client_options(address: str) -> dict[str, Any]:
    """Give what a client of httpx's for one server takes, so that it goes the right way.

    Raises
    ------
    NoWayOut
        The environment leaves none.
    """
    proxy = proxy_for(address)
    asked = proxy.url if proxy is not None and proxy.url.startswith("https:") else address
    return {
        "trust_env": False,
        "proxy": proxy.url if proxy is not None else None,
        "verify": authorities_for(asked),
    }


def authorities_for(address: str) -> ssl.SSLContext:
    """Give whom to trust at an address, and at those that it leads on to.

    Raises
    ------
    NoWayOut
        It is encrypted, and there is nobody to trust. Any other can be asked all the same.
    """
    import ssl

    try:
        return authorities()
    except NoWayOut:
        if address.lower().startswith("https:"):
            raise
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def settle(environ: MutableMapping[str, str]) -> None:
    """Have the clients of others go the same way, who read the environment for themselves."""
    for name in ("no_proxy", "NO_PROXY"):
        listed = [
            each for each in (environ.get(name) or environ.get(name.swapcase()) or "").split(",") if each
        ]
        if "*" not in listed:
            environ[name] = ",".join(dict.fromkeys([*listed, "localhost", "127.0.0.1", "::1"]))
    for name, value in list(environ.items()):
        if name.lower() in {"http_proxy", "https_proxy", "all_proxy"} and value:
            scheme, found, rest = value.partition("://")
            environ[name] = (
                f"{_SPELLINGS.get(scheme.lower(), scheme)}://{rest}" if found else f"http://{value}"
            )


def fault(address: str) -> str | None:
    """Say what in the environment keeps an address from being asked; None where nothing does."""
    try:
        client_options(address)
        _look_at_bundles()
    except NoWayOut as error:
        return str(error)
    return None


def _look_at_bundles() -> None:
    """Look at the authorities of clients that are not httpx's."""
    import ssl

    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := os.environ.get(name):
            try:
                folder = os.path.isdir(path)  # noqa: PTH112 - it is a text of an environment
                ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)
            except OSError as error:
                raise NoWayOut(_no_authorities(name, path, error)) from None


@cache
def _authorities(file: str, folder: str) -> ssl.SSLContext:
    import ssl

    for name, path in (("SSL_CERT_FILE", file), ("SSL_CERT_DIR", folder)):
        if not path:
            continue
        try:
            if name == "SSL_CERT_DIR" and not os.path.isdir(path):  # noqa: PTH112 - as above
                raise NotADirectoryError(20, "there is no such folder")
            return ssl.create_default_context(
                cafile=path if name == "SSL_CERT_FILE" else None,
                capath=path if name == "SSL_CERT_DIR" else None,
            )
        except OSError as error:
            raise NoWayOut(_no_authorities(name, path, error)) from None
    import certifi

    return ssl.create_default_context(cafile=certifi.where())


def _no_authorities(name: str, path: str, error: OSError) -> str:
    why = error.strerror or "it holds no certificates"
    return f"{name} is {path[:200]!r}, where no certificates can be read ({why}); set it right, or unset it"


def _readable(variable: str, url: str) -> Proxy:
    scheme, found, rest = url.partition("://")
    scheme = _SPELLINGS.get(scheme.lower(), scheme.lower()) if found else "http"
    try:
        made = Proxy(variable, f"{scheme}://{rest if found else url}")
        parts = urlsplit(made.url)
        usable = scheme in _SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise NoWayOut(
            f"{variable} names no proxy that can be asked: write http://HOST:PORT or socks5://HOST:PORT, "
            "or unset it"
        )
    if scheme.startswith("socks") and not _speaks_socks():
        raise NoWayOut(
            f"{variable} names a SOCKS proxy, for which the package socksio is needed: pip install socksio"
        )
    return made


@cache
def _speaks_socks() -> bool:
    from importlib.util import find_spec

    return find_spec("socksio") is not None


def _variable(kind: str) -> str:
    """Name the variable that a proxy comes from; the lower case one wins, as everywhere."""
    lower, upper = f"{kind}_proxy", f"{kind}_proxy".upper()
    return lower if os.environ.get(lower) else upper if os.environ.get(upper) else "the system's settings"
