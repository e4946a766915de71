"""A small Ollama on loopback: what is installed, as Ollama's own API says it.

A real HTTP server rather than a mock: the product's own clients and Ollama's talk to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.loopback import Loopback

VERSION = "0.12.6"


@dataclass(frozen=True)
class Installed:
    """A model that was pulled.

    ``longest`` is the context that it could take, ``loaded`` the one that it was loaded with, if it is.
    """

    name: str
    longest: int | None = 131_072
    loaded: int | None = None
    capabilities: tuple[str, ...] = ("completion", "tools")


@dataclass
class OllamaServer(Loopback):
    """Serves what is installed.

    Attributes
    ----------
    installed
        The models; may be changed while it serves.
    asked
        The paths that were asked for.
    keys
        The ``Authorization`` headers that came.
    """

    installed: list[Installed] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        handler = type("Handler", (OllamaHandler,), {"ollama": self})
        super().__init__(handler)

    def model(self, name: str) -> Installed | None:
        """Give a model by its name, with or without its tag."""
        return next((one for one in self.installed if name in {one.name, one.name.partition(":")[0]}), None)


class OllamaHandler(BaseHTTPRequestHandler):
    """Answers the questions about models; whoever serves chats as well goes on from here."""

    ollama: OllamaServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.note()
        match self.path:
            case "/api/version":
                self.send({"version": VERSION})
            case "/api/tags":
                self.send({"models": [_tag(model) for model in self.ollama.installed]})
            case "/api/ps":
                loaded = [model for model in self.ollama.installed if model.loaded]
                self.send({"models": [{**_tag(one), "context_length": one.loaded} for one in loaded]})
            case _:
                self.send({"error": "not found"}, 404)

    def do_POST(self) -> None:
        self.note()
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/show":
            self.show(asked)
        else:
            self.send({"error": "not found"}, 404)

    def show(self, asked: dict[str, Any]) -> None:
        """Answer ``/api/show``."""
        model = self.ollama.model(asked.get("model", ""))
        if model is None:
            self.send({"error": f"model '{asked.get('model')}' not found"}, 404)
            return
        info: dict[str, Any] = {"general.architecture": "llama"}
        if model.longest is not None:
            info["llama.context_length"] = model.longest
        self.send({"model_info": info, "capabilities": list(model.capabilities)})

    def note(self) -> None:
        """Note what was asked."""
        self.ollama.asked.append(self.path)
        self.ollama.keys.append(self.headers["Authorization"])

    def send(self, body: dict[str, Any], status: int = 200) -> None:
        """Answer with JSON."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def _tag(model: Installed) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        "size": 2_019_393_189,
        "details": {"family": "llama", "parameter_size": "3.2B", "quantization_level": "Q4_K_M"},
    }
