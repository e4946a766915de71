"""A pause, for demonstrations and for trying out what stopping a run does."""

from __future__ import annotations

from kasal_jupyter.tools.tool import Tool, ToolContext, always

MAX_SECONDS = 600.0


def _run(context: ToolContext, seconds: float) -> str:
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"Between 0 and {MAX_SECONDS:.0f} seconds, please.")
    context.sleep(seconds)
    return f"Waited {seconds:g} seconds."


TOOL = Tool(
    name="wait",
    description="Waits some seconds, at most ten minutes, and says so.",
    category="time",
    parameters={
        "type": "object",
        "properties": {
            "seconds": {
                "type": "number",
                "description": "How long to wait.",
                "minimum": 0,
                "maximum": MAX_SECONDS,
                "examples": [0.5],
            }
        },
        "required": ["seconds"],
        "additionalProperties": False,
    },
    function=_run,
    idempotent=always,
)
