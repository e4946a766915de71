"""Crews with their agents and tasks: what changes several tables at once."""

from __future__ import annotations

from collections.abc import Sequence

from kasal_jupyter.crews.assembly import as_crew_agent, as_crew_task, assemble, with_manager
from kasal_jupyter.crews.versions import Change, forget_versions, keep_version, whole_version
from kasal_jupyter.errors import Fault, NotFound, PreconditionFailed
from kasal_jupyter.memory.findable import forget_crew
from kasal_jupyter.places import SMALL, beside_loop
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.crews import Crew, CrewCreate, CrewFields, CrewUpdate, WholeCrew
from kasal_jupyter.schemas.readiness import content_faults
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.store.store import Store


class Crews:
    """The crews of a store. Every change is one transaction: all of it is stored, or nothing.

    Parameters
    ----------
    store
        The opened data folder.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def whole(self, crew_id: str) -> WholeCrew:
        """Give a crew with its agents and tasks, in their order.

        Raises
        ------
        NotFound
            There is no such crew.
        DocumentDamaged
            A part of it can't be read: it is not given without.
        """
        # Of one moment: a change may replace the agents and tasks between two reads.
        with self.store.snapshot():
            crew = self.store.crews.get(crew_id)
            agents = self.store.agents.complete(crew_id=crew_id)
            tasks = self.store.tasks.complete(crew_id=crew_id)
        if crew is None:
            raise _no_crew(crew_id)
        return WholeCrew.model_construct(crew=crew, agents=agents, tasks=tasks)

    def in_version(self, crew_id: str, version: int | None) -> WholeCrew:
        """Give a crew as it was in a version; as it is, where that is its present one or none is named.

        Raises
        ------
        NotFound
            There is no such crew, or it has no such version, or that is not kept any more.
        DocumentDamaged
            A part of it can't be read: it is not given without.
        """
        crew = self.store.crews.get(crew_id)
        if crew is None or version in {None, crew.version}:
            return self.whole(crew_id)
        assert version is not None
        return whole_version(self.store, crew_id, version)

    async def read(self, crew_id: str, owner: str, version: int | None = None) -> WholeCrew:
        """Give a crew as :meth:`in_version` does; a large one is read in a thread, in turn by who asks."""
        # How large another version is, nobody knows before it is read.
        size = max(self.size(crew_id), 0 if version is None else SMALL + 1)
        return await beside_loop(lambda: self.in_version(crew_id, version), size=size, owner=owner)

    def size(self, crew_id: str) -> int:
        """Give how many agents and tasks a crew has."""
        return self.store.agents.count(crew_id=crew_id) + self.store.tasks.count(crew_id=crew_id)

    async def create(self, body: CrewCreate, owner: str, change: Change | None = None) -> WholeCrew:
        """Store a new crew.

        Parameters
        ----------
        body
            What it is.
        owner
            Whose it is.
        change
            Who makes it, and from where; its owner, by default.

        Raises
        ------
        InvalidRequest
            With every fault by field; nothing was stored.
        """
        size = len(body.agents) + len(body.tasks)
        made = await beside_loop(lambda: made_of(body, new_id("crew"), owner), size=size, owner=owner)

        def insert() -> None:
            self.store.crews.insert(made.crew)
            self._insert_members(made)
            keep_version(self.store, made, change or Change(owner))

        await self.store.change(insert, bounded=True)
        return made

    async def update(
        self, crew_id: str, body: CrewUpdate, change: Change | None = None, *, version: int | None = None
    ) -> Crew:
        """Change what the body gives; a given list of agents or tasks replaces the whole list.

        Agents and tasks keep their ids where the new list has the same id or name.

        Parameters
        ----------
        crew_id
            The crew.
        body
            What changes.
        change
            Who changes it, and from where; its owner, by default.
        version
            Refuse unless the crew still has this version.

        Raises
        ------
        NotFound, InvalidRequest
            Nothing was changed.
        PreconditionFailed
            Somebody else changed the crew in the meantime.
        """

        def work() -> Crew:
            before = self.whole(crew_id)
            _require_version(before.crew, version)
            given = body.model_dump(exclude_unset=True, exclude={"agents", "tasks"})
            crew = Crew.model_validate({**before.crew.dump(), **given})
            if body.manager_agent is not None:
                crew = with_manager(crew, before.agents)
            agents, tasks = before.agents, before.tasks
            if body.agents is not None or body.tasks is not None:
                whole = assemble(
                    crew,
                    [as_crew_agent(agent) for agent in before.agents] if body.agents is None else body.agents,
                    [as_crew_task(task) for task in before.tasks] if body.tasks is None else body.tasks,
                    before=before,
                )
                self._replace_members(whole)
                crew, agents, tasks = whole.crew, whole.agents, whole.tasks
            return self.put(WholeCrew.model_construct(crew=crew, agents=agents, tasks=tasks), change, before)

        return await self.store.change(work, bounded=True)

    async def restore(self, crew_id: str, number: int, change: Change, *, version: int | None = None) -> Crew:
        """Bring a crew back to one of its versions, ids of its members included; that makes a new version.

        Parameters
        ----------
        crew_id
            The crew.
        number
            The version.
        change
            Who brings it back.
        version
            Refuse unless the crew still has this version.

        Raises
        ------
        NotFound
            There is no such crew, or no such version.
        PreconditionFailed
            Somebody else changed the crew in the meantime.
        """

        def work() -> Crew:
            before = self.whole(crew_id)
            _require_version(before.crew, version)
            if before.crew.version == number:
                return before.crew
            wanted = whole_version(self.store, crew_id, number)
            fields = wanted.crew.model_dump(include=set(CrewFields.model_fields))
            whole = WholeCrew.model_construct(
                crew=Crew.model_validate({**before.crew.dump(), **fields}),
                agents=wanted.agents,
                tasks=wanted.tasks,
            )
            self._replace_members(whole)
            return self.put(whole, change, before)

        return await self.store.change(work, bounded=True)

    def put(self, whole: WholeCrew, change: Change | None, before: WholeCrew) -> Crew:
        """Store a crew's document after a change to it or to its members, and the version that it makes.

        Within a change of the store.

        Parameters
        ----------
        whole
            The crew as it shall be, but for what follows from that.
        change
            Who has changed it, and from where; its owner, by default.
        before
            The crew as it was.
        """
        crew = touched(whole.crew, whole.agents, whole.tasks)
        self.store.crews.replace(crew)
        made = whole.model_copy(update={"crew": crew})
        keep_version(self.store, made, change or Change(crew.owner), before)
        return crew

    async def delete(self, crew_id: str, *, version: int | None = None) -> None:
        """Delete a crew with its agents, tasks, versions, memories and knowledge; its past executions stay.

        Raises
        ------
        NotFound
            There is no such crew.
        PreconditionFailed
            The crew has not this version.
        """

        def delete() -> None:
            if (crew := self.store.crews.get(crew_id)) is None:
                raise _no_crew(crew_id)
            _require_version(crew, version)
            self.drop(crew_id)

        await self.store.change(delete)

    def drop(self, crew_id: str) -> None:
        """Delete a crew with all that is its own, whatever state it is in; within a change of the store."""
        self.store.tasks.delete_where(crew_id=crew_id)
        self.store.agents.delete_where(crew_id=crew_id)
        forget_versions(self.store, crew_id)
        forget_crew(self.store, crew_id)
        self.store.crews.delete(crew_id)

    def _replace_members(self, whole: WholeCrew) -> None:
        self.store.agents.delete_where(crew_id=whole.crew.id)
        self.store.tasks.delete_where(crew_id=whole.crew.id)
        self._insert_members(whole)

    def _insert_members(self, whole: WholeCrew) -> None:
        for agent in whole.agents:
            self.store.agents.insert(agent)
        for task in whole.tasks:
            self.store.tasks.insert(task)


def _no_crew(crew_id: str) -> NotFound:
    text = f"There is no crew {crew_id}"
    return NotFound(text, faults=[Fault("crew_id", text)])


def made_of(body: CrewCreate, crew_id: str, owner: str) -> WholeCrew:
    """Make a crew's documents of a body, as they are stored.

    Raises
    ------
    InvalidRequest
        It could not be stored; with every fault by field.
    """
    now = utc_now()
    crew = Crew(
        **body.model_dump(exclude={"agents", "tasks"}),
        id=crew_id,
        owner=owner,
        created_at=now,
        updated_at=now,
    )
    whole = assemble(crew, body.agents, body.tasks, before=None)
    crew = described(whole.crew, whole.agents, whole.tasks)
    return WholeCrew.model_construct(crew=crew, agents=whole.agents, tasks=whole.tasks)


def described(crew: Crew, agents: Sequence[Agent], tasks: Sequence[Task]) -> Crew:
    """Give a crew's document with what follows from its agents and tasks."""
    faults = content_faults(crew, agents, tasks)
    return crew.model_copy(
        update={"agents_count": len(agents), "status": "configuring" if faults else "active"}
    )


def touched(crew: Crew, agents: Sequence[Agent], tasks: Sequence[Task]) -> Crew:
    """Give a crew's document after a change to it, or to its agents and tasks."""
    changed = crew.model_copy(update={"version": crew.version + 1, "updated_at": utc_now()})
    return described(changed, agents, tasks)


def _require_version(crew: Crew, version: int | None) -> None:
    if version is not None and crew.version != version:
        raise PreconditionFailed(
            f"The crew is at version {crew.version}; read it again and repeat the change"
        )
