"""httpx's way to the network for tools: to checked addresses only, and within a time.

Where the environment names a proxy for an address, the proxy is asked, which looks the name up itself; what
can be known of the name here is looked at first.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import httpcore
import httpx

from kasal_jupyter.outward import NoWayOut, Proxy, authorities, proxy_for
from kasal_jupyter.places import CONNECTIONS
from kasal_jupyter.tools.guard import HostGuard


class Deadline:
    """The moment by which a request must be over, however slowly its bytes drip in.

    Parameters
    ----------
    seconds
        How far away it is.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, timeout: float | None, error: type[httpcore.TimeoutException]) -> float:
        """Give the seconds left, at most `timeout`; raise the error where there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise error
        return left if timeout is None else min(left, timeout)


class GuardedTransport(httpx.BaseTransport):
    """httpx's way to the network, through a guard.

    Parameters
    ----------
    guard
        Which hosts may be called.
    deadline
        When everything must be over.
    ssl_context
        Whom to trust.
    """

    def __init__(self, guard: HostGuard, deadline: Deadline, ssl_context: ssl.SSLContext) -> None:
        self._guard = guard
        self._deadline = deadline
        self._ssl_context = ssl_context
        # Not httpx's own transport: it offers no seam for the connection.
        self._direct = httpcore.ConnectionPool(
            ssl_context=ssl_context, network_backend=_GuardedBackend(guard, deadline), max_connections=1
        )
        self._proxied: dict[str, httpcore.ConnectionPool] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        assert isinstance(request.stream, httpx.SyncByteStream)
        url = request.url
        response = self._pool(url).handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
            )
        )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close the connections."""
        for pool in (self._direct, *self._proxied.values()):
            pool.close()

    def _pool(self, url: httpx.URL) -> httpcore.ConnectionPool:
        proxy, port = way_to(url)
        if proxy is None:
            return self._direct
        self._guard.require_through_proxy(url.host, port)
        if (pool := self._proxied.get(proxy.url)) is None:
            pool = self._proxied[proxy.url] = httpcore.ConnectionPool(
                ssl_context=self._ssl_context,
                proxy=pool_proxy(proxy),
                network_backend=_TimedBackend(self._deadline),
                max_connections=1,
            )
        return pool


def way_to(url: httpx.URL) -> tuple[Proxy | None, int]:
    """Give the proxy that an address is asked through, if there is one, and the address's port.

    Raises
    ------
    httpcore.ConnectError
        The environment leaves no way; the text names the variable.
    """
    try:
        return proxy_for(str(url)), url.port or (443 if url.scheme == "https" else 80)
    except NoWayOut as error:
        raise httpcore.ConnectError(str(error)) from error


def pool_proxy(proxy: Proxy) -> httpcore.Proxy:
    """Give a proxy as httpcore takes one."""
    parts = urlsplit(proxy.url)
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore.Proxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", auth=login)


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _TimedBackend(httpcore.NetworkBackend):
    """Connects within a time."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        stream = self._sockets.connect_tcp(host, port, left, local_address, socket_options)
        return _TimedStream(stream, self._deadline)


class _GuardedBackend(_TimedBackend):
    """Connects to the very addresses that were checked: a name that is looked up again may have changed."""

    def __init__(self, guard: HostGuard, deadline: Deadline) -> None:
        super().__init__(deadline)
        self._guard = guard

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: httpcore.ConnectError | None = None
        for address in self._guard.addresses(host, port):
            try:
                return super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                failure = error
        raise failure or httpcore.ConnectError("it has no address")


class _TimedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


# httpx's asynchronous way to the network for tools: to checked addresses only, as ``guarded_transport``.

MAX_CONNECTIONS = 20
"""Connections of one client; a request that finds them all busy waits."""


class AsyncGuardedTransport(httpx.AsyncBaseTransport):
    """httpx's way to the network, through a guard.

    Parameters
    ----------
    guard
        Which hosts may be called; asked for each connection.
    ssl_context
        Whom to trust; certifi's authorities, or those that ``SSL_CERT_FILE`` names.
    """

    def __init__(self, guard: HostGuard, ssl_context: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._ssl_context = ssl_context or authorities()
        self._direct = httpcore.AsyncConnectionPool(
            ssl_context=self._ssl_context,
            network_backend=_AsyncGuardedBackend(guard),
            max_connections=MAX_CONNECTIONS,
        )
        self._proxied: dict[str, httpcore.AsyncConnectionPool] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        assert isinstance(request.stream, httpx.AsyncByteStream)
        url = request.url
        pool = await self._pool(url)
        response = await pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions={"timeout": request.extensions.get("timeout", {})},
            )
        )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_AsyncBody(response),
            extensions=response.extensions,
            request=request,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        for pool in (self._direct, *self._proxied.values()):
            await pool.aclose()

    async def _pool(self, url: httpx.URL) -> httpcore.AsyncConnectionPool:
        proxy, port = way_to(url)
        if proxy is None:
            return self._direct
        await CONNECTIONS.do(lambda: self._guard.require_through_proxy(url.host, port), owner=url.host)
        if (pool := self._proxied.get(proxy.url)) is None:
            pool = self._proxied[proxy.url] = httpcore.AsyncConnectionPool(
                ssl_context=self._ssl_context, proxy=pool_proxy(proxy), max_connections=MAX_CONNECTIONS
            )
        return pool


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


class _AsyncGuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the very addresses that were checked: a name that is looked up again may have changed."""

    def __init__(self, guard: HostGuard) -> None:
        self._guard = guard
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore has it
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: httpcore.ConnectError | None = None
        for address in await CONNECTIONS.do(lambda: self._guard.addresses(host, port), owner=host):
            try:
                return await self._sockets.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except httpcore.ConnectError as error:
                failure = error
        raise failure or httpcore.ConnectError("it has no address")

    async def sleep(self, seconds: float) -> None:
        await self._sockets.sleep(seconds)
