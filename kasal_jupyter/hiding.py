"""Where secrets are hidden: what counts as one, the forms it is looked for in, and what stands in its place.

Whatever a model, a tool, a server or a run says goes through a :class:`Hider` before anybody else has it.
A secret is found as it is; as JSON, Python, HTML and addresses write it, wholly or in part, and one inside
the other; and in hex and base64, whatever stands before and behind it there, such as a user's name. What is
encrypted, packed, or encoded twice in base64 is not found.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, cached_property, lru_cache
from typing import Any, ClassVar, TypeVar, overload
from urllib.parse import unquote, urlsplit

import orjson
import re2  # type: ignore[import-untyped]

T = TypeVar("T")

MARK = "[secret]"
"""What stands in a secret's place."""

MIN_SECRET = 8
"""Characters of a secret that is hidden in every form, wherever it stands. Shorter ones are not stored."""

MIN_WORD = 4
"""Characters of one that is hidden as it is, where it stands alone: in other places it is part of a word."""

_WORDS = """
    x xx xxx none null empty dummy fake local localhost test key apikey api-key token secret unused changeme
    anything no-key nokey not-needed not-required not-used no-key-required sk-no-key-required ollama
    lm-studio lmstudio vllm llama.cpp llamacpp localai sglang
"""
WORDS = frozenset(_WORDS.split())
"""What is sent to servers that take any key: no secrets, and words of any text."""

_SECRET_NAME = re.compile(
    r"key|token|secret|passw|pwd|credential|auth|cookie|(^|_)pat(_|$)|dsn"
    r"|(database|connection|_db)_?(url|uri|string)",
    re.IGNORECASE,
)
"""Variables, options and parameters that may hold a secret; others, such as ``DEBUG``, hold words."""

_SURE_NAME = re.compile(
    r"(key(_?id)?|token|secret|passw(or)?d|pwd|credentials?|authorization|cookie|(^|_)pat)$", re.IGNORECASE
)
"""Those that hold nothing else: not ``MAX_TOKENS`` and ``AUTH_TYPE``."""


def secrets_among(values: Iterable[tuple[str, str]]) -> list[str]:
    """Give what is secret of named values, such as an environment: by their names, and in addresses."""
    found = []
    for name, value in values:
        if _SECRET_NAME.search(name) and (len(value) >= MIN_SECRET or _SURE_NAME.search(name)):
            found.append(value)
        if password := password_of(value):
            found.append(password)
    return found


def password_of(address: str | None) -> str | None:
    """Give the password that stands in an address; None where there is none."""
    if address is None or "@" not in address:
        return None
    try:
        password = urlsplit(address).password
    except ValueError:
        return None
    return unquote(password) if password else None


def credentials_of(header: str) -> str:
    """Give a header's value without the word before it, such as ``Bearer``."""
    scheme, blank, credentials = header.partition(" ")
    return credentials if blank and scheme.isalpha() else header


def too_short(secret: str, name: str = "key") -> str | None:
    """Say why a secret cannot be entrusted; None where it can, or where its name is not a secret's."""
    if not secret or len(secret) >= MIN_SECRET or secret.lower() in WORDS or not _SURE_NAME.search(name):
        return None
    return (
        f"a secret has {MIN_SECRET} characters at the least, since a shorter one cannot be hidden in what is "
        "shown; where any will do, write none"
    )


def unhidden_among(values: Iterable[tuple[str, str]]) -> list[str]:
    """Give the names of values that are, or hold, a secret which is too short to be hidden anywhere."""
    return [
        name
        for name, value in values
        if any(
            0 < len(secret) < MIN_WORD and secret.lower() not in WORDS
            for secret in (value if _SURE_NAME.search(name) else "", password_of(value) or "")
        )
    ]


_SHAPES = rb"""
    sk-[A-Za-z0-9_-]{20,}
    (?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}
    (?:AKIA|ASIA)[A-Z0-9]{16}
    gh[opsur]_[A-Za-z0-9]{20,}
    github_pat_[A-Za-z0-9_]{20,}
    glpat-[A-Za-z0-9_-]{16,}
    xox[a-z]-[A-Za-z0-9-]{10,}
    AIza[A-Za-z0-9_-]{30,}
    (?:gsk|hf|r8|npm)_[A-Za-z0-9]{20,}
    (?:xai|pplx|tvly)-[A-Za-z0-9-]{20,}
    dapi[0-9a-f]{32}
    eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}
    -----BEGIN[A-Z ]*PRIVATE[ ]KEY-----(?:(?s:.)*?-----END[A-Z ]*PRIVATE[ ]KEY-----|(?s:.)*)
"""
"""What the keys of services look like whose keys can be told by their looks, an expression a line."""


