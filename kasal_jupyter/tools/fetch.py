"""Requests of tools: to checked hosts only, with redirects that keep secrets home, and within bounds."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from email.message import Message

import httpcore
import httpx

from kasal_jupyter.outward import NoWayOut, authorities_for
from kasal_jupyter.tools.guard import HostGuard, RequestFailed, origin_of
from kasal_jupyter.tools.guarded_transport import Deadline, GuardedTransport

MAX_REDIRECTS = 5
"""Redirects that are followed."""

_BYTES_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes
    ----------
    status
        The HTTP status.
    content_type
        Its ``Content-Type``, e.g. ``text/html; charset=utf-8``.
    body
        The bytes, unpacked; only their beginning where there are too many.
    complete
        Whether that is all of them.
    url
        Where the answer came from, after redirects.
    headers
        Its headers, by their names in lower case.
    """

    status: int
    content_type: str
    body: bytes
    complete: bool
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """Its media type, e.g. ``text/html``."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def is_text(self) -> bool:
        """Whether the body is something to read."""
        kind = self.kind
        return (
            not kind
            or kind.startswith("text/")
            or any(word in kind for word in ("json", "xml", "yaml", "javascript", "x-www-form-urlencoded"))
        )

    def text(self, charset: str | None = None) -> str:
        """Give the body as text; in the given encoding, or UTF-8, where the server names none."""
        said = Message()
        said["Content-Type"] = self.content_type
        charset = said.get_content_charset(charset or "utf-8")
        try:
            return self.body.decode(charset, errors="replace")
        except LookupError:
            return self.body.decode(errors="replace")


def fetch(
    request: httpx.Request,
    guard: HostGuard,
    *,
    timeout: float,
    max_bytes: int,
    secret_headers: Collection[str] = (),
    follow: bool = True,
    ssl_context: ssl.SSLContext | None = None,
) -> Answer:
    """Send a request, follow its redirects, and read the answer.

    Proxies that the environment names are asked as :mod:`~kasal_jupyter.tools.guarded_transport` says.

    Parameters
    ----------
    request
        What to send.
    guard
        Which hosts may be called; asked for each connection.
    timeout
        Seconds for all of it, but for looking names up, which the operating system bounds.
    max_bytes
        Bytes of the answer that are read.
    secret_headers
        Headers that no other host may get through a redirect; ``Authorization`` is always one.
    follow
        Whether redirects are followed; else they are answers.
    ssl_context
        Whom to trust; certifi's authorities, or those that ``SSL_CERT_FILE`` names.

    Raises
    ------
    HostRefused
        The request, or a redirect, leads where no tool may call.
    RequestFailed
        There was no answer.
    """
    deadline = Deadline(timeout)
    secrets = {"authorization", *(name.lower() for name in secret_headers)}
    _require_web_address(request.url, "The request leads")
    try:
        transport = GuardedTransport(guard, deadline, ssl_context or authorities_for(str(request.url)))
    except NoWayOut as error:
        raise RequestFailed(f"{request.url.host} cannot be asked: {error}.") from error
    with _words(request.url.host, timeout), httpx.Client(transport=transport, trust_env=False) as client:
        for _ in range(MAX_REDIRECTS + 1):
            request.headers["Accept-Encoding"] = "gzip"
            response = client.send(request, stream=True)
            with closing(response):
                following = response.next_request
                if following is None or not follow:
                    body, complete = _read(response, max_bytes)
                    return Answer(
                        response.status_code,
                        response.headers.get("content-type", ""),
                        body,
                        complete,
                        str(response.url),
                        dict(response.headers),
                    )
            request = _redirected(request, following, secrets)
    raise RequestFailed(f"{request.url.host} redirects more than {MAX_REDIRECTS} times.")


def _redirected(request: httpx.Request, following: httpx.Request, secrets: set[str]) -> httpx.Request:
    """Look at where a redirect leads, and take out of its request what is not for that host."""
    before, after = request.url, following.url
    _require_web_address(after, f"{before.host} redirects")
    if before.scheme == "https" and after.scheme == "http":
        raise RequestFailed(f"{before.host} redirects to {after.host} without encryption.")
    encrypted_now = (before.scheme, before.port, after.port) == ("http", None, None) and (
        before.host == after.host
    )
    if origin_of(str(before)) != origin_of(str(after)) and not encrypted_now:
        for name in secrets & {name.lower() for name in following.headers}:
            del following.headers[name]
    return following


def _require_web_address(url: httpx.URL, who: str) -> None:
    if url.scheme not in {"http", "https"} or not url.host:
        raise RequestFailed(f"{who} to something that is no web address.")
    if url.userinfo:
        raise RequestFailed(f"{who} to an address with a user or a password in it.")


@contextmanager
def _words(host: str, timeout: float) -> Iterator[None]:
    """Say in one sentence what went wrong with a request."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise RequestFailed(f"{host} did not answer within {timeout:g} seconds.") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
        raise RequestFailed(f"The connection to {host} failed: {str(error) or 'it broke off'}.") from error
    except (httpx.RequestError, httpx.InvalidURL, zlib.error) as error:
        raise RequestFailed(f"The answer of {host} makes no sense: {error}.") from error


def _read(response: httpx.Response, most: int) -> tuple[bytes, bool]:
    """Read a body, unpacking as much as is wanted and no more: a few bytes may unpack to gigabytes."""
    packed = response.headers.get("content-encoding", "identity").lower().strip()
    if packed not in {"identity", "gzip", "x-gzip", "deflate", ""}:
        raise RequestFailed(f"{response.url.host} answers in an encoding nobody asked for, {packed!r}.")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed not in {"identity", ""} else None
    body = bytearray()
    for chunk in response.iter_raw(_BYTES_AT_ONCE):
        # One byte more than is wanted tells whether there is more.
        body += chunk if unpack is None else unpack.decompress(chunk, most + 1 - len(body))
        if len(body) > most:
            return bytes(body[:most]), False
    return bytes(body), True
