r"""Cassettes: what runs were asked and answered, as lines of a file that is kept beside a notebook.

A cassette is a file of JSON lines. Its head says what varies; behind it stand the runs, each of which begins
with a line of its own::

    {"cassette": 1, "varies": ["\\d{4}-\\d\\d-\\d\\d"]}
    {"inputs": {"topic": "tea"}, "models": {…}, "run": "Market research"}
    {"content": "You are …", "message": "4be1a08c32d7", "role": "system"}
    {"agent": "Writer", "answer": {…}, "ask": {…}, "call": "model", "messages": ["4be1a08c32d7"]}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from kasal_jupyter.hiding import without_keys
from kasal_jupyter.schemas.base import Model
from kasal_jupyter.schemas.mcp import McpTool

T = TypeVar("T")

FORM = 1
"""The form of cassettes that this version writes and reads."""

VARIES = "{varies}"
"""What stands in the place of a text's part that varies."""

FOLDER = "{run folder}"
"""What stands in the place of a run's own folder."""

OnMiss = Literal["fail", "live"]
"""What becomes of a call that is not recorded: the run fails, or the call is made."""


def _expression(text: str) -> str:
    import re2  # type: ignore[import-untyped]

    try:
        re2.compile(text.encode(), re2_options())
    except re2.error as error:
        reason = error.args[0] if error.args else error
        said = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"no regular expression (RE2): {said}") from None
    return text


def _no_job(name: str) -> str:
    if name.startswith("job_"):
        raise ValueError("an execution is called so; give the cassette another name")
    return name


def re2_options() -> Any:
    """Give how expressions on foreign text are read: within a memory, and telling nobody."""
    import re2

    options = re2.Options()
    options.max_mem = 8_000_000
    options.log_errors = False
    return options


Variation = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_expression)]
Variations = Annotated[list[Variation], Field(max_length=50)]


class Cassette(Model):
    """What of a cassette goes along with ``POST /executions``; an empty one has the run be recorded."""

    name: Annotated[str, AfterValidator(_no_job)] = Field(
        "cassette",
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f/\\]*$",
        description="The cassette's, for people: what the execution has as its `parent`.",
    )
    varies: Variations = Field(
        default_factory=list,
        description="Regular expressions (RE2) for what varies in prompts and arguments, such as the day: "
        "calls that differ in nothing else are the same.",
    )
    record: str | None = Field(
        None,
        description="The lines that `GET /executions/{job_id}/record` has given: its calls are answered by "
        "them. Null: all are made.",
    )
    on_miss: OnMiss = Field(
        "fail",
        description="What becomes of a call that they do not answer: the run fails with `REPLAY_MISS`, or "
        "the call is made.",
    )


class CassetteHead(Model):
    """The first line of a cassette."""

    cassette: Literal[1]
    varies: Variations = Field(default_factory=list)


class RecordedModel(Model):
    """A model that was asked: what the form of its prompts hangs on."""

    provider: str
    model: str
    address: str | None = None
    options: dict[str, str] = Field(default_factory=dict)


class RecordedTool(Model):
    """A custom tool as agents know it."""

    name: str
    description: str
    parameters: dict[str, Any] | None = None


class RecordedServer(Model):
    """An MCP server, with its tools that were at hand."""

    name: str
    tools: list[McpTool]


class RecordedRun(Model):
    """The line that a recorded run begins with."""

    run: str = Field(description="The crew's name.")
    inputs: dict[str, Any] = Field(default_factory=dict)
    default_model: str | None = Field(None, description="The model of agents that name none.")
    models: dict[str, RecordedModel] = Field(default_factory=dict)
    tools: list[RecordedTool] = Field(default_factory=list)
    servers: list[RecordedServer] = Field(default_factory=list)


class RecordedMessage(Model):
    """A message that models were given: the calls behind it name it."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    message: str
    role: str


class RecordedCall(Model):
    """A call with its answer."""

    call: Literal["model", "tool", "memory"]
    key: str = Field(description="Which call it is, see the events' `key`.")
    task: str | None = None
    agent: str | None = None
    ask: dict[str, Any]
    messages: list[str] | None = Field(None, description="What a model was given, as digests.")
    answer: dict[str, Any]
    wait: float | None = Field(None, description="Seconds until it was made again.")


class Settling:
    """Gives texts as they are compared: without what varies from run to run, and without keys.

    Parameters
    ----------
    varies
        Regular expressions for what varies.
    folder
        The run's own folder; empty for none.
    """

    def __init__(self, varies: Iterable[str] = (), folder: str = "") -> None:
        import re2

        self._expressions = [re2.compile(each.encode(), re2_options()) for each in varies]
        self._folder = folder

    def settled(self, value: T) -> T:
        """Give a text, or a structure of lists and dictionaries with texts, as it is compared."""
        settled: T = self._each(value, self._settled)
        return settled

    def shown(self, value: T) -> T:
        """Give the same, as far as an answer is: what varies in one stays."""
        shown: T = self._each(value, self._shown)
        return shown

    def _each(self, value: Any, of_text: Any) -> Any:
        if isinstance(value, str):
            return of_text(value)
        if isinstance(value, dict):
            return {name: self._each(part, of_text) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self._each(part, of_text) for part in value]
        return value

    def _shown(self, text: str) -> str:
        return without_keys(text.replace(self._folder, FOLDER) if self._folder else text)

    def _settled(self, text: str) -> str:
        # The folder first: what varies may be found in its name.
        data = self._shown(text).encode(errors="surrogatepass")
        for expression in self._expressions:
            data = expression.sub(VARIES.encode(), data)
        return data.decode(errors="surrogatepass")
