"""Completion with Tab behind `%kasal`: words, options, names, job ids, inputs, variables, files."""

from __future__ import annotations

import argparse
import builtins
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kasal_jupyter.kernel.command_line import Line, Parser, Word, quoted, scan
from kasal_jupyter.kernel.commands import COMMANDS, GROUPS, KINDS, STATES, find_command
from kasal_jupyter.kernel.notebook_values import Notebook
from kasal_jupyter.kernel.session import the_session

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext
    from IPython.core.interactiveshell import InteractiveShell

    from kasal_jupyter.kernel.client import Client
    from kasal_jupyter.kernel.lookups import Lookups

_MAGIC = re.compile(r"(?:^|=)\s*(%{1,2})kasal\s(.*)\Z", re.DOTALL)
"""The magic on a line: at its beginning, or behind an assignment."""

_NAMED = re.compile(r"[\w.]*")
"""What may be part of a name or of its attributes, from the end of an expression backwards."""


@dataclass(frozen=True, slots=True)
class Found:
    """What may stand at the cursor.

    Attributes
    ----------
    fragment
        What stands there, and would be replaced.
    words
        What would replace it.
    """

    fragment: str
    words: list[str]


def complete(context: CompletionContext, shell: InteractiveShell) -> Any:
    """Answer IPython: what completes the line, and that nothing else does."""
    from IPython.core.completer import SimpleCompletion

    magic = _MAGIC.search(context.text_until_cursor)
    if magic is None:
        return {"completions": []}
    notebook = the_session().notebook
    found = candidates(magic[2], cell=magic[1] == "%%", notebook=notebook, completer=shell.Completer)
    return {
        "completions": [SimpleCompletion(text=word, type="kasal") for word in found.words],
        "matched_fragment": found.fragment,
        "ordered": True,
        # Of the notebook's files, magics and names none is meant here.
        "suppress": True,
    }


def candidates(text: str, *, cell: bool, notebook: Notebook, completer: Any = None) -> Found:
    """Give what may stand at the end of a line.

    Parameters
    ----------
    text
        The line behind `%kasal`, up to the cursor.
    cell
        Whether it is `%%kasal`.
    notebook
        Its variables.
    completer
        IPython's, for the attributes of variables.
    """
    line = scan(text)
    if not line.words:
        known = [name for name, each in COMMANDS.items() if each.cell != ("never" if cell else "must")]
        return _matching(line.last.raw, [*known, "--help"] if line.last.startswith("-") else known)
    command = find_command(line.words[0])
    if command is None:
        return Found(line.last.raw, [])
    return _Place(command.parser(), line, notebook, completer).found()


