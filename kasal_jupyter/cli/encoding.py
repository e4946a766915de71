"""Output that is not UTF-8: what it has no letters for is written as JSON writes it, and ends no answer.

A file that is written there is read as UTF-8 again, so it is written in ASCII, in its own format's way.
"""

from __future__ import annotations

import codecs
import sys
from typing import Literal

Kind = Literal["yaml", "json", "html"]

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


def print_file(text: str, kind: Kind) -> None:
    """Write what is read again to the output: in ASCII, where that is not UTF-8."""
    sys.stdout.write(text if _is_utf8(sys.stdout.encoding) else _in_ascii(text, kind))
    sys.stdout.flush()


def _is_utf8(encoding: str | None) -> bool:
    # What stands in for the output in a test has none.
    return encoding is None or codecs.lookup(encoding).name == "utf-8"


def _in_ascii(text: str, kind: Kind) -> str:
    if text.isascii():
        return text
    if kind == "yaml":
        from kasal_jupyter.formats.yaml_crew import ascii_yaml

        return ascii_yaml(text)
    # Beyond ASCII, JSON has nothing but what is in its texts.
    return text.encode("ascii", "xmlcharrefreplace" if kind == "html" else ERRORS).decode("ascii")