def without_keys(text: str) -> str:
    """Give a text without what looks like a key, whosever it may be: for what is written to be given away."""
    data = text.encode(errors="surrogatepass")
    shapes = _shapes()
    if shapes.search(data) is None:
        return text
    hidden: bytes = shapes.sub(MARK.encode(), data)
    return hidden.decode(errors="surrogatepass")


@cache
def _shapes() -> Any:
    shapes = [line.strip() for line in _SHAPES.splitlines() if line.strip()]
    # Within a longer word they are none: "task-" ends like the beginning of one.
    return _compiled(b"|".join(shape if shape.startswith(b"-") else rb"\b" + shape for shape in shapes))


class Hider:
    """Hides secrets in what is said.

    Parameters
    ----------
    secrets
        The secrets; those that are words are left alone (see :data:`WORDS`).
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        given = {secret for secret in secrets if secret.lower() not in WORDS}
        # The longer ones first: one may be the beginning of another.
        ordered = sorted(given, key=lambda secret: (-len(secret), secret))
        self._long = [secret for secret in ordered if len(secret) >= MIN_SECRET]
        self._short = [secret for secret in ordered if MIN_WORD <= len(secret) < MIN_SECRET]

    def __bool__(self) -> bool:
        return bool(self._long or self._short)

    @overload
    def hide(self, value: str) -> str: ...
    @overload
    def hide(self, value: bytes) -> bytes: ...
    @overload
    def hide(self, value: Any) -> Any: ...
    def hide(self, value: Any) -> Any:
        """Give a text, bytes, or a structure of dictionaries and lists, with its keys, without secrets."""
        if not self:
            return value
        if isinstance(value, str):
            data = value.encode(errors="surrogatepass")
            return value if not self.found(data) else self._hidden(data).decode(errors="surrogatepass")
        if isinstance(value, bytes):
            return self._hidden(value)
        if isinstance(value, dict):
            return {self.hide(name): self.hide(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)([self.hide(part) for part in value])
        return value

    def json(self, line: bytes) -> bytes:
        """Give a value written as JSON without secrets: still JSON, whatever they consist of."""
        hidden: bytes = self._tokens.sub(self._token, line) if self.found(line) else line
        return hidden

    def found(self, data: bytes) -> bool:
        """Say whether there may be a secret in bytes. It takes some 2 µs, and 2 ms for a megabyte."""
        return self._may_hold(data) and self._anywhere.search(data) is not None

    @overload
    def split(self, data: str) -> tuple[str, str]: ...
    @overload
    def split(self, data: bytes) -> tuple[bytes, bytes]: ...
    def split(self, data: Any) -> Any:
        """Give what of a stream can be shown by now, and the rest: it may be the beginning of a secret.

        The rest goes before what comes next; at the end of the stream it is hidden by :meth:`hide`.
        """
        if isinstance(data, str):
            shown, rest = self.split(data.encode(errors="surrogatepass"))
            return shown.decode(errors="surrogatepass"), rest.decode(errors="surrogatepass")
        if not self:
            return data, b""
        before = max(0, len(data) - self._window)
        end = data[before:]
        begun = (self._begun if self._may_hold(end) else self._just_begun).search(end)
        cut = before + begun.start() if begun is not None else len(data)
        if cut < len(data) and self.found(data):
            # A secret that is there whole may end behind the cut.
            across = (match.start() for match in self._whole.finditer(data) if match.end() > cut)
            cut = min(cut, next(across, cut))
        return self._hidden(data[:cut]), data[cut:]

    def _may_hold(self, data: bytes) -> bool:
        """Say whether as much as the opening of a secret is in bytes.

        To look for whole ones takes expressions that take 20 ms to make for a key of 160 characters. Most
        runs never say anything that begins like one.
        """
        return bool(self) and self._opening.search(data) is not None

    def _hidden(self, data: bytes) -> bytes:
        if not self._may_hold(data):
            return data
        hidden: bytes = self._whole.sub(lambda _match: MARK.encode(), data)
        return hidden

    def _token(self, match: Any) -> bytes:
        token: bytes = match.group()
        if not self.found(token):
            return token
        text = str(orjson.loads(token)) if token.startswith(b'"') else token.decode()
        hidden: str = self.hide(text)
        return token if hidden == text else orjson.dumps(hidden)

    @cached_property
    def _tokens(self) -> Any:
        return _compiled(rb'"(?:[^"\\]|\\.)*"|-?\d[0-9.eE+-]{%d,}' % (MIN_SECRET - 1))

    @cached_property
    def _opening(self) -> Any:
        return _compiled(b"|".join(b"".join(form[:_OPENING]) for form in self._forms()))

    @cached_property
    def _anywhere(self) -> Any:
        return _compiled(b"|".join(b"".join(form) for form in self._forms()))

    @cached_property
    def _whole(self) -> Any:
        """As ``_anywhere``, without what is short and part of a word."""
        if not self._short:
            return self._anywhere
        forms = [b"".join(form) for secret in self._long for form in _forms(secret)]
        return _compiled(b"|".join([*forms, *(_alone(secret) for secret in self._short)]))

    @cached_property
    def _begun(self) -> Any:
        """Finds what may be the beginning of a secret at the end."""
        return _begun(self._forms())

    @cached_property
    def _just_begun(self) -> Any:
        """As ``_begun``, where no opening is whole."""
        return _begun(form[:_OPENING] for form in self._forms())

    @cached_property
    def _window(self) -> int:
        """How far from the end such a beginning may be, in bytes."""
        # The longest form is in hex.
        longest = [2 * len(secret.encode(errors="surrogatepass")) for secret in (*self._long, *self._short)]
        return max(longest) * _MOST_BYTES_OF_ONE

    def _forms(self) -> Iterator[list[bytes]]:
        for secret in self._long:
            yield from _forms(secret)
        for secret in self._short:
            yield [_character(each) for each in secret]


MOST_IN_A_LINE = 500
"""Most characters of what somebody else says about a fault, where nothing else is said."""


class _Here:
    hider: ClassVar[Hider] = Hider(())


def keep_here(hider: Hider) -> None:
    """Say what is secret in this process, which is a run's."""
    _Here.hider = hider


