"""What an exception of a provider's SDK means: which failure it is, and whether it may pass.

All SDKs are read alike, by the names of their exceptions, the HTTP status and the word that the provider has
for the error: only one of them is loaded in most runs, and none has to be to read another's. Only what an SDK
raises is read so: an error of our own, whatever it is called and whatever it says, is not the provider's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from traceback import walk_tb
from typing import Any
from urllib.parse import urlsplit

import re2  # type: ignore[import-untyped]

from kasal_jupyter.hiding import beginning
from kasal_jupyter.outward import NoWayOut, proxy_for
from kasal_jupyter.wellformed import text_of, well_formed
from kasal_jupyter.worker.models.chat_body import NotAnAnswer, body_words, page_title, server_words

MAX_MESSAGE = 500
"""Most characters of a provider's own words."""


@dataclass(frozen=True, slots=True)
class ProviderFailure:
    """Why a model did not answer.

    Attributes
    ----------
    code
        ``RATE_LIMIT``, ``MODEL_AUTH``, ``MODEL_ERROR`` …
    message
        One sentence, without the model's name.
    passing
        Whether the same call may well succeed a little later.
    wait
        Seconds that the provider asks to wait; None where it says nothing.
    setting
        Which of the agent's settings the model does not take, where that is why.
    unpaid
        Whether the provider had done nothing yet that costs: it was not reached, or turned the call down.
    """

    code: str
    message: str
    passing: bool = False
    wait: float | None = None
    setting: str | None = None
    unpaid: bool = False


_AUTH = "the provider refused the API key"

# The providers' own words for an error, in lower case and without underscores.
_WORDS: Mapping[str, tuple[str, bool]] = {
    **dict.fromkeys(
        (
            "ratelimitexceeded",
            "ratelimiterror",
            "resourceexhausted",
            "throttlingexception",
            "toomanyrequestsexception",
            "toomanyrequests",
        ),
        ("RATE_LIMIT", True),
    ),
    **dict.fromkeys(
        (
            "authenticationerror",
            "permissionerror",
            "invalidapikey",
            "apikeyinvalid",
            "permissiondenied",
            "unauthenticated",
            "accessdeniedexception",
            "unrecognizedclientexception",
            "invalidsignatureexception",
            "expiredtokenexception",
        ),
        ("MODEL_AUTH", False),
    ),
    **dict.fromkeys(
        ("modelnotfound", "notfounderror", "resourcenotfoundexception", "deploymentnotfound"),
        ("MODEL_NOT_FOUND", False),
    ),
    **dict.fromkeys(("modeltimeoutexception", "deadlineexceeded"), ("MODEL_TIMEOUT", True)),
    **dict.fromkeys(
        (
            "overloadederror",
            "apierror",
            "servererror",
            "internalservererror",
            "serviceunavailable",
            "internalserverexception",
            "serviceunavailableexception",
            "modelnotreadyexception",
            "modelerrorexception",
            "modelstreamerrorexception",
            "unavailable",
            "internal",
        ),
        ("MODEL_ERROR", True),
    ),
}

_REFUSED = frozenset({400, 413, 422})
"""Statuses of a request that the provider finds wrong in itself."""

_NOT_MADE = frozenset({404, 405, 500, 501})
"""Statuses of requests for what a server was not made for; 404 of OpenRouter's, 500 of llama-server's."""

_USED_UP = frozenset({"insufficientquota", "servicequotaexceededexception", "billingerror"})
"""Words for a limit that no wait lifts."""

_OVERFLOW = re.compile(
    r"context[ _](length|window|limit)|maximum context|(prompt|input) is too long|too many (input )?tokens"
    r"|token count.{0,40}exceed|exceeds? (the )?(maximum number of|token limit)|exceed_context_size"
    r"|request_too_large|expected a string with maximum length",
    re.IGNORECASE,
)
_OF_MODELS = re.compile(r"model|deployment", re.IGNORECASE)
_NO_SUCH_MODEL = re.compile(r"model identifier is invalid|unknown model", re.IGNORECASE)

_SETTING = r"\b(temperature|top_?p|seed|stop|stop_?sequences|max_?tokens)\b"
_NOT_TAKEN = re.compile(
    rf"{_SETTING}.{{0,80}}(?:not support|unsupported|deprecated|not allowed|not permitted|cannot both)"
    rf"|(?:unsupported|not support|unknown|unrecognized).{{0,40}}{_SETTING}",
    re.IGNORECASE | re.DOTALL,
)
"""How providers say that a model takes no such setting: OpenAI's reasoning models, Anthropic's newest."""

