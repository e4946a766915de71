"""Runs that are recorded for a cassette, and runs that take their answers from one.

A replay from a cassette needs nothing of the server but the crew: the models and the tools that were asked
stand in it, without keys. What its crew names besides is given a shape alone, so that the run tells in what
it differs from what was recorded, rather than that a key is missing for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

from pydantic import ValidationError

from kasal_jupyter.errors import Conflict, Fault, InvalidRequest
from kasal_jupyter.events.cassette import CassetteFold, Line, journal_lines, read_lines, run_line
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.executions.lineage import replay_spec
from kasal_jupyter.models.catalog import ModelCatalog, ModelUnavailable, NoDefaultModel
from kasal_jupyter.schemas import spec as wire
from kasal_jupyter.schemas.cassettes import (
    Cassette,
    RecordedCall,
    RecordedModel,
    RecordedRun,
    RecordedServer,
    RecordedTool,
    Settling,
)
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.executions import ENDED, Execution
from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.schemas.spec import RunCassette, RunMemory, RunModel, RunRequest, RunSource, RunSpec
from kasal_jupyter.schemas.tools import RunTool
from kasal_jupyter.toolbox.toolbox import Toolbox
from kasal_jupyter.tools.tool import builtin_tools
from kasal_jupyter.whole_file import whole_file

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_NOWHERE = "https://cassette.invalid/"
"""The address of a tool that is never called."""

_MOST_BYTES = 200_000_000
"""What a cassette's calls may come to when each has all that it was asked."""


# -- recording -----------------------------------------------------------------------------------------------


def record_of(execution: Execution, request: RunRequest, journal: Path) -> Iterator[bytes]:
    """Give a run's record as lines, with their ends; it reads the journal, and may take its time.

    Parameters
    ----------
    execution, request
        The run, and what it was asked.
    journal
        Its events.

    Raises
    ------
    Conflict
        It has not ended, or what was stored of it does not fit this version.
    """
    if execution.status not in ENDED:
        raise Conflict(f"{execution.id} is {execution.status}; it can be recorded when it has ended")
    spec = replay_spec(request, execution, job_id=execution.id, folder=str(journal.with_suffix("")))
    varies = spec.cassette.varies if spec.cassette is not None else ()
    fold = CassetteFold(settling := Settling(varies, spec.folder))
    events = Journal.open(journal).events()
    for event in events:
        fold.feed(event)
    return _poured(_run_of(spec, settling), fold)


def _poured(run: RecordedRun, fold: CassetteFold) -> Iterator[bytes]:
    yield run_line(run) + b"\n"
    for line in fold.lines():
        yield line + b"\n"


def _run_of(spec: RunSpec, settling: Settling) -> RecordedRun:
    return RecordedRun(
        run=spec.crew.name,
        inputs=settling.settled(spec.inputs),
        default_model=spec.cassette.default_model if spec.cassette is not None else None,
        models={name: _model_of(model) for name, model in spec.models.items()},
        tools=[
            RecordedTool(name=tool.name, description=tool.description, parameters=tool.parameters)
            for tool in spec.tools
        ],
        servers=[RecordedServer(name=server.name, tools=server.tools) for server in spec.mcp_servers],
    )


def _model_of(model: RunModel) -> RecordedModel:
    known = model.entrusted_to_nobody()
    parts = urlsplit(known.base_url or "")
    # A port of this machine is another one each time, and says nothing.
    here = parts.hostname in _LOOPBACK
    address = urlunsplit(parts._replace(netloc=parts.hostname or "")) if here else known.base_url
    return RecordedModel(
        provider=model.provider, model=model.model, address=address, options=known.open_options
    )


