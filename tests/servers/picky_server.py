"""OpenAI-compatible servers that do less than OpenAI's, and say so as they do."""

from __future__ import annotations

import json
from typing import Any

from tests.servers.openai_server import OpenAIHandler, OpenAIServer, Reply

VLLM_TOOLS = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
DEEPSEEK_FORM = "This response_format type is unavailable now"


class PickyServer(OpenAIServer):
    """A server that refuses some requests.

    Parameters
    ----------
    *replies
        What it answers to the others.
    refuses
        What it answers to requests with a parameter of this name.
    """

    def __init__(self, *replies: Reply, refuses: dict[str, Reply]) -> None:
        self.refuses = refuses
        super().__init__(*replies)

    class Handler(OpenAIHandler):
        def answer(self, asked: dict[str, Any]) -> None:
            refuses = self.model.refuses  # type: ignore[attr-defined]
            refusal = next((reply for name, reply in refuses.items() if asked.get(name)), None)
            if refusal is None:
                super().answer(asked)
            else:
                self.send_bytes(refusal, json.dumps(self.error(refusal)).encode())

    handler = Handler


def without_tools(*replies: Reply, text: str = VLLM_TOOLS, status: int = 400) -> PickyServer:
    """Give a server that takes no tools."""
    return PickyServer(*replies, refuses={"tools": Reply(text, status=status)})


def without_schemas(*replies: Reply, text: str = DEEPSEEK_FORM, status: int = 400) -> PickyServer:
    """Give a server that takes no ``response_format``."""
    return PickyServer(*replies, refuses={"response_format": Reply(text, status=status)})


class ListingServer(OpenAIServer):
    """A server that says which models it serves.

    Parameters
    ----------
    *replies
        What it answers when it is asked something.
    models
        What it serves.
    """

    def __init__(self, *replies: Reply, models: tuple[str, ...] = ("llama3",)) -> None:
        self.models = models
        super().__init__(*replies)

    class Handler(OpenAIHandler):
        def do_GET(self) -> None:  # noqa: N802 - as http.server calls it
            models = self.model.models  # type: ignore[attr-defined]
            listed = {"data": [{"id": name} for name in models]}
            self.send_bytes(Reply(), json.dumps(listed).encode())

    handler = Handler
