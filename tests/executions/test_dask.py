"""Runs on a real Dask cluster: what comes of them, what is lost with what, and who finds them again."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager

import psutil
import pytest

from kasal_jupyter.executions.backends import dask_backend, dask_cluster
from kasal_jupyter.executions.backends.dask_backend import DaskBackend
from kasal_jupyter.executions.backends.dask_cluster import Where
from kasal_jupyter.schemas.spec import NOTE, RunMessage
from tests import engine
from tests.api.test_tool_calls import answer
from tests.dask_cluster import DaskCluster, Proxy, holds
from tests.engine import agent, openai_model, task
from tests.executions.test_faults import until
from tests.processes import PATIENCE
from tests.sample_crews import crew_body, new_crew, slow_crew, start, wait_for
from tests.server import start_server
from tests.servers.model_server import Reply
from tests.servers.openai_server import OpenAIServer

pytest.importorskip("distributed")

KEY = "sk-only-the-runs-own-1234567890"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler and two workers."""
    running = DaskCluster(tmp_path_factory.mktemp("dask"))
    running.add(2)
    yield running
    running.close()


class Seen:
    """What was told of a run."""

    def __init__(self):
        self.lines = []
        self.exit = asyncio.get_running_loop().create_future()
        self.news = asyncio.Event()
        self.run = None

    def take(self, lines):
        self.lines += [line for line in lines if not line.startswith(NOTE)]
        for line in lines:
            if line.startswith(NOTE):
                self.run.send(RunMessage(type="noted", **json.loads(line)))
        self.news.set()

    @property
    def events(self):
        return [json.loads(line) for line in self.lines]

    @property
    def kinds(self):
        return [event["type"] for event in self.events]

    async def until(self, kind):
        async with asyncio.timeout(PATIENCE):
            while kind not in self.kinds:
                self.news.clear()
                await self.news.wait()

    async def end(self):
        async with asyncio.timeout(PATIENCE):
            return await asyncio.shield(self.exit)


@asynccontextmanager
async def server(folder, address):
    """Give a server's backend, warm."""
    folder.mkdir(exist_ok=True)
    backend = DaskBackend(folder, Where(address))
    try:
        await backend.start()
        await until(lambda: backend.warm, PATIENCE)
        yield backend
    finally:
        await backend.close()


async def launched(backend, what):
    seen = Seen()
    seen.run = await backend.launch(what, seen.take, seen.exit.set_result)
    return seen


def crew(folder, **sandbox):
    return engine.crew(folder, [agent("Ada", sandbox=sandbox)], [task("tea", "ada", "Make tea")])


def test_a_run_is_told_whole_and_stopped_and_its_files_come_back(cluster, tmp_path):
    async def work():
        async with server(tmp_path / "data", cluster.address) as backend:
            seen = await launched(backend, crew(tmp_path / "run"))
            assert await seen.end() == dask_backend.Exit(0)
            assert seen.events[0]["status"] == "running"
            assert (seen.events[-1]["type"], seen.events[-1]["status"]) == ("execution_status", "completed")
            assert (tmp_path / "run" / "output.log").exists()
            slow = await launched(backend, crew(tmp_path / "slow", latency=600))
            await slow.until("llm_call")
            await slow.run.stop()
            assert slow.exit.done()

    asyncio.run(work())


def test_a_key_is_in_its_runs_worker_alone(cluster, tmp_path):
    async def work():
        with OpenAIServer(Reply("Tea for two")) as model:
            asking = engine.crew(
                tmp_path / "run",
                [agent("Ada", model="gpt")],
                [task("tea", "ada", "Make tea")],
                models=openai_model(model.url, KEY),
                allowed_hosts=["127.0.0.1"],
            )
            async with server(tmp_path / "data", cluster.address) as backend:
                seen = await launched(backend, asking)
                await seen.end()
                assert seen.events[-1]["result"].strip() == "Tea for two"
                assert f"Bearer {KEY}" in str(model.headers[0].values())
                # What it says is sealed, too; that it is there at all is seen by its place.
                scheduler = cluster.scheduler.pid
                assert holds(scheduler, seen.run.place.encode())
                assert not holds(scheduler, KEY.encode())
                assert not holds(scheduler, b"Tea for two")
        assert KEY not in cluster.logs()

    asyncio.run(work())


