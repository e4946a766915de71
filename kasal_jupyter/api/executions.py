"""``/executions``: the reference's *Execution Management*, and the files that a run has written."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from operator import attrgetter
from typing import Any
from urllib.parse import quote

import orjson

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.long_answer import PouredAnswer
from kasal_jupyter.api.operation import Media, operation
from kasal_jupyter.api.upload import UploadHandler
from kasal_jupyter.auth.gate import Caller
from kasal_jupyter.errors import Conflict, Fault, InvalidRequest, NotFound
from kasal_jupyter.executions import verbs
from kasal_jupyter.executions.acceptance import KeyedRequest
from kasal_jupyter.executions.archive import archive_of, take_in
from kasal_jupyter.executions.artifacts import list_artifacts, open_artifact, zip_artifacts
from kasal_jupyter.executions.cassettes import record_of
from kasal_jupyter.executions.lineage import asked_of
from kasal_jupyter.executions.traces import compared
from kasal_jupyter.places import FILES, LISTS
from kasal_jupyter.schemas.archive import ExecutionImported
from kasal_jupyter.schemas.base import parse_time, utc_now
from kasal_jupyter.schemas.difference import ExecutionDiff
from kasal_jupyter.schemas.executions import (
    ENDED,
    ArtifactList,
    ArtifactQuery,
    Execution,
    ExecutionAccepted,
    ExecutionBegun,
    ExecutionCreate,
    ExecutionFork,
    ExecutionForked,
    ExecutionList,
    ExecutionQuery,
    ExecutionRecorded,
    ExecutionResult,
    ExecutionResume,
    ExecutionStatus,
    ExecutionStopped,
    ForkPreview,
    PendingQuestion,
    QuestionList,
    QuestionQuery,
    Recorded,
    ToolAnswer,
    ToolAnswered,
)
from kasal_jupyter.schemas.spec import RunToolAnswer

KEY = "Idempotency-Key"

MOST_LISTED = 1_000
"""Characters of each result in a list."""

MOST_TOLD = 257_000
"""Characters of a result in a status: those that are stored of one, with the note that it goes on."""

_KEY_FORM = re.compile(r"[\x21-\x7e]{1,200}")


class ExecutionsHandler(ApiHandler):
    """``GET /executions`` and ``POST /executions``."""

    tag = "Execution Management"
    message = "Invalid execution"

    @operation("List executions", access="viewer", query=ExecutionQuery, answers={200: ExecutionList})
    async def get(self) -> None:
        """List executions, the newest first where no other order is asked for.

        `search` looks in the crews' names and in the results.
        """
        query = self.query(ExecutionQuery)
        page = await list_page(
            self.parts.store.executions,
            query,
            {
                **self.caller.scope,
                **query.model_dump(include={"crew_id", "status", "thumb", "batch", "schedule"}),
            },
            searched=("crew_name", "result"),
            least={"created_at": query.since},
            below={"created_at": query.until},
            newer=self.parts.runs.unstored(),
        )
        executions = await self.parts.runs.current(page.documents)
        places = [self.parts.runs.position(each.id) for each in executions]
        await self.answer_with(
            lambda: ExecutionList.of(
                query,
                [_status(each, place, MOST_LISTED) for each, place in zip(executions, places, strict=True)],
                page.total,
            ),
            size=LISTED * len(executions),
        )

    @operation(
        "Start crew execution",
        access="editor",
        body=ExecutionCreate,
        answers={202: ExecutionAccepted, 200: ExecutionRecorded},
        errors=(404, 409),
        headers={KEY: "A text of your choice: sent again with it, the same request starts no second run."},
    )
    async def post(self) -> None:
        """Start an execution: it was checked whole, and is on the disk, when this answers.

        `inputs` has a value for each placeholder in the crew's texts. With `once`, a run that was asked for
        the same answers, where there is one: then nothing is started, and the status is 200. With a
        `cassette`, what its record has answered is not asked again.
        """
        body = self.body(ExecutionCreate)
        self.crew(body.crew_id, field="crew_id")
        whole = await self.parts.crews.read(body.crew_id, self.caller.owner)
        given: Any = {"request": self._keyed(body), "tools": body.tools, "budget": body.budget}
        runs, owner, earlier = self.parts.runs, self.caller.owner, False
        if body.once:
            execution, earlier = await verbs.once(runs, whole, body.inputs, owner, **given)
        else:
            execution = await verbs.start(runs, whole, body.inputs, owner, **given, cassette=body.cassette)
        if earlier:
            self.answer(_recorded(execution, runs.position(execution.id)))
            return
        accepted = ExecutionAccepted(
            job_id=execution.id,
            estimated_duration=execution.estimated_duration,
            remarks=execution.remarks,
        )
        self.answer(accepted, 202)

    def _keyed(self, body: ExecutionCreate) -> KeyedRequest | None:
        key = self.request.headers.get(KEY)
        if key is None:
            return None
        if not _KEY_FORM.fullmatch(key):
            reason = "1 to 200 printable ASCII characters without blanks, a UUID for example"
            raise InvalidRequest("Invalid header", faults=[Fault(KEY, reason)])
        # A key that came before there were these fields still stands for the same.
        later = {"once": body.once, "cassette": body.cassette}
        said = body.model_dump(exclude={name for name, value in later.items() if not value})
        written = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
        return KeyedRequest(f"{self.caller.owner}/{key}", hashlib.sha256(written).hexdigest())


class ExecutionHandler(ApiHandler):
    """``GET`` and ``DELETE /executions/{job_id}``."""

    tag = "Execution Management"

    @operation("Get execution status", access="viewer", answers={200: ExecutionStatus}, errors=(404,))
    async def get(self, job_id: str) -> None:
        """Give an execution's state, with its result and its usage as far as they are there."""
        self.answer(_status(await execution_of(self, job_id), self.parts.runs.position(job_id)))

    @operation("Delete an execution", access="editor", answers={204: None}, errors=(404, 409))
    async def delete(self, job_id: str) -> None:
        """Delete an execution that has ended, with its trace and its files."""
        await execution_of(self, job_id)
        await self.parts.runs.delete(job_id)
        self.nothing()


