"""A run as one archive, and back: its events, its files, and what it was asked, without any key.

An archive is anybody's. It is read in a thread, within bounds on everything that it has and says; whatever of
it is not as a run would have written it refuses the whole, and nothing of it stays. What is taken in is its
importer's: under a new id, with no crew, no keys, no hosts and no folders but theirs; the state is folded
from the events, as any run's. It is in no books here, answers for no other run, and tells nobody.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, BinaryIO, cast

import orjson
from pydantic import ValidationError

from kasal_jupyter.errors import Conflict, Fault, InvalidRequest, StoreError
from kasal_jupyter.events.event import is_event
from kasal_jupyter.events.prompts import MOST_MESSAGES
from kasal_jupyter.events.summary import RunSummary
from kasal_jupyter.executions.artifacts import (
    INTERNAL,
    MAX_DEPTH,
    MAX_FILES,
    MAX_ZIP_BYTES,
    artifact_pieces,
    is_plain,
    list_artifacts,
    zipped,
)
from kasal_jupyter.executions.files import RunFiles
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.executions.lineage import asked_of, request_of
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.formats.outline import whole_body
from kasal_jupyter.places import FILES
from kasal_jupyter.schemas.archive import ARTIFACTS, HEAD, JOURNAL, ArchivedRun, ExecutionImported
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.cassettes import FOLDER, Cassette
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.executions import ENDED, Execution
from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.schemas.spec import RunMemory, RunRequest, RunSearch, RunSpec
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.schemas.tools import RunTool
from kasal_jupyter.store.store import Store
from kasal_jupyter.version import __version__
from kasal_jupyter.wellformed import has_more_values

MESSAGE = "This is no archive of a run"

NOWHERE = "https://archive.invalid/"
"""The address of a tool whose own stays where it is."""

MOST_HEAD = 8_000_000
"""Bytes of what a run was asked."""

MOST_LINE = 32_000_000
"""Bytes of one event: four million characters, each written as long as JSON can."""

MOST_VALUES = 200_000
"""Values of one event, and of what a run was asked."""

MOST_PROMPT = 16_000_000
"""Characters of one prompt, as it is where earlier ones are named."""

MOST_NAMED = 5_000_000
"""Messages that all prompts have together."""

MOST_DIRECTORY = 8_000_000
"""Bytes of the list of an archive's files, which is read whole."""

_FOLDER = orjson.dumps(FOLDER)[1:-1]

_END = 22
"""Bytes of the record at a zip file's end, where it has no comment."""
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1


# -- export --------------------------------------------------------------------------------------------------


def archive_of(store: Store, files: RunFiles, execution: Execution) -> Iterator[bytes]:
    """Give a run that has ended as an archive, piece by piece; it reads the journal, and takes its time.

    Raises
    ------
    Conflict
        It goes on, or its files are too large.
    NotFound
        Its journal is gone.
    """
    if execution.status not in ENDED:
        raise Conflict(f"{execution.id} is {execution.status}; it can be exported when it has ended")
    folder = files.workspace(execution.id)
    infos = list_artifacts(folder)
    if sum(info.size for info in infos) > MAX_ZIP_BYTES:
        raise Conflict(
            f"The files have more than {MAX_ZIP_BYTES >> 20} MiB; delete some, or get them one by one"
        )
    journal = Journal.open(files.journal(execution.id))
    here = orjson.dumps(str(folder.absolute()))[1:-1]
    head = orjson.dumps(_head_of(store, execution, journal.seq).model_dump(mode="json"))
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def lines() -> Iterator[bytes]:
        after = 0
        while page := journal.read(after):
            after += len(page)
            yield b"".join(line.replace(here, _FOLDER) + b"\n" for line in page)

    def entries() -> Iterator[tuple[str, str, Iterator[bytes]]]:
        yield HEAD, now, iter([head.replace(here, _FOLDER)])
        yield JOURNAL, now, lines()
        for info in infos:
            yield f"{ARTIFACTS}{info.name}", info.modified, artifact_pieces(folder, info.name)

    return zipped(entries())


def _head_of(store: Store, execution: Execution, events: int) -> ArchivedRun:
    try:
        spec: dict[str, Any] | None = asked_of(store, execution).spec
    except Conflict:
        spec = None
    return ArchivedRun(
        product=__version__,
        job_id=execution.id,
        crew_id=execution.crew_id,
        crew_name=execution.crew_name,
        crew_version=execution.crew_version,
        created_at=execution.created_at,
        inputs=execution.inputs,
        budget=execution.budget,
        models=execution.models,
        spec=spec and _without_addresses(spec),
        events=events,
    )


