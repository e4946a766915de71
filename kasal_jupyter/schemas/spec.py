"""What a run's process is told: the whole run in one message, and later messages; what is kept of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field

from kasal_jupyter.hiding import password_of, secrets_among
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.allowances import Reserved
from kasal_jupyter.schemas.base import Document, Model, clock_anchor
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.schemas.executions import Budget, EditKind
from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.schemas.tools import ClientTool, RunTool
from kasal_jupyter.schemas.webhooks import Webhook

FAILED_TO_START = 70
"""The exit status of a run's process that could not even begin (``EX_SOFTWARE``)."""

UNSENT = 74
"""The exit status of a run's process whose words the server has not taken (``EX_IOERR``)."""

NOTE = b'{"note":'
"""How a line of a run's process begins that is no event: it asks to hear its number when all is recorded."""

RESERVE = b'{"reserve":'
"""How a line begins that says what the run has used of shared budgets, and wants: a :class:`Wish`."""

Provider = Literal["sandbox", "openai", "anthropic", "gemini", "azure", "bedrock", "ollama"]
"""Who serves a model; ``openai`` is everybody who speaks OpenAI's API."""


class KeyedAddress(Model):
    """An address, and the key that opens it."""

    api_key: str | None = Field(None, repr=False)
    base_url: str | None = None

    def secrets(self) -> list[str]:
        """Give what must never be seen of it."""
        return [secret for secret in (self.api_key, password_of(self.base_url)) if secret]


class RunModel(KeyedAddress):
    """A model's name resolved: whom to ask, how it is called there, and with which key.

    The key is for the run's process alone; nothing writes this object down.

    ``options`` by provider, under the names that CrewAI's providers take them by. Azure: ``api_version``, and
    ``model`` is the deployment. Bedrock: ``aws_access_key_id``, ``aws_secret_access_key``,
    ``aws_session_token`` and ``aws_region_name``; it has no ``api_key``. The others have none.
    ``base_url`` is None for a provider's own address. Azure's is the endpoint as it was given; Ollama's is
    the root, ``http://127.0.0.1:11434``, without ``/v1``; an OpenAI-compatible server's is what OpenAI's
    client takes.
    """

    name: str = Field(description="As the agent says it, e.g. gpt-4.")
    provider: Provider
    model: str = Field(description="As the provider spells it; of a retired one, its successor.")
    options: dict[str, str] = Field(
        default_factory=dict,
        repr=False,
        description="What else its provider needs, e.g. api_version, aws_region_name, aws_secret_access_key.",
    )
    guarded: bool = Field(
        False,
        description="Whether base_url was given by a user who may not name any address: only public hosts "
        "and the spec's allowed_hosts may be called there, looked up at each connection.",
    )
    address_set_by: str | None = Field(
        None,
        description="What has set the address, in words for errors, where they may not name it: it is not "
        "the owner's, the maker's or this machine's.",
    )
    remark: str | None = Field(None, description="What to know of it, e.g. that a successor answers.")

    def secrets(self) -> list[str]:
        """Give what must never be seen of it."""
        hidden = [*super().secrets(), *secrets_among(self.options.items())]
        return [secret for secret in hidden if secret]

    @property
    def open_options(self) -> dict[str, str]:
        """Those of its options that may be seen."""
        secrets = set(secrets_among(self.options.items()))
        return {name: value for name, value in self.options.items() if value not in secrets}

    def entrusted_to_nobody(self) -> Self:
        """Give what may be stored of it: how a model is asked hangs on its address, in a replay too."""
        parts = urlsplit(self.base_url or "")
        address = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        hidden = {"api_key": None, "address_set_by": None}
        return self.model_copy(update={**hidden, "base_url": address or None, "options": self.open_options})


class RunSearch(KeyedAddress):
    """Who searches the web for ``web_search``."""

    engine: Literal["ddgs", "searxng", "tavily", "brave"] = "ddgs"
    base_url: str | None = Field(None, description="SearXNG's, or another address of the engine's.")
    guarded: bool = Field(
        True, description="Whether its address is held to the rules of tools' addresses: a user has given it."
    )


class RunToolSettings(Model):
    """What the deployer has set for the built-in tools."""

    search: RunSearch = Field(default_factory=RunSearch)
    folders: list[str] = Field(
        default_factory=list, description="Folders besides the run's own that file tools may read, absolute."
    )
    python: bool = Field(False, description="Whether agents may run Python.")
    network: bool = Field(True, description="Whether agents may call addresses; the sandbox's may not.")


