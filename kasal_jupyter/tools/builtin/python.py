"""Running Python in a process of its own, with limits; off unless whoever runs the server turns it on.

It is a limit and no jail: the code runs as the server's own user, and may read what that user may read.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kasal_jupyter.hiding import here, plain_environment
from kasal_jupyter.tools import limited_python
from kasal_jupyter.tools.tool import Tool, ToolContext
from kasal_jupyter.warden import mark

if TYPE_CHECKING:
    from kasal_jupyter.schemas.spec import RunToolSettings

SECONDS, MAX_SECONDS = 30.0, 300.0
"""How long the code may run: where nothing is said, and at the most."""

MAX_CODE = 100_000
"""Longest code, in characters."""

MAX_OUTPUT = 20_000
"""Most bytes of output that are given; what follows is not kept."""

END_SECONDS = 3.0
"""How long the end of what the code has started may take."""

_POLL = 0.25


def _unavailable(settings: RunToolSettings) -> str | None:
    if os.name != "posix":
        return "python needs a system that can limit a process, Linux or macOS"
    if not settings.python:
        return "python is turned off here; whoever runs the server can set KasalApp.python_tool = True"
    return None


@dataclass(slots=True)
class _Output:
    data: bytearray
    complete: bool = True

    def take(self, data: bytes) -> None:
        room = MAX_OUTPUT - len(self.data)
        self.data += data[:room]
        self.complete = self.complete and len(data) <= room

    def text(self) -> str:
        text = self.data.decode(errors="replace").rstrip()
        if self.complete:
            return text
        return f"{here().split(text)[0]}\n[The output goes on; this is its beginning.]"


def _run(context: ToolContext, code: str, timeout: float = SECONDS) -> str:
    if len(code) > MAX_CODE:
        raise ValueError(f"code: {MAX_CODE:,} characters at the most, please.")
    if not 1 <= timeout <= MAX_SECONDS:
        raise ValueError(f"timeout: between 1 and {MAX_SECONDS:g} seconds, please.")
    output = _Output(bytearray())
    status = _execute(code, context.folder, timeout, output)
    text = output.text()
    if status is None:
        raise ValueError(f"It ran longer than {timeout:g} seconds, and was ended.{_behind(text)}")
    if status == 0:
        return text or "[It printed nothing.]"
    if status < 0:
        status = 128 - status  # As shells have it, and as it comes where the code had a place of its own.
    if status in {128 + signal.SIGXCPU, 128 + signal.SIGKILL}:
        raise ValueError(f"It was ended: it used more time or memory than it may.{_behind(text)}")
    raise ValueError(text or f"It ended with status {status}.")


def _behind(text: str) -> str:
    return f"\n{text}" if text else ""


def _execute(code: str, folder: Path, timeout: float, output: _Output) -> int | None:
    """Run code to its end, and give the status; None where its time was over."""
    program = str(Path(limited_python.__file__))
    arguments = [sys.executable, "-I", "-X", "utf8", program, str(int(timeout) + 1)]
    process = subprocess.Popen(  # noqa: S603 - our own program; the agent's code is its input
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=_environment(folder),
        start_new_session=True,
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    end = time.monotonic() + timeout
    try:
        # The pipe stays open: when this process dies, however that may be, the other hears of it and ends.
        _send(process.stdin.fileno(), code.encode(errors="replace"))
        if not _read(process.stdout.fileno(), end, output):
            return None
        try:
            return process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
    finally:
        # By this all of it ends; the code may have stopped or killed its warden, though.
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def _send(handle: int, code: bytes) -> None:
    data = memoryview(b"%d\n%b" % (len(code), code))
    with contextlib.suppress(BrokenPipeError):  # It has ended already, and its output says why.
        while data:
            data = data[os.write(handle, data) :]


def _read(handle: int, end: float, output: _Output) -> bool:
    """Read what is printed until nobody can print any more; say whether that was in time."""
    while (left := end - time.monotonic()) > 0:
        readable, _, _ = select.select([handle], [], [], min(left, _POLL))
        if readable:
            data = os.read(handle, 65_536)
            if not data:
                return True
            output.take(data)
    return False


def _environment(folder: Path) -> dict[str, str]:
    """Give the few variables that programs need: no keys, no tokens, nothing of the server's."""
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    here = {"HOME": str(folder), "MPLBACKEND": "Agg"}
    plain = {name: value for name, value in plain_environment().items() if not name.startswith("PYTHON")}
    return {"LANG": "C.UTF-8", **plain, **one_thread, **here, **mark()}


TOOL = Tool(
    name="python",
    description="Runs Python code in a process of its own, in the run's working folder, and gives what it "
    "prints and the value of its last line. Nothing but files stays between two calls. There is no network.",
    category="computation",
    parameters={
        "type": "object",
        "properties": {
            "code": {
                "type": "string",
                "description": "The code.",
                "minLength": 1,
                "maxLength": MAX_CODE,
                "examples": ["print(6 * 7)"],
            },
            "timeout": {
                "type": "number",
                "description": "Seconds it may take.",
                "minimum": 1,
                "maximum": MAX_SECONDS,
                "default": SECONDS,
            },
        },
        "required": ["code"],
        "additionalProperties": False,
    },
    function=_run,
    unavailable=_unavailable,
)
