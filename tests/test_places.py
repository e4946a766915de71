"""Threads for work that may hang: bounded, in turn by owner, and given back whatever happens."""

import asyncio
import threading

import pytest

from kasal_jupyter.errors import TooManyRequests, Unavailable
from kasal_jupyter.places import Places


class Hanging:
    """Work that goes on until it is told to end, and counts how much of it does so at the same time."""

    def __init__(self):
        self.release = threading.Event()
        self.begun = []

    def __call__(self, name):
        def work():
            self.begun.append(name)
            self.release.wait(60)
            return name

        return work

    async def has(self, count):
        async with asyncio.timeout(60):
            while len(self.begun) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@pytest.fixture
def hanging():
    work = Hanging()
    yield work
    work.release.set()


def test_it_gives_what_the_work_gives_and_raises_what_it_raises():
    async def run():
        places = Places(1)
        assert await places.do(lambda: 3) == 3
        with pytest.raises(ZeroDivisionError):
            await places.do(lambda: 1 // 0)
        assert await places.do(lambda: 4) == 4

    asyncio.run(run())


def test_no_more_than_there_are_places_for_all_an_owner_and_a_target(hanging):
    async def run():
        places = Places(5, each_owner=3, each_target=2)
        tasks = [
            asyncio.ensure_future(places.do(hanging(f"{owner}{target}"), owner=owner, target=target))
            for owner in "abc"
            for target in "xxxyz"
        ]
        await hanging.has(5)
        # Two at each target and three of each owner, whoever comes first.
        assert sorted(hanging.begun) == ["ax", "ax", "ay", "by", "bz"]
        hanging.release.set()
        assert len(await asyncio.gather(*tasks)) == 15

    asyncio.run(run())


def test_owners_are_served_in_turn(hanging):
    async def run():
        places, order = Places(1), []
        first = asyncio.ensure_future(places.do(hanging("first"), owner="a"))
        await hanging.has(1)
        others = [
            asyncio.ensure_future(places.do(lambda name=name: order.append(name), owner=name[0]))
            for name in ("a1", "a2", "a3", "b1", "c1", "c2")
        ]
        await asyncio.sleep(0)
        hanging.release.set()
        await asyncio.gather(first, *others)
        return order

    assert asyncio.run(run()) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_who_stops_waiting_leaves_the_place_to_the_work(hanging):
    async def run():
        places = Places(1)
        with pytest.raises(TimeoutError):
            await places.do(hanging("one"), seconds=0.01)
        second = asyncio.ensure_future(places.do(lambda: "two"))
        third = asyncio.ensure_future(places.do(lambda: "three"))
        await asyncio.sleep(0)
        assert not second.done()
        # One that gives up while it waits is no place lost.
        second.cancel()
        await asyncio.wait([second])
        hanging.release.set()
        assert await third == "three"

    asyncio.run(run())


def test_one_cancelled_as_it_is_given_its_place_gives_it_back(hanging):
    async def run():
        places = Places(1)
        for _ in range(20):
            waiting = asyncio.ensure_future(places.do(lambda: None))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        async with asyncio.timeout(60):
            return await places.do(lambda: "served")

    assert asyncio.run(run()) == "served"


def test_a_loop_that_has_ended_keeps_no_place(hanging):
    places = Places(1)

    async def leave():
        with pytest.raises(TimeoutError):
            await places.do(hanging("one"), seconds=0.01)
        asyncio.ensure_future(places.do(lambda: None))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(leave())
    hanging.release.set()

    async def come():
        async with asyncio.timeout(60):
            return await places.do(lambda: "served")

    assert asyncio.run(come()) == "served"


def test_how_many_wait_is_bounded_for_one_and_for_all(hanging):
    async def run():
        places = Places(1, waiting=8)
        tasks = [asyncio.ensure_future(places.do(hanging(n), owner="ada")) for n in range(3)]
        await hanging.has(1)
        with pytest.raises(TooManyRequests, match="2 of your requests wait"):
            await places.do(hanging("more"), owner="ada")
        tasks += [asyncio.ensure_future(places.do(hanging(n), owner=f"{n % 3}")) for n in range(6)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="8 others wait"):
            await places.do(hanging("more"), owner="zoe")
        hanging.release.set()
        await asyncio.gather(*tasks)
        assert len(hanging.begun) == 9
        return await places.do(lambda: "again", owner="zoe")

    assert asyncio.run(run()) == "again"
