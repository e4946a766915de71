"""The WebSocket's figures: one run, 500 subscribers, 100 events a second.

``python benchmarks/events.py`` prints a table, with ``--json`` a JSON object, and fails where a subscriber
misses an event. The times are from the worker, where an event is stamped, to the client that has read it;
server, worker and clients are processes of their own on one machine.

- *steady*: a worker that emits an event every 10 ms, which is what costs the server most: each is sent alone;
- *crew*: a real crew of the sandbox model whose tasks make about as many events, several at a time;
- *stuck*: a client that stops reading, beside 20 that go on, with events of 60 kB.

All three go the whole way: the worker's socket, the journal, the feed, the fan-out, the sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gc
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import psutil

RATE = 100
SECONDS = 15
STUCK_SUBSCRIBERS = 20
STUCK_BYTES = 60_000
STUCK_SECONDS = 3
TOO_SLOW = 4008
TOKEN = "benchmark"
ENDED = {"completed", "failed", "stopped", "interrupted"}


# -- the worker that emits steadily, in the place of a crew's ------------------------------------------


def work(sock: socket.socket) -> None:
    """Take a run from a socket and emit its events: 100 a second, once the file ``go`` is there."""
    from kasal_jupyter.worker.process.outbox import Outbox
    from kasal_jupyter.worker.process.setup import LineReader

    message = LineReader(sock).read()
    assert message is not None
    spec = message.spec
    assert spec is not None
    outbox = Outbox(sock)
    outbox.emit({"type": "execution_status", "status": "running"})
    while not (Path(spec.folder) / "go").exists():
        time.sleep(0.01)
    begin = time.perf_counter()
    task = {"task_id": spec.tasks[0].id, "task": "Emit", "agent": "Emitter"}
    for number in range(int(spec.inputs["events"])):
        time.sleep(max(0.0, begin + number / RATE - time.perf_counter()))
        text = "x" * int(spec.inputs["size"])
        span = {"span_id": number + 1, "parent_id": None, **task}
        outbox.emit({"type": "tool_result", "tool": "emit", "result": text, **span})
    outbox.emit({"type": "execution_status", "status": "completed", "result": "Done"})
    outbox.close(None)


def serve() -> None:
    """Be the server; for runs that say how many events, with the steady worker in the engine's place."""
    from kasal_jupyter import app, wiring
    from kasal_jupyter.executions.backends.backend import OnExit, OnLines
    from kasal_jupyter.executions.backends.child import Child
    from kasal_jupyter.executions.backends.local import LocalBackend, LocalRun
    from kasal_jupyter.schemas.spec import RunSpec

    class Steady:
        warm = True

        async def start(self) -> None:
            pass

        async def child(self, _providers: Collection[str]) -> Child:
            ours, theirs = socket.socketpair()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, __file__, "--part", "work", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            theirs.close()
            ours.setblocking(False)
            return Child(process.pid, ours, asyncio.ensure_future(process.wait()), mark="steady")

        async def close(self) -> None:
            pass

    class SteadyBackend(LocalBackend):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._nurseries = {True: Steady(), False: self._nursery}

        async def launch(self, spec: RunSpec, on_lines: OnLines, on_exit: OnExit) -> LocalRun:
            self._nursery = self._nurseries["events" in spec.inputs]
            return await super().launch(spec, on_lines, on_exit)

        async def close(self) -> None:
            self._nursery = self._nurseries[False]
            await super().close()

    wiring.LocalBackend = SteadyBackend  # type: ignore[misc]
    app.KasalApp.launch_instance(
        ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--no-browser", "--allow-root"]
    )


# -- the subscribers -----------------------------------------------------------------------------------


