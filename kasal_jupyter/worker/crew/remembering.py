"""A run's memory: what its agents are reminded of, and what it leaves behind for the next run.

CrewAI's own memory is off: it asks models to analyse what it stores and what it looks for, two or three calls
a task, and loads a vector database into every process. Here what is near is looked up in the store's file and
put into the prompt where CrewAI would put it, and the server stores what ``memory_stored`` tells: before the
run's end, or, where a model is to say what was learnt, after it. Nobody waits for that with the result.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from crewai import Crew
from crewai.llms.base_llm import BaseLLM

from kasal_jupyter.events.event import Remembered
from kasal_jupyter.hiding import here
from kasal_jupyter.memory import tables
from kasal_jupyter.memory.insights import (
    DoneTask,
    Insight,
    NoInsights,
    by_rule,
    happened,
    question,
    read_answer,
)
from kasal_jupyter.memory.recall import Found, Hit, Recall, reading, reminder
from kasal_jupyter.memory.tables import KINDS, Record
from kasal_jupyter.schemas.base import new_id
from kasal_jupyter.schemas.spec import RunEmbedder, RunMemory, RunSpec, RunTask
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.worker.crew.agent import CrewAgent
from kasal_jupyter.worker.crew.record import RunRecord
from kasal_jupyter.worker.process.failures import describe

MOST_QUERY = 2_000
"""Characters of a query that are told of."""


class Reminders:
    """Reminds agents of what is near to their tasks.

    Parameters
    ----------
    memory
        Where to look.
    crew_id
        Whose memories those are.
    allowed_hosts
        Where an embedder may be asked whose address is a user's, besides public hosts; None: nowhere.
    record
        What an earlier run was reminded of.
    """

    def __init__(
        self, memory: RunMemory, crew_id: str, allowed_hosts: Sequence[str] | None, record: RunRecord
    ) -> None:
        self._record = record
        guard = HostGuard(allowed_hosts)
        self._recall = Recall(reading(Path(memory.file)), crew_id, memory.embedder, guard)
        self._kinds = KINDS if memory.remember else ("knowledge",)
        self._remark = memory.remark or ""

    def give_to(self, crew: Crew) -> None:
        """Have all agents of a crew be reminded."""
        for agent in (*crew.agents, crew.manager_agent):
            if isinstance(agent, CrewAgent):
                agent.be_reminded(partial(self.remind, agent.display_name))

    def remind(self, agent: str, task: str, context: str) -> tuple[str, Mapping[str, Any]]:
        """Look up what is near to an agent's task; give what to add to its prompt, and the event of it."""
        key, given = self._record.memory({"query": task, "context": context}, agent)
        if given is not None:
            hits = [_hit(remembered) for remembered in given.call["memories"]]
            return reminder(hits), {"type": "memory_recalled", **given.call, "key": key, "recorded": True}
        found = self._recall.search(task, context, kinds=self._kinds)
        return reminder(found.hits), {**self._event(task, found), "key": key}

    def _event(self, task: str, found: Found) -> Mapping[str, Any]:
        event = {
            "type": "memory_recalled",
            "query": here().hide(task)[:MOST_QUERY],
            "memories": [
                Remembered(
                    id=hit.record.id,
                    type=hit.record.kind,
                    content=hit.record.content,
                    category=hit.record.category,
                    score=hit.score,
                    when=hit.record.time,
                )
                for hit in found.hits
            ],
            "duration_ms": found.milliseconds,
        }
        if remark := found.remark or self._remark:
            event["remark"] = remark
        return event


def _hit(told: Remembered) -> Hit:
    record = Record(told["id"], told["type"], told["content"], told.get("category"), told.get("when", ""))
    return Hit(record, told.get("score", 0.0))


def warm_recall(folder: Path) -> None:
    """Recall something in this process, so that in those forked from it the first time takes not much longer.

    Parameters
    ----------
    folder
        Where a file may be made; it is left there.
    """
    file = folder / "memory.db"
    known = [Record(kind, kind, f"A warm memory of the {kind} kind", None, "") for kind in KINDS]
    with closing(sqlite3.connect(file)) as connection, connection:
        tables.create_tables(connection)
        tables.add_texts(connection, "warm", known)
    Recall(reading(file), "warm", RunEmbedder()).search("Remind me of warm memories", "and of their kinds")


class Keepsakes:
    """What a run leaves behind.

    Parameters
    ----------
    spec
        The run.
    crew
        Its crew, by CrewAI.
    tasks
        Our tasks, by CrewAI's ids.
    record
        What an earlier run has left: nothing is remembered twice, and of a replay nothing.
    """

    def __init__(self, spec: RunSpec, crew: Crew, tasks: Mapping[str, RunTask], record: RunRecord) -> None:
        replayed = record.replays
        self._wanted = spec.memory is not None and spec.memory.remember and not replayed
        self._stored = record.earlier.stored if record.earlier is not None else set[str]()
        self._model = spec.memory.model if spec.memory is not None else None
        self._names = {agent.id: agent.name for agent in spec.agents}
        self._crew = crew
        self._tasks = tasks

    @property
    def model(self) -> str | None:
        """The model that is to say what was learnt; None where none is, or nothing was done."""
        return self._model if self._wanted and self._done() else None

    def learnt(self, llm: BaseLLM) -> list[Insight]:
        """Have a model say what was learnt, in one call.

        Raises
        ------
        NoInsights
            Its answer is no list.
        Exception
            Whatever a provider's client raises.
        """
        messages: list[Any] = [*question(self._done())]
        return read_answer(str(llm.call(messages)))

    def by_rule(self) -> list[Insight]:
        """Give what can be learnt without a model."""
        return by_rule(self._done())

    def event(
        self, insights: Sequence[Insight], error: BaseException | None = None
    ) -> Mapping[str, Any] | None:
        """Give the event that tells what the crew will remember; None where that is nothing.

        Parameters
        ----------
        insights
            What was learnt. What happened is remembered besides.
        error
            Why nothing was.
        """
        done = self._done()
        if not self._wanted or not done:
            return None
        memories = [
            Remembered(id=new_id("memory"), type="short_term", content=happened(task), category=None)
            for task in done
            if happened(task) not in self._stored
        ] + [
            Remembered(id=new_id("memory"), type="long_term", content=insight.text, category=insight.category)
            for insight in insights
        ]
        event: dict[str, Any] = {"type": "memory_stored", "memories": memories}
        if error is not None:
            said = isinstance(error, NoInsights | TimeoutError)
            why = str(error) if said else describe(error, model=self._model, code="MODEL_ERROR")["message"]
            event["remark"] = f"Nothing was learnt: {why}"
        return event

    def _done(self) -> list[DoneTask]:
        """Give the tasks that have a result, in their order."""
        done = []
        for made in self._crew.tasks:
            task = self._tasks.get(str(made.id))
            result = made.output.raw if made.output is not None else ""
            if task is not None and result.strip():
                agent = self._names.get(task.agent_id or "", "")
                done.append(DoneTask(task.title(), made.description, agent, result))
        return done
