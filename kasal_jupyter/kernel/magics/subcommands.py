"""The sub-commands of `%kasal`: what each is called, and which module has it.

There, ``NAME_arguments`` has a parser take its words, and ``NAME_command`` carries it out. The modules are
imported when one is used: the table is light enough to complete from.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from kasal_jupyter.kernel.magics.command_line import Parser

if TYPE_CHECKING:
    from kasal_jupyter.kernel.session import Session


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command.

    Attributes
    ----------
    name, summary, examples
        What its help says.
    module
        The module of ``commands`` that has the functions of its name.
    cell
        Whether it is written with ``%%``: it never is, it may be, it must be.
    aliases
        Other words for it.
    """

    name: str
    module: str
    summary: str
    examples: tuple[str, ...]
    cell: Literal["never", "may", "must"] = "never"
    aliases: tuple[str, ...] = ()

    def parser(self) -> Parser:
        """Give the parser of its words."""
        magic = "%%kasal" if self.cell == "must" else "%kasal"
        parser = Parser(f"{magic} {self.name}", self.summary, self.examples)
        if (add := getattr(self._module, f"{self.name}_arguments", None)) is not None:
            add(parser)
        return parser

    def carry_out(self, session: Session, words: Namespace, cell: str | None) -> Any:
        """Carry it out, and give what the cell shows."""
        return getattr(self._module, f"{self.name}_command")(session, words, cell)

    @property
    def _module(self) -> ModuleType:
        return import_module(f"kasal_jupyter.kernel.magics.commands.{self.module}")


