"""How long executions are kept: compressed first, then deleted, by age, number and size; the books stay.

What is deleted is deleted as a user would do it, so that whoever follows, resumes or asks for it is told. A
run that others hang on stays: one that goes on takes answers from it, or one that ended before its time
would, if somebody went on with it. Of several servers on a folder one is at it at a time.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from kasal_jupyter.errors import Conflict, KasalError, NotFound
from kasal_jupyter.events.packed import packed_path
from kasal_jupyter.executions.files import RUN_LOGS, RunFiles, Sizes
from kasal_jupyter.executions.journal import compress
from kasal_jupyter.executions.lineage import Standing
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.schemas.retention import (
    PruneAction,
    PruneReport,
    PruneRequest,
    PruneRule,
    PruneStep,
    RetentionRules,
)
from kasal_jupyter.store.store import Store
from kasal_jupyter.whole_file import whole_file

FIRST_SECONDS = 60.0
"""How long after its start a server looks for the first time; then it serves, and its runs run."""

EVERY_SECONDS = 3_600.0

SMALL = 4_096
"""Bytes of a file that is not compressed: it would take as much of the disk."""

AT_ONCE = 16
"""Deletions under way at once: the disk takes their changes together."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept(Standing):
    """What is looked at of an execution to say whether it is kept."""

    batch: str | None
    ended: str
    """When, or when it was imported; of one that goes on, when it was accepted."""
    result_file: str | None


@dataclass(frozen=True, slots=True)
class Doomed:
    """What is to be done with an execution's files, and why."""

    job_id: str
    action: PruneAction
    rule: PruneRule
    bytes: int
    spared: str | None = None
    """The file that has its result."""


@dataclass(slots=True)
class Plan:
    """What is to be done, in order, and what would be left."""

    doomed: list[Doomed] = field(default_factory=list)
    held: int = 0
    executions: int = 0
    bytes: int = 0


class Retention:
    """Keeps to the rules, beside the loop.

    Parameters
    ----------
    runs
        The executions.
    rules
        How long what is kept.
    """

    def __init__(self, runs: Runs, rules: RetentionRules) -> None:
        self.rules = rules
        self._runs = runs
        self._task: asyncio.Task[None] | None = None
        # Not of the runs alone: what is locked stays locked where their folder is looked through.
        self._lock = runs.folder.parent / "retention.lock"

    def begin(self) -> None:
        """Look now and then, as long as the server lives."""
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Look no more; what is half done is done by the next."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def prune(self, asked: PruneRequest | None = None) -> PruneReport:
        """Take away what the rules say.

        Parameters
        ----------
        asked
            Other rules, for this once, and whether to tell only what would be done.

        Raises
        ------
        Conflict
            It is being done, by this server or another.
        """
        asked = asked or PruneRequest()
        rules = self.rules.model_copy(update=asked.model_dump(exclude_unset=True, exclude={"dry_run"}))
        if asked.dry_run:
            plan = await self._plan(rules)
            return _report(rules, plan, plan.doomed, dry_run=True)
        with self._alone():
            plan = await self._plan(rules)
            done = [each for each in await self._carry_out(plan.doomed) if each is not None]
            # What could not be done now is there still, and so is what has come meanwhile.
            left = await self._plan(rules)
        return _report(rules, left, done, dry_run=False)

    async def _watch(self) -> None:
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            try:
                report = await self.prune()
                for step in report.steps:
                    log.info(
                        "%s: %d executions by %s, %d bytes",
                        step.action,
                        step.executions,
                        step.rule,
                        step.bytes,
                    )
            except Conflict:
                # Another is at it.
                pass
            except Exception:
                # A border: the next look may find a disk that works.
                log.exception("what is kept no longer could not be taken away")
            await asyncio.sleep(EVERY_SECONDS)

    async def _plan(self, rules: RetentionRules) -> Plan:
        return await asyncio.to_thread(plan_of, self._runs.store, self._runs.files, rules, datetime.now(UTC))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = FileLock(self._lock, mode=0o600)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise Conflict(
                "The executions are being pruned at this moment; try again when that is over"
            ) from None
        try:
            # Whoever had it before may have been killed.
            for path in self._runs.folder.glob(".job_*.gz-*.part"):
                path.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    async def _carry_out(self, doomed: Iterable[Doomed]) -> list[Doomed | None]:
        places = asyncio.Semaphore(AT_ONCE)
        packing = asyncio.Semaphore(1)

        async def one(each: Doomed) -> Doomed | None:
            async with packing if each.action == "compress" else places:
                try:
                    return await self._do(each)
                except (KasalError, OSError) as error:
                    log.warning("%s of %s is put off: %s", each.action, each.job_id, error)
            return None

        done: list[Doomed | None] = []
        rest = list(doomed)
        for start in range(0, len(rest), 500):
            done += await asyncio.gather(*map(one, rest[start : start + 500]))
        return done

    async def _do(self, each: Doomed) -> Doomed | None:
        runs, folder = self._runs, self._runs.files.workspace(each.job_id)
        if runs.followed(each.job_id):
            return None
        if each.action == "delete":
            try:
                await runs.delete(each.job_id, unasked=True)
            except (Conflict, NotFound):
                # It is wanted since, or gone.
                return None
        elif each.action == "compress":
            await self._compress(each.job_id)
        else:
            spared = {*RUN_LOGS, each.spared} if each.action == "delete_files" else None
            await asyncio.to_thread(_empty, folder, spared)
        return each

    async def _compress(self, job_id: str) -> None:
        files, store = self._runs.files, self._runs.store
        path = files.journal(job_id)
        with suppress(FileNotFoundError):
            if path.stat().st_size >= SMALL:
                await asyncio.to_thread(compress, path)

        def exchange() -> None:
            # Within a change: nobody deletes it meanwhile, and leaves what was compressed.
            if not store.executions.has(job_id):
                packed_path(path).unlink(missing_ok=True)
            elif packed_path(path).exists():
                path.unlink(missing_ok=True)

        await store.change(exchange)
        await asyncio.to_thread(_compress_log, files.workspace(job_id))


