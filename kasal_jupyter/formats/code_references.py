"""References that CrewAI would execute as code when it loads a project: found, named, never followed.

CrewAI's loaders take ``{"python": "module.attribute"}`` where a function, a class or an object may stand,
``custom:name`` for a Python file of the project's ``tools`` folder, and ``module:Class`` for a class to
import; YAML has tags such as ``!!python/object``. A crew that was got from somebody must not run their code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kasal_jupyter.formats.document import Document, Path

_IMPORTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
"""``crewai_tools:SerperDevTool``, ``my.module:Tool``."""

_NAMES_TOOLS = frozenset({"tools", "mcps", "skills"})
"""Fields whose texts name something to load; elsewhere a text is a text, whatever it begins with."""

_PREFIXES = ("custom:", "python:")

_DATA = frozenset({"output_schema", "inputs", "response_format_schema"})
"""Fields that hold a user's own data, in which nothing is a reference."""


def code_references(document: Document) -> Iterator[tuple[Path, str]]:
    """Give every reference to code in a document, with where it stands."""
    for path, tag in document.tags.items():
        yield path, tag.replace("tag:yaml.org,2002:", "!!")
    yield from _found(document.data, (), names=False)


def _found(value: object, path: Path, *, names: bool) -> Iterator[tuple[Path, str]]:
    if isinstance(value, Mapping):
        reference = value.get("python")
        if reference is not None and path:
            yield path, f'{{"python": "{reference}"}}'
            return
        for key, each in value.items():
            if key not in _DATA:
                yield from _found(each, (*path, str(key)), names=names or key in _NAMES_TOOLS)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _found(each, (*path, place), names=names)
    elif names and isinstance(value, str) and _is_reference(value):
        yield path, value


def _is_reference(text: str) -> bool:
    return text.startswith(_PREFIXES) or (
        _IMPORTED.fullmatch(text) is not None and not text.startswith("platform:")
    )
