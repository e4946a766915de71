"""Webhooks: a run's events at a real receiver, signed, in order, and never in the run's way."""

import asyncio
import base64
import itertools
import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from kasal_jupyter.errors import Conflict, StoreError
from kasal_jupyter.executions.feed import Feed
from kasal_jupyter.executions.files import Presence
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.executions.webhooks import AT_ONCE, EACH_RECEIVER, GIVE_UP, SigningSecrets, Webhooks
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.schemas.executions import Execution
from kasal_jupyter.schemas.webhooks import Webhook as WebhookOfCrew
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.secrets import SecretBox
from kasal_jupyter.tools.guard import HostGuard
from tests.servers.endpoint_server import endpoint_server, redirect, reply

JOB = "job_000000000001"


@pytest.fixture
def receiver():
    with endpoint_server() as running:
        running.replies["/hook"] = reply(status=204)
        yield running


@pytest.fixture
def bench(tmp_path):
    """A data folder with a run's journal, and what delivers its events."""
    (tmp_path / "runs").mkdir()
    with Store.open(tmp_path, SCHEMAS) as store:
        yield Bench(tmp_path, store)


class Bench:
    def __init__(self, folder, store):
        self.folder, self.store = folder, store
        self.secrets = SigningSecrets(store, SecretBox(folder))

    def webhooks(self, *, pauses=(0.01,) * 4, timeout=5.0, allowed=("127.0.0.1",)):
        return Webhooks(self.store, self.secrets, HostGuard(allowed), pauses=pauses, timeout=timeout)

    def accept(self, webhooks, job_id, crew, server="server_1"):
        """Note what is to be delivered, within a change, as the acceptance of a run does."""
        return self.store.change_now(lambda: webhooks.accept(job_id, crew, server))

    def pending(self):
        return self.store.deliveries.ids(done=False)

    def feed(self, job_id=JOB):
        return Feed(Journal.create(self.folder / "runs" / f"{job_id}.jsonl"))

    def deliver(self, url, events, lines, **options):
        """Deliver a whole run, and give the report on it."""

        async def run():
            webhooks, feed = self.webhooks(**options), self.feed()
            self.accept(webhooks, JOB, crew(url, events))
            webhooks.begin(feed)
            for line in lines:
                feed.append([line])
                await asyncio.sleep(0)
            return await done(webhooks)

        return asyncio.run(run())


async def until(webhooks, holds):
    """Wait until something holds of the report on the run, and give the report."""
    async with asyncio.timeout(60):
        # The report is read from the store: there is nothing that would tell of its change.
        while not holds(report := webhooks.report(JOB)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return report


async def done(webhooks):
    return await until(webhooks, lambda report: report.state == "done")


def crew(url, events, owner="ada"):
    return Crew(
        id="crew_1",
        name="C",
        owner=owner,
        webhook={"url": url, "events": events},
        created_at="2024-01-15T10:30:00Z",
        updated_at="2024-01-15T10:30:00Z",
    )


def event(kind, **fields):
    return orjson.dumps({"time": "2024-01-15T10:30:00.000000Z", "type": kind, **fields})


def step(title, kind, **fields):
    span = {"span_id": 1, "parent_id": None, "task_id": title, "task": title, "agent": "Ada"}
    return event(kind, **{**span, **({"result": "Done"} if kind == "task_complete" else {}), **fields})


def status(name):
    return event("execution_status", status=name)


def run_of(*titles):
    """The events of a run: what is done in each task, and its end."""
    steps = [
        [
            step(title, "task_start"),
            step(title, "llm_call", model="m", messages=[], tools=[]),
            step(title, "task_complete"),
        ]
        for title in titles
    ]
    return [status("queued"), status("running"), *itertools.chain(*steps), status("completed")]


def types(receiver):
    return [asked.json()["type"] for asked in receiver.asked]


def test_the_wanted_events_come_in_order_as_the_journal_has_them(bench, receiver):
    report = bench.deliver(f"{receiver.url}/hook", ["task_complete", "status"], run_of("one", "two"))
    assert types(receiver) == [
        *("execution_status", "execution_status"),
        *("task_complete", "task_complete", "execution_status"),
    ]
    journal = (bench.folder / "runs" / f"{JOB}.jsonl").read_bytes().splitlines()
    assert [asked.body for asked in receiver.asked] == [journal[n] for n in (0, 1, 4, 7, 8)]
    assert (report.delivered, report.failed) == (5, 0)
    assert [each.seq for each in report.deliveries] == [1, 2, 5, 8, 9]


def test_a_receiver_gets_whole_prompts_though_it_has_got_nothing_before(bench, receiver):
    system, asked, said = ({"role": "user", "content": text} for text in ("Be kind.", "Count.", "One."))
    calls = [
        step("A", "llm_call", model="m", messages=[system, asked], tools=[]),
        step("A", "llm_call", model="m", messages=[said], whole=[[1, 0, 2], [2, 0, 1]], tools=[], span_id=2),
    ]
    bench.deliver(f"{receiver.url}/hook", ["llm_call"], [status("running"), *calls, status("completed")])
    assert [asked.json()["messages"] for asked in receiver.asked] == [[system, asked], [system, asked, said]]
    assert not any("whole" in asked.json() for asked in receiver.asked)


def test_each_is_signed_as_the_standard_has_it(bench, receiver):
    bench.deliver(f"{receiver.url}/hook", ["task"], run_of("one"))
    secret = asyncio.run(bench.secrets.of("ada")).secret
    for asked in receiver.asked:
        assert Webhook(secret).verify(asked.body.decode(), asked.headers) == asked.json()
        assert asked.headers["webhook-id"] == f"msg_{JOB}_{asked.json()['seq']}"
        other = f"whsec_{base64.b64encode(bytes(32)).decode()}"
        with pytest.raises(WebhookVerificationError):
            Webhook(other).verify(asked.body.decode(), asked.headers)
    assert len(receiver.asked) == 2


def test_after_a_rotation_both_secrets_are_good_for_a_day(bench, receiver):
    async def rotate():
        old = await bench.secrets.of("ada")
        return old, await bench.secrets.rotate("ada")

    old, new = asyncio.run(rotate())
    assert old.secret != new.secret
    assert old.previous_until is None
    left = datetime.fromisoformat(new.previous_until) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    bench.deliver(f"{receiver.url}/hook", ["execution_status"], [status("completed")])
    (asked,) = receiver.asked
    for secret in (old.secret, new.secret):
        assert Webhook(secret).verify(asked.body.decode(), asked.headers)


def test_secrets_are_each_owners_own_and_sealed_where_they_lie(bench):
    async def both():
        return await asyncio.gather(*(bench.secrets.of(owner) for owner in ("ada", "bob", "ada")))

    ada, bob, again = asyncio.run(both())
    assert ada == again != bob
    for path in bench.folder.rglob("*"):
        if path.is_file():
            assert ada.secret.encode() not in path.read_bytes()
    # Another data folder's key opens nothing.
    other = SigningSecrets(bench.store, SecretBox(bench.folder / "runs"))
    with pytest.raises(Conflict, match="rotate makes a new one"):
        asyncio.run(other.of("ada"))
    assert asyncio.run(other.rotate("ada")).secret.startswith("whsec_")


def test_a_receiver_that_stumbles_gets_the_event_again_under_its_id(bench, receiver):
    answers = iter([reply(status=500), reply(status=429), reply(status=503), reply(status=204)])

    def stumble(handler, asked):
        next(answers, reply(status=204))(handler, asked)

    receiver.replies["/hook"] = stumble
    report = bench.deliver(f"{receiver.url}/hook", ["task_complete"], run_of("one", "two"))
    ids = [asked.headers["webhook-id"] for asked in receiver.asked]
    assert ids == [f"msg_{JOB}_5"] * 4 + [f"msg_{JOB}_8"]
    first, second = report.deliveries
    assert (first.attempts, first.status, first.delivered) == (4, 204, True)
    assert (second.attempts, second.delivered) == (1, True)


def test_what_is_refused_for_good_is_not_sent_again(bench, receiver):
    receiver.replies["/hook"] = reply(status=400)
    report = bench.deliver(f"{receiver.url}/hook", ["task_complete"], run_of("one"))
    (delivery,) = report.deliveries
    assert (delivery.attempts, delivery.status, delivery.delivered) == (1, 400, False)
    assert len(receiver.asked) == 1


def test_a_redirect_is_not_followed(bench, receiver):
    receiver.replies["/hook"] = redirect(f"{receiver.url}/elsewhere", 307)
    report = bench.deliver(f"{receiver.url}/hook", ["task_complete"], run_of("one"))
    assert [asked.path for asked in receiver.asked] == ["/hook"]
    assert report.deliveries[0].error == "Redirects are not followed: the receiver answered 307"


def test_a_host_that_is_not_allowed_is_not_called(bench, receiver):
    report = bench.deliver(f"{receiver.url}/hook", ["execution_status"], run_of("one"), allowed=())
    assert receiver.asked == []
    assert report.delivered == 0
    assert "only public hosts may be called" in report.deliveries[0].error


def test_a_receiver_that_is_gone_hears_nothing_more(bench, receiver):
    receiver.replies["/hook"] = reply(status=410)
    report = bench.deliver(f"{receiver.url}/hook", ["task", "status"], run_of("one", "two"))
    assert len(receiver.asked) == 1
    assert (report.state, report.delivered, report.failed) == ("done", 0, 1)


def test_a_dead_receiver_is_given_up_but_for_the_end(bench, receiver):
    receiver.replies["/hook"] = reply(status=500)
    report = bench.deliver(f"{receiver.url}/hook", ["task_complete", "status"], run_of(*"abcdef"))
    attempts = [each.attempts for each in report.deliveries]
    # Five tries of the first, one of the next ones, then none; five again of the run's end.
    assert attempts == [5, *[1] * (GIVE_UP - 1), *[0] * 5, 5]
    assert report.failed == len(attempts)
    assert len(receiver.asked) == sum(attempts)


def test_one_that_hangs_holds_up_nothing_and_is_given_up_in_time(bench, receiver):
    release = threading.Event()

    def hang(handler, asked):
        release.wait(60)

    receiver.replies["/hook"] = hang

    async def run():
        webhooks, feed = bench.webhooks(pauses=(), timeout=0.2), bench.feed()
        bench.accept(webhooks, JOB, crew(f"{receiver.url}/hook", ["status"]))
        webhooks.begin(feed)
        for line in run_of("one"):
            feed.append([line])
        # The run has ended, whatever the receiver does; its threads are not the loop's.
        ended = feed.summary.ended
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(32)))
        return ended, await done(webhooks)

    try:
        ended, report = asyncio.run(run())
    finally:
        release.set()
    assert ended
    assert report.deliveries[0].error == "127.0.0.1 did not answer within 0.2 seconds."


def test_a_hanging_receiver_costs_only_those_who_send_to_it(bench, receiver):
    """Many runs of two owners at a receiver that hangs; the events of a third go out meanwhile."""
    release = threading.Event()

    def hang(handler, asked):
        release.wait(60)

    receiver.replies["/hang"] = hang

    async def run():
        webhooks = bench.webhooks(timeout=30.0)
        for n in range(2 * AT_ONCE):
            hung = bench.feed(f"job_hang{n}")
            bench.accept(webhooks, hung.job_id, crew(f"{receiver.url}/hang", ["status"], "ab"[n % 2]))
            webhooks.begin(hung)
            hung.append([status("queued")])
        async with asyncio.timeout(60):
            while len(receiver.asked) < 2 * EACH_RECEIVER:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        feed = bench.feed()
        bench.accept(webhooks, JOB, crew(f"{receiver.url}/hook", ["status"], "carol"))
        webhooks.begin(feed)
        feed.append(run_of("one"))
        report = await done(webhooks)
        hanging = [asked for asked in receiver.asked if asked.path == "/hang"]
        release.set()
        await webhooks.close()
        return report, hanging

    try:
        report, hanging = asyncio.run(run())
    finally:
        release.set()
    assert report.delivered == 3
    assert len(hanging) == 2 * EACH_RECEIVER


def test_a_name_that_is_never_found_holds_its_own_threads_alone(bench, receiver):
    release = threading.Event()

    def resolve(host, port):
        if host == "slow.example":
            release.wait(60)
        return ["127.0.0.1"]

    async def run():
        guard = HostGuard(["127.0.0.1"], resolve)
        webhooks = Webhooks(bench.store, bench.secrets, guard, pauses=(), timeout=0.05)
        webhooks._timeout = -0.9  # of which a second more is given to the name
        feed = bench.feed()
        bench.accept(webhooks, JOB, crew("http://slow.example/hook", ["execution_status"]))
        webhooks.begin(feed)
        feed.append([status("completed")])
        # The loop's own threads are not held.
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(32)))
        return await done(webhooks)

    try:
        report = asyncio.run(run())
    finally:
        release.set()
    assert report.deliveries[0].error.startswith("slow.example was not found within")


DAMAGES = {
    "truncated": b'{"id":"job_000000000001","own',
    "garbage": bytes(range(256)),
    "zeros": bytes(300),
    "empty": b"",
    "a list": b"[]",
    "wrong types": b'{"id":1,"owner":[],"server":{},"url":null,"events":"all"}',
}


@pytest.fixture
def stored(bench):
    """The crew and the execution of the run, as the store has them."""

    def keep(webhook):
        def insert():
            given = crew("http://x", ["task"]).model_copy(update={"webhook": webhook})
            bench.store.crews.insert(given)
            bench.store.executions.insert(
                Execution(
                    id=JOB,
                    crew_id="crew_1",
                    crew_name="C",
                    owner="bob",
                    server="server_1",
                    status="completed",
                    progress=100,
                    inputs={},
                    created_at=given.created_at,
                )
            )

        bench.store.change_now(insert)

    return keep


def take_over(bench, *, wait=True):
    async def next_one():
        presence, webhooks = Presence(bench.folder / "servers"), bench.webhooks()

        async def feed_of(job_id):
            return Feed.open(bench.folder / "runs" / f"{job_id}.jsonl")

        await webhooks.take_over(presence, feed_of)
        await webhooks.take_over(presence, feed_of)
        report = await done(webhooks) if wait else webhooks.report(JOB)
        await webhooks.close()
        presence.close()
        return report

    return asyncio.run(next_one())


def damage(bench, body):
    """Write something else over what is stored of the delivery."""
    bench.accept(bench.webhooks(), JOB, crew("http://old.test", ["task"]))
    connection = sqlite3.connect(bench.folder / "kasal.db")
    connection.execute("UPDATE doc_deliveries SET body = ?", (body,))
    connection.commit()
    connection.close()


@pytest.mark.parametrize("damaged", DAMAGES)
def test_what_is_damaged_is_made_anew_from_the_crew(bench, receiver, stored, caplog, damaged):
    damage(bench, DAMAGES[damaged])
    stored(WebhookOfCrew(url=f"{receiver.url}/hook", events=["task_complete"]))
    feed = bench.feed()
    feed.append(run_of("one"))
    assert "was damaged" in bench.webhooks().report(JOB).remark
    report = take_over(bench)
    assert types(receiver) == ["task_complete"]
    assert (report.delivered, report.url) == (1, f"{receiver.url}/hook")
    assert "every event is sent again" in report.remark
    assert caplog.text.count("every event is sent again") == 1
    assert bench.pending() == []


def test_what_is_damaged_of_a_crew_without_a_webhook_is_told_of(bench, receiver, stored, caplog):
    damage(bench, b"{")
    stored(None)
    bench.feed().append(run_of("one"))
    report = take_over(bench)
    assert receiver.asked == []
    assert (report.state, report.delivered) == ("done", 0)
    assert "the crew has no webhook any more" in report.remark
    assert take_over(bench).remark == report.remark
    assert caplog.text.count("no webhook any more") == 1


def test_one_that_cannot_be_taken_over_keeps_none_of_the_others(bench, receiver, stored):
    bench.accept(bench.webhooks(), "job_000000000000", crew(f"{receiver.url}/hook", ["task"]))
    (bench.folder / "runs" / "job_000000000000.jsonl").mkdir()
    stored(WebhookOfCrew(url=f"{receiver.url}/hook", events=["task_complete"]))
    bench.accept(bench.webhooks(), JOB, crew(f"{receiver.url}/hook", ["task_complete"]))
    bench.feed().append(run_of("one"))
    assert take_over(bench).delivered == 1


def test_a_damaged_line_of_the_journal_is_passed_over(bench, receiver):
    lines = run_of("one", "two")
    feed = bench.feed()
    feed.append(lines)
    path = feed.journal.path
    damaged = path.read_bytes().splitlines(keepends=True)
    for n, line in ((1, b"\0" * 40), (3, b"[]"), (5, b'{"seq":6}'), (6, b'{"seq":7,"type":3}')):
        damaged[n] = line + b"\n"
    path.write_bytes(b"".join(damaged))

    class AsWritten:
        """What comes of the run's state where its journal is damaged is not what this is about."""

        job_id, summary, subscribe = JOB, feed.summary, feed.subscribe
        journal = Journal.open(path)

    async def run():
        webhooks = bench.webhooks()
        bench.accept(webhooks, JOB, crew(f"{receiver.url}/hook", ["task_complete", "status"]))
        webhooks.begin(AsWritten())
        return await done(webhooks)

    report = asyncio.run(run())
    assert [each.seq for each in report.deliveries] == [1, 5, 8, 9]


class FullDisk:
    """A store with room for so many changes."""

    def __init__(self, store, room):
        self.room, self.tried, self._change = room, 0, store.change
        store.change = self.change

    async def change(self, work, **options):
        self.tried += 1
        if self.room <= 0:
            raise StoreError("The store can't be used: database or disk is full.")
        self.room -= 1
        return await self._change(work, **options)


def test_a_full_disk_neither_loses_nor_repeats(bench, receiver, monkeypatch, caplog):
    monkeypatch.setattr("kasal_jupyter.executions.webhooks.KEEP_PAUSES", (0.01,))

    async def run():
        webhooks, feed = bench.webhooks(), bench.feed()
        await bench.secrets.of("ada")
        disk = FullDisk(bench.store, room=0)
        bench.accept(webhooks, JOB, crew(f"{receiver.url}/hook", ["task_complete"]))
        webhooks.begin(feed)
        feed.append(run_of(*"abc"))
        report = await done(webhooks)
        # All was delivered, and is tried to be kept until there is room.
        async with asyncio.timeout(60):
            while disk.tried < 10:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            disk.room = 5
            while bench.pending():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await webhooks.close()
        return report

    report = asyncio.run(run())
    assert types(receiver) == ["task_complete"] * 3
    assert report.delivered == 3
    assert caplog.text.count("could not be written") == 1
    assert bench.webhooks().report(JOB).delivered == 3


def test_another_server_goes_on_where_one_was_killed(bench, receiver):
    """What was settled is not sent again; nobody takes over from a server that is alive."""
    lines = run_of("one", "two")

    async def killed():
        webhooks, feed = bench.webhooks(), bench.feed()
        bench.accept(webhooks, JOB, crew(f"{receiver.url}/hook", ["task_complete"]))
        webhooks.begin(feed)
        feed.append(lines[:6])
        await until(webhooks, lambda report: report.delivered == 1)
        feed.append(lines[6:])
        feed.journal.close()
        # The process ends here: its tasks go with it.

    async def next_one():
        presence, webhooks = Presence(bench.folder / "servers"), bench.webhooks()

        async def feed_of(job_id):
            return Feed.open(bench.folder / "runs" / f"{job_id}.jsonl")

        await webhooks.take_over(presence, feed_of)
        report = await done(webhooks)
        presence.close()
        return report

    asyncio.run(killed())
    report = asyncio.run(next_one())
    sent = [asked.json()["seq"] for asked in receiver.asked]
    # The second may have been under way, and then comes twice.
    assert (sent.count(5), set(sent)) == (1, {5, 8})
    assert report.delivered == 2
    assert bench.pending() == []


def test_a_delivery_of_a_server_that_is_alive_is_left_to_it(bench, receiver):
    async def look():
        alive, presence = Presence(bench.folder / "servers"), Presence(bench.folder / "servers")
        webhooks, feed = bench.webhooks(), bench.feed()
        feed.append(run_of("one"))
        bench.accept(webhooks, JOB, crew(f"{receiver.url}/hook", ["task"]), alive.server_id)
        await webhooks.take_over(presence, lambda _: None)
        alive.close()
        presence.close()
        return webhooks.report(JOB)

    report = asyncio.run(look())
    assert report.state == "delivering"
    assert receiver.asked == []
