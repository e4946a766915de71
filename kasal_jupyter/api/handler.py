"""The base of every handler under ``/v1``: who asks, JSON in, JSON out, the reference's errors."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, TypeVar

import orjson
from jupyter_server.auth import User
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from pydantic import BaseModel
from tornado import web

from kasal_jupyter.api.body import read_body, read_query
from kasal_jupyter.api.figures import count_request
from kasal_jupyter.api.operation import RANK, Access, Operation, operation_of
from kasal_jupyter.api.parts import Parts
from kasal_jupyter.auth.caller import Caller, Owned, caller_of
from kasal_jupyter.errors import (
    Fault,
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
from kasal_jupyter.schemas.base import Query

M = TypeVar("M", bound=BaseModel)
Q = TypeVar("Q", bound=Query)
D = TypeVar("D", bound=Owned)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The methods that a resource may have; HEAD comes with GET."""

OTHER = "OTHER"
"""Stands for every method that HTTP does not know."""

NO_SUCH_METHOD = "The resource is there, and has no such method"

NOBODY = Caller(owner="", name="", role="viewer")
"""The caller of an operation that is for anyone, where none is known."""

SENT_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID"
"""Request headers that pages of other origins may send."""

MOST_HOSTS = 1_000
"""Names of this server that are remembered: a client may send any of a whole network's."""