TOOLS, FORM = "tools", "response_format"
"""What a server may lack, besides settings: calls of tools, and answers in the form of a JSON schema."""

_NO_TOOLS = re2.compile(
    r"(?i)(does not|doesn't|do not|don't|cannot|can't|not able to) support (the )?(native )?(tool|function)"
    r"|(tools?|tool[ _-]calls?|tool[ _-]calling|function[ _-]calling|functions|tool[ _-]choice|tool[ _-]use)"
    r"\W{0,3}( parameter)? (is|are) not (currently )?(supported|available|enabled|allowed)"
    r"|enable-auto-tool-choice|tool-call-parser"
    r"|(unsupported|unknown|unrecognized|unexpected|extra)[a-z :]{0,40}['\"`]?(tools|tool_choice|functions)\b"
    r"|\b(tools|tool_choice)\b.{0,60}(extra inputs are not permitted|extra fields not permitted|unsupported)"
    r"|(tools|tool_choice).{0,40}(requires?|need) .{0,20}--jinja"
    r"|tools param requires --jinja|no endpoints found that support tool"
)
"""How servers say that they take no tools: vLLM without a parser, llama-server, Ollama, OpenRouter, TGI."""

_NO_FORM = re2.compile(
    r"(?i)response[ _]?(format|schema|json_?schema|mime_?type)|json[ _](schema|mode)|structured[ _]output"
    r"|guided[ _](json|decoding)|\bgrammar\b|output[ _](format|config)|tool[ _]?choice|text\.format"
)
"""How they say that they take no form for an answer, not of this kind, or not with this schema."""

_NOT_CONNECTED = frozenset(
    {"ConnectTimeout", "ConnectTimeoutError", "PoolTimeout", "ServiceRequestTimeoutError"}
)
"""Time-outs before the provider could begin."""

# By the names of the exceptions of httpx, azure-core and botocore, and of the SDKs above them.
_TIMEOUTS = frozenset(
    {
        "APITimeoutError",
        "TimeoutException",
        "ReadTimeoutError",
        "ConnectTimeoutError",
        "ServiceRequestTimeoutError",
        "ServiceResponseTimeoutError",
        "CallTimedOut",
    }
)
_BROKEN = frozenset(
    {
        "ReadError",
        "WriteError",
        "CloseError",
        "RemoteProtocolError",
        "ServiceResponseError",
        "IncompleteReadError",
        "ConnectionClosedError",
        "ResponseStreamingError",
        "ProtocolError",
        "ChunkedEncodingError",
        "InvalidChunkLength",
    }
)
_UNREACHABLE = frozenset(
    {
        "APIConnectionError",
        "TransportError",
        "ServiceRequestError",
        "EndpointConnectionError",
        "ProxyConnectionError",
        "SSLError",
    }
)
_GARBLED = frozenset(
    {
        "JSONDecodeError",
        "UnicodeDecodeError",
        "APIResponseValidationError",
        "DecodeError",
        "DecodingError",
        "ResponseParserError",
        "ParserError",
        "ChecksumMismatch",
        "InvalidHeadersLength",
        "InvalidPayloadLength",
        "UnknownApiResponseError",
    }
)
"""What an SDK, or CrewAI, makes of an answer that is not what the API says it is."""


_SDKS = frozenset(
    {
        *("openai", "anthropic", "azure", "google", "boto3", "botocore"),
        # What they ask by.
        *("httpx", "httpcore", "h11", "urllib3", "requests", "aiohttp"),
        # Which reads what they give, and has exceptions for it.
        "crewai",
    }
)
"""The packages whose exceptions tell of a provider."""

_CALLED_BY_ANY = frozenset({"pydantic", "pydantic_core", "orjson", "jiter"})
"""Packages whose exceptions are the fault of whoever has called them, as those of Python's own are."""


