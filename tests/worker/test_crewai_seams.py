"""What is built on of CrewAI's own parts: a release that changes one of them fails here, by its name.

Every method of CrewAI's that a class of ours overrides stands in ``crewai_contract.txt`` with the signature
that it has there. A line that fails says which override to look at; when that still does what it is for, the
file is written anew by ``python -m tests.worker.crewai_contract --write``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.crewai_contract import CONTRACT, FACTS

OLDEST = Path(__file__).parents[2] / ".ci" / "crewai-oldest"
"""The oldest CrewAI that is allowed, where .ci/run has installed it. What is installed is the newest."""


@pytest.fixture(scope="module", params=["newest", "oldest"])
def found(request):
    """What CrewAI is like, told by a process that imports it."""
    path = str(OLDEST) if request.param == "oldest" else ""
    if path and not OLDEST.is_dir():
        pytest.skip(".ci/run installs the oldest CrewAI that is allowed")
    run = [sys.executable, "-m", "tests.worker.crewai_contract"]
    environ = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["file"].startswith(path)
    return told


def test_what_is_overridden_of_crewai_is_called_as_it_was(found):
    def by_name(lines):
        return dict(line.split(" ", 1) for line in lines)

    known, now = by_name(CONTRACT.read_text().splitlines()), by_name(found["overridden"])
    changed = {name: (known.get(name), now.get(name)) for name in known | now}
    assert {name: both for name, both in changed.items() if both[0] != both[1]} == {}


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
def test_crewai_works_as_is_built_on(found, fact):
    assert found["facts"][fact.__name__], fact.__doc__


def test_crewais_private_parts_are_named_in_one_module_alone(found):
    assert found["elsewhere"] == []