def subscribe(url: str, job_id: str, *, small: bool = False) -> socket.socket:
    """Open a WebSocket and subscribe to a run."""
    address = urlsplit(url)
    sock = socket.socket()
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((address.hostname, address.port))
    sock.sendall(
        f"GET {address.path}/v1/ws HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nAuthorization: token {TOKEN}\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    message = json.dumps({"type": "subscribe", "job_id": job_id}).encode()
    # A client's frames are masked; a mask of zeros leaves the text as it is.
    sock.sendall(bytes((0x81, 0x80 | len(message), 0, 0, 0, 0)) + message)
    return sock


def frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the whole frames out of a buffer: their opcodes and what they hold."""
    at = 0
    while len(buffer) >= at + 2:
        size, head = buffer[at + 1] & 0x7F, 2
        if size > 125:
            head = 4 if size == 126 else 10
            size = int.from_bytes(buffer[at + 2 : at + head])
        if len(buffer) < at + head + size:
            break
        yield buffer[at] & 0x0F, bytes(buffer[at + head : at + head + size])
        at += head + size
    del buffer[:at]


def follow(url: str, job_id: str, count: int) -> None:
    """Be the clients: say when all are subscribed, and print what came and how late, as JSON."""
    # What is measured is the server.
    gc.disable()
    sockets = [subscribe(url, job_id) for _ in range(count)]
    buffers = {sock: bytearray() for sock in sockets}
    last = dict.fromkeys(sockets, 0)
    ready = time.time() + 0.5
    print("ready", flush=True)
    known: dict[bytes, tuple[int, float, bool]] = {}
    late: list[float] = []
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                sock: Any = key.fileobj
                data = sock.recv(1 << 18)
                now = time.time()
                assert data, "a subscriber was cut off"
                buffers[sock] += data
                for opcode, text in frames(buffers[sock]):
                    if opcode != 1:
                        continue
                    # All get the same bytes: they are read once.
                    if (event := known.get(text)) is None:
                        read = orjson.loads(text)
                        at = datetime.fromisoformat(read["time"]).timestamp()
                        event = known[text] = (read["seq"], at, read.get("status") in ENDED)
                    seq, sent, is_last = event
                    assert seq == last[sock] + 1, f"event {seq} came after event {last[sock]}"
                    last[sock] = seq
                    if sent > ready:
                        late.append(now - sent)
                    if is_last:
                        selector.unregister(sock)
    assert set(last.values()) == {len(known)}, "the subscribers got different counts of events"
    times = [sent for _, sent, _ in known.values() if sent > ready]
    late.sort()
    print(
        json.dumps(
            {
                "subscribers": count,
                "events a second": (len(times) - 1) / (max(times) - min(times)),
                "p50 ms": 1e3 * late[len(late) // 2],
                "p99 ms": 1e3 * late[int(len(late) * 0.99)],
                "max ms": 1e3 * late[-1],
                "client CPU": time.process_time() / (time.time() - ready),
            }
        )
    )


# -- the scenarios -------------------------------------------------------------------------------------


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Run a server, and give its URL and its process."""
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "KASAL_DATA_DIR")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, "--part", "serve"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, **dict.fromkeys(places, str(folder)), "JUPYTER_TOKEN": TOKEN},
        )
    try:
        about = folder / f"jpserver-{process.pid}.json"
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(OSError, ValueError, httpx.TransportError):
                url = json.loads(about.read_bytes())["url"].rstrip("/")
                if httpx.get(f"{url}/api").status_code == 200:
                    break
            time.sleep(0.05)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def start(url: str, crew: dict[str, Any], inputs: dict[str, Any]) -> str:
    """Store a crew and start a run of it."""
    with httpx.Client(base_url=f"{url}/v1", headers={"Authorization": f"token {TOKEN}"}, timeout=60) as api:
        crew_id = api.post("/crews", json=crew).raise_for_status().json()["id"]
        sent = {"crew_id": crew_id, "inputs": inputs}
        return str(api.post("/executions", json=sent).raise_for_status().json()["job_id"])


def crew(tasks: int, description: str, **sandbox: Any) -> dict[str, Any]:
    """Describe a crew of one agent."""
    agent = {"role": "Emitter", "goal": "Emit", "model": "sandbox", "tools": ["calculator"]}
    return {
        "name": "Benchmark",
        "agents": [agent | {"sandbox": sandbox}],
        "tasks": [
            {
                "name": f"t{number}",
                "description": description,
                "expected_output": "A line",
                "agent": "Emitter",
                # Without, a task is told the results of all before it, and events grow with every task.
                "context": ["t0"] if number else [],
            }
            for number in range(tasks)
        ],
    }