def failure_of(chain: Sequence[BaseException], asked: Place | None = None) -> ProviderFailure | None:
    """Read an exception of a provider's SDK.

    Parameters
    ----------
    chain
        The exception and its causes, which CrewAI and the SDKs wrap in others of their own.
    asked
        Where the model was asked, as far as the exceptions do not say it.

    Returns
    -------
    ProviderFailure or None
        None where it tells of nothing that a provider does.
    """
    if _began_here(chain):
        return None
    place = (asked or Place()).within(chain)
    for error in chain:
        if type(error).__name__ == "LLMContextLengthExceededError":
            return _overflow()
        if type(error).__name__ == "AddressRefused":
            words = f"its address may not be called: {said(error)}"
            return ProviderFailure("MODEL_UNREACHABLE", words, unpaid=True)
        if known := _answered(error, place):
            return known
        if isinstance(error, NotAnAnswer):
            return _no_answer(error, place)
    names = {kind.__name__ for error in chain for kind in type(error).__mro__ if _tells_of_a_provider(kind)}
    if names & _TIMEOUTS:
        # Whoever has waited as long as a call may take does not wait once more: a fallback may be quicker.
        unpaid = bool(names & _NOT_CONNECTED)
        return ProviderFailure("MODEL_TIMEOUT", "no answer within the time allowed.", unpaid=unpaid)
    if names & _BROKEN:
        return ProviderFailure("MODEL_UNREACHABLE", "the connection to the provider broke off.", passing=True)
    if names & _UNREACHABLE:
        words = f"the provider could not be reached{place.at()}{_through(chain)}."
        return ProviderFailure("MODEL_UNREACHABLE", words, passing=True, unpaid=True)
    if any(_OVERFLOW.search(said(error)) for error in chain):
        return _overflow()
    if names & {"APIError", "EventStreamError"}:
        # An error in the middle of a stream, without a status and without a word that is known.
        return ProviderFailure("MODEL_ERROR", said(chain[-1]), passing=True)
    return None


def _tells_of_a_provider(kind: type) -> bool:
    """Say whether exceptions of a class do: an SDK's, and our own for what was not done in time."""
    return kind.__module__.partition(".")[0] in _SDKS or kind.__name__ == "CallTimedOut"


def _began_here(chain: Sequence[BaseException]) -> bool:
    """Say whether it is a fault of our own, whatever CrewAI and the SDKs have made of it around it.

    What the system answers where our own ways to the network lead is none, nor what we say of a provider.
    """
    first = chain[-1]
    return (
        is_ours(first)
        and not isinstance(first, (NotAnAnswer, NoWayOut, OSError))
        and not any(map(_tells_of_a_provider, type(first).__mro__))
    )


def _through(chain: Sequence[BaseException]) -> str:
    """Name the proxy that was asked, where one was: it may be what is not there."""
    for error in chain:
        request = getattr(error, "request", None) if type(error).__name__ == "APIConnectionError" else None
        if request is None:
            continue
        try:
            proxy = proxy_for(str(request.url))
        except NoWayOut as wrong:
            return f": {wrong}"
        return f" through the proxy {proxy.shown}" if proxy is not None else ""
    return ""


def garbled(chain: Sequence[BaseException]) -> ProviderFailure | None:
    """Read an exception as an answer that is none; None where it is something else.

    Only for what was raised while a model was asked, and only where an SDK says so itself: what goes wrong in
    a program, an ``AttributeError`` say, is no fault of the provider's.
    """
    for error in () if _began_here(chain) else chain:
        kinds = type(error).__mro__
        sdks = any(map(_tells_of_a_provider, kinds)) or _raised_in(error) in _SDKS
        if sdks and {kind.__name__ for kind in kinds} & _GARBLED:
            what = f"{type(error).__name__}: {said(error)}"
            return ProviderFailure(
                "MODEL_ERROR", f"the provider's answer makes no sense ({what}).", passing=True
            )
    return None


def is_ours(error: BaseException) -> bool:
    """Say whether an exception was raised in code of this package, or in what that calls of general use."""
    return _raised_in(error) == __name__.partition(".")[0]


def _raised_in(error: BaseException) -> str:
    """Give the package that an exception was raised in, of those that could have done otherwise."""
    raised_in = ""
    for frame, _line in walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in sys.stdlib_module_names and package not in _CALLED_BY_ANY:
            raised_in = package
    return raised_in


def said(error: BaseException) -> str:
    """Give an exception's text on one line, the provider's own where it has one, or else its class."""
    return beginning(well_formed(_words_of(error)), MAX_MESSAGE) or f"{type(error).__name__}."


