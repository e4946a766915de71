"""YAML that CrewAI reads: in version 1.1, where ``yes`` is true and ``12:30`` a number of minutes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from kasal_jupyter.formats.yaml_source import ENDLESS

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*( [A-Za-z0-9_(][A-Za-z0-9_.,()'/-]*)*[.!?]?")
"""A text that no version of YAML takes for anything else, one of its words below aside."""

_WORDS = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})

_BLOCK = re.compile(r"[^\s\0-\x1f]([^\0-\x09\x0b-\x1f\x7f-\xa0\u2028\u2029\ufeff]*[^\s\0-\x1f\x7f-\xa0])?\n?")
"""A text of several lines that reads the same as a block: no blanks at its beginning, nothing invisible."""


def dump(data: Mapping[str, Any]) -> str:
    """Write a mapping so that YAML 1.1 and 1.2 read the same."""
    yaml = YAML()
    yaml.width = ENDLESS
    stream = io.StringIO()
    yaml.dump(_safe(data), stream)
    return stream.getvalue()


def _safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _safe(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_safe(each) for each in value]
    if not isinstance(value, str):
        return value
    if "\n" in value and _BLOCK.fullmatch(value) and not re.search(r"[ \t]\n|\n[ \t]*\n\s|\n[ \t]", value):
        return LiteralScalarString(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return DoubleQuotedScalarString(value)
