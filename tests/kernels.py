"""Real kernels: cells run one after the other, or watched while they run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

from tests.shared_servers import borrowed_kernels

SECONDS = 90


@dataclass
class Cell:
    """What a cell has done so far."""

    message: str
    status: str = ""
    text: str = ""
    error: str = ""
    shown: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False


class Kernel:
    """A kernel with the extension, connected to a server.

    What comes from the kernel is taken down by the cell that it belongs to, also when that has long ended.
    """

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager, self.client = manager, client
        self._cells: dict[str, Cell] = {}

    def start(self, code: str) -> Cell:
        """Begin a cell."""
        # A failing cell would have the kernel drop what comes just behind it: the next test's first cell.
        message = self.client.execute(code, stop_on_error=False)
        self._cells[message] = cell = Cell(message)
        return cell

    def run(self, code: str) -> Cell:
        """Run a cell to its end."""
        cell = self.start(code)
        self.until(lambda: cell.ended)
        return cell

    def until(self, condition: Any, seconds: float = SECONDS) -> None:
        """Take down what comes until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, list(self._cells.values())[-3:]
            self._take(0.1)

    def value(self, expression: str) -> Any:
        """Give a JSON value of the notebook."""
        cell = self.run(f"import json; print(json.dumps({expression}))")
        assert cell.status == "ok", cell.error
        return json.loads(cell.text)

    def interrupt(self) -> None:
        """Press ■."""
        self.manager.interrupt_kernel()

    def _take(self, seconds: float) -> None:
        from queue import Empty

        try:
            message = self.client.get_iopub_msg(timeout=seconds)
        except Empty:
            return
        cell = self._cells.get(message["parent_header"].get("msg_id", ""))
        if cell is None:
            return
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                cell.text += content["text"]
            case "execute_result" | "display_data":
                cell.shown.append(content["data"])
            case "update_display_data":
                cell.updates.append(content["data"])
            case "error":
                cell.error = "\n".join(content["traceback"])
            case "status":
                if content["execution_state"] == "idle":
                    cell.ended = True
                    cell.status = "error" if cell.error else "ok"
            case _:
                pass


@contextmanager
def kernel_of(server: Any, room: Path) -> Iterator[Kernel]:
    """Start a kernel that finds a server by its environment, and load the extension in it."""
    with pytest.MonkeyPatch.context() as patch, borrowed_kernels():
        patch.setenv("KASAL_URL", server.url)
        patch.setenv("KASAL_TOKEN", server.token)
        patch.setenv("JUPYTER_RUNTIME_DIR", str(room))
        patch.setenv("IPYTHONDIR", str(room / "ipython"))
        manager, client = start_new_kernel()
    kernel = Kernel(manager, client)
    try:
        assert kernel.run("%load_ext kasal_jupyter").status == "ok"
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