def _without_addresses(spec: dict[str, Any]) -> dict[str, Any]:
    """Leave out where an owner's tools are called: an address may be a secret."""
    memory = spec.get("memory") and _REMINDED.model_dump(mode="json")
    tools = [_told_tool(tool) for tool in spec.get("tools", ())]
    return {**spec, "tools": tools, "allowed_hosts": [], "memory": memory}


def _told_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: tool.get(name) for name in ("name", "description", "parameters", "idempotent")}
    return {**told, "endpoint": NOWHERE}


# -- import --------------------------------------------------------------------------------------------------


async def take_in(runs: Runs, file: BinaryIO, owner: str) -> ExecutionImported:
    """Take a run in that an archive has.

    Parameters
    ----------
    runs
        Where it is kept.
    file
        The archive; it can seek.
    owner
        Whose it is from now on.

    Raises
    ------
    InvalidRequest
        It is no archive of a run, or not one that is taken; nothing of it was stored.
    StoreError
        It cannot be written; nothing of it was stored.
    """
    job_id = new_id("job")
    with runs.coming(job_id), ExitStack() as undo:
        undo.callback(runs.forget_files, job_id)
        taking = _Taking(runs, file, owner, job_id)
        try:
            execution, request = await FILES.do(taking.take, owner=owner)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
            raise _refused("archive", f"It cannot be unpacked: {error}") from None
        except OSError as error:
            raise StoreError(f"The archive cannot be stored: {error.strerror or error}") from error

        def insert() -> None:
            runs.store.executions.insert(execution)
            if request is not None:
                runs.store.run_requests.insert(request)

        await runs.store.change(insert)
        undo.pop_all()
    return ExecutionImported(
        job_id=job_id,
        was=taking.head.job_id,
        status=execution.status,
        crew_id=execution.crew_id,
        crew_name=execution.crew_name,
        events=taking.head.events,
        artifacts=taking.artifacts,
    )