COMMANDS: dict[str, Command] = {
    each.name: each
    for each in (
        Command("demo", "runs", "Create a small crew that needs no key, and run it.", ("%kasal demo",)),
        Command(
            "connect",
            "server",
            "Say which server to talk to: by default it is found by itself.",
            ("%kasal connect http://localhost:8888 --token …", "%kasal connect"),
        ),
        Command(
            "crew",
            "crews",
            "Create or update a crew from the YAML in the cell: CrewAI's agents and tasks.",
            ("%%kasal crew Market research", "agents:", "  writer:", "    …"),
            "must",
        ),
        Command("crews", "crews", "List the crews.", ("%kasal crews",), aliases=("list",)),
        Command(
            "show",
            "crews",
            "Show a crew: its tasks, who does them, how to run it.",
            ('%kasal show "Market research"',),
        ),
        Command(
            "check",
            "crews",
            "Say whether a crew could run with these inputs, and everything that keeps it from that.",
            ('%kasal check "Market research" topic=tea',),
        ),
        Command(
            "run",
            "runs",
            "Run a crew and watch it. %%kasal run takes the inputs as YAML from the cell; words win over it.",
            (
                '%kasal run "Market research" topic="green tea"',
                '%kasal run "Market research" data=df rows=len(df) -o result',
                'result = %kasal run "Market research" topic=$subject',
                '%kasal run "Market research" topic=tea --bg',
                '%kasal run "Market research" topic=tea --max-cost 0.5',
                '%kasal run "Market research" topic=tea --once',
                '%kasal run "Market research" topic=tea --record tea.jsonl',
                '%kasal run "Market research" topic=tea --replay tea.jsonl --on-miss fail',
                "%kasal run --again job_4t9k2m0x7q1z topic=coffee",
            ),
            "may",
        ),
        Command(
            "map",
            "batches",
            "Run a crew over the rows of a frame, a run a row; the same again goes on where it was.",
            (
                '%kasal map "Market research" df --out results',
                '%kasal map "Market research" df --columns topic=product --out results --budget 5',
                '%kasal map "Market research" df lang=German --out results --concurrency 4 --dedupe',
                '%kasal map "Market research" df --out results --retry-failed',
                '%kasal map "Market research" df[:10] --out sample --bg',
            ),
        ),
        Command(
            "batches",
            "batches",
            "List the batches, show one, or have it pause, go on, end, or do again what has failed.",
            (
                "%kasal batches",
                "%kasal batches show results",
                "%kasal batches show results -o results",
                "%kasal batches pause results",
                "%kasal batches resume results --concurrency 2",
                "%kasal batches set results --budget 10",
                "%kasal batches retry batch_4t9k2m0x7q1z",
            ),
        ),
        Command(
            "replay",
            "runs",
            "Run a run once more from its record: no model is asked, no tool called, nothing is spent.",
            ("%kasal replay", "%kasal replay job_4t9k2m0x7q1z", "%kasal replay 2 -o result"),
        ),
        Command(
            "resume",
            "runs",
            "Go on with a run that failed, was stopped or was cut off; what is recorded is not asked again.",
            (
                "%kasal resume",
                "%kasal resume job_4t9k2m0x7q1z --max-cost 2",
                "%kasal resume job_4t9k2m0x7q1z topic=coffee --model gpt-4.1",
            ),
        ),
        Command(
            "fork",
            "forks",
            "Leave a run at a step and go another way, with its prompt, answer or tool's result changed.",
            (
                "%kasal fork job_4t9k2m0x7q1z",
                "%kasal fork job_4t9k2m0x7q1z 5",
                '%kasal fork job_4t9k2m0x7q1z 5 result="No results" -o result',
                "%kasal fork job_4t9k2m0x7q1z 5 prompt --edit",
                "%kasal fork last 5 --model gpt-4.1",
            ),
            "may",
        ),
        Command(
            "diff",
            "forks",
            "Show in what two runs differ: the first call in which they part, side by side.",
            ("%kasal diff job_4t9k2m0x7q1z job_7q1z4t9k2m0x", "%kasal diff 2 1", "%kasal diff last"),
        ),
        Command(
            "compare",
            "evaluation",
            "Run the same rows through crews, versions or models, score the answers, say which is better.",
            (
                "%kasal compare Support Support@3 --rows df --score exact",
                '%kasal compare Support "Support 2" --rows questions --score json:topic --repeats 3',
                "%kasal compare Support --model gpt-4.1 --model gpt-4.1-mini --rows df --score my_function",
                '%kasal compare Support Support@3 --rows df --judge "Is it true, and short?"',
            ),
        ),
        Command(
            "dataset",
            "evaluation",
            "List the datasets, show one, or make one: of a frame, or of past runs that were rated.",
            (
                "%kasal dataset",
                "%kasal dataset questions --rows df --expected answer",
                '%kasal dataset "What was rated" --rated --crew Support',
                "%kasal dataset questions --rm",
            ),
        ),
        Command(
            "rate",
            "evaluation",
            "Say whether a run's answer is good, and what it should have been; datasets are made of such.",
            (
                "%kasal rate up",
                "%kasal rate job_4t9k2m0x7q1z down refund",
                '%kasal rate last down "It is about money" --note "The question says so"',
                "%%kasal rate job_4t9k2m0x7q1z down",
            ),
            "may",
        ),
        Command(
            "ps",
            "runs",
            "List the latest runs, newest first.",
            ("%kasal ps", "%kasal ps --status failed"),
            aliases=("runs",),
        ),
        Command(
            "status",
            "runs",
            "Pick a run's view up again; it goes on by itself while the notebook does.",
            ("%kasal status", "%kasal status job_4t9k2m0x7q1z", "%kasal status 2"),
        ),
        Command(
            "wait",
            "runs",
            "Wait for a run's end, as %kasal run does; the cell fails where the run has failed.",
            ("result = %kasal wait job_4t9k2m0x7q1z",),
        ),
        Command(
            "answer",
            "runs",
            "Answer what an agent asks in a run.",
            ('%kasal answer job_4t9k2m0x7q1z "Go on"', "%kasal answer yes"),
        ),
        Command(
            "result",
            "runs",
            "Give a run's answer, whole.",
            ("%kasal result", "%kasal result job_4t9k2m0x7q1z -o answer"),
        ),
        Command("stop", "runs", "Stop a run.", ("%kasal stop", "%kasal stop job_4t9k2m0x7q1z")),
        Command(
            "traces",
            "runs",
            "List what a run's agents did, a row a step.",
            (
                "%kasal traces",
                "%kasal traces job_4t9k2m0x7q1z --kind tool,llm --agent writer --limit 20",
                "%kasal traces 1 --find timeout --failed",
            ),
        ),
        Command(
            "artifacts",
            "files",
            "List the files that a run has written, or save them.",
            (
                "%kasal artifacts",
                "%kasal artifacts job_4t9k2m0x7q1z --get report.md",
                "%kasal artifacts --to results",
            ),
        ),
        Command(
            "usage",
            "runs",
            "Show what your runs have used, and what it cost.",
            (
                "%kasal usage",
                "%kasal usage --by model",
                "%kasal usage --plot",
                '%kasal usage --by task --crew "Market research"',
            ),
        ),
        Command(
            "tools",
            "server",
            "List the tools that agents can use, this notebook's own functions among them; or show one.",
            ("%kasal tools", "%kasal tools calculator"),
        ),
        Command(
            "mcp",
            "server",
            "List the MCP servers, whose tools agents can use; or show one with its tools.",
            ("%kasal mcp", "%kasal mcp files"),
        ),
        Command(
            "models",
            "server",
            "List the models: those that can run first, with their prices, then the others with the reason.",
            ("%kasal models", "%kasal models gpt"),
        ),
        Command(
            "providers",
            "server",
            "List who serves models and searches the web, and what each needs to be used.",
            ("%kasal providers", "%kasal providers anthropic"),
        ),
        Command(
            "provider",
            "server",
            "Ask a provider something small: whether its key, its address and a model work.",
            ("%kasal provider test openai", "%kasal provider test ollama --model llama3.2"),
        ),
        Command(
            "memory",
            "memory",
            "Show what a crew remembers, search in it, or change it.",
            (
                '%kasal memory "Market research"',
                '%kasal memory "Market research" which sources were reliable',
                '%kasal memory "Market research" --add "Email preferred" --about preferences',
                '%kasal memory "Market research" --clear short_term',
            ),
        ),
        Command(
            "knowledge",
            "memory",
            "Show what a crew was given to know, or give it files.",
            (
                '%kasal knowledge "Market research"',
                '%kasal knowledge "Market research" --add prices.csv handbook.pdf',
                '%kasal knowledge "Market research" --remove prices.csv',
            ),
        ),
        Command(
            "export",
            "files",
            "Write a crew as YAML, as a CrewAI project, or for Kasal's canvas; or a run as an archive.",
            (
                '%kasal export "Market research"',
                '%kasal export "Market research" research.yaml',
                '%kasal export "Market research" research --format crewai',
                "%kasal export job_4t9k2m0x7q1z run.zip",
            ),
        ),
        Command(
            "import",
            "files",
            "Create or update crews from files: all, or none where one has a fault. Or take runs in.",
            (
                "%kasal import research.yaml",
                "%kasal import crews/*.yaml",
                "%kasal import my_crewai_project",
                "%kasal import export_from_kasal.json",
                "%kasal import run.zip",
            ),
        ),
        Command(
            "prune",
            "files",
            "Compress and delete what of runs is kept no longer; what was used stays in the books.",
            ("%kasal prune --dry-run", "%kasal prune --execution-days 90", "%kasal prune --bytes 5GB"),
        ),
        Command(
            "generate",
            "files",
            "Have a model make a crew of a sentence; its YAML comes in a new cell.",
            (
                '%kasal generate "Research a topic on the web and write a report" --input topic',
                '%kasal generate "Answer customers\' mails" --model gpt-4 --save',
            ),
        ),
        Command(
            "edit",
            "crews",
            "Change a crew in a form, or begin a new one.",
            ('%kasal edit "Market research"',),
        ),
        Command(
            "history",
            "crews",
            "List a crew's versions: who changed it, when, and from where; compare two, or bring one back.",
            (
                '%kasal history "Market research"',
                '%kasal history "Market research" --diff 3',
                '%kasal history "Market research" --diff 3 5',
                '%kasal history "Market research" --restore 3',
            ),
        ),
        Command(
            "rename",
            "crews",
            "Give a crew another name; of two of one name, its id says which.",
            (
                '%kasal rename "Market research" "Tea research"',
                '%kasal rename crew_4t9k2m0x7q1z "Tea research"',
            ),
        ),
        Command(
            "copy",
            "crews",
            "Make a crew like another; its memory, knowledge and history do not go along.",
            ('%kasal copy "Market research" "Tea research"',),
        ),
        Command(
            "rm",
            "crews",
            "Delete crews, with versions, memory and knowledge; or runs that have ended, with their traces.",
            ('%kasal rm "Market research"', "%kasal rm job_4t9k2m0x7q1z job_7q1z4t9k2m0x"),
        ),
        Command(
            "doctor",
            "doctor",
            "Check everything that can be wrong on the way, and say what to do.",
            ("%kasal doctor", "%kasal doctor --quick"),
        ),
    )
}


ALIASES = {alias: each for each in COMMANDS.values() for alias in each.aliases}
"""Other words for some of them."""


def find_command(word: str) -> Command | None:
    """Give the sub-command of a word; None where there is none."""
    return COMMANDS.get(word) or ALIASES.get(word)


def overview() -> str:
    """Give the help of `%kasal` itself: a line a sub-command."""
    named = {", ".join([name, *each.aliases]): each for name, each in COMMANDS.items()}
    width = max(map(len, named))
    lines = [f"  {name:<{width}}  {each.summary}" for name, each in named.items()]
    return "\n".join(["usage: %kasal WORD …   (%kasal WORD --help says more)", "", *lines])