class _Place:
    """The cursor's place among a sub-command's words."""

    def __init__(self, parser: Parser, line: Line, notebook: Notebook, completer: Any) -> None:
        self.parser = parser
        self.line = line
        self.last = line.last
        self.notebook = notebook
        self.completer = completer
        self.given: dict[str, list[Word]] = {}
        self.waiting: argparse.Action | None = None
        self._read(line.words[1:])

    def found(self) -> Found:
        """Give what may stand at the cursor."""
        if self.waiting is not None:
            return self.named(self.waiting.dest)
        option, equals, value = self.last.raw.partition("=")
        if equals and option in self.parser.options and not self.last.quoted:
            self.last = Word(value, value)
            return self.named(self.parser.options[option].dest)
        options = self.options()
        if self.last.raw.startswith("-"):
            return _matching(self.last.raw, options)
        position = self._position()
        if position is None:
            return _matching(self.last.raw, options)
        found = self.named(position.dest)
        if self.last.raw:
            return found
        return Found(found.fragment, [*found.words, *options])

    def named(self, what: str) -> Found:
        """Give what may stand for an argument of that name."""
        match what:
            case "crew":
                return self.quoting(_names(_crews))
            case "job":
                return self.quoting(_jobs())
            case "what":
                return self.quoting([*_names(_crews), *_jobs()])
            case "inputs":
                return self.inputs()
            case "file" | "files" | "to":
                return self.quoting(_files(self.last))
            case "kind":
                done, comma, _ = self.last.raw.rpartition(",")
                return _matching(self.last.raw, [f"{done}{comma}{kind}" for kind in KINDS])
            case "status":
                return _matching(self.last.raw, STATES)
            case "by":
                return _matching(self.last.raw, GROUPS)
            case "agent" | "task":
                return self.quoting(self.members(what))
            case "tool":
                return self.quoting(_tools())
            case "model":
                return self.quoting(_names(_models))
            case "output":
                return _matching(self.last.raw, self.notebook.variables())
        return Found(self.last.raw, [])

    def quoting(self, names: Iterable[str]) -> Found:
        """Give the names that begin with what is typed, in quotes where they need them or have begun one."""
        begin = str(self.last)
        near = [name for name in names if name.lower().startswith(begin.lower())]
        return Found(self.last.raw, [quoted(name, self.line.open_quote) for name in near])

    def options(self) -> list[str]:
        """Give the options that were not given yet."""
        return [
            name
            for name, action in self.parser.options.items()
            if action.dest not in self.given and name != "-h"
        ]

    def inputs(self) -> Found:
        """Give the crew's inputs as ``name=``, or what may stand behind the ``=``."""
        name, equals, value = self.last.raw.partition("=")
        if equals and not self.last.quoted:
            return self.value(value)
        crew = _crew(self.given["crew"][0]) if "crew" in self.given else []
        done = {word.partition("=")[0] for word in self.given.get("inputs", [])}
        return _matching(name, [f"{each}=" for each in crew if each not in done])

    def value(self, text: str) -> Found:
        """Give the notebook's variables for an input's value, and the attributes of one."""
        if text[:1] in {"'", '"'}:
            return Found("", [])
        marked = text.removeprefix("$")
        fragment = _tail(marked)
        if "." in fragment:
            attributes = self.completer.attr_matches(fragment) if self.completer is not None else []
            return Found(fragment, [each for each in attributes if each.startswith(fragment)])
        names = self.notebook.variables()
        if fragment and fragment != marked:
            # Within an expression, functions as well.
            names += [name for name in self.notebook.namespace if name not in names and name[0] != "_"]
            names += [name for name in dir(builtins) if name.islower() and name[0] != "_"]
        return _matching(fragment, names)

    def members(self, what: str) -> list[str]:
        """Give the names of the agents or tasks of the run that is meant."""
        job_id = str(self.given["job"][0]) if "job" in self.given else the_session().last_job
        if job_id is None:
            return []

        def question(client: Client) -> list[str]:
            crew = client.crew(client.execution(job_id).crew_id)
            if what == "agent":
                return [agent.name for agent in crew.agents]
            return [task.title() for task in crew.tasks]

        return _lookups().ask((what, job_id), question, list[str]())

    def _read(self, words: list[Word]) -> None:
        """Take the whole words in, as the parser would."""
        for word in words:
            if self.waiting is not None:
                self._take(self.waiting, word)
                self.waiting = None
                continue
            option = self.parser.options.get(word.partition("=")[0])
            if option is not None and not word.quoted:
                self.given.setdefault(option.dest, [])
                self.waiting = option if option.nargs != 0 and "=" not in word else None
            elif (position := self._position()) is not None:
                self._take(position, word)

    def _take(self, action: argparse.Action, word: Word) -> None:
        self.given.setdefault(action.dest, []).append(word)

    def _position(self) -> argparse.Action | None:
        """Give what the next word without a dash is."""
        for action in self.parser.positions:
            if action.nargs in {"*", "+"} or action.dest not in self.given:
                return action
        return None


def _matching(fragment: str, words: Iterable[str]) -> Found:
    return Found(fragment, [word for word in words if word.startswith(fragment)])


@cache
def _lookups() -> Lookups:
    from kasal_jupyter.kernel.lookups import Lookups

    return Lookups(the_session())


def _names(question: Callable[[Client], list[str]]) -> list[str]:
    return _lookups().ask((question,), question, list[str]())


def _crews(client: Client) -> list[str]:
    return [each.name for each in client.crews()]


def _models(client: Client) -> list[str]:
    models = sorted(client.models(), key=lambda each: not each.available)
    return [each.name for each in models]


def _jobs() -> list[str]:
    def question(client: Client) -> list[str]:
        return [each.job_id for each in client.executions(100)]

    return _lookups().ask(("jobs",), question, list[str]())


def _tools() -> list[str]:
    from kasal_jupyter.kernel.notebook_tools import registered

    def question(client: Client) -> list[str]:
        return [each.name for each in client.tools()]

    return list(dict.fromkeys([*registered(), *_lookups().ask(("tools",), question, list[str]())]))


def _crew(word: str) -> list[str]:
    """Give the names of a crew's inputs."""

    def question(client: Client) -> list[str]:
        from kasal_jupyter.kernel.crew_plan import inputs_of

        found = client.crews(name=word)
        return inputs_of(client.crew(found[0].id if found else word))

    return _lookups().ask(("inputs", word), question, list[str]())


def _files(begin: str) -> list[str]:
    """Give the folders, and the YAML files, that a path may go on with."""
    folder, slash, name = begin.rpartition("/")
    where = Path(f"{folder}{slash}" or ".").expanduser()
    found = []
    try:
        entries = sorted(where.iterdir())
    except OSError:
        return []
    for entry in entries:
        if entry.name.startswith(".") and not name.startswith("."):
            continue
        if entry.is_dir():
            found.append(f"{folder}{slash}{entry.name}/")
        elif entry.suffix in {".yaml", ".yml"}:
            found.append(f"{folder}{slash}{entry.name}")
    return found


def _tail(text: str) -> str:
    """Give the name, or the attributes of one, that an expression ends with."""
    backwards = _NAMED.match(text[::-1])
    assert backwards is not None
    tail = text[len(text) - backwards.end() :]
    begin = next((at for at, each in enumerate(tail) if each.isidentifier()), len(tail))
    return tail[begin:]
