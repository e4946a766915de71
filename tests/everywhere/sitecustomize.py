"""Read by every Python that tests start: what it would start is had from processes that are warm already.

Not those of pytest's own processes, where tests say for themselves whether they borrow one.
"""

import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder

LENT = {
    "kasal_jupyter.executions.backends.zygote": "tests.shared_zygote",
    "kasal_jupyter.confined": "tests.shared_programs",
    "kasal_jupyter.tools.mcp_probe": "tests.shared_programs",
}
"""The modules that start processes, and who lends them."""


class _Sharing:
    """Has a module that starts processes borrow them, once somebody imports it."""

    def find_spec(self, name, path=None, target=None):
        if name not in LENT:
            return None
        spec = PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def execute_and_share(module):
            execute(module)
            import_module(LENT[name]).lend_to(module)

        spec.loader.exec_module = execute_and_share
        return spec


if os.environ.get("KASAL_TESTS_ZYGOTE") and not any("sys.stdin.readline()" in word for word in sys.orig_argv):
    sys.meta_path.insert(0, _Sharing())
    # Two seconds of each Jupyter server's start: a grammar for IRIs, which jsonschema uses where it is there.
    sys.modules["rfc3987_syntax"] = None
    word = os.environ.get("KASAL_TESTS_WARM")
    if word and any(word in each for each in sys.orig_argv):
        # A script that needs CrewAI, says the test: it is run where CrewAI is loaded.
        borrow = import_module("tests.shared_programs").borrow
        borrow(f"{os.environ['KASAL_TESTS_ZYGOTE']}/zygote", *sys.orig_argv[1:])
