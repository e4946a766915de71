import asyncio
import errno
import json
from contextlib import closing

import pytest

from kasal_jupyter.cli import main
from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import StoreError
from kasal_jupyter.executions import verbs
from kasal_jupyter.executions.backends.local import LocalBackend
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.kernel.runs.runner import follow, follow_in_background
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.models.catalog import ModelCatalog
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.store.store import Store
from tests.sample_crews import crew_body, new_crew, slow_crew, start, wait_for
from tests.server import start_server


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two servers on one data folder, the first of which runs one crew at a time and queues one."""
    room = tmp_path_factory.mktemp("pair")
    limits = ("--KasalApp.max_running=1", "--KasalApp.max_queued=1")
    first = start_server(room / "a", *limits, folder=room / "data")
    second = start_server(room / "b", "--KasalApp.resume_on_start=True", folder=room / "data")
    yield first, second
    for server in (first, second):
        if server.process.poll() is None:
            server.close()


def events(connection):
    while True:
        event = json.loads(connection.recv())
        yield event
        if event.get("status") in {"stopped", "interrupted", "completed", "failed"}:
            return


def test_the_queue_has_its_limits_and_a_run_that_waits_can_be_stopped(pair):
    with pair[0].client() as api:
        crew_id = new_crew(api, slow_crew())
        running, waiting = start(api, crew_id), start(api, crew_id)
        wait_for(api, running, "running")
        full = api.post("/executions", json={"crew_id": crew_id, "inputs": {"topic": "tea"}})
        assert full.status_code == 503
        assert full.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
        assert api.get(f"/executions/{waiting}").json()["status"] == "queued"
        assert api.post(f"/executions/{waiting}/stop").json()["status"] == "stopped"
        # Its place in the queue is free again, and the next runs when the first has ended.
        after = start(api, crew_id)
        api.post(f"/executions/{running}/stop")
        wait_for(api, after, "running")
        api.post(f"/executions/{after}/stop")
        assert api.get("/executions", params={"crew_id": crew_id}).json()["total"] == 3


def test_another_server_follows_and_stops_a_run(pair):
    first, second = pair
    with first.client() as api, second.client() as other:
        job_id = start(api, new_crew(api, slow_crew()))
        wait_for(other, job_id, "running")
        connections = [second.socket(), second.socket()]
        for connection in connections:
            connection.send(json.dumps({"type": "subscribe", "job_id": job_id}))
        assert other.post(f"/executions/{job_id}/stop").json()["status"] == "stopped"
        followed = [list(events(connection)) for connection in connections]
        assert followed[0] == followed[1]
        assert [event["seq"] for event in followed[0]] == list(range(1, len(followed[0]) + 1))
        assert api.get(f"/executions/{job_id}").json() == other.get(f"/executions/{job_id}").json()
        for connection in connections:
            connection.close()


def test_a_run_whose_server_was_killed_is_gone_on_with_and_whoever_follows_it_is_led_there(pair, capsys):
    first, second = pair
    client = Client(Connection(second.url, second.token))
    with first.client() as api, second.client() as other, closing(client):
        job_id = start(api, new_crew(api, slow_crew(seconds=2)))
        connection = second.socket()
        connection.send(json.dumps({"type": "subscribe", "job_id": job_id}))
        coming = events(connection)
        while next(coming)["type"] != "llm_call":
            pass
        background = follow_in_background(client, job_id)
        first.process.kill()
        first.process.wait()
        # Whoever follows it is told, without anybody asking for its state.
        last = list(coming)[-1]
        connection.close()
        assert (last["status"], last["resuming"]) == ("interrupted", True)
        run = follow(client, job_id)
        state = other.get(f"/executions/{job_id}").json()
        assert (state["status"], state["resumed_by"]) == ("interrupted", run.job_id)
        assert (state["error"]["code"], state["usage"]["llm_calls"]) == ("INTERRUPTED", 1)
        assert (run.status, run.trace.summary.parent) == ("completed", job_id)
        # In the background, and in the terminal.
        assert (background.wait().job_id, background.status) == (run.job_id, "interrupted")
        capsys.readouterr()
        assert main(["wait", job_id, "--url", second.url, "--token", second.token]) == 0
        said = capsys.readouterr()
        assert f"{job_id} was cut off with its server; {run.job_id} goes on with it" in said.err
        assert said.out.strip() == run.output


def test_what_cannot_be_accepted_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(journal, lines):
        raise OSError(errno.ENOSPC, "No space left on device")

    async def start():
        with Store.open(tmp_path, SCHEMAS) as store:
            whole = await Crews(store).create(CrewCreate.model_validate(crew_body()), "jupyter")
            runs = Runs(store, tmp_path, LocalBackend(tmp_path), ModelCatalog(environ={}))
            with monkeypatch.context() as patch:
                patch.setattr(Journal, "append", full)
                with pytest.raises(StoreError, match="No space"):
                    await verbs.start(runs, whole, {"topic": "tea"}, "jupyter")
            left = (list(runs.folder.iterdir()), runs.active, store.executions.find())
            await runs.close()
            return left

    assert asyncio.run(start()) == ([], 0, [])


def test_a_run_that_waits_for_the_engine_is_stopped_at_once(tmp_path):
    async def stop_cold():
        backend = LocalBackend(tmp_path)
        with Store.open(tmp_path, SCHEMAS) as store:
            whole = await Crews(store).create(CrewCreate.model_validate(crew_body()), "jupyter")
            runs = Runs(store, tmp_path, backend, ModelCatalog(environ={}))
            job_id = (await verbs.start(runs, whole, {"topic": "tea"}, "jupyter")).id
            stopped = await runs.stop(job_id)
            # Loading takes seconds: nobody has waited for it.
            seen = (stopped.status, backend.warm)
            closing = asyncio.ensure_future(runs.close())
            await backend.close()
            await closing
            # What came of the launch in the end is not written behind the end.
            lines = (await runs.feed(job_id)).journal.read(0)
            return seen, [json.loads(line)["status"] for line in lines]

    assert asyncio.run(stop_cold()) == (("stopped", False), ["queued", "stopped"])
