"""The sub-commands of `%kasal`: what each is called, which words it takes, which function carries it out.

The modules of the functions are imported when one is used: the table is light enough to complete from.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from kasal_jupyter.kernel.command_line import Parser, bound, count, day, one_of

if TYPE_CHECKING:
    from kasal_jupyter.kernel.session import Session

KINDS = ("task", "agent", "llm", "tool", "memory", "status", "error")
"""The kinds of step that a trace can be narrowed to; the contract's own, which is not imported for them."""

GROUPS = ("day", "crew", "user", "model", "agent", "task")
"""What usage can be told apart by, likewise."""

CREW_FORMATS = ("yaml", "crewai", "kasal")
"""What a crew can be written as, likewise."""

STATES = ("queued", "running", "completed", "failed", "stopped", "interrupted")
"""The states of a run, likewise."""


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command.

    Attributes
    ----------
    name, summary, examples
        What its help says.
    module
        The module of this package that has the function of its name.
    arguments
        Adds its words to a parser.
    cell
        Whether it is written with ``%%``: it never is, it may be, it must be.
    aliases
        Other words for it.
    """

    name: str
    module: str
    summary: str
    examples: tuple[str, ...]
    arguments: Callable[[Parser], object] = lambda _: None
    cell: Literal["never", "may", "must"] = "never"
    aliases: tuple[str, ...] = ()

    def parser(self) -> Parser:
        """Give the parser of its words."""
        magic = "%%kasal" if self.cell == "must" else "%kasal"
        parser = Parser(f"{magic} {self.name}", self.summary, self.examples)
        self.arguments(parser)
        return parser

    def carry_out(self, session: Session, words: Namespace, cell: str | None) -> Any:
        """Carry it out, and give what the cell shows."""
        module = import_module(f"{__name__}.{self.module}")
        return getattr(module, f"{self.name}_command")(session, words, cell)


def _crew(parser: Parser) -> None:
    parser.add_argument("crew", metavar="NAME", help="the crew's name or id")


def _memory(parser: Parser) -> None:
    _crew(parser)
    parser.add_argument("query", nargs="*", metavar="WORDS", help="what to look for; else all is listed")
    kinds = ("short_term", "long_term", "knowledge")
    parser.add_argument("--type", type=one_of(kinds), metavar="TYPE", help="short_term or long_term only")
    parser.add_argument("--add", metavar="TEXT", help="have the crew remember this")
    parser.add_argument("--about", metavar="CATEGORY", help="what the added memory is about")
    parser.add_argument("--forget", metavar="ID", help="have the crew forget one memory")
    types = ("short_term", "long_term", "all")
    parser.add_argument("--clear", type=one_of(types), metavar="TYPE", help="have it forget a type, or all")


def _knowledge(parser: Parser) -> None:
    _crew(parser)
    parser.add_argument("--add", nargs="+", metavar="FILE", help="text, Markdown, CSV, JSON, HTML or PDF")
    parser.add_argument("--name", metavar="NAME", help="what the added file is called; else as it is")
    parser.add_argument("--show", metavar="SOURCE", help="show the passages of a source, by name or id")
    parser.add_argument("--remove", metavar="SOURCE", help="take a source away, by name or id")


def _job(parser: Parser) -> None:
    parser.add_argument(
        "job",
        nargs="?",
        metavar="JOB",
        help="a job id, its number in the latest list, or last; else the latest of this notebook",
    )


def _result(parser: Parser) -> None:
    _job(parser)
    parser.add_argument("-o", "--output", metavar="NAME", help="the variable that takes it, as a text")


def _inputs(parser: Parser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="name=value",
        help="an input: a text, a variable of the notebook or an expression of them. In quotes it is a text; "
        "$name is always the variable, $$ a dollar",
    )


def _connect(parser: Parser) -> None:
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="the server's base URL, without /v1; else it is found anew"
    )
    parser.add_argument("--token", metavar="TOKEN", help="Jupyter's token or a Kasal one; else KASAL_TOKEN")


def _make(parser: Parser) -> None:
    parser.add_argument("name", nargs="*", metavar="NAME", help="the crew's name; else the YAML's `name`")
    parser.add_argument(
        "--raw", action="store_true", help="leave {{name}} as it is, instead of filling in the variable"
    )
    parser.add_argument(
        "--force", action="store_true", help="write over what was changed elsewhere; its history keeps that"
    )
    parser.add_argument(
        "--as", dest="new_name", metavar="NEWNAME", help="make it a crew of another name, and keep both"
    )


def _history(parser: Parser) -> None:
    _crew(parser)
    parser.add_argument(
        "--diff",
        nargs="+",
        type=count,
        metavar="N",
        help="compare version N with another, else the present one",
    )
    parser.add_argument("--restore", type=count, metavar="N", help="bring version N back, as a new version")


def _remove(parser: Parser) -> None:
    parser.add_argument(
        "what", nargs="+", metavar="NAME|ID|JOB", help="crews by name or id, runs by their id"
    )


def _to_name(parser: Parser) -> None:
    _crew(parser)
    parser.add_argument("new_name", metavar="NEWNAME", help="the new name; in quotes where it has blanks")


def _check(parser: Parser) -> None:
    _crew(parser)
    _inputs(parser)


def _run(parser: Parser) -> None:
    parser.add_argument("crew", nargs="?", metavar="NAME", help="the crew's name or id")
    _inputs(parser)
    parser.add_argument("--bg", action="store_true", help="go on at once; the view goes on updating")
    parser.add_argument("-o", "--output", metavar="NAME", help="the variable that takes the result")
    parser.add_argument("--max-cost", metavar="DOLLARS", type=bound, help="end before it costs more")
    parser.add_argument("--max-tokens", metavar="N", type=count, help="end before it uses more tokens")
    parser.add_argument("--max-seconds", metavar="S", type=bound, help="end before it takes longer")
    parser.add_argument(
        "--again",
        nargs="?",
        const="last",
        metavar="JOB",
        help="repeat a run, by its id, number or last, with its inputs; those that are given win over them",
    )


def _answer(parser: Parser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="[JOB] TEXT",
        help="the answer, behind a job id; else the latest run of this notebook is meant. Of choices, one "
        "or its number. Without an answer the questions are shown",
    )


def _ps(parser: Parser) -> None:
    parser.add_argument("--crew", metavar="NAME", help="one crew's runs")
    parser.add_argument("--status", metavar="STATE", type=one_of(STATES), help=", ".join(STATES))
    parser.add_argument("--limit", metavar="N", type=count, default=20, help="how many; by default 20")


def _artifacts(parser: Parser) -> None:
    _job(parser)
    parser.add_argument("--get", metavar="FILE", help="save one of the files")
    parser.add_argument("--to", metavar="FOLDER", help="save there, all files where none is named")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")


def _usage(parser: Parser) -> None:
    parser.add_argument(
        "--by",
        metavar="WHAT",
        type=one_of(GROUPS),
        help=f"what it is told apart by: {', '.join(GROUPS)}; by default day",
    )
    parser.add_argument("--crew", metavar="NAME", help="one crew's")
    parser.add_argument(
        "--since", metavar="DAY", type=day, help="the first day, 2024-01-15; by default 30 days are shown"
    )
    parser.add_argument("--until", metavar="DAY", type=day, help="the last day; by default today")
    parser.add_argument(
        "--plot", action="store_true", help="draw cost and tokens; by default by day, model and crew"
    )


def _traces(parser: Parser) -> None:
    _job(parser)
    parser.add_argument(
        "--kind",
        metavar="KIND",
        type=one_of(KINDS, many=True),
        help=f"steps of these kinds, separated by commas: {', '.join(KINDS)}",
    )
    parser.add_argument("--agent", metavar="NAME", help="one agent's steps")
    parser.add_argument("--task", metavar="NAME", help="one task's steps, by its name or id")
    parser.add_argument("--find", metavar="TEXT", help="steps whose answer, arguments or result have it")
    parser.add_argument("--failed", action="store_true", help="steps that failed")
    parser.add_argument("--limit", metavar="N", type=count, default=200, help="how many; by default 200")
    parser.add_argument("--after", metavar="N", type=count, help="those behind the step of this number")


def _one(what: str, help_text: str) -> Callable[[Parser], None]:
    def add(parser: Parser) -> None:
        parser.add_argument(what, nargs="?", metavar="NAME", help=help_text)

    return add


def _export(parser: Parser) -> None:
    _crew(parser)
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="where to write it; else a cell is printed, or the file"
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        type=one_of(CREW_FORMATS),
        default="yaml",
        help="yaml; crewai: a project for CrewAI alone, in a folder or a .zip; kasal: for its canvas",
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def _import(parser: Parser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="YAML, a CrewAI project (a folder or a .zip), crew.jsonc, Kasal's export; * for several",
    )
    parser.add_argument(
        "--name", "--as", metavar="NAME", help="the crew's name; else its own, else the file's"
    )
    parser.add_argument(
        "--force", action="store_true", help="write over a crew of that name; its history keeps what it was"
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        type=one_of(("auto", *CREW_FORMATS, "jsonc")),
        default="auto",
        help="what it is, where that is not found out: yaml, crewai, jsonc, kasal",
    )


def _generate(parser: Parser) -> None:
    parser.add_argument("words", nargs="+", metavar="WORDS", help="what the crew is to do")
    parser.add_argument("--model", metavar="MODEL", help="the model that makes it, and that its agents use")
    parser.add_argument("--name", metavar="NAME", help="the crew's name; else the model gives one")
    parser.add_argument(
        "--input", metavar="NAME", action="append", default=[], help="an input that each run is to take"
    )
    parser.add_argument("--save", action="store_true", help="create the crew at once")
    parser.add_argument(
        "--force", action="store_true", help="save it over a crew of that name; its history keeps what it was"
    )
    parser.add_argument("--print", action="store_true", help="print the cell instead of adding it")


def _provider(parser: Parser) -> None:
    parser.add_argument("action", metavar="test", type=one_of(("test",)), help="the only thing to do here")
    parser.add_argument("name", metavar="NAME", help="the provider, as %%kasal providers lists it")
    parser.add_argument("--model", metavar="MODEL", help="the model to ask; else one that it serves")


def _doctor(parser: Parser) -> None:
    parser.add_argument("--quick", action="store_true", help="leave out the run that tries the engine")


COMMANDS: dict[str, Command] = {
    each.name: each
    for each in (
        Command("demo", "runs", "Create a small crew that needs no key, and run it.", ("%kasal demo",)),
        Command(
            "connect",
            "server",
            "Say which server to talk to: by default it is found by itself.",
            ("%kasal connect http://localhost:8888 --token …", "%kasal connect"),
            _connect,
        ),
        Command(
            "crew",
            "crews",
            "Create or update a crew from the YAML in the cell: CrewAI's agents and tasks.",
            ("%%kasal crew Market research", "agents:", "  writer:", "    …"),
            _make,
            "must",
        ),
        Command("crews", "crews", "List the crews.", ("%kasal crews",), aliases=("list",)),
        Command(
            "show",
            "crews",
            "Show a crew: its tasks, who does them, how to run it.",
            ('%kasal show "Market research"',),
            _crew,
        ),
        Command(
            "check",
            "crews",
            "Say whether a crew could run with these inputs, and everything that keeps it from that.",
            ('%kasal check "Market research" topic=tea',),
            _check,
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
                "%kasal run --again job_4t9k2m0x7q1z topic=coffee",
            ),
            _run,
            "may",
        ),
        Command(
            "ps",
            "runs",
            "List the latest runs, newest first.",
            ("%kasal ps", "%kasal ps --status failed"),
            _ps,
            aliases=("runs",),
        ),
        Command(
            "status",
            "runs",
            "Pick a run's view up again; it goes on by itself while the notebook does.",
            ("%kasal status", "%kasal status job_4t9k2m0x7q1z", "%kasal status 2"),
            _job,
        ),
        Command(
            "wait",
            "runs",
            "Wait for a run's end, as %kasal run does; the cell fails where the run has failed.",
            ("result = %kasal wait job_4t9k2m0x7q1z",),
            _job,
        ),
        Command(
            "answer",
            "runs",
            "Answer what an agent asks in a run.",
            ('%kasal answer job_4t9k2m0x7q1z "Go on"', "%kasal answer yes"),
            _answer,
        ),
        Command(
            "result",
            "result",
            "Give a run's answer, whole.",
            ("%kasal result", "%kasal result job_4t9k2m0x7q1z -o answer"),
            _result,
        ),
        Command("stop", "runs", "Stop a run.", ("%kasal stop", "%kasal stop job_4t9k2m0x7q1z"), _job),
        Command(
            "traces",
            "runs",
            "List what a run's agents did, a row a step.",
            (
                "%kasal traces",
                "%kasal traces job_4t9k2m0x7q1z --kind tool,llm --agent writer --limit 20",
                "%kasal traces 1 --find timeout --failed",
            ),
            _traces,
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
            _artifacts,
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
            _usage,
        ),
        Command(
            "tools",
            "server",
            "List the tools that agents can use, this notebook's own functions among them; or show one.",
            ("%kasal tools", "%kasal tools calculator"),
            _one("tool", "one tool, with its arguments"),
        ),
        Command(
            "mcp",
            "mcp",
            "List the MCP servers, whose tools agents can use; or show one with its tools.",
            ("%kasal mcp", "%kasal mcp files"),
            _one("server", "one server, with its tools"),
        ),
        Command(
            "models",
            "server",
            "List the models: those that can run first, with their prices, then the others with the reason.",
            ("%kasal models", "%kasal models gpt"),
            _one("model", "part of the names to show"),
        ),
        Command(
            "providers",
            "providers",
            "List who serves models and searches the web, and what each needs to be used.",
            ("%kasal providers", "%kasal providers anthropic"),
            _one("provider", "part of the names to show"),
        ),
        Command(
            "provider",
            "providers",
            "Ask a provider something small: whether its key, its address and a model work.",
            ("%kasal provider test openai", "%kasal provider test ollama --model llama3.2"),
            _provider,
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
            _memory,
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
            _knowledge,
        ),
        Command(
            "export",
            "files",
            "Write a crew as YAML, as a project for CrewAI alone, or for Kasal's canvas.",
            (
                '%kasal export "Market research"',
                '%kasal export "Market research" research.yaml',
                '%kasal export "Market research" research --format crewai',
            ),
            _export,
        ),
        Command(
            "import",
            "files",
            "Create or update crews from files: all of them, or none where one has a fault.",
            (
                "%kasal import research.yaml",
                "%kasal import crews/*.yaml",
                "%kasal import my_crewai_project",
                "%kasal import export_from_kasal.json",
            ),
            _import,
        ),
        Command(
            "generate",
            "generate",
            "Have a model make a crew of a sentence; its YAML comes in a new cell.",
            (
                '%kasal generate "Research a topic on the web and write a report" --input topic',
                '%kasal generate "Answer customers\' mails" --model gpt-4 --save',
            ),
            _generate,
        ),
        Command(
            "edit",
            "crews",
            "Change a crew in a form, or begin a new one.",
            ('%kasal edit "Market research"',),
            _crew,
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
            _history,
        ),
        Command(
            "rename",
            "crews",
            "Give a crew another name; of two of one name, its id says which.",
            (
                '%kasal rename "Market research" "Tea research"',
                '%kasal rename crew_4t9k2m0x7q1z "Tea research"',
            ),
            _to_name,
        ),
        Command(
            "copy",
            "crews",
            "Make a crew like another; its memory, knowledge and history do not go along.",
            ('%kasal copy "Market research" "Tea research"',),
            _to_name,
        ),
        Command(
            "rm",
            "crews",
            "Delete crews, with versions, memory and knowledge; or runs that have ended, with their traces.",
            ('%kasal rm "Market research"', "%kasal rm job_4t9k2m0x7q1z job_7q1z4t9k2m0x"),
            _remove,
        ),
        Command(
            "doctor",
            "doctor",
            "Check everything that can be wrong on the way, and say what to do.",
            ("%kasal doctor", "%kasal doctor --quick"),
            _doctor,
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
