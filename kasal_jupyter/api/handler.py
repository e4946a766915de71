"""The base of every handler under ``/v1``: who asks, JSON in, JSON out, the reference's errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeVar

import orjson
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from pydantic import BaseModel
from tornado import web

from kasal_jupyter.api.body import read_body
from kasal_jupyter.api.parts import Parts
from kasal_jupyter.auth.caller import Caller, caller_of
from kasal_jupyter.errors import (
    Fault,
    Forbidden,
    InvalidRequest,
    KasalError,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

M = TypeVar("M", bound=BaseModel)

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

    async def identify(self) -> Caller:
        """Give the caller, or refuse the request.

        Jupyter's own ``prepare`` is not used: it answers a caller it does not know with a redirection to
        its login page or a 403, where the reference says 401.

        Raises
        ------
        Unauthorized, Forbidden
            Jupyter does not know the caller, or the request comes from a foreign host or page.
        """
        if not self.check_host():
            raise Forbidden("The Host header names no host of this server")
        user = self.identity_provider.get_user(self)
        if inspect.isawaitable(user):
            user = await user
        self.current_user = self._jupyter_current_user = user
        if user is None:
            raise Unauthorized("Send a valid token: Authorization: Bearer <token>")
        return caller_of(user)

    def write_bytes(self, data: bytes) -> None:
        """Answer with JSON that is ready."""
        self.set_header("Content-Type", "application/json")
        self.finish(data)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer in the reference's *Error Response Format*."""
        error = _as_kasal_error(kwargs.get("exc_info", (None, None))[1], status_code)
        self.set_status(error.status)
        if isinstance(error, Unauthorized):
            self.set_header("WWW-Authenticate", "Bearer")
        if isinstance(error, MethodNotAllowed):
            self.set_header("Allow", ", ".join(self._methods()))
        self.write_bytes(orjson.dumps(error.body()))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Keep refusals out of the log: they are answers, not failures of the server."""
        if not (isinstance(value, KasalError) and value.status < 500):
            super().log_exception(typ, value, tb)

    def _methods(self) -> list[str]:
        return [
            name
            for name in self.SUPPORTED_METHODS
            if getattr(type(self), name.lower()) is not getattr(web.RequestHandler, name.lower())
            and name not in {"HEAD", "OPTIONS"}
        ]


@web.stream_request_body
class ApiHandler(BaseHandler):
    """A resource of the API.

    The body is streamed, so that one over the limit is refused before it fills the memory.
    """

    message: ClassVar[str] = "Invalid request"
    """The error's message when a body of this resource is wrong."""

    parts: Parts
    caller: Caller

    def initialize(self, parts: Parts) -> None:
        """Take the parts the routes were made with."""
        self.parts = parts
        self._body = bytearray()
        self._overflown = False

    def __init_subclass__(cls) -> None:
        # ``identify`` authenticates every method; the mark tells Jupyter's own check so.
        super().__init_subclass__()
        for name in ("get", "post", "put", "patch", "delete"):
            if method := cls.__dict__.get(name):
                setattr(cls, name, allow_unauthenticated(method))

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
        """Authenticate, and refuse foreign pages."""
        self.caller = await self.identify()
        self.parts.wake()
        self.set_cors_headers()
        if not self.check_origin():
            raise Forbidden(
                "The request comes from a page of another origin, which this server does not allow"
            )
        if self.request.method not in {"GET", "HEAD", "OPTIONS"}:
            self.check_xsrf_cookie()

    def data_received(self, chunk: bytes) -> None:
        """Take a piece of the body."""
        # Tornado cuts the connection where this raises: the refusal waits until the body has passed.
        self._overflown = self._overflown or len(self._body) + len(chunk) > self.parts.body_limit
        if self._overflown:
            self._body.clear()
        else:
            self._body += chunk

    def body(self, model: type[M]) -> M:
        """Give the request's body, validated."""
        if self._overflown:
            raise self._too_large()
        return read_body(model, bytes(self._body), self.message)

    def answer(self, model: BaseModel, status: int = 200) -> None:
        """Answer with a model as JSON."""
        self.set_status(status)
        self.write_bytes(model.model_dump_json().encode())

    def nothing(self) -> None:
        """Answer 204."""
        self.set_status(204)
        self.finish()

    def compute_etag(self) -> None:
        """Leave Tornado's content hash out: it costs a pass over every answer."""

    @property
    def content_security_policy(self) -> str:
        """Let nothing an answer says be executed."""
        return f"{super().content_security_policy}; default-src 'none'"

    def _too_large(self) -> InvalidRequest:
        limit = self.parts.body_limit
        return InvalidRequest(
            self.message, faults=[Fault("body", f"Larger than {limit} bytes; send less at once")]
        )


class UnknownRoute(ApiHandler):
    """Every path under ``/v1`` that is nothing."""

    async def admit(self) -> None:
        """Say so, whatever the method."""
        await super().admit()
        raise NotFound(f"There is nothing at {self.request.path}")


def _raising(error: Exception) -> Callable[..., NoReturn]:
    def refuse(*_: str) -> NoReturn:
        raise error

    return refuse


def _as_kasal_error(error: BaseException | None, status: int) -> KasalError:
    if isinstance(error, KasalError):
        return error
    if isinstance(error, web.HTTPError):
        status = error.status_code
    kind, text = _BY_STATUS.get(status, (KasalError, "Internal Error"))
    if status == 405:
        text = "The resource is there, and has no such method"
    if isinstance(error, web.HTTPError) and error.log_message and status < 500:
        text = error.log_message % error.args if error.args else error.log_message
    return kind(text)
