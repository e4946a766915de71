"""Output that is not UTF-8: what it has no letters for is written as JSON writes it, and ends no answer."""

from __future__ import annotations

import codecs
import sys

ERRORS = "kasal.escape"
"""The name of what is done about letters that a stream cannot write."""


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Give ``\u20ac`` for a euro sign: a line of JSON that is printed stays one, whatever stands in it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end


def lose_nothing() -> None:
    """Have the process's output take any text."""
    codecs.register_error(ERRORS, _escaped)
    for stream in (sys.stdout, sys.stderr):
        # What stands in for it in a notebook or a test may take any text already.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors=ERRORS)
