"""A disk that fails, at each step of a change: nobody waits for ever, and nothing is half done."""

import asyncio
import itertools
import sqlite3
import threading

import pytest

from kasal_jupyter.errors import StoreError
from kasal_jupyter.store import file as file_module
from kasal_jupyter.store.collections import CATALOG
from kasal_jupyter.store.repository import Selection
from kasal_jupyter.store.store import Store

CODES = {
    "full": sqlite3.SQLITE_FULL,
    "an error of the disk": sqlite3.SQLITE_IOERR,
    "a damaged page": sqlite3.SQLITE_CORRUPT,
    "locked": sqlite3.SQLITE_LOCKED,
}


class FailingConnection:
    """A connection whose calls fail from the n-th one on, for some calls; it counts them."""

    def __init__(self, connection, fail_at, code, times):
        self._connection = connection
        self._failing = range(fail_at, fail_at + times)
        self._code = code
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def _called(self):
        self.calls += 1
        if self.calls - 1 in self._failing:
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = self._code
            raise error

    def execute(self, *args):
        self._called()
        return self._connection.execute(*args)

    def executemany(self, *args):
        self._called()
        return self._connection.executemany(*args)

    def rollback(self):
        self._called()
        self._connection.rollback()


def failing(store, fail_at, code, times):
    engine = store._engine
    connection = FailingConnection(engine.writing_connection, fail_at, code, times)
    engine.writing_connection = connection
    return connection


def well_again(store):
    engine = store._engine
    engine.writing_connection = engine.writing_connection._connection


@pytest.mark.parametrize("times", [1, 2, 3, 100], ids="{} calls".format)
@pytest.mark.parametrize("code", CODES)
def test_a_change_that_fails_is_told_and_undone_and_the_next_one_works(tmp_path, new_crew, code, times):
    """At every call of the connection, by that one alone, or by it and those behind it."""

    async def main(store, other):
        kept = new_crew()
        await store.change(lambda: store.crews.insert(kept))
        for step in itertools.count():
            first, second = new_crew(name=f"first {step}"), new_crew(name=f"second {step}")

            def work(first=first, second=second):
                store.crews.insert(first)
                store.crews.insert(second)
                store.crews.update(kept.id, {"name": first.name})

            before = store.crews.find()
            connection = failing(store, step, CODES[code], times)
            async with asyncio.timeout(60):
                (outcome,) = await asyncio.gather(store.change(work), return_exceptions=True)
            reached = connection.calls > step
            well_again(store)
            if not reached:
                assert outcome is None
                return step
            # It is either done or not, for every reader of every process, and the caller knows.
            assert isinstance(outcome, StoreError)
            assert store.crews.find() == other.crews.find() == before
            assert store.crews.count(owner="ada") == len(before)
            async with asyncio.timeout(60):
                await store.change(work)
            assert store.crews.find() == other.crews.find()
            assert store.crews.count(owner="ada") == len(before) + 2
        raise AssertionError("there is no end to it")

    with Store.open(tmp_path) as store, Store.open(tmp_path) as other:
        assert asyncio.run(main(store, other)) >= 4


def test_without_a_thread_to_be_had_a_change_is_refused_and_the_next_one_works(store, new_crew, monkeypatch):
    start = threading.Thread.start

    def fail(thread):
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)

    async def main():
        async with asyncio.timeout(60):
            with pytest.raises(StoreError, match="no more threads"):
                await store.change(lambda: store.crews.insert(new_crew()))
            await store.change(lambda: store.crews.insert(new_crew()))

    asyncio.run(main())
    assert store.crews.count() == 1


def test_a_lock_that_another_program_keeps_ends_the_wait_with_a_clear_error(
    store, tmp_path, new_crew, monkeypatch
):
    monkeypatch.setattr(file_module, "BUSY_SECONDS", 0.05)
    store._engine._turnstile._patience = 0.05
    program = sqlite3.connect(tmp_path / "data" / "kasal.db", isolation_level=None)
    program.execute("BEGIN IMMEDIATE")

    async def main():
        with pytest.raises(StoreError, match="Another program has held it for too long"):
            await store.change(lambda: store.crews.insert(new_crew()))
        # Who reads does not wait for it.
        assert store.crews.find() == []
        program.execute("ROLLBACK")
        await store.change(lambda: store.crews.insert(new_crew()))

    asyncio.run(main())
    program.close()
    assert store.crews.count() == 1


def test_while_a_write_waits_for_the_disk_nobody_who_reads_does(store, other, new_crew, monkeypatch):
    engine = store._engine
    held, go_on, commit = threading.Event(), threading.Event(), engine.commit

    def slowly():
        held.set()
        assert go_on.wait(60)
        commit()

    monkeypatch.setattr(engine, "commit", slowly)

    async def main():
        kept = new_crew()
        change = asyncio.ensure_future(store.change(lambda: store.crews.insert(kept)))
        await asyncio.to_thread(held.wait, 60)
        for each in (store, other):
            for collection in CATALOG:
                repository = each.repository(collection)
                search = "xyz" if collection.searched else None
                wanted = Selection(sort="id", search=search, searched=collection.searched)
                assert repository.find() == repository.select(wanted).documents == []
                assert repository.page(order="newest").total == repository.count() == 0
                assert repository.get("nobody") is None
            with each.snapshot():
                assert each.versions([collection.name for collection in CATALOG])
            # As well from another thread, which is where long lists are read.
            assert await asyncio.to_thread(each.crews.select, Selection(sort="name")) is not None
        assert not change.done()
        go_on.set()
        await change
        assert store.crews.find() == other.crews.find() == [kept]

    try:
        asyncio.run(main())
    finally:
        go_on.set()
