"""How a model is asked for a crew: the marks by which the sandbox model knows such a request again."""

from __future__ import annotations

CREW_TASK = "Design a crew of AI agents that does what the request in the context asks for."
"""The description of the task."""

REQUEST = "The request: "
"""What the user's own words begin with, in the task's context."""
