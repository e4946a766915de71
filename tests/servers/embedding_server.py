"""A server of embeddings on loopback: OpenAI's API and Ollama's, over concepts instead of a network.

It knows some synonyms, so that a test can tell its vectors from a comparison of words.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.loopback import Loopback

CONCEPTS = (
    ("car", "automobile", "vehicle"),
    ("cheap", "inexpensive", "price"),
    ("physician", "doctor", "medicine"),
    ("boat", "ship", "vessel"),
)


def vector_of(text: str, dimensions: int) -> list[float]:
    """Count a text's concepts; the last number is there for every text."""
    words = text.lower().split()
    counts = [float(sum(word in concept for word in words)) for concept in CONCEPTS]
    return [*counts, *([0.0] * (dimensions - len(CONCEPTS) - 1)), 0.1]


class EmbeddingServer(Loopback):
    """Serves ``/v1/embeddings`` and ``/api/embed``.

    Attributes
    ----------
    texts
        What was asked for, a list a request.
    status
        What it answers with; other than 200 it is an error.
    dimensions
        Numbers of a vector.
    answer
        What it answers instead of vectors, where that is not None.
    """

    def __init__(self, dimensions: int = 8) -> None:
        self.texts: list[list[str]] = []
        self.keys: list[str | None] = []
        self.status = 200
        self.dimensions = dimensions
        self.answer: Any = None
        handler = type("Handler", (_Handler,), {"server_of": self})
        super().__init__(handler)


class _Handler(BaseHTTPRequestHandler):
    server_of: EmbeddingServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server_of
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.texts.append(asked["input"])
        server.keys.append(self.headers["Authorization"])
        vectors = [vector_of(text, server.dimensions) for text in asked["input"]]
        if self.path == "/api/embed":
            body: Any = {"model": asked["model"], "embeddings": vectors}
        elif self.path == "/v1/embeddings":
            # Out of order, which the API allows: each has its index.
            data = [
                {"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)
            ]
            body = {"object": "list", "model": asked["model"], "data": data[::-1]}
        else:
            body, server.status = {"error": "no such path"}, 404
        if server.answer is not None:
            body = server.answer
        answer = json.dumps(body).encode()
        self.send_response(server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass
