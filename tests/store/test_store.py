import asyncio
import threading

import pytest

from kasal_jupyter.errors import Conflict, StoreError
from kasal_jupyter.store.store import Store


def transactions(store):
    """Collect the statements that end a transaction of the store."""
    ended = []
    connection = store._engine.writing_connection
    connection.set_trace_callback(lambda sql: ended.append(sql) if sql in ("COMMIT", "ROLLBACK") else None)
    return ended


def hold(store):
    """Keep the writer's thread busy, so that changes queue up; give what lets it go on."""
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait()

    task = asyncio.ensure_future(store.change(work))

    async def wait_until_begun():
        await asyncio.to_thread(begun.wait)

    return task, wait_until_begun(), go_on


def test_a_change_is_durable_and_gives_the_work_s_result(store, other, new_crew):
    crew = new_crew()

    async def main():
        return await store.change(lambda: store.crews.insert(crew) or "result")

    assert asyncio.run(main()) == "result"
    assert store.crews.get(crew.id) == other.crews.get(crew.id) == crew


def test_a_change_of_several_collections_is_atomic(store, other, new_crew, new_agent):
    crew = new_crew()

    def work():
        store.crews.insert(crew)
        store.agents.insert(new_agent(crew.id))
        assert store.agents.find(crew_id=crew.id)  # its own changes are seen
        store.crews.insert(crew)

    with pytest.raises(Conflict):
        asyncio.run(store.change(work))
    for each in (store, other):
        assert (each.crews.count(), each.agents.count()) == (0, 0)


def test_changes_that_queue_up_are_committed_as_one(store, other, new_crew):
    async def main():
        held, begun, go_on = hold(store)
        await begun
        ended = transactions(store)
        changes = [
            asyncio.ensure_future(store.change(lambda: store.crews.insert(new_crew()))) for _ in range(50)
        ]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(held, *changes)
        return ended

    # The one that was held, and the fifty.
    assert asyncio.run(main()) == ["COMMIT", "COMMIT"]
    assert other.crews.count() == 50


def test_a_change_that_raises_undoes_itself_and_not_its_group(store, other, new_crew):
    def spoil():
        store.crews.delete_where(owner="ada")
        store.crews.insert(new_crew(owner="eve"))
        raise ZeroDivisionError

    def stop():
        raise StopIteration

    async def main():
        held, begun, go_on = hold(store)
        await begun
        works = [lambda: store.crews.insert(new_crew()), spoil, lambda: store.crews.insert(new_crew()), stop]
        changes = [asyncio.ensure_future(store.change(work)) for work in works]
        await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(held, *changes, return_exceptions=True)

    results = asyncio.run(main())
    assert [type(result) for result in results[1:]] == [
        type(None),
        ZeroDivisionError,
        type(None),
        RuntimeError,
    ]
    for each in (store, other):
        assert [crew.owner for crew in each.crews.find()] == ["ada", "ada"]


def test_a_failing_commit_fails_its_whole_group_and_leaves_nothing(store, other, new_crew):
    connection = store._engine.writing_connection

    async def main():
        kept = new_crew()
        await store.change(lambda: store.crews.insert(kept))
        held, begun, go_on = hold(store)
        await begun
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        works = [
            lambda: store.crews.insert(new_crew(description="x" * 50_000)),
            lambda: store.crews.delete(kept.id),
        ]
        works.append(lambda: 1 / 0)
        changes = [asyncio.ensure_future(store.change(work)) for work in works]
        await asyncio.sleep(0)
        go_on.set()
        results = await asyncio.gather(held, *changes, return_exceptions=True)

        connection.execute("PRAGMA max_page_count = 1000000")
        assert store.crews.find() == other.crews.find() == [kept]
        await store.change(lambda: store.crews.insert(new_crew()))
        return results

    held, *results = asyncio.run(main())
    assert held is None
    assert [type(result) for result in results] == [StoreError, StoreError, StoreError]
    assert results[0] is not results[1]
    assert other.crews.count() == 2


def test_the_loop_goes_on_while_a_change_is_carried_out(store):
    async def main():
        held, begun, go_on = hold(store)
        await begun
        # Were the loop blocked by the change, it could never let the change go on.
        assert store.crews.find() == []
        go_on.set()
        await held

    asyncio.run(main())


def test_a_change_in_progress_is_not_seen(store, new_crew):
    inserted, go_on = threading.Event(), threading.Event()

    def work():
        store.crews.insert(new_crew())
        inserted.set()
        go_on.wait()

    async def main():
        change = asyncio.ensure_future(store.change(work))
        await asyncio.to_thread(inserted.wait)
        assert store.crews.count() == 0
        assert store.crews.find(owner="ada") == []
        go_on.set()
        await change
        assert store.crews.count() == 1

    asyncio.run(main())


def test_a_caller_that_is_cancelled_does_not_cancel_the_change(store, new_crew):
    async def main():
        held, begun, go_on = hold(store)
        await begun
        change = asyncio.ensure_future(store.change(lambda: store.crews.insert(new_crew())))
        await asyncio.sleep(0)
        change.cancel()
        go_on.set()
        await held
        await asyncio.gather(change, return_exceptions=True)
        await store.change(lambda: None)
        assert change.cancelled()

    asyncio.run(main())
    assert store.crews.count() == 1


def test_closing_carries_out_what_is_queued(tmp_path, new_crew):
    async def main():
        store = Store.open(tmp_path)
        changes = [
            asyncio.ensure_future(store.change(lambda: store.crews.insert(new_crew()))) for _ in range(5)
        ]
        await asyncio.sleep(0)
        store.close()
        await asyncio.gather(*changes)
        with pytest.raises(StoreError, match="closed"):
            await store.change(lambda: None)
        store.close()

    asyncio.run(main())
    with Store.open(tmp_path) as again:
        assert again.crews.count() == 5
    assert not [thread for thread in threading.enumerate() if thread.name == "kasal-store-writer"]


def test_a_loop_that_ended_has_nobody_waiting(store, new_crew):
    async def leave():
        held, begun, go_on = hold(store)
        await begun
        return held, go_on

    loop = asyncio.new_event_loop()
    held, go_on = loop.run_until_complete(leave())
    held.cancel()
    loop.run_until_complete(asyncio.gather(held, return_exceptions=True))
    loop.close()
    go_on.set()

    asyncio.run(store.change(lambda: store.crews.insert(new_crew())))
    assert store.crews.count() == 1


def test_a_snapshot_holds_still(store, other, new_crew):
    with store.snapshot():
        other.change_now(lambda: other.crews.insert(new_crew()))
        assert store.crews.count() == 0
    assert store.crews.count() == 1


def test_tinydb_itself_is_there(store, new_crew):
    from tinydb import where

    store.change_now(lambda: store.crews.insert(new_crew(name="Writers")))
    assert store.db.table("crews").count(where("name") == "Writers") == 1
