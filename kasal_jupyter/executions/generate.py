"""A crew from a sentence: a model is asked for it, in an execution like any other, until it could run.

The execution is a crew of one agent and one task, so that what the model was asked, what it said, what it
cost and how it is stopped are where they are of every run. What it says is data: it is read as a crew's YAML,
and checked as a run would be, before anybody sees it. Faults go back to the model, twice at the most.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from kasal_jupyter.confined import ConfinedPool
from kasal_jupyter.errors import Fault, InvalidRequest, ModelCallFailed, NotGenerated, NotRunnable
from kasal_jupyter.executions.check import placeholders
from kasal_jupyter.executions.dry_run import draft, draft_faults
from kasal_jupyter.executions.model_question import asked
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.formats.limited import Exchange
from kasal_jupyter.models.catalog import ModelUnavailable, NoDefaultModel
from kasal_jupyter.models.sandbox.crew import CREW_TASK, REQUEST
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.base import utc_now
from kasal_jupyter.schemas.crews import Crew, CrewCreate, WholeCrew
from kasal_jupyter.schemas.exchange import MOST_OF_AN_ANSWER, CrewGenerate
from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.schemas.placeholders import literal
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.toolbox.toolbox import ToolUnavailable
from kasal_jupyter.tools.tool import builtin_tools

ATTEMPTS = 3
"""How often the model is asked: once, and twice with the faults of what it has said."""

GENERATOR = "crew_generator"
"""The crew that these executions are of; it is stored nowhere."""

_MOST_FAULTS = 30

_MOST_ABOUT_A_TOOL = 200
"""Characters that a tool is described with."""

_FORMAT = """\
Answer with one YAML document and nothing else, in exactly this form:

name: Market research
description: What the crew is for, in one sentence
agents:
  researcher:
    role: Market researcher
    goal: Find reliable facts about {topic}
    backstory: Ten years of desk research
    tools: [web_search]
  writer:
    role: Report writer
    goal: Write so that everybody understands it
    backstory: A former journalist
tasks:
  research:
    description: Collect the most important facts about {topic}
    expected_output: A list of ten facts, each with its source
    agent: researcher
  report:
    description: Write a report from the facts
    expected_output: A report of one page in Markdown
    agent: writer
    context: [research]

