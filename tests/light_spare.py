"""A spare whose run is no crew, and which is there at once; see `tests.light_zygote`."""

import os
import socket
import sys

from kasal_jupyter.warden import under_warden
from tests.light_zygote import serve

if __name__ == "__main__":
    _run = socket.socket(fileno=int(sys.argv[1]))
    under_warden(_run.fileno())
    _run.sendall(b"%d\n" % os.getpid())
    serve(_run)
