"""Crews as Python objects, which are the same crews as the YAML's and the API's.

::

    import kasal_jupyter as kasal

    writer = kasal.Agent(role="Writer", goal="Write about {topic}", llm="sandbox")
    report = kasal.Task("Write a report about {topic}", "One paragraph", writer, name="report")
    crew = kasal.Crew("Market research", tasks=[report])
    result = crew.run(topic="tea prices")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kasal_jupyter.errors import InvalidRequest, NotFound
from kasal_jupyter.kernel.crews.members import Agent, CrewBody, Task, checked, one_model
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.session import notebook_change, show, the_session
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.schemas.agents import CrewAgent
from kasal_jupyter.schemas.crews import CrewCreate, CrewDetails
from kasal_jupyter.schemas.people import People
from kasal_jupyter.schemas.tasks import CrewTask
from kasal_jupyter.schemas.webhooks import Webhook

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.kernel.crews.card import CrewCard
    from kasal_jupyter.kernel.crews.history import History
    from kasal_jupyter.kernel.runs.batches import BatchResult
    from kasal_jupyter.kernel.runs.result import RunResult
    from kasal_jupyter.kernel.views.cards import Checked
    from kasal_jupyter.schemas.cassettes import OnMiss

__all__ = ["Agent", "Crew", "Task"]


class Crew:
    """Agents and the tasks they do, in order.

    Two crews are equal where they would run alike: ids and the server's dates do not count.

    Parameters
    ----------
    name
        What the crew is called. :meth:`save` updates the server's crew of that name.
    agents
        The agents; those of the tasks need not be listed.
    tasks
        The tasks, in the order they run.
    description
        What the crew is for.
    process
        ``sequential``, or ``hierarchical``: a manager hands the tasks out.
    manager_llm
        The manager's model in a hierarchical crew. CrewAI calls it so, the API ``manager_model``.
    manager_agent
        The agent that manages a hierarchical crew, the object or its name; else CrewAI's own manager does.
        It has no tools, and no tasks of its own.
    planning
        Whether a plan is made before the tasks, and given to each.
    planning_llm
        The model that plans; else the manager's, or the default.
    memory
        Whether the crew remembers what happened in its runs.
    needs_approval
        Calls of any agent's tools that a person is asked about first: ``"mcp_*"``, by patterns.
    people
        Who answers besides the owner, and how long is waited:
        ``{"may_answer": ["ada@example.com"], "timeout": 3600, "on_timeout": "reject"}``.
    webhook
        Where its runs are reported to: an address, or ``{"url": …, "events": ["task_complete", …]}``.
    manager_model, planning_model
        The same as ``manager_llm`` and ``planning_llm``.

    Attributes
    ----------
    id
        The server's id; None before the crew is saved.
    """

    def __init__(
        self,
        name: str,
        agents: Sequence[Agent] = (),
        tasks: Sequence[Task] = (),
        *,
        description: str = "",
        process: Literal["sequential", "hierarchical"] = "sequential",
        manager_llm: str | None = None,
        manager_agent: Agent | str | None = None,
        planning: bool = False,
        planning_llm: str | None = None,
        memory: bool = False,
        needs_approval: Sequence[str] = (),
        people: People | Mapping[str, Any] | None = None,
        webhook: Webhook | Mapping[str, Any] | str | None = None,
        manager_model: str | None = None,
        planning_model: str | None = None,
    ) -> None:
        self.name = name
        self.agents = list(agents)
        self.tasks = list(tasks)
        self.description = description
        self.process = process
        self.manager_llm = one_model("manager_llm", manager_llm, "manager_model", manager_model)
        self.manager_agent = manager_agent
        self.planning = planning
        self.planning_llm = one_model("planning_llm", planning_llm, "planning_model", planning_model)
        self.memory = memory
        self.needs_approval = list(needs_approval)
        self.people = people
        self.webhook = webhook
        self.id: str | None = None
        self._version: int | None = None
        self.agents = self._everyone()

    @classmethod
    def load(cls, name: str, version: int | None = None) -> Crew:
        """Give the server's crew of a name or an id.

        Parameters
        ----------
        name
            The name or the id.
        version
            The version to give, as it was; by default the present one.

        Raises
        ------
        CellError
            There is none, with the nearest name.
        """
        session = the_session()
        details = session.crew(name)
        wanted = details
        if version is not None and version != details.version:
            wanted = session.client.crew_version(details.id, version).crew
        crew = cls.of(wanted)
        crew._note(details)  # noqa: SLF001 - a crew of this class
        return crew

    @classmethod
    def from_yaml(cls, text: str, name: str | None = None) -> Crew:
        """Read a crew from YAML: CrewAI's agents and tasks.

        Parameters
        ----------
        text
            The YAML.
        name
            The crew's name, where the text need not have one; it wins over the text's.

        Raises
        ------
        CellError
            With every fault, each with its line and its field.
        """
        from kasal_jupyter.formats.yaml_crew import load_crew

        try:
            return cls.of(load_crew(text, name))
        except InvalidRequest as error:
            raise CellError(error.message, faults=error.faults) from None

    @classmethod
    def from_crewai(cls, path: str | Path, name: str | None = None) -> Crew:
        """Read a crew from a CrewAI project, without executing any of it; what is left out is printed.

        Parameters
        ----------
        path
            The project's folder, a zip file of it, its ``agents.yaml``, or a ``crew.jsonc``.
        name
            The crew's name; else the project's.

        Raises
        ------
        CellError
            With every fault, each with its file, its line and its field.
        """
        from kasal_jupyter.kernel.crews.crew_files import read_crew, remark_lines

        try:
            found = read_crew(Path(path).expanduser(), name=name)
        except InvalidRequest as error:
            raise CellError(error.message, faults=error.faults) from None
        if found.remarks:
            print(clean("\n".join(["Not carried over as it is:", *remark_lines(found.remarks)])))  # noqa: T201
        return cls.of(found.crew)

    @classmethod
    def of(cls, body: CrewCreate | CrewDetails) -> Crew:
        """Make it of what the API takes or gives."""
        crew = cls(body.name, description=body.description)
        how = body.configuration if isinstance(body, CrewDetails) else body
        crew.process, crew.manager_llm = how.process, how.manager_model
        crew.planning, crew.planning_llm = how.planning, how.planning_model
        crew.memory, crew.webhook = how.memory, how.webhook
        crew.needs_approval, crew.people = list(how.needs_approval), how.people
        by_key: dict[str, Agent] = {}
        for each in body.agents:
            agent = Agent.of(CrewAgent.model_validate(each.model_dump(include=set(CrewAgent.model_fields))))
            crew.agents.append(agent)
            # A name wins over another agent's role; of two agents with one role the first is meant.
            by_key.setdefault(each.role, agent)
            by_key |= {key: agent for key in (each.name, each.id) if key}
        if how.manager_agent is not None:
            crew.manager_agent = by_key.get(how.manager_agent, how.manager_agent)
        before: dict[str, Task] = {}
        for task in body.tasks:
            who = task.agent if isinstance(task, CrewTask) else task.agent_id
            made = Task(
                task.description,
                task.expected_output,
                by_key.get(who, who) if who else None,
                name=task.name,
                context=None
                if task.context is None
                else [before.get(entry.strip(), entry) for entry in task.context],
                tools=task.tools,
                async_execution=task.async_execution,
                output_schema=task.output_schema,
                output_file=task.output_file,
                guardrail=task.guardrail,
                guardrail_max_retries=task.guardrail_max_retries,
                human_input=task.human_input,
                condition=task.condition,
            )
            crew.tasks.append(made)
            before |= {key: made for key in (task.name, task.id) if key}
        return crew

    def to_yaml(self) -> str:
        """Write the crew as YAML that :meth:`from_yaml` reads back to an equal one."""
        from kasal_jupyter.formats.yaml_crew import dump_crew

        return dump_crew(self._named())

    def to_crewai(self, path: str | Path, *, force: bool = False) -> None:
        """Write the crew as a project that runs with CrewAI alone; what is left out is printed.

        Parameters
        ----------
        path
            The project's folder, or a ``.zip`` file.
        force
            Whether to write over what is there.

        Raises
        ------
        CellError
            It is there already, or cannot be written.
        """
        from kasal_jupyter.kernel.crews.crew_files import export, remark_lines, save

        found = export(self._named(), "crewai")
        try:
            save(found, Path(path).expanduser(), force=force)
        except InvalidRequest as error:
            raise CellError(error.message) from None
        if found.remarks:
            print(clean("\n".join(["Not carried over as it is:", *remark_lines(found.remarks)])))  # noqa: T201

    def definition(self) -> CrewCreate:
        """Give the crew as the API takes it.

        Raises
        ------
        CellError
            Something in it is wrong; it names the field.
        """
        needed = {id(each) for task in self.tasks for each in task.context or () if isinstance(each, Task)}
        return self._body(lambda task: id(task) in needed)

    def save(self, *, overwrite: bool = False) -> Crew:
        """Bring the crew to the server: create it, or update the one of its name.

        Parameters
        ----------
        overwrite
            Whether to write over what was changed elsewhere since the crew was loaded or saved here, or by
            this notebook at all; the crew's history keeps it.

        Raises
        ------
        ChangedElsewhere
            It was; the cell has shown the difference.
        CellError
            Something in the crew is wrong.
        """
        from kasal_jupyter.kernel.crews.stored_crews import ChangedElsewhere, Hand, put_crew

        client = the_session().client
        body = self.definition()
        stored = self._stored(client)
        hand = Hand(
            notebook_change("python"),
            self._version,
            # One that was loaded is known: whatever came after it, this notebook's cells included, did not
            # know of what is saved now.
            trusting=self._version is None,
            force=overwrite,
            ways=f"kasal.Crew.load({self.name!r}) gives it as it is, save(overwrite=True) writes over it",
        )
        try:
            put = put_crew(client, body, hand, stored)
        except ChangedElsewhere as error:
            show(error.difference)
            raise
        self._note(put.crew)
        return self

    def history(self) -> History:
        """Give the versions of the crew that the server keeps, the newest first.

        ``crew.history().diff(3)`` says what has changed since version 3.
        """
        from kasal_jupyter.kernel.crews.history import History

        return History(the_session().client, self._there())

    def restore(self, version: int) -> Crew:
        """Bring the server's crew back to one of its versions, and give it; that becomes a new version."""
        client, stored = the_session().client, self._there()
        client.restore_crew(stored.id, version, present=stored.version, change=notebook_change("python"))
        return Crew.load(stored.id)

    def rename(self, name: str) -> Crew:
        """Give the crew another name, on the server as well, and nothing else that was changed here.

        Raises
        ------
        CellError
            Another crew of yours has that name.
        """
        from kasal_jupyter.kernel.crews.stored_crews import rename

        client, stored = the_session().client, self._there()
        rename(client, stored, name, notebook_change("python"))
        self.name = name
        if self._version in {None, stored.version}:
            self._note(client.crew(stored.id))
        return self

    def copy(self, name: str) -> Crew:
        """Give a crew like this one, of another name; it is on the server once it is saved."""
        made = Crew.of(self.definition())
        made.name = name
        return made

    def delete(self) -> None:
        """Delete the crew from the server, with its versions, its memory and its knowledge; its runs stay."""
        the_session().client.delete_crew(self._there().id)
        self.id = self._version = None

    def check(self, inputs: Mapping[str, Any] | None = None, /, **values: Any) -> Checked:
        """Say whether the crew could run with these inputs, and everything that keeps it from that.

        It is saved for that. The answer is true where it could run.

        Parameters
        ----------
        inputs
            Inputs by name, where a name is no Python keyword argument.
        **values
            Inputs.
        """
        from kasal_jupyter.kernel.crews.card import check_crew

        return check_crew(the_session().client, self._saved(), {**(inputs or {}), **values})

    def run(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        background: bool = False,
        budget: Mapping[str, float] | None = None,
        once: bool = False,
        record: str | PathLike[str] | None = None,
        replay: str | PathLike[str] | None = None,
        on_miss: OnMiss | None = None,
        varies: Sequence[str] = (),
        **values: Any,
    ) -> RunResult:
        """Save the crew, run it and watch it.

        Parameters
        ----------
        inputs
            Inputs by name, where a name is no Python keyword argument, or is one of those below.
        background
            Whether to go on at once; the view and the result then grow while the notebook does more.
        budget
            What the run may use up: ``max_cost`` (US dollars), ``max_tokens``, ``max_seconds``. It ends
            before the model call that would pass a bound, and keeps what it has.
        once
            Whether an earlier run that was asked for the same answers, at once and at no cost, where there
            is one: of the same crew, inputs and models, without a memory or tools that look at the world.
        record, replay
            The cassette that it is recorded for, and the one that answers it: files, which may be the same.
        on_miss
            What becomes of a call that the cassette does not answer: ``fail`` or ``live``. By default it
            fails where the environment has ``CI``.
        varies
            Regular expressions for what varies in prompts from run to run, for a cassette that is begun.
        **values
            Inputs: texts, numbers, dates, lists, and DataFrames, which agents query instead of reading.

        Raises
        ------
        RunFailed
            It ended otherwise than completed.
        CellError
            It cannot run; with everything that keeps it from that.
        """
        from kasal_jupyter.client.cassette import tape_of
        from kasal_jupyter.kernel.runs.run_list import read_budget
        from kasal_jupyter.kernel.runs.runner import launch

        session = the_session()
        given = {**(inputs or {}), **values}
        return launch(
            session.client,
            self._saved(),
            given,
            background=background,
            budget=read_budget(budget),
            once=once,
            tape=tape_of(record, replay, on_miss=on_miss, varies=varies, within=session.cell),
            on_start=session.note_job,
        )

    def map(
        self,
        frame: Any,
        /,
        *,
        out: str | None = None,
        columns: Mapping[str, str] | None = None,
        concurrency: int | None = None,
        budget: float | Mapping[str, float] | None = None,
        run_budget: Mapping[str, float] | None = None,
        dedupe: bool = False,
        retry_failed: bool = False,
        fresh: bool = False,
        bg: bool = False,
        **values: Any,
    ) -> BatchResult:
        """Save the crew, and run it over the rows of a frame, a run a row.

        With the same crew, rows and ``out`` again, it goes on where it was: what is done is not paid for
        twice, also after the kernel or the server has died. An interrupt of the kernel (■) pauses it.

        Parameters
        ----------
        frame
            The rows: pandas, polars, pyarrow, or a list of dictionaries. Of its columns the crew's inputs
            are sent; a row is known by them, and never by its place.
        out
            What the batch is called; else as the crew.
        columns
            Inputs whose column has another name: ``{"topic": "Product name"}``.
        concurrency
            Rows that go on at the same time, at the most; by default as many as the server has places.
        budget
            What all rows together may use up: US dollars, or ``max_cost`` and ``max_tokens``. It is reserved
            before each call: rows at the same time cannot pass it together.
        run_budget
            What each row may use up, as in :meth:`run`.
        dedupe
            Whether equal rows share one run.
        retry_failed
            Whether only the rows that have failed are done again; ``retried`` has them apart.
        fresh
            Whether all rows are run anew, whatever earlier runs have answered.
        bg
            Whether to go on at once; what is given then grows, and has ``wait()``.
        **values
            Inputs that are the same in each row.

        Returns
        -------
        BatchResult
            ``frame`` is the input with what has come of each row, of the same library, ``failed`` those of
            its rows that have failed.

        Raises
        ------
        BatchFailed
            It stands still, was ended, or no row of it has completed.
        CellError
            It cannot run: columns do not fit, or a value cannot be sent; nothing was started.
        """
        from kasal_jupyter.kernel.runs.batches import MapOptions, map_frame
        from kasal_jupyter.kernel.runs.run_list import read_budget

        whole = budget if isinstance(budget, Mapping) or budget is None else {"max_cost": budget}
        options = MapOptions(
            name=out,
            columns=columns,
            concurrency=concurrency,
            budget=read_budget(whole),
            run_budget=read_budget(run_budget),
            dedupe=dedupe,
            retry_failed=retry_failed,
            fresh=fresh,
        )
        session = the_session()
        return map_frame(session.client, self._saved(), frame, options, values=values, background=bg)

    def card(self) -> CrewCard:
        """Give the crew's card: its tasks as a graph, its agents, its inputs."""
        from kasal_jupyter.kernel.crews.card import CrewCard

        return CrewCard(self.definition())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Crew) and self._named() == other._named()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Crew({self.name!r}, agents={len(self._everyone())}, tasks={len(self.tasks)})"

    def _repr_html_(self) -> str:
        return self.card()._repr_html_()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self) if cycle else repr(self.card()))

    def _note(self, stored: CrewDetails) -> None:
        """Note which of the server's crews it is, and in which state it was last seen."""
        self.id, self._version = stored.id, stored.version

    def _saved(self) -> CrewDetails:
        self.save()
        assert self.id is not None
        return the_session().client.crew(self.id)

    def _stored(self, client: Client) -> CrewDetails | None:
        """Give what the server has of the crew; None where it has none."""
        if self.id is not None:
            try:
                return client.crew(self.id)
            except NotFound:
                # Somebody has deleted it: it is made anew.
                self.id = self._version = None
        from kasal_jupyter.kernel.crews.stored_crews import own_crew

        try:
            return own_crew(client, self.name)
        except InvalidRequest as error:
            raise CellError(error.message) from None

    def _there(self) -> CrewDetails:
        """Give what the server has of the crew.

        Raises
        ------
        CellError
            It has none.
        """
        stored = self._stored(the_session().client)
        if stored is None:
            raise CellError(f"The server has no crew {self.name!r} yet; save() brings it there")
        return stored

    def _everyone(self) -> list[Agent]:
        """Give the agents, those included that only a task has, or that only manage."""
        found = list(self.agents)
        for agent in (*(task.agent for task in self.tasks), self.manager_agent):
            if isinstance(agent, Agent) and all(agent is not each for each in found):
                found.append(agent)
        return found

    def _named(self) -> CrewCreate:
        """Give the crew with a name for every agent and task: what two crews are compared by."""
        return self._body(lambda _: True, all_agents=True)

    def _body(self, names_task: Callable[[Task], bool], *, all_agents: bool = False) -> CrewCreate:
        members = CrewBody(self.name, self._everyone(), self.tasks)
        lists = {"agents": members.agents(named=all_agents), "tasks": members.tasks(names_task)}
        fields = {
            "name": self.name,
            "description": self.description,
            "process": self.process,
            "manager_model": self.manager_llm,
            "manager_agent": members.called(self.manager_agent),
            "planning": self.planning,
            "planning_model": self.planning_llm,
            "memory": self.memory,
            "needs_approval": self.needs_approval,
            "people": self.people if self.people is not None else {},
            "webhook": {"url": self.webhook} if isinstance(self.webhook, str) else self.webhook,
        }
        return checked(CrewCreate, fields, f"crew {self.name!r}").model_copy(update=lists)