# -- replaying -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Played:
    """A cassette that goes along with a run.

    Attributes
    ----------
    given
        As it was sent.
    run, lines
        What it has recorded; of one that has nothing, the run is None.
    """

    given: Cassette
    run: RecordedRun | None = None
    lines: list[Line] = field(default_factory=list)

    @classmethod
    def read(cls, given: Cassette) -> Played:
        """Read a cassette.

        Raises
        ------
        InvalidRequest
            Its record is none.
        """
        if given.record is None:
            return cls(given)
        try:
            return cls(given, *read_lines(given.record))
        except ValueError as error:
            fault = Fault("cassette.record", f"It is no record: {error}")
            raise InvalidRequest("Invalid execution", faults=[fault]) from None

    @property
    def strict(self) -> bool:
        """Whether nothing may be asked that is not recorded."""
        return self.run is not None and self.given.on_miss == "fail"

    def catalog(self, catalog: ModelCatalog) -> ModelCatalog:
        """Give what models can run: with those of the cassette."""
        if self.run is None:
            return catalog
        known = {each.name: getattr(catalog, each.name) for each in fields(ModelCatalog)}
        return _RecordedCatalog(**known, inner=catalog, recorded=self.run, strict=self.strict)

    def toolbox(self, toolbox: Toolbox) -> Toolbox:
        """Give what tools can be used: with those of the cassette, where none of them is called."""
        return _RecordedToolbox(toolbox, self.run) if self.run is not None and self.strict else toolbox

    def recall(self, whole: WholeCrew, _catalog: ModelCatalog) -> RunMemory | None:
        """Say whether agents are reminded: as they were, or as the crew is now."""
        reminded = whole.crew.memory or any(
            isinstance(line, RecordedCall) and line.call == "memory" for line in self.lines
        )
        return RunMemory(file="", remember=False) if reminded else None

    def changes(self, spec: RunSpec, catalog: ModelCatalog, source: Path, store: Path) -> dict[str, Any]:
        """Give what a cassette changes in the message that starts a run.

        Parameters
        ----------
        spec
            The message.
        catalog
            The owner's models.
        source
            Where the run finds what is recorded.
        store
            The store's file.
        """
        cassette = RunCassette(varies=self.given.varies, default_model=_default_name(catalog))
        if self.run is None:
            return {"cassette": cassette}
        verb = "replay" if self.strict else "run"
        changes: dict[str, Any] = {
            "cassette": cassette.model_copy(update={"default_model": self.run.default_model}),
            "source": RunSource(verb=verb, job_id=self.given.name, journal=str(source)),
        }
        if spec.memory is not None:
            # What was learnt of the run that was recorded is learnt.
            known = {"file": str(store.absolute()), "remember": False, "model": None}
            changes["memory"] = spec.memory.model_copy(update=known)
        return changes

    def write(self, source: Path, folder: str) -> None:
        """Write what is recorded where the run finds it; it blocks.

        Raises
        ------
        InvalidRequest
            It is too much.
        """
        if self.run is None:
            return
        try:
            with whole_file(source, new=True, private=True) as file:
                file.writelines(journal_lines(self.lines, folder, _MOST_BYTES))
        except ValueError as error:
            raise InvalidRequest("Invalid execution", faults=[Fault("cassette.record", str(error))]) from None


def _default_name(catalog: ModelCatalog) -> str | None:
    try:
        return catalog.default_name()
    except NoDefaultModel:
        return None


@dataclass(frozen=True)
class _RecordedCatalog(ModelCatalog):
    """A catalogue with the models of a cassette, which have no keys."""

    inner: ModelCatalog = field(default_factory=ModelCatalog)
    recorded: RecordedRun = field(default_factory=lambda: RecordedRun(run=""))
    strict: bool = True

    def default_name(self) -> str:
        """Give the model of an agent that names none: where nothing is asked live, the one there was."""
        return (self.recorded.default_model if self.strict else None) or self.inner.default_name()

    def resolve(self, name: str | None) -> RunModel:
        """Find who serves a model, or has served it; of one that nobody may ask, what it would be.

        Raises
        ------
        ModelUnavailable
            Nobody is known who serves it.
        """
        known = name or self.default_name()
        if self.strict and known in self.recorded.models:
            return self._recorded(known)
        try:
            return self.inner.resolve(known)
        except ModelUnavailable:
            if known in self.recorded.models:
                return self._recorded(known)
            if not self.strict:
                raise
            provider, model = self.inner.split(known)
            return RunModel(name=known, provider=cast("wire.Provider", provider.protocol), model=model)

    def _recorded(self, name: str) -> RunModel:
        recorded = self.recorded.models[name]
        try:
            return RunModel(
                name=name,
                provider=cast("wire.Provider", recorded.provider),
                model=recorded.model,
                base_url=recorded.address,
                options=recorded.options,
            )
        except ValidationError:
            raise ModelUnavailable(f"{name!r} was recorded with a provider that is not known") from None


class _RecordedToolbox(Toolbox):
    """A toolbox with the tools of a cassette, none of which is called."""

    def __init__(self, inner: Toolbox, recorded: RecordedRun) -> None:
        super().__init__(allowed_hosts=inner.allowed_hosts, settings=inner.settings)
        self._inner = inner
        self._tools: Mapping[str, RunTool | RunMcpServer] = {
            **{tool.name: RunTool(**tool.model_dump(), endpoint=_NOWHERE) for tool in recorded.tools},
            **{
                tool.name: RunMcpServer(name=server.name, transport="http", url=_NOWHERE, tools=[tool])
                for server in recorded.servers
                for tool in server.tools
            },
        }

    def names(self) -> list[str]:
        """Give the names of all tools."""
        return sorted({*self._inner.names(), *self._tools})

    def resolve(self, name: str) -> RunTool | RunMcpServer | None:
        """Give a tool; see :meth:`Toolbox.resolve`."""
        if name in self._tools:
            return self._tools[name]
        if any(tool.name == name for tool in builtin_tools()):
            # It may not be usable here, and is not used.
            return None
        return self._inner.resolve(name)
