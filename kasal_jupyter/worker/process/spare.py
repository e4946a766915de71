"""A spare: a process that is warm and waits to become one run, where forking is not to be had.

Started as ``python -m kasal_jupyter.worker.process.spare <fd> <storage> <memory>`` with the run's socket; on
Windows ``-`` stands for the descriptor, and the shared socket's bytes come on standard input.
It says its pid on the run's socket, and from then on speaks as a forked child does. Where there is a
fork, the process that was started is its warden.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from kasal_jupyter.warden import under_warden
from kasal_jupyter.worker.process.setup import give_way, import_crewai, limit_memory


def main(run: socket.socket, storage: Path, memory: int) -> NoReturn:
    """Warm up, say so, and become the run that comes.

    Parameters
    ----------
    run
        The run's socket.
    storage
        Where CrewAI may keep files.
    memory
        Bytes that the run may have beside what the warm process has; 0: any number.
    """
    import_crewai(storage)
    from kasal_jupyter.worker.process.run import serve_run
    from kasal_jupyter.worker.process.warm import warm_up

    warm_up()
    gc.collect()
    gc.freeze()
    give_way()
    limit_memory(memory)
    run.sendall(b"%d\n" % os.getpid())
    serve_run(run)


def _passed_socket(argument: str) -> socket.socket:
    if argument != "-":
        return socket.socket(fileno=int(argument))
    if sys.platform == "win32":
        return socket.fromshare(sys.stdin.buffer.read())
    raise ValueError("A socket is shared through standard input on Windows only.")


if __name__ == "__main__":
    _run = _passed_socket(sys.argv[1])
    under_warden(_run.fileno())
    main(_run, Path(sys.argv[2]), int(sys.argv[3]))