class _Taking:
    """An archive that is being read into a run's files."""

    head: ArchivedRun

    def __init__(self, runs: Runs, file: BinaryIO, owner: str, job_id: str) -> None:
        self._runs = runs
        self._file = file
        self._owner = owner
        self._job_id = job_id
        self._folder = runs.files.workspace(job_id).absolute()
        self._path = orjson.dumps(str(self._folder))[1:-1]
        self.artifacts = 0

    def take(self) -> tuple[Execution, RunRequest | None]:
        """Write the files, and give what the store is to have; it takes its time."""
        _require_small_directory(self._file)
        with zipfile.ZipFile(self._file) as archive:
            named = _entries(archive)
            self.head = _head(self._here(_read(archive, named[HEAD], MOST_HEAD)))
            crew_id = self._crew_id()
            request = self._request(crew_id)
            self._folder.mkdir(mode=0o700)
            summary = self._take_journal(archive, named[JOURNAL])
            self._take_artifacts(archive, named)
        return self._execution(summary, crew_id), request

    def _here(self, data: bytes) -> bytes:
        return data.replace(_FOLDER, self._path)

    def _crew_id(self) -> str:
        """Give whose run it is: of the importer's own crew, or of one that is not there."""
        crew = self._runs.store.crews.readable(self.head.crew_id)
        return crew.id if crew is not None and crew.owner == self._owner else new_id("crew")

    def _take_journal(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> RunSummary:
        summary, bounds = RunSummary(), _Bounds()
        most = self._runs.limits.journal_bytes + MOST_LINE
        size = seq = 0
        journal = Journal.create(self._runs.files.journal(self._job_id))
        try:
            with archive.open(entry) as lines:
                while line := lines.readline(MOST_LINE + 1):
                    seq += 1
                    size += len(line)
                    if len(line) + line.count(_FOLDER) * len(self._path) > MOST_LINE or size > most:
                        raise _refused(JOURNAL, f"It is too large, or line {seq} is")
                    event = _event(self._here(line), seq)
                    bounds.take(event, seq)
                    _fold(summary, event, seq)
                    own = {name: value for name, value in event.items() if name not in {"seq", "job_id"}}
                    journal.append([orjson.dumps(own)])
            summary.seq = seq
            if seq != self.head.events or not summary.ended:
                raise _refused(
                    JOURNAL, f"It has {seq} events of {self.head.events}, or the run has not ended"
                )
            journal.sync()
        finally:
            journal.close()
        return summary

    def _take_artifacts(self, archive: zipfile.ZipFile, named: Mapping[str, zipfile.ZipInfo]) -> None:
        left = MAX_ZIP_BYTES
        for name, entry in named.items():
            if not name.startswith(ARTIFACTS):
                continue
            self.artifacts += 1
            path = self._folder.joinpath(*name.removeprefix(ARTIFACTS).split("/"))
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Nothing is there already, and no link: the folder is new, and each name is once.
                with archive.open(entry) as source, path.open("xb") as out:
                    left -= _copied(source, out, min(left, entry.file_size), name)
            except (FileExistsError, NotADirectoryError):
                raise _refused(name, "Another file has this name, or that of one of its folders") from None

    def _request(self, crew_id: str) -> RunRequest | None:
        """Give what the run was asked, as its importer's: nobody else's rights come along."""
        if self.head.spec is None:
            return None
        said = {**self.head.spec, "inputs": self.head.inputs, "job_id": self._job_id, "folder": ""}
        of_one = dict.fromkeys(("source", "own"))
        try:
            spec = RunSpec.model_validate({**said, **of_one, "allowed_hosts": [], "memory": None})
            if spec.cassette is not None:
                Cassette(varies=spec.cassette.varies)
            reminded = self.head.spec.get("memory") is not None
            mine = {"owner": self._owner, "crew_id": crew_id}
            spec = spec.model_copy(
                update={
                    "crew": spec.crew.model_copy(
                        update={"owner": self._owner, "id": crew_id, "webhook": None}
                    ),
                    "agents": [agent.model_copy(update=mine) for agent in spec.agents],
                    "tasks": [task.model_copy(update=mine) for task in spec.tasks],
                    "models": {name: model.entrusted_to_nobody() for name, model in spec.models.items()},
                    "tools": [RunTool.model_validate(_told_tool(tool.model_dump())) for tool in spec.tools],
                    "mcp_servers": [
                        RunMcpServer(
                            name=each.name, transport=each.transport, timeout=each.timeout, tools=each.tools
                        )
                        for each in spec.mcp_servers
                    ],
                    "tool_settings": spec.tool_settings.model_copy(
                        update={"folders": [], "search": RunSearch()}
                    ),
                    "memory": _REMINDED if reminded else None,
                }
            )
            tasks = [Task.model_validate(task.model_dump()) for task in spec.tasks]
            # The rules for crews: what the store has been given by no crew's resource has met none.
            whole_body(WholeCrew(crew=spec.crew, agents=spec.agents, tasks=tasks))
        except ValidationError as error:
            raise _refused(HEAD, f"What the run was asked is not valid: {_first(error)}") from None
        return request_of(spec, self._owner, webhook=None)

    def _execution(self, summary: RunSummary, crew_id: str) -> Execution:
        head, now = self.head, utc_now()
        try:
            return Execution.model_validate(
                {
                    "id": self._job_id,
                    "crew_id": crew_id,
                    "crew_name": head.crew_name,
                    "crew_version": head.crew_version if crew_id == head.crew_id else None,
                    "owner": self._owner,
                    "server": self._runs.presence.server_id,
                    "inputs": head.inputs,
                    "created_at": head.created_at,
                    "budget": head.budget,
                    "models": head.models,
                    **summary.fields(),
                    # Where it ran, it is in the books.
                    "booked": head.created_at[:10],
                    "imported_at": now,
                }
            )
        except ValidationError as error:
            raise _refused(JOURNAL, f"Its events make no execution: {_first(error)}") from None


@dataclass(slots=True)
class _Bounds:
    """How long prompts are where earlier ones are named: a few lines can name more than a memory holds."""

    _calls: dict[int, tuple[array[int], array[int]]] = field(default_factory=dict)
    _named: int = 0

    def take(self, event: Mapping[str, Any], seq: int) -> None:
        """See to it that an event's prompt is not too long.

        Raises
        ------
        InvalidRequest
            It is, or it names what is not there.
        """
        try:
            if event["type"] == "llm_call":
                self._take_call(event)
            elif event["type"] == "agent_start" and "quotes" in event:
                self._text(event, "prompt", event["span_id"])
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            raise _refused(JOURNAL, f"The prompt of event {seq} cannot be put together: {error}") from None

    def _take_call(self, event: Mapping[str, Any]) -> None:
        span = event["span_id"]
        if type(span) is not int or span in self._calls:
            raise ValueError("its span is no number, or that of another")
        # Sums from the first on, of what is written there and of the whole.
        own = array("Q", [0])
        for message in event["messages"]:
            own.append(own[-1] + self._text(message, "content", span))
        whole = own if "whole" not in event else array("Q", [0])
        for of, first, count in event.get("whole", ()):
            sums = own if of == span else self._calls[of][1]
            if min(first, count) < 0 or first + count >= len(sums) or len(whole) + count > MOST_MESSAGES:
                raise ValueError("it names what is not there, or too much")
            whole.extend(whole[-1] + sums[first + at] - sums[first] for at in range(1, count + 1))
        self._named += len(whole)
        if whole[-1] > MOST_PROMPT or self._named > MOST_NAMED:
            raise ValueError("it is too long")
        self._calls[span] = own, whole

    def _text(self, said: Any, name: str, span: int) -> int:
        """Give how many characters a text has; of what is no text, what it takes about."""
        text = said.get(name) if isinstance(said, dict) else said
        if not isinstance(said, dict) or "quotes" not in said:
            return len(text) if isinstance(text, str) else 1_000
        at, of, index, first, count = said["quotes"]
        sums = self._calls[of][0]
        if (
            not isinstance(text, str)
            or of >= span
            or min(at, index, first, count) < 0
            or first + count > sums[index + 1] - sums[index]
        ):
            raise ValueError("it quotes what is not there")
        return len(text) + int(count)


_REMINDED = RunMemory(file="", remember=False)
"""What a run has that was reminded: what of is in its record."""


def _event(line: bytes, seq: int) -> dict[str, Any]:
    """Read an event of a foreign journal."""
    try:
        event = None if has_more_values(line, MOST_VALUES) else orjson.loads(line)
    except orjson.JSONDecodeError:
        event = None
    if not is_event(event) or event.get("seq") != seq or not line.endswith(b"\n"):
        raise _refused(JOURNAL, f"Line {seq} is not the event {seq} of a run")
    return cast("dict[str, Any]", event)


def _fold(summary: RunSummary, event: Any, seq: int) -> None:
    try:
        summary.feed(event)
    except Exception as error:  # noqa: BLE001 - its fields are there, and hold what nobody has foreseen
        raise _refused(JOURNAL, f"Event {seq} cannot be read: {type(error).__name__}") from None


def _head(data: bytes) -> ArchivedRun:
    if has_more_values(data, MOST_VALUES):
        raise _refused(HEAD, "It has too many values")
    try:
        return ArchivedRun.model_validate(orjson.loads(data), strict=True)
    except orjson.JSONDecodeError as error:
        raise _refused(HEAD, f"It is no JSON: {error}") from None
    except ValidationError as error:
        raise _refused(HEAD, _first(error)) from None


def _require_small_directory(file: BinaryIO) -> None:
    """Look at the archive's end, before it is believed: the list of its files is read whole into memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END - 20))
    tail = file.read()
    end = tail[-_END:]
    if len(end) < _END or end[:4] != b"PK\x05\x06" or tail[:4] == b"PK\x06\x07":
        raise _refused("archive", "It is no zip file, or none that was written as an export is")
    count, directory = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    if count > MAX_FILES + 2 or directory > min(MOST_DIRECTORY, size):
        raise _refused("archive", f"It has more than {MAX_FILES:,} files")


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Give the archive's files by name, each of which is one that a run's archive has."""
    named: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename
        parts = name.removeprefix(ARTIFACTS).split("/") if name.startswith(ARTIFACTS) else []
        known = name in {HEAD, JOURNAL} or (
            0 < len(parts) <= MAX_DEPTH + 1
            and all(is_plain(part) and len(os.fsencode(part)) <= 255 for part in parts)
            and parts[0].casefold() not in INTERNAL
        )
        if not known or name in named or name != entry.orig_filename:
            raise _refused(
                repr(name[:200]), "No archive of a run has a file of this name, or it has it twice"
            )
        if entry.compress_type not in _METHODS or entry.flag_bits & _ENCRYPTED:
            raise _refused(repr(name[:200]), "It is encrypted, or packed in another way than an export's are")
        named[name] = entry
    for name in (HEAD, JOURNAL):
        if name not in named:
            raise _refused(name, "It is not there")
    return named


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    with archive.open(entry) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _refused(entry.filename, f"It has more than {most:,} bytes")
    return data


def _copied(source: IO[bytes], out: IO[bytes], most: int, name: str) -> int:
    """Copy a file; give its size. What it says of its own size is not believed."""
    size = 0
    while data := source.read(1 << 18):
        size += len(data)
        if size > most:
            raise _refused(name, f"The files have more than {MAX_ZIP_BYTES >> 20} MiB")
        out.write(data)
    return size


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))[:200]}: {first['msg'][:200]}"


def _refused(where: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{MESSAGE}: {where}: {reason}", faults=[Fault(where, reason)])