def _words_of(error: BaseException) -> str:
    """Give what a server says in an exception; of a web page, which some answer with, what it is called."""
    words = _own_words(error) or text_of(error)
    # Where azure-core understands no error, it puts the body behind its own words.
    _, _, content = words.partition("\nContent: ")
    return body_words(content or words) or words


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model was asked.

    Attributes
    ----------
    address
        None where it is not known.
    set_by
        What has set it, in words, where the run's owner may not see it.
    """

    address: str | None = None
    set_by: str | None = None

    def within(self, chain: Sequence[BaseException]) -> Place:
        """Give the place as exceptions tell it: without a user's name, a password and what is asked for."""
        told = (_address(error) for error in chain)
        return replace(self, address=next((found for found in told if found), None) or _shown(self.address))

    def __str__(self) -> str:
        if self.set_by is not None:
            return f"the address from {self.set_by}"
        return self.address or "the server at the address that is set for it"

    def at(self) -> str:
        """Give the place for the end of a sentence, where anything is known of it."""
        return f" at {self}" if self.set_by or self.address else ""

    def hint(self) -> str:
        """Say what is wrong with the address, as far as can be guessed."""
        path = urlsplit(self.address or "").path
        if not path.endswith("/chat/completions") or "/v" in path:
            return ""
        return " The address of an OpenAI-compatible server ends in /v1 as a rule."


def _address(error: BaseException) -> str | None:
    """Give the address that a request went to, which httpx and azure-core tell."""
    address = getattr(error, "address", None)
    for owner in (error, getattr(error, "response", None)):
        if address is None:
            try:
                address = getattr(getattr(owner, "request", None), "url", None)
            except RuntimeError:
                continue  # httpx's own, of a request that was never made.
    return _shown(address)


def _shown(address: object) -> str | None:
    if address is None:
        return None
    parts = urlsplit(str(address))
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if host else None


def _no_answer(error: NotAnAnswer, place: Place) -> ProviderFailure:
    """Read what a server has sent in the place of an answer, with the status of one."""
    if error.body is not None:
        where = "" if error.begun else f"{place} answered with an error: "
        # What breaks down in the middle may go well the next time; a server that knows no better will not.
        return ProviderFailure(
            "MODEL_ERROR",
            f"{where}{said(error).rstrip('.')}.{'' if error.begun else place.hint()}",
            passing=error.begun,
            unpaid=not error.begun,
        )
    words = said(error).rstrip(".")
    passing = page_title(words) is None and not words.startswith("it is a web page")
    return ProviderFailure("MODEL_ERROR", f"{place} sent no model's answer: {words}.{place.hint()}", passing)


def _overflow() -> ProviderFailure:
    return ProviderFailure("CONTEXT_OVERFLOW", "the prompt is longer than the model takes.", unpaid=True)


def _answered(error: BaseException, place: Place) -> ProviderFailure | None:
    """Read an error that the provider has answered with."""
    if not (isinstance(error, NotAnAnswer) or any(map(_tells_of_a_provider, type(error).__mro__))):
        return None
    status = _status(error)
    word = next((word for word in _words(error) if word in _WORDS or word in _USED_UP), None)
    if status in {None, 200} and word is None:
        return None
    text = said(error)
    if status in {None, 200, *_REFUSED} and _OVERFLOW.search(f"{' '.join(_words(error))} {text}"):
        return _overflow()
    unpaid = status not in {None, 200, 408, 504} and not getattr(error, "begun", False)
    if word in _USED_UP:
        words = f"the quota at the provider is used up: {text.rstrip('.')}."
        return ProviderFailure("RATE_LIMIT", words, unpaid=unpaid)
    code, passing = _of_status(status) or (_WORDS[word] if word else ("MODEL_ERROR", False))
    if code == "MODEL_ERROR" and status in _REFUSED:
        passing = False
    if code == "MODEL_ERROR" and _NO_SUCH_MODEL.search(text):
        code = "MODEL_NOT_FOUND"
    return ProviderFailure(
        code,
        _sentence(code, status, text, place, named=word in _WORDS),
        passing,
        wait=_wait(error) if passing else None,
        setting=_not_taken(status, text),
        unpaid=unpaid,
    )


