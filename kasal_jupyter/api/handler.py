"""The base of every resource under ``/v1``: JSON in, JSON out, and who may do what how often."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, NoReturn, TypeVar, cast

from jupyter_server.auth.decorator import allow_unauthenticated
from pydantic import BaseModel
from tornado import web

from kasal_jupyter.api.base import NO_SUCH_METHOD, SMALL_BODY, BaseHandler, Parts
from kasal_jupyter.api.body import read_body, read_query
from kasal_jupyter.api.logged import count_request
from kasal_jupyter.api.operation import Access, Operation, operation_of
from kasal_jupyter.auth.gate import RANK, Caller, Owned
from kasal_jupyter.auth.standing import Standing
from kasal_jupyter.errors import (
    DocumentDamaged,
    Fault,
    Forbidden,
    InvalidRequest,
    KasalError,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
    Unauthorized,
)
from kasal_jupyter.executions.discard import discard
from kasal_jupyter.places import LARGE, LISTS, beside_loop
from kasal_jupyter.schemas.base import Query
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.store.engine import Seen

M = TypeVar("M", bound=BaseModel)
Q = TypeVar("Q", bound=Query)
D = TypeVar("D", bound=Owned)

LARGE_BODY = 16_384
"""Bytes of a body that is read in a thread: smaller ones take less than a thread does."""

OTHER = "OTHER"
"""Stands for every method that HTTP does not know."""

NOBODY = Caller(owner="", name="", role="viewer")
"""The caller of an operation that is for anyone, where none is known."""

SENT_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID"
"""Request headers that pages of other origins may send."""

TOLD_HEADERS = "ETag, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
"""Headers of answers that pages of other origins may read."""


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

    seen: Seen | None = None
    """What the store was seen to be when the caller's token was looked at; None where it was not."""

    small_body: ClassVar[bool] = False
    """Whether bodies are a login's size: they are taken in before it is known who asks."""

    _give_back: Callable[[], None]
    _keeps_body = False
    _overflown = False
    _read: Callable[[], BaseModel] | None = None

    def initialize(self, parts: Parts, template: str) -> None:
        """Take the parts and the path's template the route was made with."""
        if self.request.method not in self.SUPPORTED_METHODS:
            # Tornado would answer at once, and cut the connection since the body was not read.
            self.request.method = OTHER
        super().initialize(parts, template)
        self._body = bytearray()
        self._give_back = _nothing_taken

    def parameters(self) -> list[str]:
        """Give the names of the query's parameters."""
        operation = self.operation
        return [] if operation is None else names_of(operation.query)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "get" in cls.__dict__:
            # Tornado leaves the body of the answer out.
            cls.head = cls.get
        if "delete" in cls.__dict__:
            cls.delete = _even_damaged(cls.delete)

    @functools.cached_property
    def operation(self) -> Operation | None:
        """What is asked for; None where the resource has no such method."""
        return operation_of(type(self), self.request.method or "")

    async def prepare(self) -> None:  # type: ignore[override]
        """Admit the request, or have it refused once its body has passed, of which nothing is kept.

        Tornado cuts the connection of a request that is answered before its body was read, under the
        feet of a client that has not read the answer yet.
        """
        refusal: KasalError | web.HTTPError | None = None
        try:
            await self.admit()
        except (KasalError, web.HTTPError) as error:
            refusal = error
        if size := self._size_to_come():
            # A known caller's connection goes on.
            self.closes = refusal is not None and self.caller is NOBODY
            if size > self.body_limit:
                # So much is not worth waiting for.
                self.closes = True
                raise refusal or self._too_large()
            self._expect_body(size, refused=refusal is not None)
        if refusal is not None:
            assert self.request.method is not None
            setattr(self, self.request.method.lower(), _raising(refusal))

    @property
    def body_limit(self) -> int:
        """The most bytes of a body that are taken in."""
        return min(SMALL_BODY, self.parts.body_limit) if self.small_body else self.parts.body_limit

    def held_of(self, size: int) -> int:
        """Say how much of a body of some bytes counts as under way."""
        return size

    def _size_to_come(self) -> int:
        """Give how many bytes of a body come, or may come; what is no number, Tornado refuses."""
        if "Transfer-Encoding" in self.request.headers:
            return self.body_limit
        text = self.request.headers.get("Content-Length", "")
        if not (text.isascii() and text.isdigit()):
            return 0
        return int(text) if len(text) < 16 else sys.maxsize

    def _expect_body(self, size: int, *, refused: bool) -> None:
        """Count a body that comes, and say how long it may take."""
        doors = self.parts.doors
        known = self.caller is not NOBODY
        operation = self.operation
        takes = operation is not None and (operation.body is not None or operation.upload is not None)
        self._keeps_body = takes and not refused
        connection: Any = self.request.connection
        connection.set_body_timeout(doors.body_seconds if known else doors.stranger_seconds)
        try:
            if not known:
                self._give_back = doors.strangers.take(self.sender)
            elif self._keeps_body:
                self._give_back = doors.bodies.take(self.caller.owner, self.held_of(size))
        except TooManyRequests:
            # Not even waited for.
            self.closes = True
            raise

    def on_finish(self) -> None:
        """Let go of the body."""
        self._give_back()

    def on_connection_close(self) -> None:
        """Let go of the body: the client is gone."""
        super().on_connection_close()
        self._give_back()

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
        with self.parts.store.one_look() as seen:
            if operation is not None and not operation.in_maintenance:
                self.parts.maintenance.check()
            caller = self.recognised()
        if caller is None:
            caller = await self.ask_jupyter()
        else:
            self.seen = seen
        self.caller = caller
        self._count_against_limit()
        if not self.check_origin():
            raise Forbidden(
                "The request comes from a page of another origin, which this server does not allow"
            )
        if self.request.method not in {"GET", "HEAD"}:
            self.check_xsrf_cookie()
        if operation is not None:
            require(operation.access, self.caller)
        if caller.sandbox:
            # It has a store of its own.
            self.parts, self.seen = await self.parts.sandbox(), None
        self.parts.wake()

    def _tell_origin(self, *, for_anyone: bool) -> None:
        """Let a page of another origin read the answer, refusals included, unless a cookie speaks for it."""
        if self.allow_origin or self.allow_origin_pat:
            self.set_cors_headers()
        elif for_anyone or self.sent_token():
            self.tell(
                {
                    "Access-Control-Allow-Origin": self.request.headers["Origin"],
                    "Vary": "Origin",
                    "Access-Control-Expose-Headers": TOLD_HEADERS,
                }
            )

    def _count_against_limit(self) -> None:
        try:
            allowance = self.parts.accounts.gate.spend(self.caller)
        except TooManyRequests as refusal:
            if refusal.limit is not None:
                self.tell({"X-RateLimit-Limit": str(refusal.limit)})
            self.tell({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(refusal.retry_after)})
            raise
        if allowance is not None:
            self.tell(
                {
                    "X-RateLimit-Limit": str(allowance.limit),
                    "X-RateLimit-Remaining": str(allowance.remaining),
                    "X-RateLimit-Reset": str(allowance.reset),
                }
            )

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
        """Take a piece of the body, or let it pass."""
        if not self._keeps_body:
            return
        # Tornado cuts the connection where this raises: the refusal waits until the body has passed.
        self._overflown = self._overflown or len(self._body) + len(chunk) > self.body_limit
        if self._overflown:
            self._body.clear()
        else:
            self._body += chunk

    def said(self) -> bytes:
        """Give the body, as far as it is there."""
        return bytes(self._body)

    async def read_large_body(self) -> None:
        """Read a body that is so large that others would have to wait for it, in a thread."""
        assert self.operation is not None
        assert self.operation.body is not None
        if len(self._body) > LARGE_BODY:
            model, data, message = self.operation.body, self.said(), self.message
            self._read = await LARGE.do(lambda: _read(model, data, message), owner=self.caller.owner)

    # -- what a method works with --------------------------------------------------------------------

    def body(self, model: type[M]) -> M:
        """Give the request's body, validated."""
        assert self.operation is not None
        assert self.operation.body is model, "the operation declares another body"
        if self._overflown:
            raise self._too_large()
        # A body may come slowly.
        self.let_in_with().look()
        if self._read is not None:
            return cast("M", self._read())
        return read_body(model, self.said(), self.message)

    def query(self, model: type[Q]) -> Q:
        """Give the request's query, validated."""
        assert self.operation is not None
        assert self.operation.query is model, "the operation declares another query"
        return read_query(model, self.request.query_arguments)

    async def ask_once_more(self) -> None:
        """See to it that the caller may still do what took long to prepare: before it is stored.

        Raises
        ------
        Unauthorized
            They have lost the right to it meanwhile.
        """
        standing = self.let_in_with()
        standing.look()
        if standing.by_jupyter and not await self.known_to_jupyter(self.sent_token()):
            raise Unauthorized("Jupyter no longer knows you; log in again")

    def let_in_with(self) -> Standing:
        """Give what the request was let in with."""
        return Standing(self.parts.accounts.gate, self.caller, self.token_of_ours)

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

    def crew(self, crew_id: str, *, field: str | None = None) -> Crew:
        """Give the crew that a path names, or a field of the body; see :meth:`own`."""
        return self.own(self.parts.store.crews.get(crew_id), f"crew {crew_id}", field=field)

    def answer(self, model: BaseModel, status: int = 200) -> None:
        """Answer with a model as JSON."""
        self.set_status(status)
        self.write_bytes(self._written(model, status))

    async def answer_with(self, make: Callable[[], BaseModel], *, size: int) -> None:
        """Answer with a model that is made of so many documents: in a thread, where they are many."""
        data = await beside_loop(
            lambda: self._written(make(), 200), size=size, owner=self.caller.owner, places=LISTS
        )
        self.write_bytes(data)

    def _written(self, model: BaseModel, status: int) -> bytes:
        assert self.operation is not None
        declared = self.operation.answers[status]
        assert type(model) is (declared[0] if isinstance(declared, tuple) else declared), (
            "the operation declares another answer"
        )
        return model.model_dump_json().encode()

    def nothing(self) -> None:
        """Answer 204."""
        self.set_status(204)
        self.finish()

    def may_know_of(self, damaged: DocumentDamaged) -> bool:
        """Say whether a document that can't be read is the caller's, or a part of a crew that was shown."""
        return self.caller.sees(damaged) or (not damaged.owner and damaged.crew_id in self.path_args)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer in the reference's format; what is somebody else's is not there, in whatever state it is."""
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, DocumentDamaged) and not self.may_know_of(error):
            hidden = NotFound(f"There is no {error.document_id}")
            kwargs["exc_info"] = (NotFound, hidden, None)
        super().write_error(status_code, **kwargs)

    def compute_etag(self) -> None:
        """Leave Tornado's content hash out: it costs a pass over every answer."""

    def check_etag_header(self) -> bool:
        """Leave Tornado's comparison out as well: resources that have versions compare those."""
        return False

    def _too_large(self) -> InvalidRequest:
        limit = self.body_limit
        return InvalidRequest(
            self.message, faults=[Fault("body", f"Larger than {limit} bytes; send less at once")]
        )

    def _log(self) -> None:
        """Count every request; write down only what went wrong, since a line costs as much as an answer."""
        count_request(self.template, self.request, self.get_status())
        # As Jupyter's own handlers do: an idle server may be set to end itself.
        self.settings["kasal_last_activity"] = datetime.now(UTC)
        # Not the logger's own level: Jupyter leaves that at DEBUG, and filters behind it.
        if self.get_status() >= 400 or self.settings["serverapp"].log_level <= logging.DEBUG:
            super()._log()


