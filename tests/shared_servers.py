"""One warm process from which tests have their Jupyter servers, and the kernels that they start themselves.

What such a process imports takes it a second, four times as long as all that comes until it answers, and the
tests start some seventy. Where nothing depends on how one was started, it is forked from a process that has
imported all of it, and is then what it always is: with its command line, environment, folder, and outputs.
The server that most tests share is started in earnest, and so is whatever is started by other ways than
`tests.server` and `tests.kernels`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.shared_zygote import LIGHT, VARIABLE, Borrowed, Lender, borrow

NEEDED = (
    *("jupyter_server.serverapp", "kasal_jupyter.app", "kasal_jupyter.wiring"),
    *("ipykernel.kernelapp", "ipywidgets", "kasal_jupyter.kernel.magics.magics"),
)
"""What the one or the other imports sooner or later."""


def begin(
    command: Sequence[str],
    environment: Mapping[str, str],
    out: int,
    *,
    folder: Path | None = None,
    before: Callable[[], object] | None = None,
    alone: bool = False,
) -> subprocess.Popen[bytes] | Borrowed:
    """Begin a program of Python's.

    Parameters
    ----------
    command
        The module, and its arguments.
    environment
        All that it is to know.
    out
        Where both of its outputs go.
    folder
        Where it works, if not here.
    before
        Called in its process before it is what it is to be.
    alone
        Whether it is started in earnest.
    """
    with Path(os.devnull).open("rb") as nothing:
        if os.environ.get(VARIABLE) and before is None and not alone:
            wish = {
                "program": command[0],
                "arguments": command[1:],
                "folder": str(folder or Path.cwd()),
                "environment": dict(environment),
            }
            return borrow(wish, [nothing.fileno(), out, out], "servers")
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=nothing,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            preexec_fn=before,  # noqa: PLW1509 - what is called there takes no lock
            start_new_session=True,
        )


@contextlib.contextmanager
def borrowed_kernels() -> Iterator[None]:
    """Have the kernels that this process starts be borrowed."""
    from jupyter_client.provisioning import local_provisioner

    def launch_kernel(cmd: list[str], env: dict[str, str], cwd: str | None = None, **_: Any) -> Any:
        assert cmd[1:3] == ["-m", "ipykernel_launcher"], cmd
        # To whoever started it, a kernel says nothing but what went wrong.
        return begin(
            cmd[2:], env | {"JPY_PARENT_PID": str(os.getpid())}, 2, folder=Path(cwd) if cwd else None
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_provisioner, "launch_kernel", launch_kernel)
        yield


class Servers(Lender):
    """Forks servers and kernels."""

    def warm_up(self, folder: Path) -> None:  # noqa: ARG002 - CrewAI's
        """Import what they need."""
        sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment] # See `tests/everywhere`.
        for name in NEEDED:
            __import__(name)
        gc.collect()
        gc.freeze()

    def become(self, wish: dict[str, Any], descriptors: list[int]) -> NoReturn:
        """Be the program, as if it had been started."""
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        for descriptor in descriptors:
            os.close(descriptor)
        os.chdir(wish["folder"])
        os.environ.clear()
        os.environ.update(wish["environment"])
        tempfile.tempdir = None  # It knows where the former environment said.
        if os.environ.get(VARIABLE):
            _share()
        elif LIGHT.items() <= os.environ.items():
            _lighten()
        sys.argv[1:] = wish["arguments"]
        sys.orig_argv[1:] = ["-m", wish["program"], *wish["arguments"]]
        status = 1
        try:
            runpy.run_module(wish["program"], run_name="__main__", alter_sys=True)
            status = 0
        except SystemExit as ended:
            if isinstance(ended.code, str):
                sys.stderr.write(f"{ended.code}\n")
            else:
                status = ended.code or 0
        except BaseException:  # noqa: BLE001 - told as it would be
            traceback.print_exc()
        _leave(status)


def _share() -> None:
    """Have what it starts be borrowed, as `tests/everywhere` has it in a Python that is started."""
    from kasal_jupyter import confined
    from kasal_jupyter.executions.backends import zygote
    from kasal_jupyter.tools import mcp_probe
    from tests import shared_programs, shared_zygote

    shared_zygote.lend_to(zygote)
    for program in (confined, mcp_probe):
        shared_programs.lend_to(program)


def _lighten() -> None:
    """Have the processes of its runs be real, and the runs no crews."""
    from kasal_jupyter.executions.backends.spares import SpareNursery
    from kasal_jupyter.executions.backends.zygote import Zygote

    Zygote.program, SpareNursery.program = "tests.light_zygote", "tests.light_spare"


def _leave(status: int) -> NoReturn:
    """End as an interpreter does: its threads first, then what is to be done at the exit."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Servers(socket.socket(fileno=int(sys.argv[1])), os.pidfd_open(int(sys.argv[3])), Path(sys.argv[2])).run()
