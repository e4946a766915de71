"""Reading files of the run's folder, and of folders that whoever runs the server allows."""

from __future__ import annotations

from typing import IO

from kasal_jupyter.hiding import here
from kasal_jupyter.tools.builtin.directory_list import listing
from kasal_jupyter.tools.readable import is_pdf, read_pdf
from kasal_jupyter.tools.tool import MAX_CHARACTERS, Tool, ToolContext, always, portion
from kasal_jupyter.tools.workspace import Workspace

MAX_PDF_BYTES = 20_000_000
"""Largest PDF that is read."""

_HEAD = 8_192
_MARK = b"\xef\xbb\xbf"


def _run(context: ToolContext, path: str = ".", start: int = 0) -> str:
    workspace = Workspace.of(context)
    if workspace.is_folder(path):
        return listing(workspace, path)
    with workspace.open(path) as file:
        head = file.read(_HEAD)
        if is_pdf(head):
            return portion(read_pdf(head + file.read(MAX_PDF_BYTES)), start)
        if b"\0" in head:
            size = file.seek(0, 2)
            raise ValueError(f"{path!r} is no text; it is a binary file of {size:,} bytes.")
        return _text(file, start)


def _text(file: IO[bytes], start: int) -> str:
    """Read a part of a text; ``start`` is in bytes, so that the end of a large file is found at once."""
    size = file.seek(0, 2)
    if start >= size and start > 0:
        raise ValueError(f"It has {size:,} bytes only; start must be smaller.")
    file.seek(start)
    data = file.read(MAX_CHARACTERS + 1)
    # A character that begins before the part, or goes on behind it, is not cut in two.
    first = 0 if start == 0 else next((at for at in range(min(4, len(data))) if _begins(data[at])), 0)
    end = len(data)
    if start + end < size:
        end = next((at for at in range(end - 1, end - 5, -1) if _begins(data[at])), end)
    text = data[first:end].removeprefix(_MARK if start == 0 else b"").decode(errors="replace")
    if start + end < size:
        # What may be the beginning of a secret is left to whoever reads on.
        text, rest = here().split(text)
        end -= len(rest.encode())
        return f"{text}\n[It goes on: {size:,} bytes in all. start={start + end} gives what follows.]"
    return text


def _begins(byte: int) -> bool:
    """Say whether a character of UTF-8 begins with this byte."""
    return byte & 0xC0 != 0x80


TOOL = Tool(
    name="file_reader",
    description="Reads a text file or a PDF in the run's working folder, or lists a folder there. Of a long "
    "file it gives 50,000 characters, and says how to read on.",
    category="data",
    parameters={
        "type": "object",
        "properties": {
            "path": {
                "type": "string",
                "description": "A path inside the working folder; '.' lists it.",
                "default": ".",
            },
            "start": {
                "type": "integer",
                "description": "Where to read on in a long file, as the answer before has said.",
                "minimum": 0,
                "default": 0,
            },
        },
        "additionalProperties": False,
    },
    function=_run,
    idempotent=always,
)