def test_all_that_a_run_has_on_its_server_it_has_there_and_the_next_server_has_it(cluster, tmp_path):
    options = ("--KasalApp.backend=dask", f"--KasalApp.dask_scheduler={cluster.address}")
    first = start_server(tmp_path / "first", *options, "--KasalApp.put_away_seconds=0")
    second = None
    try:
        with first.client() as api:
            # What the crew was told is found by words that are sent along.
            body = crew_body() | {"memory": True}
            body["tasks"][0]["human_input"] = True
            crew_id = new_crew(api, body)
            known = {"type": "long_term", "category": "tea", "content": "Research tea: boil the water"}
            assert api.post(f"/memory/{crew_id}", json=known).status_code == 201
            # Put away while it waits for a person, it is brought back with its own record.
            asking = start(api, crew_id)
            asked = wait_for(api, asking, "waiting_for_input")["questions"][0]
            assert answer(api, asking, asked["call_id"], result="approve").status_code == 200
            done = wait_for(api, asking)
            assert done["status"] == "completed", done
            events = api.get(f"/executions/{asking}/events").json()["events"]
            told = [event["type"] for event in events]
            assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
            assert [event.get("status") for event in events].count("running") == 2
            recalled = [event for event in events if event["type"] == "memory_recalled"]
            assert "boil the water" in str(recalled[0]["memories"])
            # A replay has the record that it takes its answers from.
            replayed = api.post(f"/executions/{asking}/replay").json()["job_id"]
            assert wait_for(api, replayed)["result"] == done["result"]
            slow = start(api, new_crew(api, slow_crew()))
            wait_for(api, slow, "running")
            while not (
                asked := api.get(f"/executions/{slow}/events", params={"kind": "llm_call"}).json()["events"]
            ):
                assert wait_for(api, slow, "running")
            before = asked[-1]["seq"]
            looked = api.get("/backend").json()
            assert looked["connected"]
            assert [each["differs"] for each in looked["workers"]] == [[], []]
        first.process.kill()
        first.process.wait()
        second = start_server(tmp_path / "second", *options, folder=first.folder)
        with second.client() as api:
            assert wait_for(api, slow, "running", "interrupted")["status"] == "running"
            begun = time.monotonic()
            while (stopped := api.post(f"/executions/{slow}/stop")).status_code == 503:
                assert time.monotonic() - begun < PATIENCE
            assert stopped.status_code == 200, stopped.text
            events = api.get(f"/executions/{slow}/events").json()["events"]
            assert events[-1]["status"] == "stopped"
            assert len(events) == before + 1, told
    finally:
        for each in (first, second):
            if each is not None and each.process.poll() is None:
                each.close()


def test_a_lost_worker_has_its_runs_be_interrupted_and_none_begin_again(cluster, tmp_path):
    async def work():
        async with server(tmp_path / "data", cluster.address) as backend:
            runs = [await launched(backend, crew(tmp_path / f"run{at}", latency=600)) for at in range(3)]
            for seen in runs:
                await seen.until("llm_call")
            lost = cluster.of(runs[0].run.address)
            there = [seen for seen in runs if seen.run.address == runs[0].run.address]
            assert 0 < len(there) < 3
            cluster.add()
            cluster.kill(lost)
            for seen in there:
                assert (await seen.end()).interrupted
            # The others go on. No worker begins what the lost one had begun, whatever Dask does.
            await until(lambda: len(backend.cluster.hosts) == 2 and backend.warm, PATIENCE)
            for seen in runs:
                if seen not in there:
                    assert not seen.exit.done()
                    await seen.run.stop()
            told = [len(seen.lines) for seen in there]
            again = await launched(backend, crew(tmp_path / "again"))
            await again.end()
            assert told == [len(seen.lines) for seen in there]

    asyncio.run(work())


def test_another_server_finds_a_run_again_and_nothing_is_lost_or_doubled(cluster, tmp_path):
    async def work():
        async with server(tmp_path / "data", cluster.address) as first:
            asking = crew(tmp_path / "run", latency=0.5)
            seen = await launched(first, asking)
            await seen.until("llm_call")
            first.let_go(seen.run)
        known = list(seen.lines)
        async with server(tmp_path / "data", cluster.address) as second:
            later = Seen()
            later.run = await second.attach(
                "job_1", tmp_path / "run", lambda: [b"another", *known], later.take, later.exit.set_result
            )
            await later.end()
            events = [json.loads(line) for line in known + later.lines]
            assert len(set(known + later.lines)) == len(events)
            assert [event["type"] for event in events][-1] == "execution_status"
            assert sum(event["type"] == "llm_call" for event in events) == 1
            assert (tmp_path / "run" / "output.log").exists()
            # What has ended, and was taken, is there no more.
            assert await second.attach("job_1", tmp_path, list, later.take, later.exit.set_result) is None

    asyncio.run(work())


def test_a_network_that_comes_back_loses_nothing_and_one_that_does_not_ends_the_runs(
    cluster, tmp_path, monkeypatch
):
    async def work():
        async with (
            Proxy(cluster.port).serving() as proxy,
            server(tmp_path / "data", proxy.address) as backend,
        ):
            stays = await launched(backend, crew(tmp_path / "stays", latency=600))
            await stays.until("llm_call")
            seen = await launched(backend, crew(tmp_path / "run", latency=0.3))
            await until(lambda: seen.run.pid, PATIENCE)
            proxy.stop()
            await until(lambda: not psutil.pid_exists(seen.run.pid), PATIENCE)
            assert not seen.exit.done()
            proxy.go_on()
            assert await seen.end() == dask_backend.Exit(0)
            assert len(set(seen.lines)) == len(seen.lines)
            assert seen.events[-1]["status"] == "completed"
            monkeypatch.setattr(dask_cluster, "LOST_SECONDS", 1.0)
            proxy.stop()
            assert (await stays.end()).interrupted
            monkeypatch.undo()
            proxy.go_on()
            # It is ended there as well, once that can be said.
            await until(lambda: backend.cluster.connected and backend.places >= 2 * cluster.slots, PATIENCE)

    asyncio.run(work())


def test_a_lost_scheduler_ends_the_runs_and_another_one_takes_new_ones(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_cluster, "LOST_SECONDS", 2.0)

    async def work():
        async with server(tmp_path / "data", cluster.address) as backend:
            seen = await launched(backend, crew(tmp_path / "run", latency=600))
            await seen.until("llm_call")
            cluster.kill(cluster.scheduler)
            assert (await seen.end()).interrupted
            cluster.begin()
            cluster.add()
            again = await launched(backend, crew(tmp_path / "again"))
            assert (await again.end()).status == 0

    asyncio.run(work())