class ResultHandler(PouredAnswer):
    """``GET /executions/{job_id}/result``."""

    tag = "Execution Management"

    @operation("Get execution result", access="viewer", answers={200: ExecutionResult}, errors=(404, 409))
    async def get(self, job_id: str) -> None:
        """Give what came of an execution that has ended, and what it used; 409 before."""
        execution = await execution_of(self, job_id)
        if execution.status not in ENDED:
            raise Conflict(f"Execution {job_id} is {execution.status}; its result comes when it has ended")
        if execution.result_file is None:
            self.answer(_result(execution, execution.result))
            return
        folder, name = self.parts.runs.files.workspace(job_id), execution.result_file
        try:
            whole = await FILES.do(lambda: open_artifact(folder, name), owner=execution.owner)
        except NotFound:
            # Somebody has deleted it: what is known of it says that it goes on.
            self.answer(_result(execution, execution.result))
            return
        self._headers["Content-Type"] = "application/json"
        with whole.file:
            await self.pour(_poured(execution, whole.chunks()))


class RecordHandler(PouredAnswer):
    """``GET /executions/{job_id}/record``."""

    tag = "Execution Management"

    @operation(
        "Get execution record",
        access="viewer",
        answers={200: Media("application/x-ndjson", "A recorded run of a cassette: one JSON object a line.")},
        errors=(404, 409),
    )
    async def get(self, job_id: str) -> None:
        """Give what an execution that has ended was asked and answered, as lines of a cassette.

        They have neither times nor keys, and are what a later start takes as its `cassette`'s `record`.
        """
        execution = await execution_of(self, job_id)
        runs = self.parts.runs
        asked, journal = asked_of(runs.store, execution), runs.files.journal(job_id)
        lines = await FILES.do(lambda: record_of(execution, asked, journal), owner=execution.owner)
        self._headers["Content-Type"] = "application/x-ndjson"
        await self.pour(lines)


class FileHandler(PouredAnswer):
    """What is answered with files."""

    tag = "Execution Management"

    async def send(self, chunks: Iterator[bytes], name: str, kind: Media, size: int | None = None) -> None:
        """Send a file to be saved, never to be shown: an agent may have written a page with scripts.

        Parameters
        ----------
        chunks
            Its content; read in threads, at the client's pace.
        name
            What it is saved as.
        kind
            What it is.
        size
            Its bytes, where that is known beforehand.
        """
        self._headers["Content-Type"] = kind.type
        self._headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        self._headers["X-Content-Type-Options"] = "nosniff"
        if size is not None:
            self._headers["Content-Length"] = str(size)
        await self.pour(chunks)


