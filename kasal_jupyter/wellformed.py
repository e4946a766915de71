r"""Text that every encoding takes: what no UTF-8 can hold is replaced where it comes in.

Half of a pair of surrogates comes from a model or a page that cuts texts in UTF-16, from JSON (``"\ud800"``),
YAML, file names and exceptions that speak of them. Python carries it along until somebody writes it down: a
client's request, the journal, a notebook's message, a terminal. So whatever takes text from outside, and
whatever writes it, asks here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

REPLACEMENT = "\ufffd"
"""What stands for what cannot be written."""

_LONE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""An escape of JSON; the group is one half of a pair that stands alone."""


def well_formed(value: T) -> T:
    """Give a text, or a structure of dictionaries and lists with their keys, as UTF-8 can hold it.

    Two halves that belong together become the character they mean; one alone becomes U+FFFD. What is well
    formed, as nearly everything is, is given back itself.
    """
    return cast("T", _mended(value))


def well_formed_json(data: bytes, *, any_bytes: bool = False) -> bytes:
    """Give JSON as the strict parsers take it: orjson and pydantic refuse what names half of a pair.

    Parameters
    ----------
    data
        The JSON.
    any_bytes
        Whether bytes that are no UTF-8 are replaced, too: where nobody could be told of them.
    """
    if any_bytes and not data.isascii():
        data = data.decode(errors="replace").encode()
    if b"\\u" not in data:
        return data
    return _ESCAPE.sub(lambda escape: b"\\ufffd" if escape[1] else escape[0], data)


def has_more_values(data: bytes, most: int) -> bool:
    """Say, without reading it, whether JSON certainly has more values than it may.

    To read half a million lists takes a tenth of a second, in which nothing else goes on. A list or an object
    has a bracket, and all but its first value a comma; what stands in texts does not count.
    """
    if max(map(data.count, (b",", b"[", b"{"))) <= most:
        return False
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * most:  # A value has two texts at the most: its name, and itself.
        return True
    bare = b"".join(plain.split(b'"')[::2])
    return bare.count(b",") > most or bare.count(b"[") + bare.count(b"{") > most + 1


def text_of(value: object) -> str:
    """Give the text of an exception, or of anything else, whatever its class does to tell it."""
    try:
        return well_formed(str(value))
    except Exception:  # noqa: BLE001 - foreign code: that there is something is told in any case.
        return type(value).__name__


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() or not _LONE.search(value) else _replaced(value)
    if isinstance(value, dict):
        pairs = cast("Iterable[tuple[Any, Any]]", value.items())
        mended = {_mended(name): _mended(part) for name, part in pairs}
        return value if _same(mended, value) else mended
    if type(value) in {list, tuple}:
        parts = [_mended(part) for part in cast("Iterable[Any]", value)]
        return value if all(map(_is, parts, value)) else type(value)(parts)
    return value


def _replaced(text: str) -> str:
    joined = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
    return _LONE.sub(REPLACEMENT, joined)


def _same(mended: dict[Any, Any], given: dict[Any, Any]) -> bool:
    return (
        len(mended) == len(given)
        and all(map(_is, mended.values(), given.values()))
        and mended.keys() == given.keys()
    )


def _is(one: object, other: object) -> bool:
    return one is other
