"""Cassettes as files: which run of one is meant, and putting another into it.

A file has any number of runs. One is found by its crew and its inputs, and among equal ones by their order:
the first that is asked for is given the first, and whoever asks for more than there are, the last one again.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import orjson
from pydantic import ValidationError

from kasal_jupyter.client.connection import print_line
from kasal_jupyter.errors import InvalidRequest, NotFound, StoreError
from kasal_jupyter.schemas.cassettes import FORM, Cassette, CassetteHead, OnMiss, RecordedRun, Settling
from kasal_jupyter.whole_file import write_whole

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client

REPLAY, RECORD, ON_MISS = "KASAL_REPLAY", "KASAL_RECORD", "KASAL_ON_MISS"
"""Variables for a whole notebook: the cassette that all its runs are replayed from, or recorded for."""

_SHOWN = 200
"""Characters of inputs that an error shows."""

_writing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a cassette.

    Attributes
    ----------
    head
        Its first line.
    lines
        All its lines.
    """

    head: RecordedRun
    lines: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """Its lines, as the server takes them."""
        return b"\n".join(self.lines).decode()


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a cassette."""

    head: CassetteHead
    runs: tuple[Run, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Contents:
        """Read a file.

        Raises
        ------
        NotFound
            There is none.
        InvalidRequest
            It is no cassette; it says which line is none.
        """
        try:
            lines = [line for line in path.read_bytes().splitlines() if line.strip()]
        except FileNotFoundError:
            raise NotFound(f"There is no cassette {path}; --record {path} makes one") from None
        except OSError as error:
            raise StoreError(f"The cassette {path} cannot be read: {error.strerror or error}") from None
        heads: list[tuple[int, RecordedRun]] = []
        number = 0
        try:
            head = CassetteHead.model_validate(orjson.loads(lines[0])) if lines else CassetteHead(cassette=1)
            for number, line in enumerate(lines[1:], 1):
                if b'"run"' in line and "run" in (found := orjson.loads(line)):
                    heads.append((number, RecordedRun.model_validate(found)))
        except (orjson.JSONDecodeError, ValidationError, TypeError):
            what = "it begins with no head" if number == 0 else f"its line {number + 1} cannot be read"
            raise InvalidRequest(f"{path} is no cassette: {what}") from None
        ends = [*(at for at, _ in heads), len(lines)][1:]
        runs = (Run(run, tuple(lines[at:end])) for (at, run), end in zip(heads, ends, strict=True))
        return cls(head, tuple(runs))

    def write(self, path: Path) -> None:
        """Write a file, whole or not at all.

        Raises
        ------
        StoreError
            It cannot be written there.
        """
        head: dict[str, Any] = {"cassette": FORM}
        if self.head.varies:
            head["varies"] = self.head.varies
        lines = [_written(head), *(line for run in self.runs for line in run.lines)]
        try:
            write_whole(path, b"".join(line + b"\n" for line in lines))
        except OSError as error:
            raise StoreError(f"The cassette {path} cannot be written: {error.strerror or error}") from None

    def of(self, crew: str, inputs: Mapping[str, Any]) -> list[int]:
        """Give the places of the runs of a crew with some inputs."""
        wanted = _compared(Settling(self.head.varies).settled(dict(inputs)))
        return [
            place
            for place, run in enumerate(self.runs)
            if run.head.run == crew and _compared(run.head.inputs) == wanted
        ]


@dataclass(slots=True)
class Tape:
    """Cassettes that runs are replayed from, and recorded for.

    Attributes
    ----------
    replay, record
        The files; both may be one: what is in it is not asked, and what is not is put into it.
    on_miss
        What becomes of what is not in it.
    varies
        What varies, for a cassette that is begun.
    """

    replay: Path | None = None
    record: Path | None = None
    on_miss: OnMiss = "fail"
    varies: tuple[str, ...] = ()
    _asked: Counter[bytes] = field(default_factory=Counter)

    def turn(self, crew: str, inputs: Mapping[str, Any]) -> Turn:
        """Say what goes along with the next run of a crew.

        Raises
        ------
        NotFound
            There is no such run, and nothing may be asked live.
        KasalError
            A cassette cannot be read.
        """
        replayed = self._replayed()
        varies = self._varies(replayed)
        which = crew.encode() + _compared(Settling(varies).settled(dict(inputs)))
        self._asked[which] += 1
        nth, name = self._asked[which], (self.replay or self.record or Path("cassette")).name
        said: dict[str, Any] = {"name": name, "varies": varies, "on_miss": self.on_miss}
        if replayed is not None and (found := self._recorded(replayed, crew, inputs, nth)) is not None:
            said["record"] = found.text
        return Turn(self, Cassette.model_validate(said), crew, dict(inputs), nth)

    def _replayed(self) -> Contents | None:
        """Read what is replayed; nothing, where that is to be recorded first."""
        if self.replay is None or (self.record is not None and not self.replay.exists()):
            return None
        return Contents.read(self.replay)

    def _varies(self, known: Contents | None) -> list[str]:
        path = self.replay
        if known is None:
            if self.record is None or not self.record.exists():
                return list(self.varies)
            path, known = self.record, Contents.read(self.record)
        if self.varies and known.runs and list(self.varies) != known.head.varies:
            raise InvalidRequest(
                f"{path} was recorded with other `varies`, as its first line says; delete it to begin anew"
            )
        return known.head.varies or list(self.varies)

    def _recorded(self, contents: Contents, crew: str, inputs: Mapping[str, Any], nth: int) -> Run | None:
        places = contents.of(crew, inputs)
        if places:
            return contents.runs[places[min(nth, len(places)) - 1]]
        if self.on_miss == "live":
            return None
        assert self.replay is not None, "it has contents"
        raise NotFound(f"REPLAY_MISS: {_missed(self.replay, contents, crew, inputs)}")


@dataclass(frozen=True, slots=True)
class Turn:
    """A run that is recorded for a cassette, or replayed from one.

    Attributes
    ----------
    cassette
        What goes along with it.
    """

    tape: Tape
    cassette: Cassette
    crew: str
    inputs: dict[str, Any]
    nth: int

    def keep(self, client: Client, job_id: str, tell: Callable[[str], object] = print_line) -> None:
        """Put the run, which has completed, into the cassette that it is recorded for, if it is.

        Parameters
        ----------
        client
            The server that has run it.
        job_id
            The run.
        tell
            Tells the user that it is there.

        Raises
        ------
        KasalError
            It cannot be.
        """
        if (path := self.tape.record) is None:
            return
        lines = tuple(client.record(job_id).splitlines())
        run = Run(RecordedRun.model_validate_json(lines[0]), lines)
        with _writing:
            contents = Contents.read(path) if path.exists() else Contents(CassetteHead(cassette=1))
            places, runs = contents.of(self.crew, self.inputs), list(contents.runs)
            if self.nth <= len(places):
                runs[places[self.nth - 1]] = run
            else:
                runs.insert(places[-1] + 1 if places else len(runs), run)
            head = CassetteHead(cassette=1, varies=self.cassette.varies)
            Contents(head, tuple(runs)).write(path)
        calls = sum(b'"call":' in line for line in lines[1:])
        tell(f"{path.name}: {calls} {'call' if calls == 1 else 'calls'} recorded")


_tapes: dict[tuple[Any, ...], Tape] = {}


def tape_of(
    record: str | os.PathLike[str] | None = None,
    replay: str | os.PathLike[str] | None = None,
    *,
    on_miss: str | None = None,
    varies: Sequence[str] = (),
    within: object = None,
) -> Tape | None:
    """Give the cassettes that a run is recorded for and replayed from; None where there are none.

    Parameters
    ----------
    record, replay
        The files; where neither is given, those that the environment names.
    on_miss
        What becomes of what is not recorded: ``fail`` or ``live``. By default it fails where ``CI`` is set.
        With ``record`` it is asked live.
    varies
        Regular expressions for what varies, for a cassette that is begun.
    within
        Where equal runs are counted: those of a cell, say. Those that the environment has replayed are
        counted as long as the program runs.

    Raises
    ------
    InvalidRequest
        What the environment says is no way to go about it.
    """
    environ = os.environ
    if record is None and replay is None:
        record, replay, within = environ.get(RECORD) or None, environ.get(REPLAY) or None, None
        if record is None and replay is None:
            return None
    said = on_miss or environ.get(ON_MISS) or _usual()
    if said not in get_args(OnMiss):
        raise InvalidRequest(f"{ON_MISS}={said}: what is missed is either `fail` or `live`")
    if record is not None:
        # What is not in it is to be put into it.
        said = "live"
    paths = [Path(each).expanduser().absolute() if each is not None else None for each in (replay, record)]
    which = (*paths, said, tuple(varies), within)
    if which not in _tapes:
        _tapes[which] = Tape(paths[0], paths[1], cast("OnMiss", said), tuple(varies))
    return _tapes[which]


def rewind() -> None:
    """Begin to count equal runs anew."""
    _tapes.clear()


def _usual() -> OnMiss:
    return "live" if os.environ.get("CI", "").lower() in {"", "0", "false"} else "fail"


def _missed(path: Path, contents: Contents, crew: str, inputs: Mapping[str, Any]) -> str:
    """Say which run a cassette does not have, and in what the nearest differs."""
    wanted: dict[str, Any] = Settling(contents.head.varies).settled(dict(inputs))
    asked = f"{path.name} has no run of {crew!r} with {_inputs(wanted)}"
    near = [run.head for run in contents.runs if run.head.run == crew]
    if not near:
        crews = ", ".join(dict.fromkeys(repr(run.head.run) for run in contents.runs)) or "none"
        return f"{asked}; it has runs of: {crews}"
    nearest = max(near, key=lambda head: sum(wanted.get(name) == head.inputs[name] for name in head.inputs))
    differing = {
        name: nearest.inputs.get(name)
        for name in {**wanted, **nearest.inputs}
        if wanted.get(name) != nearest.inputs.get(name)
    }
    return f"{asked}; the nearest has {_inputs(differing)}"


def _inputs(inputs: Mapping[str, Any]) -> str:
    words = ", ".join(f"{name}={orjson.dumps(value).decode()}" for name, value in inputs.items())
    return (words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…") or "no inputs"


def _compared(inputs: Mapping[str, Any]) -> bytes:
    """Give inputs as they are compared: a number is what it is in a prompt."""
    numbers = {name: str(value) for name, value in inputs.items() if isinstance(value, int | float)}
    return _written({**inputs, **numbers})


def _written(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
