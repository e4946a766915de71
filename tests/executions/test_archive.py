"""Runs as archives: what is in one, what comes of it elsewhere, and what is refused."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import orjson
import pytest

from kasal_jupyter.errors import Conflict, InvalidRequest
from kasal_jupyter.events.event import is_event
from kasal_jupyter.executions import archive as module
from kasal_jupyter.executions.archive import archive_of, take_in
from kasal_jupyter.executions.artifacts import list_artifacts, open_artifact
from kasal_jupyter.executions.lineage import asked_of
from kasal_jupyter.executions.verbs import replay, resume
from kasal_jupyter.schemas.executions import ExecutionResume
from tests.executions.test_life import live
from tests.executions.test_lineage import SECRET, failing, spec_of
from tests.executions.test_retention import on_disk, talking
from tests.fake_backend import completes, event, goes_on, span, status


def packed(parts, *, method=zipfile.ZIP_DEFLATED, names=()):
    """Give an archive with these files; ``names`` go in one after the other, double ones too."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in [*parts.items(), *names]:
            archive.writestr(name, data)
    file.seek(0)
    return file


def parts_of(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def exported(world, runs, execution):
    return io.BytesIO(b"".join(archive_of(world.store, runs.files, execution)))


async def refused(runs, file, reason):
    before = runs.store.executions.count(), on_disk(runs.folder)
    with pytest.raises(InvalidRequest, match=reason):
        await take_in(runs, file, "eve")
    assert (runs.store.executions.count(), on_disk(runs.folder)) == before


def test_a_run_goes_from_one_server_to_another_whole_and_without_what_is_its_owners(tmp_path):
    async def work(world):
        async def script(run):
            here = run.spec.folder
            run.say(status("running"))
            asked = [{"role": "user", "content": f"Write to {here}/tea.md"}]
            run.say(span("llm_call", 1, model="m", messages=asked, tools=[], key="1:abc:1"))
            answer = {"text": "Yes", "tool_calls": [], "usage": None, "cost": 0.5, "finish_reason": "stop"}
            run.say(
                span("llm_response", 1, model="m", **answer), status("completed", result=f"{here}/tea.md")
            )
            run.exit()

        runs = world.runs(script, goes_on)
        job_id = await world.start(runs)
        source = await world.state(runs, job_id)
        folder = runs.files.workspace(job_id)
        (folder / "notes").mkdir()
        (folder / "notes" / "tea ü.md").write_text("tea")
        (folder / "output.log").write_text("said")
        # What it was asked, with all that may be secret in it.
        tool = {
            "name": "crm",
            "description": "Ask",
            "endpoint": f"https://crm.test/{SECRET}",
            "username": SECRET,
        }
        asked = asked_of(world.store, source)
        spec = {**asked.spec, "tools": [{**tool, "auth_type": "basic"}], "allowed_hosts": ["10.0.0.0/8"]}
        await world.store.change(lambda: world.store.run_requests.update(job_id, {"spec": spec}))
        file = exported(world, runs, source)
        parts = parts_of(file)
        assert list(parts) == ["run.json", "journal.jsonl", "artifacts/notes/tea ü.md"]
        everything = b"".join(parts.values())
        for hidden in (SECRET, str(tmp_path), "10.0.0.0"):
            assert hidden.encode() not in everything
        going = await world.start(runs)
        with pytest.raises(Conflict, match="when it has ended"):
            archive_of(world.store, runs.files, await runs.execution(going))

        other = world.runs(completes, completes)
        books = world.store.ledger.find()
        came = await take_in(other, file, "eve")
        assert (came.was, came.events, came.artifacts) == (job_id, source.usage.llm_calls + 4, 1)
        assert came.job_id != job_id
        there = await other.execution(came.job_id)
        assert (there.owner, there.crew_name, there.inputs) == ("eve", source.crew_name, source.inputs)
        # Of somebody else's crew: what is known of that does not change by it.
        assert (came.crew_id != source.crew_id, there.crew_version) == (True, None)
        assert (there.status, there.usage, there.created_at) == ("completed", source.usage, source.created_at)
        mine = other.files.workspace(came.job_id)
        assert there.result == f"{mine}/tea.md"
        assert [each.name for each in list_artifacts(mine)] == ["notes/tea ü.md"]
        assert b"".join(open_artifact(mine, "notes/tea ü.md").chunks()) == b"tea"
        events = [orjson.loads(line) for line in (await other.feed(came.job_id)).journal.read(0)]
        assert [(each["seq"], each["job_id"]) for each in events] == [(n, came.job_id) for n in range(1, 6)]
        assert events[2]["messages"][0]["content"] == f"Write to {mine}/tea.md"
        again = await replay(other, came.job_id, "eve")
        assert (await world.state(other, again.id)).status == "completed"
        told = spec_of(other, again.id)
        assert (told.crew.owner, told.allowed_hosts, told.tools[0].name) == ("eve", [], "crm")
        assert {each.owner for each in (*told.agents, *told.tasks)} == {"eve"}
        assert world.store.ledger.find() == books
        # It answers for nobody who asks for the same, and can be sent on.
        assert asked_of(world.store, there).digest is None
        assert parts_of(exported(world, other, there))["journal.jsonl"].count(b"{run folder}") == 2
        # Who owns the crew here finds it there.
        back = await take_in(runs, exported(world, runs, source), "ada")
        assert back.crew_id == source.crew_id
        await runs.stop(going)

    live(work, tmp_path)


def test_what_ended_before_its_time_is_gone_on_with_by_whoever_has_it_now(tmp_path):
    async def work(world):
        runs = world.runs(failing(), completes)
        source = await world.state(runs, await world.start(runs))
        came = await take_in(runs, exported(world, runs, source), "eve")
        there = await runs.execution(came.job_id)
        assert (there.status, there.error.code) == ("failed", "MODEL_UNREACHABLE")
        made = await resume(runs, came.job_id, "eve", ExecutionResume())
        assert (await world.state(runs, made.id)).status == "completed"
        told = spec_of(runs, made.id)
        assert (told.source.job_id, told.crew.owner) == (came.job_id, "eve")

    live(work, tmp_path)


def call(number, messages, **fields):
    return span("llm_call", number, model="m", messages=messages, tools=[], **fields)


def numbered(lines):
    return b"".join(b'{"seq":%d,"job_id":"x",%b\n' % (n, line[1:]) for n, line in enumerate(lines, 1))


def bomb():
    """Give events whose prompts are twice as long each time."""
    first = [call(1, [{"role": "user", "content": "tea"}] * 9)]
    more = [call(n, [], whole=[[n - 1, 0, 9 * 2 ** (n - 2)]] * 2) for n in range(2, 40)]
    return [status("running"), *first, *more, status("completed", result="Tea")]


def quoting():
    said = [{"role": "user", "content": "tea" * 9_000}]
    more = [
        call(n, [{"role": "user", "content": "", "quotes": [0, 1, 0, 0, 27_000]}] * 9_000)
        for n in range(2, 4)
    ]
    return [status("running"), call(1, said), *more, status("completed", result="Tea")]


JOURNALS = {
    "not ended": ([status("running")], "has not ended"),
    "no events": ([b'{"hello":1}'], "Line 1 is not the event 1"),
    "a wrong field": ([status("running"), status("completed", result=7)], "make no execution|cannot be read"),
    "a bomb of prompts": (bomb(), "cannot be put together"),
    "quotes of quotes": (quoting(), "cannot be put together"),
    "a span twice": ([status("running"), call(1, []), call(1, [])], "its span"),
    "names what is not there": ([call(1, [], whole=[[1, 0, 5]])], "not there"),
    "quotes what comes later": (
        [call(1, [{"role": "user", "content": "", "quotes": [0, 1, 0, 0, 5]}])],
        "cannot be put together",
    ),
    "a line of lists": ([event("note", text=[[]] * 300_000)], "Line 1 is not"),
    "deep": ([b'{"time":"2024-01-15T10:30:00.000000Z","type":"note","n":' + b"[" * 9_999], "Line 1 is not"),
}


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """Give the parts of an archive."""

    async def work(world):
        runs = world.runs(talking(2))
        return parts_of(exported(world, runs, await world.state(runs, await world.start(runs))))

    return live(work, tmp_path_factory.mktemp("sent"))


def test_what_is_no_archive_of_a_run_is_refused_and_leaves_nothing(tmp_path, sent):
    head = orjson.loads(sent["run.json"])
    good, whole = sent | {"artifacts/a.md": b"tea"}, packed(sent).getvalue()

    def with_head(**changes):
        return packed(sent | {"run.json": orjson.dumps(head | changes)})

    def with_spec(**changes):
        return with_head(spec=head["spec"] | changes)

    async def work(world):
        runs = world.runs()
        for name in (
            *("../evil", "/etc/passwd", "artifacts/../../evil", "artifacts//x", "artifacts/", "other.txt"),
            *("artifacts/a\\b", "artifacts/output.log", "artifacts/OUTPUT.LOG", "artifacts/" + "a" * 300),
            *("artifacts/output.log.gz", "artifacts/" + "/".join("d" * 40), "artifacts/."),
        ):
            await refused(runs, packed(good | {name: b"evil"}), "No archive of a run has a file")
        with pytest.warns(UserWarning, match="Duplicate"):
            double = packed(good, names=[("artifacts/a.md", b"other")])
        await refused(runs, double, "twice")
        await refused(runs, packed(good | {"artifacts/a.md/b": b"x"}), "Another file has this name")
        await refused(runs, packed(good, method=zipfile.ZIP_LZMA), "packed in another way")
        for missing in ("run.json", "journal.jsonl"):
            await refused(
                runs, packed({n: data for n, data in sent.items() if n != missing}), "It is not there"
            )
        for data in (b"", b"PK", b"\0" * 99, whole[:-30], whole + b"x", b"PK\x05\x06" + b"\xff" * 18):
            await refused(runs, io.BytesIO(data), "archive")
        spoilt = bytearray(whole)
        spoilt[120:160] = b"\xff" * 40
        await refused(runs, io.BytesIO(bytes(spoilt)), "archive")
        many = packed({f"artifacts/{n}": b"" for n in range(10_010)}, method=zipfile.ZIP_STORED)
        await refused(runs, many, "more than 10,000 files")
        for lines, reason in JOURNALS.values():
            data = {"journal.jsonl": numbered(lines), "run.json": orjson.dumps(head | {"events": len(lines)})}
            await refused(runs, packed(sent | data), reason)
        twice = numbered([status("running")] * 2).replace(b'"seq":2', b'"seq":1')
        await refused(runs, packed(sent | {"journal.jsonl": twice}), "Line 2 is not the event 2")
        for file, reason in (
            (with_head(events=9_999), "events of 9999"),
            (with_head(kasal_run=2), "kasal_run"),
            (with_head(created_at="yesterday"), "created_at"),
            (with_head(surprise=1), "surprise"),
            (with_spec(agents="all"), "What the run was asked is not valid"),
            (with_spec(tasks=[{**head["spec"]["tasks"][0], "output_file": "../../x"}]), "not valid"),
            (with_spec(cassette={"varies": ["("], "default_model": None}), "not valid"),
        ):
            await refused(runs, file, reason)
        # As it is, it is taken.
        assert (await take_in(runs, packed(good), "eve")).artifacts == 1

    live(work, tmp_path)


def test_a_bomb_is_refused_in_little_memory(tmp_path, sent, monkeypatch):
    monkeypatch.setattr(module, "MOST_LINE", 1_000_000)
    monkeypatch.setattr(module, "MAX_ZIP_BYTES", 2_000_000)
    zeros, line = b"\0" * 30_000_000, b'{"seq":1,"text":"' + b"a" * 30_000_000

    async def work(world):
        runs = world.runs()
        bombs = {
            "journal.jsonl": (line, "too large"),
            "artifacts/a": (zeros, "files have more"),
            "run.json": (zeros, "more than"),
        }
        for name, (data, reason) in bombs.items():
            file = packed(sent | {name: data})
            assert len(file.getvalue()) < 200_000
            tracemalloc.start()
            await refused(runs, file, reason)
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert most < 20_000_000
        # The folder's own place, where a text says it very often.
        many = b'{"seq":1,"job_id":"x","text":"' + b"{run folder}" * 80_000 + b'"}\n'
        await refused(runs, packed(sent | {"journal.jsonl": many}), "too large")

    live(work, tmp_path)


def test_every_event_of_an_archive_is_one(sent):
    assert all(is_event(orjson.loads(line)) for line in sent["journal.jsonl"].splitlines())
