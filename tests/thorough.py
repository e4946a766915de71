"""How much chance is given to what is tried by chance: little at each build, much by hand.

`KASAL_TESTS_THOROUGH=1 .venv/bin/pytest tests/worker/test_seams.py` has it tried for minutes.
"""

import os
from typing import TypeVar

Some = TypeVar("Some")

THOROUGH = bool(os.environ.get("KASAL_TESTS_THOROUGH"))


def some_or_all(some: Some, everything: Some) -> Some:
    """Give what is tried at each build, or what is tried where somebody has the time."""
    return everything if THOROUGH else some