def plan_of(store: Store, files: RunFiles, rules: RetentionRules, now: datetime) -> Plan:
    """Say what the rules take away. It looks at every execution and every file, and takes its time."""
    known, _ = store.executions.bodies(_kept, limit=None)
    sizes = files.sizes()
    held = _held(known) | set(store.deliveries.ids(done=False))
    # What a batch has begun, it may retry, go on with, or share out.
    going = {each for state in ("running", "paused") for each in store.batches.ids(status=state)}
    held |= {each.id for each in known if each.batch in going}
    ended = sorted((each for each in known if each.status in ENDED), key=lambda each: (each.ended, each.id))
    plan = Plan(executions=len(known), bytes=sum(each.whole for each in sizes.values()))
    staying: list[Kept] = []
    for each in ended:
        size = sizes.get(each.id, Sizes())
        rule = _rule_against(each, rules, plan, now)
        if rule is None:
            staying.append(each)
        elif each.id in held or each.booked is None:
            plan.held += 1
        else:
            plan.doomed.append(Doomed(each.id, "delete", rule, size.whole))
            plan.executions -= 1
            plan.bytes -= size.whole
    for each in staying:
        if each.id not in held and each.booked is not None:
            _thin_out(plan, each, sizes.get(each.id, Sizes()), rules, now)
    return plan


def _rule_against(each: Kept, rules: RetentionRules, plan: Plan, now: datetime) -> PruneRule | None:
    """Say which rule deletes an execution, of those that are left the first to have ended."""
    if _older(each, rules.execution_days, now):
        return "age"
    if rules.executions and plan.executions > rules.executions:
        return "number"
    return "size" if rules.bytes and plan.bytes > rules.bytes else None


def _thin_out(plan: Plan, each: Kept, size: Sizes, rules: RetentionRules, now: datetime) -> None:
    """Say what goes of an execution that stays."""
    if size.files and _older(each, rules.artifact_days, now):
        plan.doomed.append(Doomed(each.id, "delete_files", "age", size.files, each.result_file))
        plan.bytes -= size.files
    log_goes = size.logs and _older(each, rules.log_days, now)
    if log_goes:
        plan.doomed.append(Doomed(each.id, "delete_log", "age", size.logs))
        plan.bytes -= size.logs
    plain = sum(part for part in (size.journal, 0 if log_goes else size.plain_log) if part >= SMALL)
    if plain and _older(each, rules.compress_days, now):
        plan.doomed.append(Doomed(each.id, "compress", "age", plain))


def _older(each: Kept, days: float, now: datetime) -> bool:
    return bool(days) and each.ended < (now - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _kept(body: bytes) -> Kept:
    said = orjson.loads(body)
    return Kept(
        id=said["id"],
        status=said["status"],
        verb=said.get("verb", "run"),
        parent=said.get("parent"),
        resumed_by=said.get("resumed_by"),
        to_resume=said.get("to_resume", False),
        booked=said.get("booked"),
        batch=said.get("batch"),
        ended=said.get("imported_at") or said.get("ended_at") or said["created_at"],
        result_file=said.get("result_file"),
    )


def _held(known: Sequence[Kept]) -> set[str]:
    """Give the executions that others hang on."""
    by_id: Mapping[str, Kept] = {each.id: each for each in known}
    held = {each.id for each in known if each.to_resume}
    for each in known:
        parent = each.parent if each.may_take else None
        while parent is not None and parent in by_id and parent not in held:
            held.add(parent)
            parent = by_id[parent].parent
    return held


def _empty(folder: Path, spared: set[str | None] | None) -> None:
    """Delete what is in a run's folder: all but what is spared, or the log alone. No link is followed."""
    with suppress(FileNotFoundError):
        for each in folder.iterdir():
            if (each.name not in RUN_LOGS) if spared is None else (each.name in spared):
                continue
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink(missing_ok=True)


def _compress_log(folder: Path) -> None:
    plain, packed = (folder / name for name in RUN_LOGS)
    with suppress(FileNotFoundError):
        if plain.is_symlink() or plain.stat().st_size < SMALL:
            return
        with (
            plain.open("rb") as file,
            whole_file(packed, private=True) as out,
            gzip.GzipFile(fileobj=out, mode="wb", filename="") as writing,
        ):
            shutil.copyfileobj(file, writing, 1 << 18)
        plain.unlink()


def _report(rules: RetentionRules, plan: Plan, done: Iterable[Doomed], *, dry_run: bool) -> PruneReport:
    sums: defaultdict[tuple[PruneAction, PruneRule], list[int]] = defaultdict(lambda: [0, 0])
    for each in done:
        sums[each.action, each.rule][0] += 1
        sums[each.action, each.rule][1] += each.bytes
    return PruneReport(
        dry_run=dry_run,
        rules=rules,
        steps=[
            PruneStep(action=action, rule=rule, executions=count, bytes=size)
            for (action, rule), (count, size) in sums.items()
        ],
        held=plan.held,
        executions=plan.executions,
        bytes=plan.bytes,
    )
