"""What an MCP server's tool has given, as text for a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
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

from kasal_jupyter.tools.wording import MAX_CHARACTERS, beginning


def text_of(result: CallToolResult) -> str:
    """Give a result as text: texts as they are, anything else in words, the beginning of what is long."""
    parts = [text for text in _parts(result.content) if text]
    has_text = any(isinstance(each, TextContent) and each.text for each in result.content)
    if result.structuredContent is not None and not has_text:
        # Servers give what is structured as text, too; those that do not mean the structure.
        parts.append(json.dumps(result.structuredContent, ensure_ascii=False))
    text = "\n".join(parts) or "[Nothing.]"
    if len(text) > MAX_CHARACTERS:
        return f"{text[:MAX_CHARACTERS]}\n[The answer goes on; this is its beginning.]"
    return text


def _parts(content: list[ContentBlock]) -> Iterator[str]:
    for block in content:
        if isinstance(block, TextContent):
            yield block.text
        elif isinstance(block, ImageContent | AudioContent):
            what = "An image" if isinstance(block, ImageContent) else "A sound"
            yield f"[{what}, {_size(block.data)} bytes of {_kind(block.mimeType)}, which is not shown.]"
        elif isinstance(block, EmbeddedResource):
            yield _resource(block)
        elif isinstance(block, ResourceLink):
            said = f", {beginning(block.description)}" if block.description else ""
            yield f"[A resource at {_short(block.uri)}: {_short(block.name)}{said}]"


def _resource(block: EmbeddedResource) -> str:
    resource = block.resource
    if isinstance(resource, BlobResourceContents):
        size, kind = _size(resource.blob), _kind(resource.mimeType)
        return f"[The resource {_short(resource.uri)}: {size} bytes of {kind}.]"
    return f"[The resource {_short(resource.uri)}:]\n{resource.text}"


def _kind(mime_type: str | None) -> str:
    return _short(mime_type) if mime_type else "an unknown kind"


def _size(encoded: str) -> str:
    """Count the bytes that base64 stands for, without decoding it."""
    return f"{len(encoded.rstrip('=')) * 3 // 4:,}"


def _short(text: Any) -> str:
    return beginning(str(text), 200)