def measure(url: str, process: psutil.Process, job_id: str, subscribers: int, go: Path) -> dict[str, float]:
    """Follow a run with many subscribers to its end; give the clients' figures and the server's."""
    clients = subprocess.Popen(
        [sys.executable, __file__, "--part", "follow", url, job_id, str(subscribers)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert clients.stdout is not None
    assert clients.stdout.readline() == "ready\n", "the clients could not subscribe"
    # The past is read by then.
    time.sleep(0.5)
    memory, used, begin = process.memory_info().rss, process.cpu_times(), time.perf_counter()
    go.touch()
    figures = clients.stdout.readline()
    assert clients.wait() == 0, "the clients got a wrong answer"
    took, after = time.perf_counter() - begin, process.cpu_times()
    grown = process.memory_info().rss - memory
    cpu = (after.user + after.system - used.user - used.system) / took
    return json.loads(figures) | {"server CPU": cpu, "server memory grew, MB": grown / 1e6}


def stuck(url: str, process: psutil.Process, folder: Path, subscribers: int) -> dict[str, float]:
    """Have a client stop reading, beside others: how it is closed, and what the others and the memory notice.

    It reads nothing for some seconds, then all that is left for it, which ends with the close frame.
    """
    inputs = {"events": RATE * 2 * STUCK_SECONDS, "size": STUCK_BYTES}
    job_id = start(url, crew(1, "{events} events of {size} characters"), inputs)
    client = subscribe(url, job_id, small=True)
    go = folder / "runs" / job_id / "go"
    with ThreadPoolExecutor(1) as pool, client:
        others = pool.submit(measure, url, process, job_id, subscribers, go)
        while not go.exists():
            time.sleep(0.01)
        before = most = process.memory_info().rss
        end = time.monotonic() + STUCK_SECONDS
        while time.monotonic() < end:
            most = max(most, process.memory_info().rss)
            time.sleep(0.02)
        buffer, code = bytearray(), 0
        while not code and (data := client.recv(1 << 18)):
            buffer += data
            for opcode, text in frames(buffer):
                if opcode == 8:
                    code = int.from_bytes(text[:2])
        assert code == TOO_SLOW, f"the stuck client was closed with {code}"
        return others.result() | {"closed with": code, "server memory, at most, MB": (most - before) / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subscribers", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * arguments.subscribers + 512)), hard))
    match arguments.part:
        case ["work", number]:
            work(socket.socket(fileno=int(number)))
            return
        case ["serve"]:
            serve()
            return
        case ["follow", url, job_id, count]:
            follow(url, job_id, int(count))
            return
    subscribers, seconds = (2, 0.5) if arguments.tiny else (arguments.subscribers, SECONDS)
    events = round(RATE * seconds)
    figures = {}
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as (url, process):
        inputs = {"events": events, "size": 200}
        job_id = start(url, crew(1, "{events} events of {size} characters"), inputs)
        go = Path(name, "runs", job_id, "go")
        figures["steady"] = measure(url, process, job_id, subscribers, go)
        figures["stuck"] = stuck(url, process, Path(name), min(subscribers, STUCK_SUBSCRIBERS))
        # Ten events a task, and a tenth of a second each; it is not over when its followers have come.
        tasks, latency = (8, 0.5) if arguments.tiny else (max(40, events // 10), 0.04)
        job_id = start(url, crew(tasks, "Compute 17 * 23", latency=latency), {})
        figures["crew"] = measure(url, process, job_id, subscribers, Path(name, "go"))
    if arguments.json:
        print(json.dumps(figures))
        return
    print("target: p99 of at most 50 ms with 500 subscribers\n")
    for scenario, each in figures.items():
        print(scenario)
        for name, value in each.items():
            print(f"  {name:<28} {value:10.2f}")
    print(
        "\n| an event from a run's process to 500 WebSocket clients, 100 events a second (`events.py`) "
        f"| {figures['steady']['p50 ms']:.0f} ms p50, {figures['steady']['p99 ms']:.0f} ms p99 |"
    )


if __name__ == "__main__":
    main()