def _not_taken(status: int | None, text: str) -> str | None:
    """Give the setting that a model does not take, as the agent has it; or :data:`TOOLS` or :data:`FORM`."""
    if status not in {*_REFUSED, *_NOT_MADE, None, 200}:
        return None
    if _NO_TOOLS.search(text):
        return TOOLS
    if status not in {*_REFUSED, *_NOT_MADE}:
        return None
    if _NO_FORM.search(text):
        return FORM
    found = _NOT_TAKEN.search(text) if status in _REFUSED else None
    if found is None:
        return None
    name = (found[1] or found[2]).lower().replace("_", "")
    return {"topp": "top_p", "maxtokens": "max_tokens", "stopsequences": "stop"}.get(name, name)


def _of_status(status: int | None) -> tuple[str, bool] | None:
    match status:
        case 401 | 403:
            return "MODEL_AUTH", False
        case 404:
            return "MODEL_NOT_FOUND", False
        case 408 | 504:
            return "MODEL_TIMEOUT", True
        case 429:
            return "RATE_LIMIT", True
        case int() if status >= 500 or status == 409:
            return "MODEL_ERROR", True
        case _:
            return None


def _sentence(code: str, status: int | None, text: str, place: Place, *, named: bool) -> str:
    number = f" ({status})" if status not in {None, 200} else ""
    match code:
        case "MODEL_AUTH":
            # Whoever is refused for something else than the key must be told what.
            return f"{_AUTH}{number}." if status == 401 else f"{_AUTH}{number}: {text.rstrip('.')}."
        case "MODEL_NOT_FOUND":
            words = f"{number}: {text.rstrip('.')}." if text else f"{number}."
            if named or _OF_MODELS.search(text):
                return f"the provider has no such model{words}"
            return f"nothing answers at {place}{words}{place.hint()}"
        case "MODEL_TIMEOUT":
            return f"no answer within the time allowed{number}."
        case "RATE_LIMIT":
            return f"the provider's rate limit is used up{number}."
        case _:
            return f"{text.rstrip('.')}{number}."


def _status(error: BaseException) -> int | None:
    """Give the HTTP status of an answer: OpenAI's, Anthropic's, Azure's, Google's or Amazon's."""
    status = getattr(error, "status_code", None)
    if status is None and type(error).__module__.startswith("google.genai"):
        status = getattr(error, "code", None)
    if status is None and isinstance(response := getattr(error, "response", None), dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def _words(error: BaseException) -> Iterator[str]:
    """Give the provider's own words for an error, as :data:`_WORDS` spells them, the most telling first."""
    for found in _raw_words(error):
        if isinstance(found, str):
            yield found.replace("_", "").lower()


def _raw_words(error: BaseException) -> Iterator[Any]:
    body = _body(error)
    for each in (body.get("error"), body, getattr(error, "error", None)):
        if isinstance(each, dict):
            yield from (each.get("code"), each.get("Code"), each.get("type"), each.get("status"))
            for detail in each.get("details") or ():
                if isinstance(detail, dict):
                    yield detail.get("reason")
        elif each is not None:
            yield getattr(each, "code", None)
    for name in ("code", "type"):
        yield getattr(error, name, None)
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        yield response.get("Error", {}).get("Code")


def _body(error: BaseException) -> dict[str, Any]:
    """Give the JSON that an error came with."""
    for name in ("body", "details"):
        if isinstance(found := getattr(error, name, None), dict):
            return found
    return {}


def _own_words(error: BaseException) -> str | None:
    if words := server_words(_body(error)):
        return words
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        words = response.get("Error", {}).get("Message")
    else:
        words = getattr(getattr(error, "error", None), "message", None)  # Azure's.
    return words if isinstance(words, str) and words else None


def _wait(error: BaseException) -> float | None:
    """Give the seconds that a provider asks to wait.

    OpenAI's ``retry-after-ms``, HTTP's ``Retry-After`` in seconds or as a date, Google's ``RetryInfo``.
    """
    headers = _headers(error)
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        if after := headers.get("retry-after"):
            if re.fullmatch(r"\s*[\d.]+\s*", after):
                return float(after)
            at = parsedate_to_datetime(after)
            return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return None
    inner = _body(error).get("error")
    for detail in (inner.get("details") or ()) if isinstance(inner, dict) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and re.fullmatch(r"[\d.]+s", delay):
            return float(delay[:-1])
    return None


def _headers(error: BaseException) -> dict[str, str]:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPHeaders")
    else:
        found = getattr(response, "headers", None)
    if found is None:
        return {}
    return {str(name).lower(): str(value) for name, value in found.items()}
