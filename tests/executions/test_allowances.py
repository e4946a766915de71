"""Shared budgets: runs at the same time never pass one together, and whatever dies leaves nothing of it."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from kasal_jupyter.errors import BudgetUsedUp
from kasal_jupyter.executions import allowances
from kasal_jupyter.executions.allowances import Allowances, settle_hold
from kasal_jupyter.executions.usage_report import usage_of
from kasal_jupyter.schemas.allowances import Limits, Sum, Wish
from kasal_jupyter.schemas.usage import LedgerEntry, Usage, UsageQuery
from kasal_jupyter.schemas.users import User
from kasal_jupyter.store.store import Store
from tests.executions.test_cut_off import on_a_folder
from tests.executions.test_faults import bench, until
from tests.executions.test_life import live
from tests.fake_backend import FakeBackend, call, event, goes_on, status

PRICE = 0.5
"""What a call of `tests.fake_backend` costs; it takes 10 tokens."""


def user(**limits):
    stamps = {"created_at": "2024-01-15T10:30:00Z", "updated_at": "2024-01-15T10:30:00Z"}
    about = {"id": "ada", "email": "ada@example.com", "password_hash": "", "tier": "free", "role": "editor"}
    return User(**about, **stamps, limits=Limits(**limits))


def wish(number, used, reserved=0.0, *, tokens=10, priced=True):
    about = {"model": "m", "expected": Sum(cost=reserved, tokens=tokens if number else 0), "priced": priced}
    return Wish(
        reserve=number,
        used=Sum(cost=used, tokens=round(used / PRICE) * 10),
        reserved=Sum(cost=reserved, tokens=tokens if number else 0),
        **(about if number else {}),
    )


def line(wish):
    return orjson.dumps(wish.model_dump())


async def answer(run, number):
    while True:
        found = [each.reserved for each in run.sent if each.reserved and each.reserved.number == number]
        if found:
            return found[0].refusal
        run.told.clear()
        await run.told.wait()


def spends(most=100):
    """Give a script that asks for so many calls, or as many as it is granted, each reserved before."""

    async def script(run):
        run.say(status("running"))
        for number in range(1, most + 1):
            used = (number - 1) * PRICE
            run.say(line(wish(number, used, PRICE)))
            if (refusal := await answer(run, number)) is not None:
                error = {"code": "BUDGET_EXCEEDED", "message": refusal}
                run.say(event("error", **error), status("failed", error=error))
                break
            run.say(*call(number, 10))
            run.say(line(wish(0, number * PRICE)))
        else:
            run.say(status("completed", result="Tea"))
        run.exit()

    return script


def test_of_sixteen_runs_on_two_servers_none_passes_the_budget_that_they_share(tmp_path):
    async def work(world):
        with Store.open(tmp_path) as other:
            servers = [world.runs(spends(), running=8)]
            servers.append(bench(tmp_path, other, FakeBackend(spends()), running=8))
            world.servers.append(servers[1])
            store = world.store
            await store.change(lambda: store.users.insert(user(max_cost_day=9.9)))
            await servers[0].allowances.set("batch_1", max_cost=10.2, max_tokens=1_000)
            passed = []

            async def look():
                while True:
                    for name in store.allowances.ids():
                        found = store.allowances.get(name)
                        passed.append(found.taken.cost > found.max_cost)
                    await asyncio.sleep(0.001)

            looking = asyncio.ensure_future(look())
            jobs = [
                (runs, await world.start(runs, batch="batch_1", allowances=["batch_1"]))
                for runs in servers
                for _ in range(8)
            ]
            ended = [await world.state(runs, job_id) for runs, job_id in jobs]
            looking.cancel()
            await until(lambda: not store.holds.ids())
            assert {each.error.code for each in ended} == {"BUDGET_EXCEEDED"}
            assert "of the $9.9 that you may spend a day are spent or reserved" in ended[0].error.message
            assert passed
            assert not any(passed)
            # Of $9.90, nineteen calls fit; each is booked once, by both budgets and the books.
            assert sum(each.usage.llm_calls for each in ended) == 19
            names = ["batch_1", *store.allowances.ids(owner="ada")]
            stood = [store.allowances.get(name) for name in names]
            assert [(each.spent.cost, each.held.cost) for each in stood] == [(9.5, 0.0)] * 2
            assert stood[0].spent.tokens == 190
            (limit,) = (await usage_of(servers[0], UsageQuery(), {"owner": "ada"}, "ada")).limits
            assert (limit.period, limit.cost, limit.max_cost, limit.reserved) == ("day", 9.5, 9.9, 0.0)
            assert limit.ends_at.endswith("T00:00:00Z")

    live(work, tmp_path)


def test_what_a_run_holds_whose_server_was_killed_is_settled_by_its_journal_and_once(tmp_path):
    async def half(run):
        run.say(status("running"), line(wish(1, 0.0, PRICE)))
        assert await answer(run, 1) is None
        run.say(*call(1, 10), line(wish(0, PRICE)), line(wish(2, PRICE, PRICE)))
        assert await answer(run, 2) is None
        await asyncio.Event().wait()

    async def work(world, folder):
        first, _ = folder.server(half, resumes=False)
        await first.allowances.set("batch_1", max_cost=1.2)
        job_id = await folder.started(first, allowances=["batch_1"])
        await until(lambda: first.allowances.get("batch_1").held.cost == 2 * PRICE)
        # Instead of the call that it holds, it wants one that is too dear.
        refusal = await first.allowances.reserve(job_id, "ada", ["batch_1"], wish(3, PRICE, 3 * PRICE))
        assert "$0.5 of the $1.2 that the batch may cost" in refusal
        await folder.killed(first)
        second, _ = folder.server(spends(1), resumes=False)
        await second.settle()
        assert (await second.execution(job_id)).status == "interrupted"
        for _ in range(2):
            stood = second.allowances.get("batch_1")
            assert (stood.spent.cost, stood.held, world.store.holds.ids()) == (PRICE, Sum(), [])
            await second.settle()
        again = await world.state(second, await world.start(second, allowances=["batch_1"]))
        assert again.status == "completed"
        # Held by what is no more: nothing of it stays.
        await until(lambda: not world.store.holds.ids())
        hold = {"id": "job_gone", "shares": []}
        await world.store.change(lambda: world.store.holds.insert(allowances.Hold.model_validate(hold)))
        await second.settle()
        assert world.store.holds.ids() == []

    on_a_folder(work, tmp_path)


def test_a_limit_counts_what_was_spent_before_it_and_is_told_at_the_door(tmp_path):
    async def work(world):
        runs, store = world.runs(spends(2)), world.store
        await world.state(runs, await world.start(runs))
        await until(store.ledger.ids)
        await store.change(lambda: store.users.insert(user(max_cost_month=1.0)))
        with pytest.raises(BudgetUsedUp, match=r"\$1 of the \$1 that you may spend a month .* ends at 20"):
            await world.start(runs)
        await store.change(lambda: store.users.update("ada", {"limits": {"max_cost_month": 1.7}}))
        ended = await world.state(runs, await world.start(runs))
        assert (ended.status, ended.usage.llm_calls) == ("failed", 1)
        await store.change(lambda: store.users.update("ada", {"limits": {}}))
        assert (await world.state(runs, await world.start(runs))).status == "completed"

    live(work, tmp_path)


def test_a_run_over_midnight_spends_of_both_days(tmp_path, monkeypatch):
    async def work(world):
        runs, store = world.runs(goes_on), world.store
        job_id = await world.start(runs)
        await store.change(lambda: store.users.insert(user(max_cost_day=1.0, max_cost_month=5.0)))
        shared = Allowances(store)

        async def at(day, wanted):
            monkeypatch.setattr(allowances, "_today", lambda: day)
            return await shared.reserve(job_id, "ada", (), wanted)

        assert await at("2024-01-31", wish(1, 0.0, 2 * PRICE)) is None
        assert "of the $1 that you may spend a day" in await at("2024-01-31", wish(2, PRICE, 2 * PRICE))
        assert "What m costs is unknown" in await at("2024-01-31", wish(3, 0.0, 0.0, priced=False))
        await at("2024-01-31", wish(0, 2 * PRICE))
        # Another day, another month: what was used before is not of them.
        assert await at("2024-02-01", wish(4, 2 * PRICE, PRICE)) is None
        days = {"2024-01-31": 1.0, "2024-02-01": 0.5}
        held = {each.id.rpartition(":")[2]: each.held.cost for each in store.allowances.find(owner="ada")}
        assert held == {"2024-02-01": 0.5, "2024-02": 0.5}

        def entries():
            for day, cost in days.items():
                usage = Usage(llm_calls=1, cost=cost, cost_at_least=cost, total_tokens=10)
                about = {"owner": "ada", "crew_id": "crew_1", "crew_name": "Tea"}
                yield LedgerEntry(id=day, day=day, **about, usage=usage)

        await store.change(lambda: settle_hold(store, job_id, Usage(), list(entries())))
        stood = {
            each.id.rpartition(":")[2]: (each.spent.cost, each.held.cost)
            for each in store.allowances.find(owner="ada")
        }
        assert stood == {"2024-02-01": (0.5, 0.0), "2024-02": (0.5, 0.0)}

    live(work, tmp_path)
