"""What REST and WebSocket share: what they work with, who asks, and the reference's errors."""

from __future__ import annotations

import inspect
import logging
import re
from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson
from jupyter_server.auth import User
from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.httputil import HTTPHeaders, HTTPServerRequest

from kasal_jupyter.api.fanout import Fanouts
from kasal_jupyter.api.logged import loggable_address, texts_of, told
from kasal_jupyter.api.operation import operation_of
from kasal_jupyter.auth.gate import Accounts, Caller, MaintenanceMode, caller_of
from kasal_jupyter.auth.logins import network_of
from kasal_jupyter.auth.rates import Senders
from kasal_jupyter.auth.standing import Watch
from kasal_jupyter.confined import ConfinedPool
from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.crews.members import Members
from kasal_jupyter.errors import (
    DocumentDamaged,
    Forbidden,
    InvalidRequest,
    KasalError,
    MethodNotAllowed,
    NotFound,
    StoreError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from kasal_jupyter.executions.batches.batches import Batches
from kasal_jupyter.executions.crew_memories import CrewMemories
from kasal_jupyter.executions.retention import Retention
from kasal_jupyter.executions.schedules import Schedules
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.executions.webhooks import Webhooks
from kasal_jupyter.memory.knowledge import Knowledge
from kasal_jupyter.memory.memories import Memories
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.custom_tools import CustomTools
from kasal_jupyter.toolbox.mcp_servers import McpServers
from kasal_jupyter.toolbox.provider_settings import Providers

# What the handlers work with.

SMALL_BODY = 8_192
"""Bytes of a body that is taken in of somebody who is not known: a login."""


@dataclass(frozen=True, slots=True)
class Doors:
    """What is under way at once, and of whom.

    Attributes
    ----------
    strangers
        Connections of those who are not known, by address: bodies on their way, and WebSockets.
    bodies
        Bytes of bodies that are on their way or being worked on, by owner.
    stranger_seconds
        How long somebody who is not known may take: for a body, or to say on a WebSocket who they are.
    body_seconds
        How long a known caller's body may take.
    watch
        Who stays, and is looked at again.
    """

    strangers: Senders
    bodies: Senders
    stranger_seconds: float
    body_seconds: float
    watch: Watch


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the running extension, in one of its workspaces: the regular one, or the sandbox.

    Attributes
    ----------
    accounts
        Who asks, and how often they may.
    maintenance
        Whether anybody is served.
    doors
        What is under way at once, and who may stay.
    recall
        Searches what crews remember and know.
    confined
        Where files and crews from elsewhere are read.
    body_limit
        Most bytes of a request's body.
    archive_limit
        Most bytes of an archive that is imported.
    wake
        Has the engine load, where it does not yet: whoever asks anything is likely to run a crew.
    sandbox
        Gives the sandbox's parts: a store and executions apart from all others.
    """

    store: Store
    crews: Crews
    members: Members
    tools: CustomTools
    mcp: McpServers
    providers: Providers
    memories: Memories
    knowledge: Knowledge
    recall: CrewMemories
    runs: Runs
    schedules: Schedules
    batches: Batches
    retention: Retention
    webhooks: Webhooks
    fanouts: Fanouts
    accounts: Accounts
    maintenance: MaintenanceMode
    doors: Doors
    confined: ConfinedPool
    body_limit: int
    archive_limit: int
    wake: Callable[[], None]
    sandbox: Callable[[], Awaitable[Parts]]


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The methods that a resource may have; HEAD comes with GET."""

NO_SUCH_METHOD = "The resource is there, and has no such method"

MOST_HOSTS = 1_000
"""Names of this server that are remembered: a client may send any of a whole network's."""

_BEARER = re.compile(r"(?:token|bearer)\s+(\S+)\s*$", re.IGNORECASE)
"""How a token is sent: in Jupyter's way and in RFC 6750's."""

_BY_STATUS: dict[int, tuple[type[KasalError], str]] = {
    400: (InvalidRequest, "Bad Request"),
    401: (Unauthorized, "Unauthorized"),
    403: (Forbidden, "Forbidden"),
    404: (NotFound, "Not Found"),
    405: (MethodNotAllowed, "Method Not Allowed"),
    429: (TooManyRequests, "Too Many Requests"),
    503: (Unavailable, "Service Unavailable"),
}
"""What an error that Tornado or Jupyter raises is called in the reference's format."""


class BaseHandler(JupyterHandler):
    """Who asks, and the reference's errors: what REST and WebSocket share."""

    parts: Parts
    template: str

    token_of_ours: str | None = None
    """The valid token of ours that the request came with; None where Jupyter has let the caller in."""

    closes = False
    """Whether the connection ends with the answer."""

    _told: Mapping[str, str] = MappingProxyType({})

    def initialize(self, parts: Parts, template: str) -> None:
        """Take the parts and the path's template the route was made with."""
        self.parts = parts
        self.template = template
        request = self.request
        self.sent_path = request.path
        # Whoever logs the request, Tornado and Jupyter as well, finds nothing in it that lets somebody in.
        request.uri = loggable_address(request, template, self.parameters, self.settings["base_url"])
        request.path = request.uri.partition("?")[0]

    def parameters(self) -> list[str]:
        """Give the names of the query's parameters."""
        return []

    @property
    def sender(self) -> str:
        """What stands for the address that the request comes from."""
        return network_of(self.request.remote_ip or "")

    async def identify(self) -> Caller:
        """Give the caller, or refuse the request.

        A token of ours decides alone: where it is invalid, a valid cookie beside it counts for nothing.
        Everybody else is whoever Jupyter says. Jupyter's own ``prepare`` is not used: it answers a caller
        it does not know with a redirection to its login page or a 403, where the reference says 401.

        Raises
        ------
        Unauthorized, Forbidden
            The caller is unknown, or the request comes from a foreign host.
        """
        return self.recognised() or await self.ask_jupyter()

    def recognised(self) -> Caller | None:
        """Give the caller that a token of ours names; None where there is no such token.

        Raises
        ------
        Unauthorized, Forbidden
            The token is one of ours and invalid, or the request comes from a foreign host.
        """
        if not self.check_host():
            raise Forbidden("The Host header names no host of this server")
        token = self.sent_token()
        if not token or (caller := self.parts.accounts.gate.recognise(token)) is None:
            return None
        self.token_of_ours = token
        # Where JupyterHub's check for XSRF looks, which it puts in the place of Jupyter's.
        self._token_authenticated = True
        # Where Jupyter looks for its user.
        self.current_user = self._jupyter_current_user = _user_named(caller.name)
        return caller

    async def ask_jupyter(self) -> Caller:
        """Give the caller that Jupyter has let in: by its token, by its cookie, or by JupyterHub.

        Raises
        ------
        Unauthorized
            It knows none.
        """
        user = self.identity_provider.get_user(self)
        if inspect.isawaitable(user):
            user = await user
        self.current_user = self._jupyter_current_user = user
        if user is None:
            raise Unauthorized("Send a valid token: Authorization: Bearer <token>")
        by_header = "Authorization" in self.request.headers and self.sent_token()
        if by_header and self.identity_provider.auth_enabled and not self.token_authenticated:
            # A cookie let the caller in, but the token that came with it is nobody's.
            raise Unauthorized("The token is not valid; send a valid one, or none")
        return caller_of(user)

    async def known_to_jupyter(self, token: str) -> bool:
        """Say whether Jupyter still lets in who it has let in: for what stays open.

        Parameters
        ----------
        token
            The token of Jupyter's that came with the request or after it; empty for a cookie's sake alone.
        """
        try:
            await self.ask_jupyter_about(token, self.request.headers.get("Cookie", ""))
        except Unauthorized:
            return False
        except web.HTTPError as error:
            # A hub that does not answer says nothing about anybody.
            return error.status_code not in {401, 403}
        return True

    async def ask_jupyter_about(self, token: str, cookie: str = "") -> Caller:
        """Tell whom a token of Jupyter's or a cookie means, whatever provider of identities the server has.

        Those look at requests, and may set a cookie, which an answer that has begun refuses: so they are
        asked about a request like this one, which is never answered.

        Raises
        ------
        Unauthorized, Forbidden
            Nobody, or the request comes from a foreign host.
        """
        headers = HTTPHeaders({"Host": self.request.host})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if cookie:
            headers["Cookie"] = cookie
        request = HTTPServerRequest(
            "GET", self.request.path, headers=headers, connection=self.request.connection
        )
        return await _Asking(self.application, request, parts=self.parts, template=self.template).identify()

    def sent_token(self) -> str:
        """Give the token that the request carries, whoever's it is; empty where it carries none."""
        sent = _BEARER.match(self.request.headers.get("Authorization", ""))
        return sent[1] if sent else self.get_query_argument("token", "")

    @property
    def token_authenticated(self) -> bool:
        """Whether a token was sent: then no page of another origin can have made the browser do it."""
        return self.token_of_ours is not None or super().token_authenticated

    def skip_check_origin(self) -> bool:
        """Whether pages of other origins may call: with a token."""
        return self.token_of_ours is not None or super().skip_check_origin()

    def set_default_headers(self) -> None:
        """Set what every answer has; the values are made once for a server, not for each answer."""
        headers: dict[str, str] | None = self.settings.get("kasal_default_headers")
        if headers is None:
            # Tornado has set its own, the date among them, which is each answer's.
            tornados = set(self._headers)
            super().set_default_headers()
            self.set_header("Cache-Control", "no-store")
            self.settings["kasal_default_headers"] = {
                name: value for name, value in self._headers.get_all() if name not in tornados
            }
            return
        for name, value in headers.items():
            self._headers[name] = value
        # Tornado clears all headers before it answers with an error, and calls this.
        for name, value in self._told.items():
            self._headers[name] = value

    def tell(self, headers: Mapping[str, str]) -> None:
        """Set headers that the answer has whatever comes of the request."""
        for name, value in headers.items():
            self._headers[name] = value
        self._told = {**self._told, **headers}

    def check_host(self) -> bool:
        """Say whether the request names a host of this server; each name is looked at once."""
        host = self.request.host
        known: set[str] | None = self.settings.get("kasal_hosts")
        if known is None:
            known = self.settings["kasal_hosts"] = set()
        if host in known:
            return True
        allowed = super().check_host()
        if allowed and len(known) < MOST_HOSTS:
            known.add(host)
        return allowed

    def write_bytes(self, data: bytes) -> None:
        """Answer with JSON that is ready."""
        self._headers["Content-Type"] = "application/json"
        self.finish(data)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer in the reference's *Error Response Format*."""
        error = _as_kasal_error(kwargs.get("exc_info", (None, None))[1], status_code)
        self.set_status(error.status)
        if isinstance(error, Unauthorized):
            # Whoever is not known holds no connection.
            self.closes = True
            self.set_header("WWW-Authenticate", "Bearer")
        if isinstance(error, MethodNotAllowed):
            self.set_header("Allow", ", ".join(self.methods()))
        if error.retry_after is not None:
            self.set_header("Retry-After", str(error.retry_after))
        if self.closes:
            self.set_header("Connection", "close")
        self.write_bytes(orjson.dumps(error.body()))

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        """End the answer, and the connection where it is to end."""
        done = super().finish(chunk)
        if self.closes and self.request.connection is not None:
            connection: Any = self.request.connection
            done.add_done_callback(lambda _: connection.close())
        return done

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:  # noqa: ARG002 - Tornado's signature
        """Log what was not foreseen. Refusals are answers, not failures of the server."""
        if not (isinstance(value, KasalError | web.HTTPError) and _status_of(value) < 500):
            quoted = texts_of(self.request, self.sent_path, self.said())
            self.log.error("%s failed\n%s", self._request_summary(), told(value, quoted))

    def said(self) -> bytes:
        """Give what the client has sent besides the request's head, as far as it is there."""
        return b""

    def _log(self) -> None:
        """Write a line about the request."""
        status = self.get_status()
        level = logging.DEBUG if status < 400 else logging.WARNING if status < 500 else logging.ERROR
        # Jupyter's property raises where nobody was asked.
        user = getattr(self, "_jupyter_current_user", None)
        self.log.log(
            level,
            "%d %s (%s@%s) %.2fms",
            status,
            f"{self.request.method} {self.request.uri}",
            user.username if isinstance(user, User) else "",
            self.request.remote_ip,
            1_000 * self.request.request_time(),
        )

    @classmethod
    def methods(cls) -> list[str]:
        """Give the HTTP methods that the resource has."""
        return [name for name in METHODS if operation_of(cls, name)]

    @property
    def content_security_policy(self) -> str:
        """Let nothing an answer says be executed."""
        return f"{super().content_security_policy}; default-src 'none'"


class _Asking(BaseHandler):
    """A request that is never answered."""


def _status_of(error: KasalError | web.HTTPError) -> int:
    return error.status if isinstance(error, KasalError) else error.status_code


@lru_cache(maxsize=1_000)
def _user_named(name: str) -> User:
    return User(username=name)


def _as_kasal_error(error: BaseException | None, status: int) -> KasalError:
    if isinstance(error, StoreError) and not isinstance(error, DocumentDamaged):
        # Its words are for whoever runs the server: they name files.
        return StoreError("The store can't be read or written; the server's log says why")
    if isinstance(error, KasalError):
        return error
    if isinstance(error, web.HTTPError):
        status = error.status_code
    kind, text = _BY_STATUS.get(status, (KasalError, "Internal Error"))
    if status == 405:
        text = NO_SUCH_METHOD
    if isinstance(error, web.HTTPError) and error.log_message and status < 500:
        text = error.log_message % error.args if error.args else error.log_message
    return kind(text)