TOLD_HEADERS = "ETag, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
"""Headers of answers that pages of other origins may read."""

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

    _kasal_token = False
    _told: Mapping[str, str] = MappingProxyType({})

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
        # The second is where JupyterHub's check for XSRF looks, which it puts in the place of Jupyter's.
        self._kasal_token = self._token_authenticated = True
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

    def sent_token(self) -> str:
        """Give the token that the request carries, whoever's it is; empty where it carries none."""
        sent = _BEARER.match(self.request.headers.get("Authorization", ""))
        return sent[1] if sent else self.get_query_argument("token", "")

    @property
    def token_authenticated(self) -> bool:
        """Whether a token was sent: then no page of another origin can have made the browser do it."""
        return self._kasal_token or super().token_authenticated

    def skip_check_origin(self) -> bool:
        """Whether pages of other origins may call: with a token."""
        return self._kasal_token or super().skip_check_origin()

    def set_default_headers(self) -> None:
        """Set what every answer has; the values are made once for a server, not for each answer."""
        headers: dict[str, str] | None = self.settings.get("kasal_default_headers")
        if headers is None:
            super().set_default_headers()
            self.set_header("Cache-Control", "no-store")
            headers = self.settings["kasal_default_headers"] = dict(self._headers.get_all())
            return
        for name, value in headers.items():
            self._headers[name] = value
        # Tornado clears all headers before it answers with an error, and calls this.
        for name, value in self._told.items():
            self._headers[name] = value

    def tell(self, name: str, value: str) -> None:
        """Set a header that the answer has whatever comes of the request."""
        self._headers[name] = value
        self._told = {**self._told, name: value}

    def check_host(self) -> bool:
        """Say whether the request names a host of this server; each name is looked at once."""
        known: set[str] = self.settings.setdefault("kasal_hosts", set())
        host = self.request.host
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
            self.set_header("WWW-Authenticate", "Bearer")
        if isinstance(error, MethodNotAllowed):
            self.set_header("Allow", ", ".join(self.methods()))
        if error.retry_after is not None:
            self.set_header("Retry-After", str(error.retry_after))
        self.write_bytes(orjson.dumps(error.body()))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Keep refusals out of the log: they are answers, not failures of the server."""
        if not (isinstance(value, KasalError) and value.status < 500):
            super().log_exception(typ, value, tb)

    @classmethod
    def methods(cls) -> list[str]:
        """Give the HTTP methods that the resource has."""
        return [name for name in METHODS if operation_of(cls, name)]

    @property
    def content_security_policy(self) -> str:
        """Let nothing an answer says be executed."""
        return f"{super().content_security_policy}; default-src 'none'"


@web.stream_request_body
class ApiHandler(BaseHandler):
    """A resource of the API.

    The body is streamed, so that one over the limit is refused before it fills the memory.
    """

    SUPPORTED_METHODS = (*web.RequestHandler.SUPPORTED_METHODS, OTHER)

    tag: ClassVar[str] = ""
    """The part of the API that the resource belongs to, as the reference's headings name them."""

    message: ClassVar[str] = "Invalid request"
    """The error's message when a body of this resource is wrong."""

    caller: Caller = NOBODY

    def initialize(self, parts: Parts, template: str) -> None:
        """Take the parts and the path's template the route was made with."""
        self.parts = parts
        self.template = template
        if self.request.method not in self.SUPPORTED_METHODS:
            # Tornado would answer at once, and cut the connection since the body was not read.
            self.request.method = OTHER
        self._body = bytearray()
        self._overflown = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "get" in cls.__dict__:
            # Tornado leaves the body of the answer out.
            cls.head = cls.get

    @property
    def operation(self) -> Operation | None:
        """What is asked for; None where the resource has no such method."""
        return operation_of(type(self), self.request.method or "")

    async def prepare(self) -> None:  # type: ignore[override]
        """Admit the request, or have it refused once its body has passed.

        Tornado cuts the connection of a request that is answered before its body was read, under the
        feet of a client that sends its next request there.
        """
        refusal: KasalError | web.HTTPError | None = None
        try:
            await self.admit()
        except (KasalError, web.HTTPError) as error:
            refusal = error
        if int(self.request.headers.get("Content-Length") or 0) > self.parts.body_limit:
            # So much is not worth waiting for.
            self.set_header("Connection", "close")
            raise refusal or self._too_large()
        if refusal is not None:
            assert self.request.method is not None
            setattr(self, self.request.method.lower(), _raising(refusal))

    async def admit(self) -> None:
        """Let the request in: who asks, how often, in which state the server is, and with which right."""
        operation = self.operation
        # OPTIONS is what a browser asks, without credentials, before a page of another origin may call.
        for_anyone = self.request.method == "OPTIONS" or (
            operation is not None and operation.access == "anyone"
        )
        if "Origin" in self.request.headers:
            self._tell_origin(for_anyone=for_anyone)
        if for_anyone:
            return
        with self.parts.store.one_look():
            if operation is not None and not operation.in_maintenance:
                self.parts.maintenance.check()
            caller = self.recognised()
        self.caller = caller or await self.ask_jupyter()
        self._count_against_limit()
        if not self.check_origin():
            raise Forbidden(
                "The request comes from a page of another origin, which this server does not allow"
            )
        if self.request.method not in {"GET", "HEAD"}:
            self.check_xsrf_cookie()
        if operation is not None:
            require(operation.access, self.caller)
        if self.caller.sandbox:
            self.parts = await self.parts.sandbox()
        self.parts.wake()

    def _tell_origin(self, *, for_anyone: bool) -> None:
        """Let a page of another origin read the answer, refusals included, unless a cookie speaks for it."""
        if self.allow_origin or self.allow_origin_pat:
            self.set_cors_headers()
        elif for_anyone or self.sent_token():
            self.tell("Access-Control-Allow-Origin", self.request.headers["Origin"])
            self.tell("Vary", "Origin")
            self.tell("Access-Control-Expose-Headers", TOLD_HEADERS)

    def _count_against_limit(self) -> None:
        try:
            allowance = self.parts.accounts.gate.spend(self.caller)
        except TooManyRequests as refusal:
            if refusal.limit is not None:
                self.tell("X-RateLimit-Limit", str(refusal.limit))
            self.tell("X-RateLimit-Remaining", "0")
            self.tell("X-RateLimit-Reset", str(refusal.retry_after))
            raise
        if allowance is not None:
            self.tell("X-RateLimit-Limit", str(allowance.limit))
            self.tell("X-RateLimit-Remaining", str(allowance.remaining))
            self.tell("X-RateLimit-Reset", str(allowance.reset))

    @allow_unauthenticated
    def other(self, *_: str) -> None:
        """Refuse a method that HTTP does not know."""
        raise MethodNotAllowed(NO_SUCH_METHOD)

    @allow_unauthenticated
    def options(self, *_: str) -> None:
        """Tell a browser what pages of other origins may send: with a token, everything."""
        self.set_header("Allow", ", ".join(self.methods()))
        if "Origin" in self.request.headers:
            self.set_header("Access-Control-Allow-Methods", ", ".join(self.methods()))
            self.set_header("Access-Control-Allow-Headers", SENT_HEADERS)
        self.nothing()

    def data_received(self, chunk: bytes) -> None:
        """Take a piece of the body."""
        # Tornado cuts the connection where this raises: the refusal waits until the body has passed.
        self._overflown = self._overflown or len(self._body) + len(chunk) > self.parts.body_limit
        if self._overflown:
            self._body.clear()
        else:
            self._body += chunk

    # -- what a method works with --------------------------------------------------------------------

    def body(self, model: type[M]) -> M:
        """Give the request's body, validated."""
        assert self.operation is not None
        assert self.operation.body is model, "the operation declares another body"
        if self._overflown:
            raise self._too_large()
        return read_body(model, bytes(self._body), self.message)

    def query(self, model: type[Q]) -> Q:
        """Give the request's query, validated."""
        assert self.operation is not None
        assert self.operation.query is model, "the operation declares another query"
        return read_query(model, self.request.query_arguments)

    def own(self, document: D | None, what: str, *, field: str | None = None) -> D:
        """Give a document that the caller may see.

        Parameters
        ----------
        document
            What was found, if anything was.
        what
            What was asked for, e.g. ``crew crew_4t9k2m0x7q1z``.
        field
            The body's field that named it, if one did.

        Raises
        ------
        NotFound
            There is none, or it is somebody else's: nobody learns that from the answer.
        """
        if document is None or not self.caller.sees(document):
            text = f"There is no {what}"
            raise NotFound(text, faults=[Fault(field, text)] if field else [])
        return document

    def answer(self, model: BaseModel, status: int = 200) -> None:
        """Answer with a model as JSON."""
        assert self.operation is not None
        declared = self.operation.answers[status]
        assert type(model) is (declared[0] if isinstance(declared, tuple) else declared), (
            "the operation declares another answer"
        )
        self.set_status(status)
        self.write_bytes(model.model_dump_json().encode())

    def nothing(self) -> None:
        """Answer 204."""
        self.set_status(204)
        self.finish()

    def compute_etag(self) -> None:
        """Leave Tornado's content hash out: it costs a pass over every answer."""

    def check_etag_header(self) -> bool:
        """Leave Tornado's comparison out as well: resources that have versions compare those."""
        return False

    def _too_large(self) -> InvalidRequest:
        limit = self.parts.body_limit
        return InvalidRequest(
            self.message, faults=[Fault("body", f"Larger than {limit} bytes; send less at once")]
        )

    def _log(self) -> None:
        """Count every request; write down only what went wrong, since a line costs as much as an answer."""
        count_request(self.template, self.request, self.get_status())
        # Not the logger's own level: Jupyter leaves that at DEBUG, and filters behind it.
        if self.get_status() >= 400 or self.settings["serverapp"].log_level <= logging.DEBUG:
            super()._log()


class UnknownRoute(ApiHandler):
    """Every path under ``/v1`` that is nothing."""

    async def admit(self) -> None:
        """Say so, whatever the method."""
        await super().admit()
        raise NotFound(f"There is nothing at {self.request.path}")


@lru_cache(maxsize=1_000)
def _user_named(name: str) -> User:
    return User(username=name)


def require(access: Access, caller: Caller) -> None:
    """Refuse a caller whose role is too low.

    Raises
    ------
    Forbidden
        It is.
    """
    if access != "anyone" and RANK[caller.role] < RANK[access]:
        raise Forbidden(f"This needs the role {access}; yours is {caller.role}. Ask an administrator")


def _raising(error: Exception) -> Callable[..., NoReturn]:
    def refuse(*_: str) -> NoReturn:
        raise error

    return refuse


def _as_kasal_error(error: BaseException | None, status: int) -> KasalError:
    if isinstance(error, StoreError):
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
