"""Writing files in the run's folder."""

from __future__ import annotations

from kasal_jupyter.tools.tool import Tool, ToolContext
from kasal_jupyter.tools.workspace import Workspace

MAX_CHARACTERS = 1_000_000
"""Most that is written at once."""


def _run(context: ToolContext, path: str, content: str, append: bool = False) -> str:
    if len(content) > MAX_CHARACTERS:
        raise ValueError(
            f"content: {MAX_CHARACTERS:,} characters at once, please; append=true adds the rest."
        )
    # A model may write half of a pair of surrogates, which no file can hold.
    size = Workspace.of(context).write(path, content.encode(errors="replace"), append=append)
    return f"{path} has {size:,} bytes now." if append else f"Wrote {path}: {size:,} bytes."


TOOL = Tool(
    name="file_writer",
    description="Writes a text file in the run's working folder, whole or at the end of what is there; "
    "folders are made as needed. The run's user gets these files.",
    category="data",
    parameters={
        "type": "object",
        "properties": {
            "path": {
                "type": "string",
                "description": "A path inside the working folder.",
                "minLength": 1,
                "examples": ["notes.txt"],
            },
            "content": {
                "type": "string",
                "description": "The text.",
                "examples": ["Written by the sandbox model."],
            },
            "append": {
                "type": "boolean",
                "description": "Whether to add it to the end of the file; else it takes the file's place.",
                "default": False,
            },
        },
        "required": ["path", "content"],
        "additionalProperties": False,
    },
    function=_run,
    idempotent=lambda arguments: not arguments.get("append"),
)
