"""Loading Jupyter Server without the part of it that takes longest, and that no server of ours uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast

_SLOW = "rfc3987_syntax"
"""Where it is installed, jsonschema imports it, and it compiles the grammar of international addresses: three
seconds of a start that takes one without it. No schema of Jupyter's or ours has the format ``iri``."""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Have modules that are imported meanwhile do without the slow one, as where it is not installed."""
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    if _SLOW in modules:
        yield
        return
    modules[_SLOW] = None
    try:
        yield
    finally:
        del modules[_SLOW]
