"""What is built on of CrewAI's own parts: a release that changes one of them fails here, by its name.

Every method of CrewAI's that a class of ours overrides stands in ``crewai_contract.txt`` with the signature
that it has there. A line that fails says which override to look at; when that still does what it is for, the
file is written anew by ``python -m tests.worker.crewai_contract --write``.
"""

import json
import subprocess
import sys

import pytest

from tests.worker.crewai_contract import CONTRACT, FACTS


@pytest.fixture(scope="module")
def found():
    """What CrewAI is like, told by a process that imports it."""
    run = [sys.executable, "-m", "tests.worker.crewai_contract"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


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
