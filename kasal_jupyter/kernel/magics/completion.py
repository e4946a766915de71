"""Completion with Tab behind `%kasal`: words, options, names, job ids, inputs, variables, files."""

from __future__ import annotations

import argparse
import builtins
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.client.finding import find_server
from kasal_jupyter.errors import KasalError
from kasal_jupyter.kernel.magics.command_line import Line, OneOf, Parser, Word, quoted, scan
from kasal_jupyter.kernel.magics.crew_words import begun, joined
from kasal_jupyter.kernel.magics.notebook_values import Notebook
from kasal_jupyter.kernel.magics.subcommands import COMMANDS, find_command
from kasal_jupyter.kernel.session import Session, the_session
from kasal_jupyter.schemas.base import MOST_LISTED

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext
    from IPython.core.interactiveshell import InteractiveShell


_MAGIC = re.compile(r"(?:^|=)\s*(%{1,2})kasal\s(.*)\Z", re.DOTALL)
"""The magic on a line: at its beginning, or behind an assignment."""

_NAMED = re.compile(r"[\w.]*")
"""What may be part of a name or of its attributes, from the end of an expression backwards."""

_YAML = (".yaml", ".yml")
"""The files that a crew is written to."""

_CREWS = (*_YAML, ".json", ".jsonc", ".zip")
"""The files that crews are read from."""


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

    notebook = the_session().notebook
    magic = _MAGIC.search(context.text_until_cursor)
    if magic is not None:
        found = candidates(magic[2], cell=magic[1] == "%%", notebook=notebook, completer=shell.Completer)
    elif context.cursor_line > 0 and (head := _MAGIC.match(context.full_text.partition("\n")[0])):
        lines = context.full_text.split("\n")[1 : context.cursor_line]
        found = in_cell(head[2], "\n".join([*lines, context.text_until_cursor]), notebook)
    else:
        return {"completions": []}
    return {
        # Where nothing is known, what is typed stays: of an empty answer, IPython offers all its own magics.
        "completions": [
            SimpleCompletion(text=word, type="kasal") for word in found.words or [found.fragment]
        ],
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
    if line.words and (found := _without_quotes(text, line)) is not None:
        return found
    if not line.words:
        known = [name for name, each in COMMANDS.items() if each.cell != ("never" if cell else "must")]
        return _matching(line.last.raw, [*known, "--help"] if line.last.startswith("-") else known)
    command = find_command(line.words[0])
    if command is None:
        return Found(line.last.raw, [])
    return _Place(command.parser(), line, notebook, completer).found()


def in_cell(head: str, text: str, notebook: Notebook) -> Found:
    """Give what may stand at the end of a cell's YAML.

    Parameters
    ----------
    head
        The cell's first line, behind `%%kasal`.
    text
        What stands below it, up to the cursor.
    notebook
        Its variables.
    """
    from kasal_jupyter.kernel.magics.cell_completion import Known, crew_words, input_words

    line = scan(head)
    words = [*line.words, *([line.last] if line.last.raw else [])]
    known = Known(lambda: _names(_models), _tools, notebook.variables)
    match words[:1]:
        case ["crew"]:
            return Found(*crew_words(text, known))
        case ["run"]:
            place = _Place(COMMANDS["run"].parser(), scan(f"{head} "), notebook, None)
            names = _crew(place.given["crew"][0]) if "crew" in place.given else []
            return Found(*input_words(text, names, known))
    return Found("", [])


def _without_quotes(text: str, line: Line) -> Found | None:
    """Give the crews whose name the words so far begin, where it has blanks and was begun without quotes."""
    command = COMMANDS.get(line.words[0])
    if command is None or line.last.quoted or "=" in line.last or len(line.words) < 2:
        return None
    parser = command.parser()
    if not parser.positions or parser.positions[0].dest != "crew":
        return None
    words = [*line.words[1:], line.last]
    run = begun(words, parser.places(words))
    typed = " ".join(word.raw for word in words)
    if len(run) < len(words) or not text.endswith(typed):
        return None
    names = [name for name in _names(_crews) if name.casefold().startswith(typed.casefold())]
    return Found(typed, [quoted(name) for name in names]) if names else None


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
        self._read(self._whole(line.words[1:]))

    def found(self) -> Found:
        """Give what may stand at the cursor."""
        if self.waiting is not None and not (self.waiting.nargs == "+" and self.last.raw.startswith("-")):
            return self.named(self.waiting)
        option, equals, value = self.last.raw.partition("=")
        if equals and option in self.parser.options and not self.last.quoted:
            self.last = Word(value, value)
            return self.named(self.parser.options[option])
        options = self.options()
        if self.last.raw.startswith("-"):
            return _matching(self.last.raw, options)
        position = self._position()
        if position is None:
            return _matching(self.last.raw, options)
        found = self.named(position)
        if self.last.raw:
            return found
        return Found(found.fragment, [*found.words, *options])

    def named(self, argument: argparse.Action) -> Found:
        """Give what may stand for an argument."""
        if isinstance(argument.type, OneOf):
            # Several are separated by commas: the ones before stay as they are.
            done, comma, _ = self.last.raw.rpartition(",") if argument.type.many else ("", "", "")
            return _matching(self.last.raw, [f"{done}{comma}{each}" for each in argument.type.values])
        match argument.dest:
            case "crew" if "again" in self.given:
                return self.inputs()
            case "crew":
                return self.quoting(_names(_crews))
            case "job" | "again":
                return self.quoting(_jobs())
            case "what" if argument.metavar == "CREW":
                return self.quoting(_names(_crews))
            case "what":
                return self.quoting([*_names(_crews), *_jobs()])
            case "inputs":
                return self.inputs()
            case "words" if self.parser.prog.endswith("answer"):
                return self.quoting(self.answers())
            case "agent" | "task":
                return self.quoting(self.members(argument.dest))
            case "file":
                return self.quoting(_files(self.last, _YAML))
            case "files":
                return self.quoting(_files(self.last, _CREWS))
            case "add" if argument.metavar == "FILE":
                return self.quoting(_files(self.last, None))
            case "record" | "replay":
                return self.quoting(_files(self.last, (".jsonl",)))
            case "to":
                return self.quoting(_files(self.last, ()))
            case "get":
                return self.quoting(self.artifacts())
            case _ if argument.metavar == "SCHEDULE":
                return self.quoting(_names(_schedules))
            case "show" | "remove":
                return self.quoting(self.of_crew(argument.dest, _sources))
            case "forget":
                return self.quoting(self.of_crew(argument.dest, _memories))
            case "tool":
                return self.quoting(_tools())
            case "model":
                return self.quoting(_names(_models))
            case "provider":
                return self.quoting(_names(_providers))
            case "server":
                return self.quoting(_names(_servers))
            case "batch":
                return self.quoting(_names(_batches))
            case "columns":
                return self.columns()
            case "dataset":
                return self.quoting(_names(_datasets))
            case "rows" if self.parser.prog.endswith("compare"):
                frames = _matching(self.last.raw, self.notebook.variables())
                return Found(frames.fragment, [*frames.words, *self.quoting(_names(_datasets)).words])
            case "score":
                from kasal_jupyter.kernel.comparison.scorers import NAMES

                return _matching(self.last.raw, [*NAMES, *self.notebook.functions()])
            case "output" | "out" | "frame" | "rows":
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
        crew = self.taken()
        done = {word.partition("=")[0] for word in self.given.get("inputs", [])}
        return _matching(name, [f"{each}=" for each in crew if each not in done])

    def columns(self) -> Found:
        """Give the crew's inputs as ``name=``, or the columns of the frame that stand behind the ``=``."""
        name, equals, begin = self.last.raw.partition("=")
        if not equals:
            return _matching(name, [f"{each}=" for each in self.taken()])
        named = self.given.get("frame")
        frame = self.notebook.namespace.get(str(named[0])) if named else None
        return _matching(begin, [str(each) for each in getattr(frame, "columns", ())])

    def taken(self) -> list[str]:
        """Give the names of the inputs that the crew takes, or the run that is repeated has had."""
        if "again" in self.given or "job" in self.given:
            job_id = self._job()

            def question(client: Client) -> list[str]:
                return list(client.execution(job_id).inputs) if job_id else []

            return _lookups().ask(("inputs of", job_id), question, list[str]())
        return _crew(self.given["crew"][0]) if "crew" in self.given else []

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

    def of_crew(self, what: str, question: Callable[[Client, str], list[str]]) -> list[str]:
        """Give what the crew that is named has."""
        if "crew" not in self.given:
            return []
        word = str(self.given["crew"][0])
        return _lookups().ask((what, word), lambda client: question(client, _crew_id(client, word)), [])

    def artifacts(self) -> list[str]:
        """Give the files that the run which is meant has written."""
        job_id = self._job()
        if job_id is None:
            return []
        return _lookups().ask(
            ("artifacts", job_id), lambda client: [each.name for each in client.artifacts(job_id)], []
        )

    def answers(self) -> list[str]:
        """Give the choices of the question that is to be answered; before a job id, such ids as well."""
        first = str(self.given["words"][0]) if self.given.get("words") else ""
        job_id = first if first.startswith("job_") else the_session().last_job

        def question(client: Client) -> list[str]:
            asked = client.execution(job_id).questions if job_id else []
            return [choice for each in asked[:1] for choice in each.choices]

        return [*_lookups().ask(("answers", job_id), question, list[str]()), *([] if first else _jobs())]

    def _job(self) -> str | None:
        """Give the id of the run that is meant, which may be its number or ``last``."""
        session = the_session()
        named = self.given.get("job") or self.given.get("again")
        word = str(named[0]) if named else "last"
        if word == "last" and session.last_job is not None:
            return session.last_job
        if word != "last" and not word.isdecimal():
            return word
        jobs = session.listed if word.isdecimal() and session.listed else _jobs()
        place = int(word) - 1 if word.isdecimal() else 0
        return jobs[place] if 0 <= place < len(jobs) else None

    def members(self, what: str) -> list[str]:
        """Give the names of the agents or tasks of the run that is meant."""
        job_id = self._job()
        if job_id is None:
            return []

        def question(client: Client) -> list[str]:
            crew = client.crew(client.execution(job_id).crew_id)
            if what == "agent":
                return [agent.name for agent in crew.agents]
            return [task.title() for task in crew.tasks]

        return _lookups().ask((what, job_id), question, list[str]())

    def _whole(self, words: list[Word]) -> list[Word]:
        """Give the words with a crew's name as one of them, where it has blanks and no quotes."""
        positions = self.parser.positions
        if not positions or positions[0].dest != "crew":
            return words
        run = begun(words, self.parser.places(words))
        return joined(words, run, _names(_crews)) if len(run) > 1 else words

    def _read(self, words: list[Word]) -> None:
        """Take the whole words in, as the parser would."""
        for word in words:
            option = None if word.quoted else self.parser.options.get(word.partition("=")[0])
            if self.waiting is not None and not (self.waiting.nargs == "+" and option is not None):
                self._take(self.waiting, word)
                # Of several words, the next may be one more.
                self.waiting = self.waiting if self.waiting.nargs == "+" else None
            elif option is not None:
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

    return Lookups(the_session())


def _names(question: Callable[[Client], list[str]]) -> list[str]:
    return _lookups().ask((question,), question, list[str]())


def _crews(client: Client) -> list[str]:
    return [each.name for each in client.crews()]


def _batches(client: Client) -> list[str]:
    return list(dict.fromkeys(each.name or each.id for each in client.batches(MOST_LISTED)))


def _providers(client: Client) -> list[str]:
    return [each.name for each in client.providers()]


def _servers(client: Client) -> list[str]:
    return [each.name for each in client.mcp_servers()]


def _schedules(client: Client) -> list[str]:
    return [each.name for each in client.schedules()]


def _datasets(client: Client) -> list[str]:
    return [each.name for each in client.datasets()]


def _sources(client: Client, crew_id: str) -> list[str]:
    return [each.name for each in client.knowledge(crew_id)]


def _memories(client: Client, crew_id: str) -> list[str]:
    return [each.id for each in client.memories(crew_id)]


def _models(client: Client) -> list[str]:
    models = sorted(client.models(), key=lambda each: not each.available)
    return [each.name for each in models]


def _jobs() -> list[str]:
    def question(client: Client) -> list[str]:
        return [each.job_id for each in client.executions(100)]

    return _lookups().ask(("jobs",), question, list[str]())


def _tools() -> list[str]:
    from kasal_jupyter.kernel.functions.notebook_tools import registered

    def question(client: Client) -> list[str]:
        return [each.name for each in client.tools()]

    return list(dict.fromkeys([*registered(), *_lookups().ask(("tools",), question, list[str]())]))


def _crew(word: str) -> list[str]:
    """Give the names of a crew's inputs."""

    def question(client: Client) -> list[str]:
        from kasal_jupyter.kernel.crews.plan import inputs_of

        return inputs_of(client.crew(_crew_id(client, word)))

    return _lookups().ask(("inputs", word), question, list[str]())


def _crew_id(client: Client, word: str) -> str:
    found = client.crews(name=word)
    return found[0].id if found else word


def _files(begin: str, suffixes: tuple[str, ...] | None) -> list[str]:
    """Give the folders, and the files of some kinds, that a path may go on with; of all kinds with None."""
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
        elif suffixes is None or entry.suffix in suffixes:
            found.append(f"{folder}{slash}{entry.name}")
    return found


def _tail(text: str) -> str:
    """Give the name, or the attributes of one, that an expression ends with."""
    backwards = _NAMED.match(text[::-1])
    assert backwards is not None
    tail = text[len(text) - backwards.end() :]
    begin = next((at for at, each in enumerate(tail) if each.isidentifier()), len(tail))
    return tail[begin:]


# -- what the server is asked ---------------------------------------------------------------------------

# What completion asks the server: the answer in time, or the one before, or none; never an error.

T = TypeVar("T")

COMPLETION_SECONDS = 2.0
"""How long a key pressed for completion waits for the server: the kernel does nothing else meanwhile."""

PATIENCE_SECONDS = 15.0
"""After an answer that did not come, how long the server is not asked again."""


class Lookups:
    """One kernel's questions to its server.

    Parameters
    ----------
    session
        Whose server is asked. Where it has found none yet, one is looked for but none is started:
        a key pressed for completion is no reason to.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[tuple[object, ...], object] = {}
        self._silent_until = 0.0

    def ask(self, key: tuple[object, ...], question: Callable[[Client], T], otherwise: T) -> T:
        """Ask the server.

        Parameters
        ----------
        key
            What the question is known by.
        question
            Asks it.
        otherwise
            What to take where there is no answer and was none before.
        """
        known = cast("T", self._known.get(key, otherwise))
        if time.monotonic() < self._silent_until:
            return known
        answers: list[T] = []

        def work() -> None:
            try:
                client = Client(self._connection(), seconds=COMPLETION_SECONDS)
                try:
                    answers.append(question(client))
                finally:
                    client.close()
            except KasalError:
                # No server, or no such thing on it: no names.
                answers.append(otherwise)

        # A thread may be left behind, which no time limit of a request alone would be enough for:
        # a server that sends a byte now and then answers in time each time.
        thread = threading.Thread(target=work, name="kasal-completion", daemon=True)
        thread.start()
        thread.join(COMPLETION_SECONDS)
        if not answers:
            self._silent_until = time.monotonic() + PATIENCE_SECONDS
            return known
        self._known[key] = answers[0]
        return answers[0]

    def _connection(self) -> Connection:
        found = self._session.connection or find_server(start=False)
        # Without its origin: a private server that has ended is not started again for this.
        return Connection(found.url, found.token)