ARCHIVE = Media("application/zip", "A run as one archive: its events, its files, and what it was asked.")


class ArchiveHandler(FileHandler):
    """``GET /executions/{job_id}/archive``."""

    @operation("Export an execution", access="viewer", answers={200: ARCHIVE}, errors=(404, 409))
    async def get(self, job_id: str) -> None:
        """Give an execution that has ended as one archive: its events, its files, and what it was asked.

        It has no keys, and no addresses of tools. `POST /executions/import` takes it, on any server.
        """
        execution = await execution_of(self, job_id)
        runs = self.parts.runs
        pieces = await FILES.do(
            lambda: archive_of(runs.store, runs.files, execution), owner=self.caller.owner
        )
        await self.send(pieces, f"{job_id}.kasal.zip", ARCHIVE)


class ImportHandler(UploadHandler):
    """``POST /executions/import``."""

    tag = "Execution Management"

    @operation(
        "Import an execution",
        access="editor",
        upload=ARCHIVE,
        answers={201: ExecutionImported},
    )
    async def post(self) -> None:
        """Take an execution in that another server has exported: it can be read, replayed and compared here.

        It is yours, has a new id, and counts in no books. Its crew does not come along; what it was asked
        does, without keys, so that it can be resumed and forked with yours.
        """
        imported = await take_in(self.parts.runs, self.uploaded(), self.caller.owner)
        self.answer(imported, 201)


class StopHandler(ApiHandler):
    """``POST /executions/{job_id}/stop``."""

    tag = "Execution Management"

    @operation(
        "Stop execution",
        access="editor",
        answers={200: ExecutionStopped},
        errors=(404, 409),
        in_maintenance=True,
    )
    async def post(self, job_id: str) -> None:
        """Stop an execution; its processes are gone when this answers. 409 where it had ended otherwise."""
        await execution_of(self, job_id)
        execution = await self.parts.runs.stop(job_id)
        self.answer(ExecutionStopped(job_id=execution.id, status=execution.status))


class ReplayHandler(ApiHandler):
    """``POST /executions/{job_id}/replay``."""

    tag = "Execution Management"

    @operation("Replay execution", access="editor", answers={202: ExecutionBegun}, errors=(404, 409))
    async def post(self, job_id: str) -> None:
        """Run an execution that has ended once more from its record, as an execution of its own.

        It asks no model, calls no tool, costs nothing, tells nobody, and needs no key. Where what is asked
        is not in the record, it fails with `REPLAY_MISS`.
        """
        await execution_of(self, job_id)
        self.answer(_begun(await verbs.replay(self.parts.runs, job_id, self.caller.owner)), 202)


class ResumeHandler(ApiHandler):
    """``POST /executions/{job_id}/resume``."""

    tag = "Execution Management"
    message = "Invalid resumption"

    @operation(
        "Resume execution",
        access="editor",
        body=ExecutionResume,
        answers={202: ExecutionBegun},
        errors=(404, 409),
    )
    async def post(self, job_id: str) -> None:
        """Go on with an execution that failed, was stopped or was cut off, as an execution of its own.

        What its record has answered is not asked again; all else is asked live, of the crew as it was. 409
        where it has completed or goes on, or where three attempts have failed at the same call.
        """
        body = self.body(ExecutionResume)
        await execution_of(self, job_id)
        execution = await verbs.resume(
            self.parts.runs, job_id, self.caller.owner, body, sees=self.caller.sees
        )
        self.answer(_begun(execution), 202)