def here() -> Hider:
    """Give what knows this process's secrets: none, unless it is a run's.

    Whoever cuts a text asks it first. All that a run says is hidden on its way out, but of a secret that was
    cut in two, nobody could tell there that it was one.
    """
    return _Here.hider


def beginning(text: str, most: int = MOST_IN_A_LINE) -> str:
    """Give the beginning of a text on one line, in which there is no part of this process's secrets."""
    line = " ".join(here().hide(text)[: 20 * most].split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


_MOST_BYTES_OF_ONE = 16
"""Bytes that a character may take in a form that is cut, e.g. ``\\\\\\\\u0026``."""

_OPENING = 12
"""Characters at the beginning of a secret's form, without which nothing of what follows is looked for."""

_DEEPEST = 300
"""Characters of a secret that are looked for one by one at an end; RE2 takes expressions 1,000 deep."""

_CHARACTER_BEGUN = (
    # Bytes of a character that takes several, or the first half of a pair, come before.
    rb"(?:(?:%(?:25)*[89A-Fa-f][0-9A-Fa-f]){0,3}%[0-9A-Fa-f]*"
    rb"|(?:\\+x[89A-Fa-f][0-9A-Fa-f]|\\+u[Dd][89ABab][0-9A-Fa-f]{2}){0,3}"
    rb"(?:\\+(?:u[0-9A-Fa-f]{0,3}|U[0-9A-Fa-f]{0,7}|x[0-9A-Fa-f]?)?)?"
    rb"|&[#0-9A-Za-z;]*|[\xc0-\xff][\x80-\xbf]*)?"
)
"""What may be at an end of a character that is not over."""

_BREAK = rb"(?:[\r\n]|\\+[rn])*"
"""Where base64 and hex are broken into lines."""

_NAMED = {"&": b"amp", "<": b"lt", ">": b"gt", '"': b"quot", "'": b"apos"}
_ESCAPED = {"\n": b"n", "\t": b"t", "\r": b"r", "\b": b"b", "\f": b"f"}


def _forms(secret: str) -> Iterator[list[bytes]]:
    """Give the forms of a secret, each as expressions, one a character."""
    yield [_character(each) for each in secret]
    data = secret.encode(errors="surrogatepass")
    for shift in range(3):
        # What stands before it shifts it by so many bytes. What is of its own bits alone is looked for.
        encoded = base64.b64encode(bytes(shift) + data)
        *others, last = list(encoded[-(-8 * shift // 6) : 8 * (shift + len(data)) // 6].decode())
        shared = b"[0-9A-Za-z+/_-]?=*" if (shift + len(data)) % 3 else b""
        yield [_base64_character(each) + _BREAK for each in others] + [_base64_character(last) + shared]
    digits = [_either_case(digit.encode()) for digit in data.hex()]
    yield [digit + _BREAK for digit in digits[:-1]] + digits[-1:]


@lru_cache(maxsize=1_000)
def _character(each: str) -> bytes:
    """Give an expression for all the ways to write a character."""
    data, code = each.encode(errors="surrogatepass"), ord(each)
    units = each.encode("utf-16-be", errors="surrogatepass").hex()
    ways = [
        b"".join(b"%(?:25)*" + _either_case(b"%02x" % byte) for byte in data),
        b"".join(rb"\\+u" + _either_case(units[at : at + 4].encode()) for at in range(0, len(units), 4)),
        b"".join(rb"\\+x" + _either_case(b"%02x" % byte) for byte in data),
        b"&(?:amp;)*#(?:0*%d|[xX]0*%b);" % (code, _either_case(b"%x" % code)),
    ]
    if 0x80 <= code <= 0xFF:
        ways.append(rb"\\+x" + _either_case(b"%02x" % code))
    if code > 0xFFFF:
        ways.append(rb"\\+U" + _either_case(b"%08x" % code))
    if each in _NAMED:
        ways.append(b"&(?:amp;)*" + _NAMED[each] + b";")
    if each in _ESCAPED:
        ways.append(rb"\\+" + _ESCAPED[each])
    if each in "\"'/\\":
        ways.append(rb"\\+" + _literal(data))
    if each == " ":
        ways.append(rb"\+")
    # As it is comes last: an ampersand may be the beginning of its own name.
    return b"(?:" + b"|".join([*ways, _literal(data)]) + b")"


def _base64_character(each: str) -> bytes:
    match each:
        case "+":
            return b"(?:-|" + _character("+") + b")"
        case "/":
            return b"(?:_|" + _character("/") + b")"
        case _:
            return each.encode()


def _alone(secret: str) -> bytes:
    edges = [rb"\b" if each.isascii() and each.isalnum() else b"" for each in (secret[0], secret[-1])]
    return edges[0] + b"".join(map(_character, secret)) + edges[1]


def _begun(forms: Iterable[list[bytes]]) -> Any:
    return _compiled(b"(?:" + b"|".join(map(_beginning, forms)) + b")" + _CHARACTER_BEGUN + rb"\z")


def _beginning(form: list[bytes]) -> bytes:
    """Give an expression for the beginnings of a form, up to all of it."""
    made = b"(?s:.*)" if len(form) > _DEEPEST else b""
    for each in reversed(form[:_DEEPEST]):
        made = b"(?:|%b%b)" % (each, made)
    return made


@lru_cache(maxsize=1_000)
def _either_case(digits: bytes) -> bytes:
    return re.sub(b"[a-f]", lambda found: b"[%b%b]" % (found[0], found[0].upper()), digits)


def _literal(data: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in data)


def _compiled(expression: bytes) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    # A bound, and no more: 8,000 characters of secrets take a tenth of it.
    options.max_mem = 512_000_000
    options.log_errors = False
    return re2.compile(expression, options)


# What of this process's environment others may have: a short list, and nothing that is not on it.
#
# A list of what must not get through is never complete (``DATABASE_URL``, a DSN, the next token); this
# one names what programs need to find their way on a machine.

_KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|TMPDIR|TEMP|TMP|TZ|LANG|LANGUAGE|LC_[A-Z]+"
    # What Windows' own programs and sockets need.
    r"|SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|PATHEXT|APPDATA|LOCALAPPDATA|PROGRAMDATA|USERPROFILE|USERNAME"
    r"|HOMEDRIVE|HOMEPATH|PROCESSOR_ARCHITECTURE|NUMBER_OF_PROCESSORS"
    # Where an interpreter, its libraries and its threads are set up by others.
    r"|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|PYTHONPATH|PYTHONHOME|PYTHONPYCACHEPREFIX|VIRTUAL_ENV|CONDA_PREFIX"
    r"|OPENBLAS_[A-Z0-9_]+|OMP_NUM_THREADS|MKL_NUM_THREADS",
    re.IGNORECASE,
)

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Whom to trust: for processes that call others."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""Whom to go through. Their addresses may hold passwords: for processes of our own alone, which hide them."""


def plain_environment(
    environ: Mapping[str, str] | None = None, *, also: Collection[str] = ()
) -> dict[str, str]:
    """Give what a process may know of this one's environment that parses or runs what others have written.

    Parameters
    ----------
    environ
        The environment; this process's, where nothing is given.
    also
        Names of more variables that it needs. No name is told apart by its case.
    """
    given = os.environ if environ is None else environ
    more = {name.upper() for name in also}
    return {name: value for name, value in given.items() if _KEPT.fullmatch(name) or name.upper() in more}
