"""Signals that end a server: it ends its runs, tells who follows them, and goes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from jupyter_server.serverapp import ServerApp


class StopSignals:
    """Ends a Jupyter server by SIGTERM, by SIGHUP, and without a terminal by SIGINT as well.

    Jupyter leaves SIGHUP, and SIGINT where there is no terminal to ask at, to the system and to Python: the
    process would be gone at once, and what its extensions do at the end would not be done. What somebody
    else has decided stays: a signal that is ignored (`nohup`), and a handler that is not Jupyter's own.

    A second signal ends the process at once. Its runs' processes end with it, and are recorded as interrupted
    by the next server.

    Parameters
    ----------
    server
        The server, which runs in the main thread.
    """

    def __init__(self, server: ServerApp) -> None:
        self._server = server
        self._told = False
        if threading.current_thread() is not threading.main_thread():
            return
        known: list[Any] = [signal.SIG_DFL, signal.default_int_handler, server._signal_stop]  # noqa: SLF001
        for name in ("SIGTERM", "SIGHUP", "SIGINT"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in known:
                signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what a handler is given
        if not self._told:
            self._told = True
            self._server.log.critical("received signal %s, stopping", number)
            self._server.stop(from_signal=True)
            return
        self._server.log.critical("received signal %s again, ending at once", number)
        self._server.remove_server_info_file()
        self._server.remove_browser_open_files()
        logging.shutdown()
        sys.stdout.flush()
        os._exit(128 + number)
