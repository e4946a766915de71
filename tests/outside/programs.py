"""Programs that the tests run: where they are, and what happens where they are not."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

CI_BIN = Path(__file__).parents[2] / ".ci" / "node_modules" / ".bin"


def installed(name: str) -> str | None:
    """Give a program that Python's packages brought."""
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def npm_installed(name: str) -> str | None:
    """Give a program that npm has installed: the clone's own, else the system's."""
    return shutil.which(name, path=os.pathsep.join([str(CI_BIN), os.environ["PATH"]]))


def needed(program: str | None, how: str) -> str:
    """Give a program; where it is missing the test is skipped, which on CI fails it."""
    if program is None:
        pytest.skip(how)
    return program