class ForkHandler(ApiHandler):
    """``POST /executions/{job_id}/fork``."""

    tag = "Execution Management"
    message = "Invalid fork"

    @operation(
        "Fork execution",
        access="editor",
        body=ExecutionFork,
        answers={202: ExecutionForked, 200: ForkPreview},
        errors=(404, 409),
    )
    async def post(self, job_id: str) -> None:
        """Leave an execution that has ended at a step, and go another way from there, as one of its own.

        What comes before the step is given from its record, and what is changed of it here is what the new
        one sees there; models and humans are asked anew from there on. With `dry_run` nothing is started:
        the answer says what would be, and has the texts that can be changed; its status is 200.
        """
        body = self.body(ExecutionFork)
        await execution_of(self, job_id)
        runs, owner, sees = self.parts.runs, self.caller.owner, self.caller.sees
        if body.dry_run:
            self.answer(await verbs.preview_fork(runs, job_id, owner, body, sees=sees))
            return
        execution, estimate = await verbs.fork(runs, job_id, owner, body, sees=sees)
        begun = _begun(execution).model_dump()
        self.answer(ExecutionForked(**begun, at=execution.at or 0, estimate=estimate), 202)


class DiffHandler(ApiHandler):
    """``GET /executions/{job_id}/diff/{other_id}``."""

    tag = "Execution Management"

    @operation("Compare two executions", access="viewer", answers={200: ExecutionDiff}, errors=(404,))
    async def get(self, job_id: str, other_id: str) -> None:
        """Say in what two executions differ: the first call in which they part, its texts side by side.

        Calls are laid side by side by their task and their agent, of crews that differ as well as can be.
        One that goes on is compared as far as it has come.
        """
        journals = []
        for each in (job_id, other_id):
            await execution_of(self, each)
            journals.append((await self.parts.runs.feed(each)).journal)
        self.answer(await LISTS.do(lambda: compared(*journals), owner=self.caller.owner))


class ToolCallHandler(ApiHandler):
    """``POST /executions/{job_id}/tool_calls/{call_id}``."""

    tag = "Execution Management"
    message = "Invalid answer"

    @operation(
        "Answer a tool call",
        access="editor",
        body=ToolAnswer,
        answers={200: ToolAnswered},
        errors=(404, 409),
        in_maintenance=True,
    )
    async def post(self, job_id: str, call_id: str) -> None:
        """Answer a `tool_request` of an execution that was started with tools of yours, or a question.

        Either `result`, or `error`: the agent is told what went wrong, and may go on. A question is answered
        by its execution's owner, by admins, and by those whom the crew's `people` name; the first answer
        counts, and 409 is told to whoever comes later.
        """
        body = self.body(ToolAnswer)
        execution = self.parts.store.executions.get(job_id)
        if execution is None or not _may_answer(self.caller, execution):
            raise NotFound(f"There is no execution {job_id}")
        answer = RunToolAnswer(call_id=call_id, **body.model_dump(exclude_unset=True))
        asked_only = not self.caller.sees(execution)
        await self.parts.runs.answer(job_id, answer, self.caller.author, asked_only=asked_only)
        self.answer(ToolAnswered(call_id=call_id))


class QuestionsHandler(ApiHandler):
    """``GET /questions``."""

    tag = "Execution Management"

    @operation("List open questions", access="viewer", query=QuestionQuery, answers={200: QuestionList})
    async def get(self) -> None:
        """List what executions ask that the caller may answer, the oldest first."""
        query = self.query(QuestionQuery)
        found = [
            PendingQuestion(**question.model_dump(), job_id=each.id, crew_name=each.crew_name)
            for each in await self.parts.runs.asking()
            if _may_answer(self.caller, each)
            for question in each.questions
        ]
        if query.search is not None:
            found = [each for each in found if query.search.casefold() in each.question.casefold()]
        found.sort(key=lambda question: question.asked_at, reverse=query.sort.startswith("-"))
        self.answer(QuestionList.of(query, query.part(found), len(found)))


def _may_answer(caller: Caller, execution: Execution) -> bool:
    return caller.sees(execution) or (caller.user_id is not None and caller.name in execution.may_answer)


async def execution_of(handler: ApiHandler, job_id: str) -> Execution:
    """Give an execution as it stands now, if the caller may see it.

    Raises
    ------
    NotFound
        There is none for this caller.
    """
    stored = handler.own(handler.parts.store.executions.get(job_id), f"execution {job_id}")
    (execution,) = await handler.parts.runs.current([stored])
    return execution


