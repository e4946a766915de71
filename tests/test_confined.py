"""Work on what others have written, in a limited process."""

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path

import pytest

from kasal_jupyter.confined import NICE, ConfinedPool, TooMuch, confined
from kasal_jupyter.errors import MOST_FAULTS, Fault, InvalidRequest

HERE = "hostile_functions"


@pytest.fixture(autouse=True)
def functions(monkeypatch, tmp_path):
    """Functions that the process finds: by an installed package's name it would only find the product's."""
    (tmp_path / f"{HERE}.py").write_text(
        "import json, os, time\n"
        "from kasal_jupyter.errors import Fault, InvalidRequest\n"
        "def echo(data): return data\n"
        "def refuse(data): raise ValueError('not that')\n"
        "def invalid(data): raise InvalidRequest('no', faults=[Fault('a.b', 'why')] * 3)\n"
        "def sleep(data): time.sleep(600)\n"
        "def grow(data): return bytes(4_000_000_000)\n"
        "def deep(data): return deep(data)\n"
        "def much(data): return bytes(65_000_000)\n"
        "def about(data):\n"
        "    return json.dumps([dict(os.environ), os.nice(0), os.getsid(0), os.getpgid(0)]).encode()\n"
    )
    site = next(path for path in sys.path if path.endswith("site-packages"))
    link = Path(site) / f"{HERE}_{os.getpid()}.pth"
    link.write_text(f"{tmp_path}\n")
    yield
    link.unlink()


def test_it_gives_what_the_function_gives():
    assert confined(f"{HERE}:echo", b"\0abc", seconds=60) == b"\0abc"


def test_a_refusal_is_told_as_it_is():
    with pytest.raises(ValueError, match=r"^not that$"):
        confined(f"{HERE}:refuse", b"", seconds=60)
    with pytest.raises(InvalidRequest) as caught:
        confined(f"{HERE}:invalid", b"", seconds=60)
    assert caught.value.message == "no"
    assert caught.value.faults == (Fault("a.b", "why"),) * 3


@pytest.mark.parametrize(("function", "seconds"), [("sleep", 1.0), ("grow", 60), ("deep", 60), ("much", 60)])
def test_what_takes_too_much_is_ended(function, seconds):
    with pytest.raises(TooMuch):
        confined(f"{HERE}:{function}", b"", seconds=seconds)


def test_the_process_stands_behind_the_servers_own_and_knows_nothing_of_its_environment(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://ada:secret@db")
    pool = ConfinedPool()
    environ, nice, session, group = json.loads(asyncio.run(pool.call("ada", f"{HERE}:about", bytes, bytes)))
    assert "DATABASE_URL" not in environ
    assert nice == min(19, os.nice(0) + NICE)
    # A nice value counts within a session.
    assert session == os.getsid(0)
    assert group != os.getpgid(0)


def test_an_owner_whose_input_takes_for_ever_holds_up_nobody_else():
    async def main():
        pool = ConfinedPool(2)
        endless = [
            asyncio.ensure_future(pool.call("eve", f"{HERE}:sleep", bytes, bytes, seconds=300))
            for _ in range(5)
        ]
        for number in range(3):
            given = b"%d" % number
            assert await pool.call("ada", f"{HERE}:echo", partial(bytes, given), bytes) == given
        for each in endless:
            each.cancel()

    asyncio.run(main())


def test_an_error_lists_its_first_faults_and_counts_the_others():
    error = InvalidRequest("no", faults=[Fault(f"a[{n}]", "wrong") for n in range(44_800)])
    listed = error.details()["errors"]
    assert len(listed) == MOST_FAULTS + 1
    assert listed[-1]["reason"].startswith("and 44,700 more")
