"""Read by every Python that tests start: its zygotes come from `tests.shared_zygote`.

Not those of pytest's own processes, where tests say for themselves whether they borrow one.
"""

import os
import sys
from importlib.machinery import PathFinder


class _Sharing:
    """Has the module that starts zygotes borrow them, once somebody imports it."""

    def find_spec(self, name, path=None, target=None):
        if name != "kasal_jupyter.executions.backends.zygote":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def execute_and_share(module):
            execute(module)
            from tests.shared_zygote import borrowing

            module.Zygote._popen = borrowing(module.Zygote._popen)

        spec.loader.exec_module = execute_and_share
        return spec


if os.environ.get("KASAL_TESTS_ZYGOTE") and not any("sys.stdin.readline()" in word for word in sys.orig_argv):
    sys.meta_path.insert(0, _Sharing())
    # Two seconds of each Jupyter server's start: a grammar for IRIs, which jsonschema uses where it is there.
    sys.modules["rfc3987_syntax"] = None