class RunEmbedder(KeyedAddress):
    """What makes vectors of texts."""

    provider: Literal["offline", "openai", "ollama"] = "offline"
    model: str = ""
    guarded: bool = Field(False, description="As of a RunModel.")


class RunMemory(Model):
    """What a crew's run remembers, and where it looks."""

    file: str = Field(description="The store's file, where the crew's texts are found; absolute, read only.")
    remember: bool = Field(description="Whether the run adds to it; else there is only knowledge.")
    embedder: RunEmbedder = Field(default_factory=RunEmbedder)
    model: str | None = Field(
        None, description="What distils a run into insights, a key of ``models``; None: no model is asked."
    )
    learn_seconds: float = Field(60.0, description="How long the model is waited for that distils a run.")
    remark: str | None = Field(None, description="Why another embedder than the one that is set is used.")


RecordVerb = Literal["replay", "resume", "fork", "run"]
"""What can be done with the record of an earlier run; ``run``: of a cassette, whose misses are asked live."""


class ForkPlace(Model):
    """Where a fork leaves the run whose record it uses."""

    at: int = Field(description="The event that begins the call at the place.")
    tasks: list[str] | None = Field(
        description="Ids of the task that the call is of, and of those that hang on its result; None: all do."
    )

    def is_behind(self, event: Mapping[str, Any]) -> bool:
        """Say whether a call, by the event that begins it, is at the place or behind it."""
        if event.get("seq", 0) < self.at:
            return False
        # What is no task's comes before all of them, as a plan does, or after.
        task = event.get("task_id")
        return self.tasks is None or task is None or task in self.tasks


class RunEdit(Model):
    """What a user has put in the place of what a run was asked, or was answered."""

    call: str = Field(description="The call, by the ``key`` that its events have.")
    what: EditKind
    text: str
    by: str = Field(description="Who has done so.")


class RunSource(Model):
    """The earlier run that this one takes its answers from."""

    verb: RecordVerb
    job_id: str = Field(description="That run's; of a cassette, its name.")
    journal: str = Field(description="That run's journal, absolute; it is only read.")
    place: ForkPlace | None = Field(None, description="Where a fork begins; None: all of it counts.")
    lineage: str | None = Field(
        None,
        description="The first attempt at the run that it goes on with; None: with none.",
    )
    before: RunSource | None = Field(
        None,
        description="What that run took its answers from: cut off early, it has not given all again.",
    )


class RunOwnRecord(Model):
    """What a run has done already, which was put away while it waited for people."""

    journal: str = Field(description="Its journal, absolute; it is only read.")
    until: int = Field(description="The last event that its process finds there.")
    tokens: int = Field(0, description="Tokens of its budget that are used.")
    cost: float = Field(0.0, description="US dollars of its budget that are used.")
    seconds: float = Field(0.0, description="Seconds of its budget that are used.")


class RunCassette(Model):
    """What a run knows of the cassette that it is recorded for, or replayed from."""

    varies: list[str] = Field(description="Regular expressions for what varies, see :class:`Cassette`.")
    default_model: str | None = Field(None, description="The model of agents that name none.")


class RunTask(Task):
    """A task with its ``context`` told apart."""

    context_tasks: list[str] | None = Field(
        description="Ids of the tasks whose results it gets; None: of all before it."
    )
    context_texts: list[str] = Field(description="Texts given as they are.")


