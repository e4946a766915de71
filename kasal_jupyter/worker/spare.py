"""A spare: a process that is warm and waits to become one run, where forking is not to be had.

Started as ``python -m kasal_jupyter.worker.spare <fd> <storage>`` with the run's socket; on
Windows ``-`` stands for the descriptor, and the shared socket's bytes come on standard input.
It says ``ready`` on the run's socket, and from then on speaks as a forked child does.
"""

from __future__ import annotations

import gc
import socket
import sys
from pathlib import Path
from typing import NoReturn

from kasal_jupyter.worker.switches import import_crewai


def main(run: socket.socket, storage: Path) -> NoReturn:
    """Warm up, say so, and become the run that comes."""
    import_crewai(storage)
    from kasal_jupyter.worker.run import serve_run
    from kasal_jupyter.worker.warm import warm_up

    warm_up()
    gc.collect()
    gc.freeze()
    run.sendall(b'{"type":"ready"}\n')
    serve_run(run)


def _passed_socket(argument: str) -> socket.socket:
    if argument != "-":
        return socket.socket(fileno=int(argument))
    if sys.platform == "win32":
        return socket.fromshare(sys.stdin.buffer.read())
    raise ValueError("A socket is shared through standard input on Windows only.")


if __name__ == "__main__":
    main(_passed_socket(sys.argv[1]), Path(sys.argv[2]))