def bodiless(handler: type[ApiHandler]) -> type[ApiHandler]:
    """Give a resource's handler for requests that bring no body.

    Where a body is streamed, Tornado lets two turns of its loop pass until it begins, a tenth of a short
    answer's time, whether a body comes or not.
    """
    return type(handler.__name__, (handler,), {"_stream_request_body": False, "__doc__": handler.__doc__})


class UnknownRoute(ApiHandler):
    """Every path under ``/v1`` that is nothing."""

    async def admit(self) -> None:
        """Say so, whatever the method."""
        await super().admit()
        raise NotFound(f"There is nothing at {self.sent_path}")


def require(access: Access, caller: Caller) -> None:
    """Refuse a caller whose role is too low.

    Raises
    ------
    Forbidden
        It is.
    """
    if access != "anyone" and RANK[caller.role] < RANK[access]:
        raise Forbidden(f"This needs the role {access}; yours is {caller.role}. Ask an administrator")


def _even_damaged(delete: Callable[..., Awaitable[None] | None]) -> Callable[..., Awaitable[None]]:
    """Have a method that deletes a document do so as well where that can't be read any more."""

    @functools.wraps(delete)
    async def delete_it(self: ApiHandler, *args: str) -> None:
        try:
            if (deleted := delete(self, *args)) is not None:
                await deleted
        except DocumentDamaged as damaged:
            if damaged.document_id not in args or not self.may_know_of(damaged):
                raise
            await discard(self.parts.runs, self.parts.crews, damaged)
            self.nothing()

    return delete_it


@cache
def names_of(query: type[Query]) -> list[str]:
    """Give the names of a query's parameters."""
    return [field.alias or name for name, field in query.model_fields.items()]


def _read(model: type[BaseModel], data: bytes, message: str) -> Callable[[], BaseModel]:
    """Read a body; give what gives it, or raises what is wrong with it."""
    try:
        found = read_body(model, data, message)
    except InvalidRequest as error:
        return _raising(error)
    return lambda: found


def _nothing_taken() -> None:
    """Give nothing back."""


def _raising(error: Exception) -> Callable[..., NoReturn]:
    def refuse(*_: str) -> NoReturn:
        raise error

    return refuse
