"""The life of an execution in the server: queue, journal, live status, backends.

``kasal_jupyter.runs()`` is a function of the kernel side, too. A process that has loaded this package,
which no kernel does by itself, finds the package under that name: it answers the call as the function does.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Runs(ModuleType):
    """A package that can be called."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from kasal_jupyter.kernel.python_api import runs

        return runs(*args, **options)


sys.modules[__name__].__class__ = _Runs
