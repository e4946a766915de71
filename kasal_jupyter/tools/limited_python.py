"""The program that runs an agent's Python: ``python -I limited_python.py SECONDS``, the code on its input.

The input is the code's length in bytes, a newline, the code. It stays open then, and when its other end
closes, this process ends with all that it has started. Little but the standard library is used here, so that
it starts at once.

Two processes: the first is the second's warden. On Linux, where the system lets it, the second has no
network, and other processes are not there for it.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import io
import os
import sys
import traceback
from typing import Any, NoReturn

from kasal_jupyter.warden import under_warden

MEMORY = 2 * 1024**3
"""Bytes of memory that a process may ask for."""

FILE_BYTES = 100_000_000
"""Largest file that it may write."""

PROCESSES = 64
"""Processes and threads it may have started, beside those that its user has already."""

OPEN_FILES = 256

_NEW_USER, _NEW_PROCESSES, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000

CODE_NAME = "<code>"
"""What a traceback calls the agent's code."""


def main(seconds: int) -> NoReturn:
    """Run the code on the input within limits, and end as it ends."""
    code = _read_code()
    _limit(seconds)
    isolated = _isolate()
    under_warden(0)
    if isolated:
        _be_first()
    _run(code)


def _read_code() -> bytes:
    length = b""
    while (byte := os.read(0, 1)) not in {b"\n", b""}:
        length += byte
    left, code = int(length), b""
    while left > 0 and (data := os.read(0, left)):
        code += data
        left -= len(data)
    return code


def _limit(seconds: int) -> None:
    import resource

    def at_most(name: str, most: int) -> None:
        kind = getattr(resource, name, None)
        if kind is None:
            return
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        # macOS knows some of them and refuses to set them.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))

    at_most("RLIMIT_CORE", 0)
    at_most("RLIMIT_CPU", seconds)
    at_most("RLIMIT_AS", MEMORY)
    at_most("RLIMIT_FSIZE", FILE_BYTES)
    at_most("RLIMIT_NOFILE", OPEN_FILES)
    at_most("RLIMIT_NPROC", _own_threads() + PROCESSES)


def _own_threads() -> int:
    """Count what its user runs already, which the limit counts too."""
    count = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                    count += sum(1 for _ in os.scandir(f"/proc/{entry.name}/task"))
    return count


def _isolate() -> bool:
    """Leave the network and the other processes behind, where the system lets an ordinary user do that."""
    if not sys.platform.startswith("linux"):
        return False
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER | _NEW_NETWORK | _NEW_PROCESSES) != 0:
        return False
    with contextlib.suppress(OSError):
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    return True


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _be_first() -> None:
    """Be the first process of those that are left alone, until the second, which returns, has ended.

    The system spares the first most signals, and ends all others with it.
    """
    child = os.fork()
    if child == 0:
        return
    os.close(0)
    while True:
        ended, status = os.wait()
        if ended == child:
            os._exit(_exit_code(status))


def _exit_code(status: int) -> int:
    """Give the status of a process as shells have it: 128 and its number, where a signal has ended it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _run(code: bytes) -> NoReturn:
    """Be the process that runs the code."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    # What is printed keeps its order, whichever stream it goes to.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    # The folder of this program is no place to import from; the run's own is.
    sys.path[:0] = [""]
    sys.argv = [CODE_NAME]
    status = 1
    try:
        status = _done(code)
    except SystemExit as error:
        status = _exit_status(error)
    except BaseException as error:  # noqa: BLE001 - the agent's code may raise anything
        _tell(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _done(code: bytes) -> int:
    tree = ast.parse(code.decode(), CODE_NAME)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    names: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    exec(compile(tree, CODE_NAME, "exec"), names)  # noqa: S102 - it is what this process is for
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), CODE_NAME, "eval"), names)  # noqa: S307
        if value is not None:
            print(repr(value))  # noqa: T201 - as an interpreter shows it
    return 0


def _exit_status(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 - as an interpreter does
    return 1


def _tell(error: BaseException) -> None:
    """Print the error without the frames of this program."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in {__file__, ast.__file__}:
        frames = frames.tb_next
    with contextlib.suppress(OSError, ValueError):
        traceback.print_exception(type(error), error, frames)


if __name__ == "__main__":
    main(int(sys.argv[1]))