def _status(execution: Execution, position: int | None, most: int = MOST_TOLD) -> ExecutionStatus:
    """Give how an execution stands, with so many characters of its result."""
    fields = execution.model_dump(include=set(ExecutionStatus.model_fields))
    texts = {name: fields[name] for name in ("result", "partial_result")}
    cut = {name: text[:most] for name, text in texts.items() if text and len(text) > most}
    told = {
        **cut,
        "job_id": execution.id,
        "queue_position": position,
        "result_truncated": bool(cut) or execution.result_file is not None,
    }
    return ExecutionStatus.model_validate({**fields, **told})


def _begun(execution: Execution) -> ExecutionBegun:
    return ExecutionBegun(
        job_id=execution.id,
        estimated_duration=execution.estimated_duration,
        remarks=execution.remarks,
        verb=execution.verb,
        parent=execution.parent or "",
        attempt=execution.attempt,
    )


def _recorded(execution: Execution, position: int | None) -> ExecutionRecorded:
    """Give a run that answers for another, and how old it is."""
    ended = execution.ended_at
    age = (parse_time(utc_now()) - parse_time(ended)).total_seconds() if ended is not None else 0.0
    recorded = Recorded(
        {"from": execution.id, "age_seconds": max(0, round(age)), "saved": execution.usage.cost}
    )
    return ExecutionRecorded(**_status(execution, position).model_dump(), recorded=recorded)


def _result(execution: Execution, result: str | None) -> ExecutionResult:
    return ExecutionResult(
        job_id=execution.id,
        status=execution.status,
        result=result,
        partial_result=execution.partial_result,
        error=execution.error,
        usage=execution.usage,
        usage_by=execution.usage_by,
        duration=execution.duration,
        calls=execution.calls,
    )


def _poured(execution: Execution, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Give the answer with a result of megabytes, as JSON in pieces."""
    before, after = _result(execution, "").model_dump_json().encode().split(b'"result":""', 1)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    yield before + b'"result":"'
    for data in chunks:
        if text := decoder.decode(data):
            yield orjson.dumps(text)[1:-1]
    yield orjson.dumps(decoder.decode(b"", final=True))[1:-1] + b'"' + after


# ``/executions/{job_id}/artifacts``: the files that a run has written.

ZIP = Media("application/zip", "All files in one archive.")

CONTENT = Media("application/octet-stream", "The file.")


class ArtifactsHandler(FileHandler):
    """``GET /executions/{job_id}/artifacts``."""

    @operation(
        "List artifacts",
        access="viewer",
        query=ArtifactQuery,
        answers={200: (ArtifactList, ZIP)},
        errors=(404, 409),
    )
    async def get(self, job_id: str) -> None:
        """List the files that an execution has written in its folder, also while it goes on.

        With `format=zip`, or `Accept: application/zip`, they come in one archive. Links are left out.
        """
        query = self.query(ArtifactQuery)
        await execution_of(self, job_id)
        folder = self.parts.runs.files.workspace(job_id)
        if query.format == "zip" or (
            query.format is None and "application/zip" in self.request.headers.get("Accept", "")
        ):
            packed = await FILES.do(lambda: zip_artifacts(folder), owner=self.caller.owner)
            await self.send(packed, f"{job_id}.zip", ZIP)
            return
        found = await FILES.do(lambda: list_artifacts(folder), owner=self.caller.owner)
        if query.search is not None:
            text = query.search.casefold()
            found = [info for info in found if text in info.name.casefold()]
        found.sort(key=attrgetter(query.sort.removeprefix("-")), reverse=query.sort.startswith("-"))
        self.answer(ArtifactList.of(query, query.part(found), len(found)))


class ArtifactHandler(FileHandler):
    """``GET /executions/{job_id}/artifacts/{path}``."""

    @operation("Download an artifact", access="viewer", answers={200: CONTENT}, errors=(404,))
    async def get(self, job_id: str, path: str) -> None:
        """Give a file that an execution has written, to be saved.

        The slashes of its name may be written as they are or as `%2F`.
        """
        await execution_of(self, job_id)
        folder = self.parts.runs.files.workspace(job_id)
        artifact = await FILES.do(lambda: open_artifact(folder, path), owner=self.caller.owner)
        with artifact.file:
            name = artifact.info.name.rpartition("/")[2]
            await self.send(artifact.chunks(), name, CONTENT, artifact.info.size)
