"""Reading text files of the run's own folder, and of nowhere else."""

from __future__ import annotations

from pathlib import Path

from kasal_jupyter.tools.tool import Tool, ToolContext

MAX_CHARACTERS = 50_000
"""Most of a file that is given to a model at once."""


def _run(context: ToolContext, path: str = ".") -> str:
    root = context.folder.resolve()
    # resolve() follows every link and every "..", so what is compared is where the path really leads.
    target = (root / Path(path)).resolve()
    if not target.is_relative_to(root):
        raise ValueError(f"{path!r} is outside the run's folder.")
    if target.is_dir():
        names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in target.iterdir())
        return "\n".join(names) or "The folder is empty."
    if not target.is_file():
        raise ValueError(f"There is no file {path!r} in the run's folder.")
    with target.open(encoding="utf-8", errors="replace") as file:
        text = file.read(MAX_CHARACTERS + 1)
    if len(text) > MAX_CHARACTERS:
        return f"{text[:MAX_CHARACTERS]}\n[The file goes on; this is its beginning.]"
    return text


TOOL = Tool(
    name="file_reader",
    description="Reads a text file in the run's working folder, or lists a folder there.",
    category="data",
    parameters={
        "type": "object",
        "properties": {
            "path": {
                "type": "string",
                "description": "A path inside the working folder; '.' lists it.",
                "default": ".",
            }
        },
        "additionalProperties": False,
    },
    function=_run,
)
