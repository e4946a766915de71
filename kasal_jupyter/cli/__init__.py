"""The `jupyter kasal` command: the standalone server, and the sub-commands beside it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import cast

from kasal_jupyter.cli.terminal import lose_nothing
from kasal_jupyter.errors import KasalError, nearest
from kasal_jupyter.wellformed import well_formed

INTERRUPTED = 130
"""The exit status of a command ended by Ctrl-C, as shells have it, and of a run that was stopped."""

WRONG_USAGE = 2
"""The exit status where the words could not be understood, as argparse has it."""

_SLOW = "rfc3987_syntax"
"""Where it is installed, jsonschema imports it, and it compiles the grammar of international addresses: three
seconds of a start that takes one without it. No schema of Jupyter's or ours has the format ``iri``."""


class WrongUsage(KasalError):
    """The words of a command cannot be understood."""


_GROUPS = {
    "Run crews": {
        "run": "run a crew, from a YAML file or by its name, and watch it",
        "ps": "list the latest executions",
        "status": "tell how an execution stands",
        "wait": "wait for an execution's end, and print its answer",
        "result": "print what came of an execution, whole",
        "replay": "run an execution once more from its record, at no cost",
        "resume": "go on with an execution that ended before its time",
        "fork": "go another way from a step of an execution on",
        "diff": "show in what two executions differ",
        "compare": "run the same rows through crews, and say which is better; a gate for CI",
        "dataset": "list datasets, show one, or make one",
        "rate": "say whether an execution's answer is good",
        "traces": "show what an execution's agents did; --follow watches it",
        "answer": "answer what an agent asks in an execution",
        "artifacts": "list or save the files that an execution has written",
        "stop": "stop an execution",
        "map": "run a crew over the rows of a file, a run a row",
        "batches": "list the batches, or tell one to pause, go on or end",
        "usage": "show what runs have used, and what it cost",
        "crews": "list the crews; import some, export one, in every format",
        "history": "list a crew's versions, compare two, or bring one back",
        "rename": "give a crew another name",
        "copy": "make a crew like another",
        "rm": "delete crews, or executions that have ended",
        "generate": "have a model make a crew of a sentence",
        "export": "write a crew as YAML, or an execution's trace, or all of it as an archive",
        "import": "take in executions that were exported as archives",
    },
    "The server and its data": {
        "demo": "run a crew on a server of its own, and watch it; needs no key and no network",
        "server": "list or stop the private servers that notebooks and terminals have started",
        "provider": "list and set the providers of models, with their keys",
        "mcp": "list, add and remove MCP servers, whose tools agents can use",
        "user": "add, list and change users",
        "prune": "compress and delete what of executions is kept no longer; --dry-run says what",
        "db": "export the store to a JSON file, or import one",
    },
}
"""The sub-commands; there, ``add_NAME`` has the parser take its words, and ``run_NAME`` carries it out."""

_MODULES = {
    "compare": ("compare", "dataset", "rate"),
    "batches": ("map", "batches"),
    "crews": ("crews", "history", "rename", "copy", "rm", "generate"),
    "data_folder": ("user", "db"),
    "executions": (
        "ps",
        "status",
        "result",
        "answer",
        "stop",
        "artifacts",
        "usage",
        "export",
        "import",
        "prune",
    ),
    "forks": ("fork", "diff"),
    "run": ("run", "replay", "resume", "wait", "traces"),
}
"""The modules that have several; each other command has the module of its name."""

ALIASES = {"list": "crews", "runs": "ps"}
"""Other words for some of them."""

COMMANDS = {name: summary for group in _GROUPS.values() for name, summary in group.items()}

_DESCRIPTION = """\
usage: jupyter kasal COMMAND [--help]
       jupyter kasal [SERVER OPTIONS]

Kasal inside Jupyter: crews of agents on CrewAI.
"""

_SERVER = """\
Without a command it is a server of its own, with the API under /v1 and /api/v1:
  --port=8000            where it listens
  --ip=localhost         on which address
  --data-folder=FOLDER   where it keeps crews, executions and traces
  --default-model=MODEL  the model of agents that name none
  --help-all             all its options, Jupyter's among them

The commands talk to the server that KASAL_URL and KASAL_TOKEN (or --url and --token) name, else to the
Jupyter server in whose terminal they are typed, else to a private server of yours, which they start.

Exit status: 0 done, or the run has completed; 1 refused, or the run has failed; 2 wrong usage;
130 ended by Ctrl-C, or the run was stopped or interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out `jupyter kasal`.

    Without a sub-command it is the standalone server, with Jupyter's own options (`--port` …).

    Parameters
    ----------
    argv
        The words behind the command's name; the process's own where none are given.

    Returns
    -------
    int
        The exit status: 1 where something was refused or failed, 2 where the words were wrong, 130 after
        Ctrl-C.
    """
    words = well_formed(list(sys.argv[1:] if argv is None else argv))
    lose_nothing()
    try:
        if words and words[0] in {"-h", "--help", "help"}:
            print(help_text())
            return 0
        if words and not words[0].startswith("-"):
            return _run_command(words)
        with quick_imports():
            from kasal_jupyter.app import KasalApp

        KasalApp.launch_instance(words)  # type: ignore[no-untyped-call]
    except KasalError as error:
        from kasal_jupyter.kernel.views.clean import clean

        print(f"jupyter kasal: {clean(error.message)}", file=sys.stderr)
        for fault in error.faults:
            if fault.reason not in error.message or len(error.faults) > 1:
                print(clean(f"  {fault.field}: {fault.reason}"), file=sys.stderr)
        return WRONG_USAGE if isinstance(error, WrongUsage) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`). Python would complain once more as it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def help_text() -> str:
    """Give what `jupyter kasal --help` says."""
    lines = [_DESCRIPTION]
    for title, commands in _GROUPS.items():
        lines += [f"{title}:", *(f"  {name:<9} {summary}" for name, summary in commands.items()), ""]
    return "\n".join([*lines, _SERVER]).rstrip()


def _run_command(words: list[str]) -> int:
    name = ALIASES.get(words[0], words[0])
    words = [name, *words[1:]]
    if name not in COMMANDS:
        print(
            f"jupyter kasal: there is no command {name!r}{nearest(name, [*COMMANDS, *ALIASES])}\n"
            f"There are {', '.join(COMMANDS)}; `jupyter kasal --help` says what they do",
            file=sys.stderr,
        )
        return WRONG_USAGE
    parser = argparse.ArgumentParser(prog="jupyter kasal")
    # The modules of the other commands are not loaded.
    module = import_module(f"kasal_jupyter.cli.{_module_of(name)}")
    getattr(module, f"add_{name}")(parser.add_subparsers(required=True, metavar="COMMAND"))
    args, rest = parser.parse_known_args(words)
    if "values" in args and not any(word.startswith("-") for word in rest):
        # Behind an option, argparse does not take more of a list of words.
        args.values += rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return cast("Callable[[argparse.Namespace], int]", args.handler)(args)


def _module_of(command: str) -> str:
    return next((module for module, commands in _MODULES.items() if command in commands), command)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Have Jupyter Server load without the part that takes longest, and that no server of ours uses."""
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    if _SLOW in modules:
        yield
        return
    modules[_SLOW] = None
    try:
        yield
    finally:
        del modules[_SLOW]
