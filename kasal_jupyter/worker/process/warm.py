"""Warming a process up, so that the runs it becomes or is forked into start at once.

A first crew costs half a second of imports, schema building and certificate loading. All of
that is done here, and left in memory that forked children share.
"""

from __future__ import annotations

import contextvars
import gc
import json
import logging
import socket
import string
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from kasal_jupyter.hiding import Hider
from kasal_jupyter.models import prices
from kasal_jupyter.outward import NoWayOut, authorities
from kasal_jupyter.schemas.spec import RunSpec
from kasal_jupyter.worker.crew.client_tool import ClientCalls
from kasal_jupyter.worker.crew.remembering import warm_recall
from kasal_jupyter.worker.crew.spans import Spans
from kasal_jupyter.worker.crewai_seams import reset_event_bus
from kasal_jupyter.worker.models.run_models import make_ready
from kasal_jupyter.worker.process.outbox import Outbox
from kasal_jupyter.worker.process.run import execute
from kasal_jupyter.worker.process.stop import StopSignal

log = logging.getLogger(__name__)

_TIME = "2024-01-15T10:30:00Z"


def warm_up() -> None:
    """Run whole crews in this process: both processes, both ways of calling tools, both providers.

    A way that fails is left cold: its runs warm it themselves, and say what is wrong with it.

    Raises
    ------
    RuntimeError
        None of them worked: this installation runs no crews at all.
    """
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kasal-warm-") as folder, loopback_model() as url:
        for spec in (
            warming(folder, "sandbox", url, "native", "hierarchical"),
            warming(folder, "sandbox", url, "react", "sequential"),
            warming(folder, "openai", url, "native", "sequential"),
        ):
            last = contextvars.Context().run(events_of, spec)[-1]
            if b'"completed"' not in last:
                failed.append(last.decode())
                log.error("The warm-up crew of %s failed: %s", *spec.models, last.decode())
        if len(failed) == 3:
            raise RuntimeError(f"The warm-up crews failed: {failed[0]}")
        warm_recall(Path(folder))
    try:
        # To load them takes 20 ms of each run, which is one of all of them.
        authorities()
    except NoWayOut as error:
        log.warning("No model is reached over TLS: %s", error)
    # What characters are looked for as, in secrets.
    Hider([string.printable]).hide("")
    # Loaded by the first call whose tokens are counted, if not here: a tenth of a second of every run.
    prices.load()
    reset_event_bus()


def load_rest(name: str) -> None:
    """Load what some runs need. Nobody waits for it here; each of them would, for up to two seconds.

    Parameters
    ----------
    name
        ``mcp``, or a provider of models.
    """
    try:
        if name == "mcp":
            import kasal_jupyter.tools.mcp_session  # noqa: F401
        else:
            make_ready(name)
    except ImportError:
        # It is not installed: the run says so.
        log.info("%s cannot be loaded.", name, exc_info=True)
    gc.freeze()


def events_of(spec: RunSpec) -> list[bytes]:
    """Run a crew in this process; give its events."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outbox = Outbox(ours)
        stop = StopSignal()
        execute(spec, outbox, stop, ClientCalls(Spans(outbox), stop))
        outbox.close(timeout=5)
        ours.close()
        events = b""
        while data := theirs.recv(65_536):
            events += data
    return events.splitlines()


def warming(folder: str, model: str, url: str, tool_calls: str, process: str) -> RunSpec:
    """Describe a crew of two tasks and a tool."""
    owned = {"owner": "warm-up", "created_at": _TIME}
    dated = {**owned, "updated_at": _TIME}
    agent: dict[str, Any] = {
        "id": "agent_1",
        "crew_id": "crew_1",
        "name": "Warmer",
        "position": 0,
        "role": "Warmer",
        "goal": "Warm up {thing}",
        "backstory": "You warm things up.",
        "model": model,
        "tools": ["calculator"],
        "sandbox": {"tool_calls": tool_calls},
        **dated,
    }
    task: dict[str, Any] = {
        "crew_id": "crew_1",
        "agent_id": "agent_1",
        "description": "Warm up {thing}",
        "expected_output": "Warmth",
        "context_texts": [],
        **dated,
    }
    return RunSpec.model_validate(
        {
            "job_id": "job_warm",
            "crew": {"id": "crew_1", "name": "Warm-up", "process": process, "updated_at": _TIME, **owned},
            "agents": [agent],
            "tasks": [
                {**task, "id": "task_1", "position": 0, "context_tasks": []},
                {**task, "id": "task_2", "position": 1, "context_tasks": ["task_1"], "agent_id": "agent_1"},
            ],
            "inputs": {"thing": "CrewAI"},
            "models": {
                model: {
                    "name": model,
                    "provider": model,
                    "model": model,
                    "api_key": "none" if model == "openai" else None,
                    "base_url": url if model == "openai" else None,
                }
            },
            "manager_model": model if process == "hierarchical" else None,
            "folder": str(Path(folder).resolve()),
        }
    )


# -- a server of models to warm up against -------------------------------------------------------------------


_TOOL_CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "calculator", "arguments": '{"expression": "6 * 7"}'},
}
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answered = any(message["role"] == "tool" for message in asked["messages"])
        delta = {"content": "42"} if answered or not asked.get("tools") else {"tool_calls": [_TOOL_CALL]}
        pieces: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop" if answered else "tool_calls"}]},
            {"choices": [], "usage": _USAGE},
        ]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for piece in pieces:
            whole = {"id": "warm", "object": "chat.completion.chunk", "created": 0, "model": "warm", **piece}
            self.wfile.write(b"data: " + json.dumps(whole).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@contextmanager
def loopback_model() -> Iterator[str]:
    """Serve a model that calls the calculator and then answers; give its base URL.

    The thread and the socket are gone afterwards.
    """
    with HTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()
