"""httpx's asynchronous way to the network for tools: to checked addresses only, as ``guarded_transport``."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable

import httpcore
import httpx

from kasal_jupyter.outward import authorities
from kasal_jupyter.places import CONNECTIONS
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.tools.guarded_transport import pool_proxy, way_to

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
            network_backend=_GuardedBackend(guard),
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
            stream=_Body(response),
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


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


class _GuardedBackend(httpcore.AsyncNetworkBackend):
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