class RunSpec(Model):
    """Everything a run needs: its process reads nothing else from the server.

    Every agent has a model here (the server's default was filled in), every tool
    exists, and every ``{placeholder}`` has an input: the run was checked before.
    """

    job_id: str
    crew: Crew
    agents: list[Agent]
    tasks: list[RunTask]
    inputs: dict[str, Any]
    models: dict[str, RunModel] = Field(description="By the name the agents use.")
    tools: list[RunTool] = Field(default_factory=list, description="The custom tools that it may use.")
    client_tools: list[ClientTool] = Field(
        default_factory=list, description="Those that the run's client answers for, as far as they are used."
    )
    mcp_servers: list[RunMcpServer] = Field(
        default_factory=list, description="The MCP servers whose tools it may use, with those tools alone."
    )
    tool_settings: RunToolSettings = Field(default_factory=RunToolSettings)
    memory: RunMemory | None = None
    budget: Budget | None = None
    planning_model: str | None = Field(None, description="A key of ``models``, where the crew plans.")
    allowed_hosts: list[str] | None = Field(
        default_factory=list,
        description="Hosts and networks besides the public ones that tools may call; None: none at all.",
    )
    manager_model: str | None = Field(
        description="The manager's, in a hierarchical crew; a key of ``models``."
    )
    folder: str = Field(description="The run's own working folder, absolute, made by the server.")
    unrepeated: bool = Field(False, description="Whether a model that fails is not asked again.")
    source: RunSource | None = Field(
        None, description="The run whose answers it takes; None: every call is live."
    )
    own: RunOwnRecord | None = Field(
        None, description="What it has done already; None: this is its first process."
    )
    edits: list[RunEdit] = Field(
        default_factory=list, description="What users have changed of it, in a fork, and those that it is of."
    )
    cassette: RunCassette | None = Field(
        None, description="What makes its calls those of a cassette; None: it has none."
    )
    batch: str | None = Field(None, description="The batch that it is a row of.")
    schedule: str | None = Field(None, description="The schedule that has started it.")
    allowances: list[str] = Field(
        default_factory=list, description="The budgets that it shares with others, by their ids."
    )
    journal_bytes: int = Field(200_000_000, description="Bytes of events that it may record.")
    clock: float = Field(default_factory=clock_anchor, description="What tells the time of its events.")

    @property
    def lineage(self) -> str:
        """The first attempt at the run: what is done in all of them together is done once."""
        return (self.source.lineage if self.source is not None else None) or self.job_id

    @property
    def size(self) -> int:
        """How many agents, tasks and inputs it has."""
        return len(self.agents) + len(self.tasks) + len(self.inputs)

    def secrets(self) -> list[str]:
        """Give what must never get out of the run."""
        holders: list[RunModel | RunMcpServer | RunTool | RunSearch | RunEmbedder] = [
            *self.models.values(),
            *self.mcp_servers,
            *self.tools,
            self.tool_settings.search,
        ]
        if self.memory is not None:
            holders.append(self.memory.embedder)
        return [secret for holder in holders for secret in holder.secrets()]


class RunRequest(Document):
    """What one run was asked; its inputs stand in its execution. It goes when that goes."""

    id: str = Field(description="The execution's.")
    owner: str
    spec: dict[str, Any] = Field(
        description="The message that has started it, without inputs, keys, addresses and what is of one run."
    )
    webhook: Webhook | None = Field(None, description="Who was told of its events.")
    root: str = Field(description="The first attempt at the run: it itself, where it resumes no other.")
    parent: str | None = Field(None, description="The execution whose record it uses.")
    place: ForkPlace | None = Field(None, description="Where it has left that one; null: it is no fork.")
    digest: str | None = Field(
        None, description="Of all that its answer depends on; null where the answer hangs on more."
    )
    once: bool = Field(False, description="Whether it answers for whoever asks for the same meanwhile.")
    batch: str | None = Field(None, description="The batch that it is a row of.")
    schedule: str | None = Field(None, description="The schedule that has started it.")
    allowances: list[str] = Field(
        default_factory=list, description="The budgets that it shares with others, by their ids."
    )


class RunToolAnswer(Model):
    """What became of a ``tool_request`` or an ``input_request``: exactly one of ``result`` and ``error``."""

    call_id: str
    result: str | None = None
    error: str | None = None
    arguments: dict[str, Any] | None = Field(
        None, description="Of an approval: what the call is made with, where that was changed."
    )


class RunMessage(Model):
    """What the server sends a run's process, one JSON line each.

    ``run`` comes first, then any number of ``tool_answer``, ``noted``, ``reserved`` and ``hold``; ``stop``
    once at most.
    """

    type: Literal["run", "tool_answer", "noted", "reserved", "hold", "stop"]
    spec: RunSpec | None = None
    answer: RunToolAnswer | None = None
    note: int | None = Field(None, description="All that came before this note is recorded.")
    reserved: Reserved | None = None
    hold: dict[str, float] = Field(
        default_factory=dict,
        description="Seconds before which models may not be asked, by their names: a provider has said so to "
        "another run with the same key.",
    )
