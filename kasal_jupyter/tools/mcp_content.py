"""What an MCP server's tool has given, as text for a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

from kasal_jupyter.hiding import beginning
from kasal_jupyter.tools.portions import MAX_CHARACTERS


def text_of(result: CallToolResult, hide: Callable[[str], str] = str) -> str:
    """Give a result as text: texts as they are, anything else in words, the beginning of what is long.

    Parameters
    ----------
    result
        The result.
    hide
        Takes secrets out. It comes before anything is cut: the beginning of one would be found no more.
    """
    parts = [text for text in _parts(result.content, hide) if text]
    has_text = any(isinstance(each, TextContent) and each.text for each in result.content)
    if result.structuredContent is not None and not has_text:
        # Servers give what is structured as text, too; those that do not mean the structure.
        parts.append(json.dumps(result.structuredContent, ensure_ascii=False))
    text = hide("\n".join(parts)) or "[Nothing.]"
    if len(text) > MAX_CHARACTERS:
        return f"{text[:MAX_CHARACTERS]}\n[The answer goes on; this is its beginning.]"
    return text


def _parts(content: list[ContentBlock], hide: Callable[[str], str]) -> Iterator[str]:
    def short(text: Any) -> str:
        return beginning(hide(str(text)), 200)

    for block in content:
        if isinstance(block, TextContent):
            yield block.text
        elif isinstance(block, ImageContent | AudioContent):
            what = "An image" if isinstance(block, ImageContent) else "A sound"
            kind = _kind(block.mimeType, short)
            yield f"[{what}, {_size(block.data)} bytes of {kind}, which is not shown.]"
        elif isinstance(block, EmbeddedResource):
            yield _resource(block, short)
        elif isinstance(block, ResourceLink):
            said = f", {beginning(hide(block.description))}" if block.description else ""
            yield f"[A resource at {short(block.uri)}: {short(block.name)}{said}]"


def _resource(block: EmbeddedResource, short: Callable[[Any], str]) -> str:
    resource = block.resource
    if isinstance(resource, BlobResourceContents):
        size, kind = _size(resource.blob), _kind(resource.mimeType, short)
        return f"[The resource {short(resource.uri)}: {size} bytes of {kind}.]"
    return f"[The resource {short(resource.uri)}:]\n{resource.text}"


def _kind(mime_type: str | None, short: Callable[[Any], str]) -> str:
    return short(mime_type) if mime_type else "an unknown kind"


def _size(encoded: str) -> str:
    """Count the bytes that base64 stands for, without decoding it."""
    return f"{len(encoded.rstrip('=')) * 3 // 4:,}"
