"""A zygote whose runs are no crews, and which is there at once: for what is asked of processes alone.

Everything around the run is real. A run begins, asks a model that takes as long as the first agent's sandbox
says, fills its memory with the texts of its tasks, and completes; it ends where it is told to.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from datetime import UTC, datetime
from typing import Any, NoReturn

import orjson

from kasal_jupyter.worker.process.setup import LineReader
from kasal_jupyter.worker.process.zygote import Zygote, fostered


def serve(sock: socket.socket) -> NoReturn:
    reader = LineReader(sock)
    message = reader.read()
    if message is None or message.spec is None:
        os._exit(0)
    spec, ended = message.spec, threading.Event()

    def obey() -> None:
        told = reader.read()
        if told is None:
            os.killpg(0, 9)
        ended.set()

    def say(kind: str, **fields: Any) -> None:
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        sock.sendall(orjson.dumps({"time": time, "type": kind, **fields}) + b"\n")

    threading.Thread(target=obey, daemon=True).start()
    say("execution_status", status="running")
    say("llm_call")
    parts = [part.strip("{}") for task in spec.tasks for part in task.description.split()]
    kept = [bytearray(str(spec.inputs.get(part, part)).encode()) for part in parts]
    if ended.wait(spec.agents[0].sandbox.latency):
        os._exit(1)
    say("execution_status", status="completed", result=str(len(kept)))
    os._exit(0)


if __name__ == "__main__":
    _control = socket.socket(fileno=int(sys.argv[1]))
    _births = fostered(_control)
    _control.sendall(b'{"type": "ready", "pid": %d}\n' % os.getpid())
    Zygote(_control, serve, lambda _: None, births=_births, memory=int(sys.argv[3])).run()