Rules:
- Every task has an agent of the crew; its context names earlier tasks whose results it needs.
- Use as few agents and tasks as do the work well: two to four of each as a rule.
- Write what changes from run to run as a placeholder in single braces, such as {topic}.
- Quote a text that holds a colon followed by a blank, or begins with a special character.
- Other fields are not needed: no models, no webhook, no code."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What came of it.

    Attributes
    ----------
    crew
        A crew that could run.
    yaml
        The same as YAML.
    model
        The model that made it.
    job_ids
        The executions in which it was asked.
    """

    crew: CrewCreate
    yaml: str
    model: str
    job_ids: list[str]


async def generate_crew(runs: Runs, request: CrewGenerate, owner: str, pool: ConfinedPool) -> Generation:
    """Have a model make a crew.

    Whoever no longer wants it cancels this: the execution that goes on is stopped then.

    Parameters
    ----------
    runs
        Where the model is asked, and where the crew would run.
    request
        What is wanted.
    owner
        Whose crew it will be; whose keys and tools count.
    pool
        Where the model's answers are read.

    Raises
    ------
    NotRunnable
        The model cannot be asked here.
    ModelCallFailed
        It was asked, and has failed; with the code of its failure.
    NotGenerated
        It has answered, and with no crew that could run; with everything that is wrong with the last one.
    """
    return await _Generator(runs, request, owner, Exchange(pool, owner)).generate()


@dataclass(slots=True)
class _Generator:
    runs: Runs
    request: CrewGenerate
    owner: str
    exchange: Exchange
    job_ids: list[str] = field(default_factory=list)

    async def generate(self) -> Generation:
        try:
            model = self.runs.catalog.of(self.owner).resolve(self.request.model).name
        except NoDefaultModel:
            text = "name the model that is to make it, since the server has no default one"
            raise NotRunnable(f"No crew can be made: {text}", faults=[Fault("model", text)]) from None
        except ModelUnavailable as error:
            fault = Fault("model", str(error))
            raise NotRunnable(f"No crew can be made: {error}", faults=[fault]) from None
        try:
            async with asyncio.timeout(self.request.timeout):
                return await self._attempts(model)
        except TimeoutError:
            raise ModelCallFailed(
                f"{model}: no crew within {self.request.timeout} seconds", cause="MODEL_TIMEOUT"
            ) from None

    async def _attempts(self, model: str) -> Generation:
        notes: list[str] = []
        faults: list[Fault] = []
        for _ in range(ATTEMPTS):
            answer = await self._ask(model, notes)
            try:
                crew, yaml = await self.exchange.understand(answer, self.request)
                faults = await self._faults(crew)
            except InvalidRequest as error:
                faults = list(error.faults)
            else:
                if not faults:
                    return Generation(crew, yaml, model, self.job_ids)
            notes = [f"Your last answer was:\n\n{answer[:MOST_OF_AN_ANSWER]}", _as_note(faults)]
        raise NotGenerated(
            f"{model} was asked {ATTEMPTS} times and has given no crew that could run: {faults[0].reason}",
            faults=faults[:_MOST_FAULTS],
        )

    async def _faults(self, crew: CrewCreate) -> list[Fault]:
        """Find what keeps a model's crew from running.

        Raises
        ------
        InvalidRequest
            It could not even be stored.
        """
        whole = await draft(crew, self.owner)
        faults = await draft_faults(self.runs, whole)
        if crew.webhook is not None:
            # Whoever writes the request may have it from somebody else: results go nowhere by themselves.
            faults.append(
                Fault("webhook", "A crew that a model has made tells nobody of its runs; leave it out")
            )
        known = {name for name, _ in placeholders(whole)}
        faults += [
            Fault(f"inputs.{name}", f"{{{name}}} stands nowhere; use it where it belongs")
            for name in self.request.inputs
            if name not in known
        ]
        return faults

    async def _ask(self, model: str, notes: list[str]) -> str:
        """Ask the model once, and give what it says.

        Raises
        ------
        ModelCallFailed
            The execution did not complete.
        """
        crew = self._crew(model, notes)
        summary = await asked(self.runs, crew, self.owner, started=self.job_ids.append)
        if summary.status == "completed":
            return summary.result or ""
        error = summary.error
        raise ModelCallFailed(
            error.message if error else f"The execution {self.job_ids[-1]} was {summary.status}",
            cause=error.code if error else "INTERRUPTED",
        )

    def _crew(self, model: str, notes: list[str]) -> WholeCrew:
        now = utc_now()
        shared = {
            "owner": self.owner,
            "crew_id": GENERATOR,
            "created_at": now,
            "updated_at": now,
            "position": 0,
        }
        context = [_FORMAT, self._tools()]
        if self.request.inputs:
            names = ", ".join(f"{{{name}}}" for name in self.request.inputs)
            context.append(f"The crew takes these inputs; use each of them as a placeholder: {names}")
        context += [f"{REQUEST}{self.request.description}", *notes]
        return WholeCrew(
            crew=Crew(id=GENERATOR, name="Crew generator", owner=self.owner, created_at=now, updated_at=now),
            agents=[
                Agent(
                    **shared,
                    id="agent_generator",
                    name="designer",
                    role="Designer of crews of AI agents",
                    goal="Design the smallest crew that does what is asked for, well",
                    backstory="Knows CrewAI, and answers in YAML alone.",
                    model=model,
                )
            ],
            tasks=[
                Task(
                    **shared,
                    id="task_generator",
                    name="design",
                    agent_id="agent_generator",
                    description=CREW_TASK,
                    expected_output="One YAML document, without any text before or behind it",
                    # Their braces are YAML's and the user's own, and nothing that a run fills in.
                    context=[literal(text) for text in context],
                )
            ],
        )

    def _tools(self) -> str:
        toolbox = self.runs.toolbox(self.owner)
        about = {tool.name: tool.description for tool in builtin_tools()}
        lines = []
        for name in toolbox.names():
            try:
                custom = toolbox.resolve(name)
            except ToolUnavailable:
                continue
            if isinstance(custom, RunMcpServer):
                text = custom.tools[0].description
            else:
                text = custom.description if custom is not None else about[name]
            lines.append(f"- {name}: {text.strip().splitlines()[0][:_MOST_ABOUT_A_TOOL]}")
        return "These tools can be given to agents, and no others:\n" + "\n".join(lines)


def _as_note(faults: list[Fault]) -> str:
    lines = "\n".join(f"- {fault.field}: {fault.reason}" for fault in faults[:_MOST_FAULTS])
    return f"That crew could not run. Correct all of this, and answer with the whole YAML again:\n{lines}"
