"""Threads beside the server's own: places are few, an owner has one at a time, and all come in turn."""

import asyncio
import threading

import pytest

from kasal_jupyter.aside import Aside, Kind, aside
from kasal_jupyter.errors import TooManyRequests, Unavailable


class Work:
    """Work that goes on until it is let go."""

    def __init__(self):
        self.begun = []
        self.at_once = self.most = 0
        self.gate = threading.Event()
        self._lock = threading.Lock()

    def of(self, name, *, waits=True):
        def work():
            with self._lock:
                self.begun.append(name)
                self.at_once += 1
                self.most = max(self.most, self.at_once)
            if waits:
                assert self.gate.wait(60)
            with self._lock:
                self.at_once -= 1
            return name

        return work


async def until(condition):
    while not condition():  # noqa: ASYNC110 - a thread does it
        await asyncio.sleep(0.001)


def test_it_gives_what_the_work_gives_and_raises_what_it_raises():
    async def main():
        places = Aside("test", 1)
        assert await places.call("ada", lambda: 42) == 42
        with pytest.raises(ZeroDivisionError):
            await places.call("ada", lambda: 1 / 0)
        # A place that was left by an error is free.
        assert await places.call("ada", lambda: 43) == 43

    asyncio.run(main())


def test_an_owner_has_one_place_however_many_there_are():
    async def main():
        work, places = Work(), Aside("test", 4)
        calls = [asyncio.ensure_future(places.call("ada", work.of(number))) for number in range(5)]
        other = asyncio.ensure_future(places.call("bob", work.of("bob", waits=False)))
        assert await other == "bob"
        assert work.begun == [0, "bob"]
        work.gate.set()
        assert await asyncio.gather(*calls) == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_those_who_wait_come_in_turn_by_owner():
    async def main():
        work, places = Work(), Aside("test", 1)
        calls = [asyncio.ensure_future(places.call("ada", work.of(f"ada {n}"))) for n in range(4)]
        await until(lambda: work.begun)
        calls += [asyncio.ensure_future(places.call(name, work.of(name))) for name in ("bob", "cyd")]
        await asyncio.sleep(0)
        work.gate.set()
        await asyncio.gather(*calls)
        assert work.begun == ["ada 0", "ada 1", "bob", "cyd", "ada 2", "ada 3"]
        assert work.most == 1

    asyncio.run(main())


def test_the_queue_is_bounded_for_one_and_for_all():
    async def main():
        work, places = Work(), Aside("test", 1, waiting=8)
        calls = [asyncio.ensure_future(places.call("ada", work.of(n))) for n in range(3)]
        await until(lambda: work.begun)
        with pytest.raises(TooManyRequests, match="2 of your requests wait"):
            await places.call("ada", work.of("more"))
        calls += [asyncio.ensure_future(places.call(f"{n % 3}", work.of(n))) for n in range(6)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="8 others wait"):
            await places.call("zoe", work.of("more"))
        work.gate.set()
        await asyncio.gather(*calls)
        assert await places.call("zoe", lambda: "again") == "again"

    asyncio.run(main())


def test_who_no_longer_waits_leaves_the_queue_and_work_that_goes_on_keeps_its_place():
    async def main():
        work, places = Work(), Aside("test", 1)
        first = asyncio.ensure_future(places.call("ada", work.of("first")))
        second = asyncio.ensure_future(places.call("bob", work.of("second")))
        third = asyncio.ensure_future(places.call("cyd", work.of("third")))
        await until(lambda: work.begun)
        first.cancel()
        second.cancel()
        await asyncio.wait([first, second])
        assert work.begun == ["first"]
        work.gate.set()
        assert await third == "third"
        assert work.begun == ["first", "third"]
        assert work.most == 1

    asyncio.run(main())


def test_kinds_of_work_do_not_wait_for_each_other():
    one, other = Kind("one", 1), Kind("other", 1)

    async def main():
        work = Work()
        held = asyncio.ensure_future(aside(one, "ada", work.of("held")))
        assert await aside(other, "ada", lambda: "done") == "done"
        work.gate.set()
        assert await held == "held"

    # Each loop has places of its own.
    asyncio.run(main())
    asyncio.run(main())
