"""A run's models, as CrewAI's LLMs."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from kasal_jupyter.models.catalog import KEYLESS
from kasal_jupyter.outward import fault
from kasal_jupyter.schemas.agents import ModelSettings, SandboxSettings
from kasal_jupyter.schemas.spec import RunEmbedder, RunModel, RunSpec
from kasal_jupyter.tools.guard import HostGuard, HostRefused, origin_of
from kasal_jupyter.worker.crew.record import RunRecord
from kasal_jupyter.worker.models.agent_llm import AgentLLM
from kasal_jupyter.worker.models.budget import Ledger, Purse
from kasal_jupyter.worker.models.llm import ReportedLLM
from kasal_jupyter.worker.models.sandbox_llm import SandboxLLM
from kasal_jupyter.worker.process.failures import ModelFailed
from kasal_jupyter.worker.process.stop import StopSignal

_MODULES: Mapping[str, tuple[str, str]] = {
    "openai": ("openai_llm", "OpenAILLM"),
    "ollama": ("openai_llm", "OpenAILLM"),
    "anthropic": ("anthropic_llm", "AnthropicLLM"),
    "gemini": ("gemini_llm", "GeminiLLM"),
    "azure": ("azure_llm", "AzureLLM"),
    "bedrock": ("bedrock_llm", "BedrockLLM"),
}
"""Where each provider's LLM is, by the module's and the class's name."""


_SOME_ADDRESS = "https://model.invalid"
"""Stands for the address of a provider's own."""


class Models:
    """Makes the models of one run.

    Parameters
    ----------
    spec
        The run.
    signal
        What ends the run.
    record
        What the run asks, and what an earlier one was answered.
    purse
        Who reserves what is spent of budgets that other runs share.

    Attributes
    ----------
    ledger
        What the run may use up, and has.
    """

    def __init__(
        self,
        spec: RunSpec,
        signal: StopSignal,
        record: RunRecord | None = None,
        purse: Purse | None = None,
    ) -> None:
        self._spec = spec
        self._record = record
        self._signal = signal
        self.ledger = Ledger(spec.budget, signal, purse if spec.allowances else None)
        if spec.own is not None:
            self.ledger.begin_with(spec.own.tokens, spec.own.cost)
        # Every sandbox model holds this one dictionary; it is filled as the tasks are made.
        self._answer_schemas: dict[str, dict[str, Any]] = {}
        self._lacks: dict[str, set[str]] = {}

    def expect_answer(self, task_id: str, schema: dict[str, Any]) -> None:
        """Tell the sandbox models what the answer to a task, by CrewAI's id of it, must look like."""
        self._answer_schemas[task_id] = schema

    def llm(
        self,
        name: str,
        settings: ModelSettings | None = None,
        sandbox: SandboxSettings | None = None,
        fallbacks: Sequence[str] = (),
        *,
        persistent: bool = True,
    ) -> AgentLLM:
        """Make a model for one agent: CrewAI counts usage by instance.

        Parameters
        ----------
        name
            A key of the spec's ``models``.
        settings, sandbox
            How it is called; the defaults, where nothing is given.
        fallbacks
            Who is asked in its place where it cannot answer, in their order; keys of ``models`` too.
        persistent
            Whether a model is asked again where that may help.

        Raises
        ------
        ModelFailed
            What one of them needs is not installed.
        """
        settings = settings or ModelSettings()
        sandbox = sandbox or SandboxSettings()
        line = [self._one(each, settings, sandbox) for each in dict.fromkeys((name, *fallbacks))]
        persistent = persistent and not self._spec.unrepeated
        return AgentLLM.of(line, settings, self.ledger, self._record, persistent=persistent)

    def _one(self, name: str, settings: ModelSettings, sandbox: SandboxSettings) -> ReportedLLM:
        model = self._spec.models[name]
        if self._record is not None and self._record.replays:
            model = _keyless(model)
        if model.provider == "sandbox":
            llm = SandboxLLM(
                model=model.model,
                label=name,
                stream=settings.stream,
                settings=sandbox,
                inputs=self._spec.inputs,
                signal=self._signal,
            )
            llm.expect_answers(self._answer_schemas)
            return llm
        try:
            # The providers' SDKs take up to two seconds to import, so only who needs one does.
            module = provider_module(model.provider)
        except ImportError as error:
            raise ModelFailed(
                f"{name}: what {model.provider} needs is not installed here; "
                f'pip install "kasal-jupyter[{model.provider}]" adds it.',
                code="MODEL_UNAVAILABLE",
            ) from error
        try:
            made: ReportedLLM = getattr(module, _MODULES[model.provider][1]).of(model, settings, self._signal)
        except (OSError, ValueError, ImportError) as error:
            # A client reads proxies and authorities as it is made, and does not say where it has them from.
            if (wrong := fault(model.base_url or _SOME_ADDRESS) or fault(_SOME_ADDRESS)) is None:
                raise
            raise ModelFailed(f"{name} cannot be asked: {wrong}.", code="MODEL_UNAVAILABLE") from error
        made.lacks = self._lacks.setdefault(name, set())
        made.address_set_by = model.address_set_by
        return made


def _keyless(model: RunModel) -> RunModel:
    """Give a model that is never asked: clients are not made without a key."""
    options = dict(model.options)
    if model.provider == "bedrock":
        options |= {"aws_access_key_id": KEYLESS, "aws_secret_access_key": KEYLESS}
        options.setdefault("aws_region_name", "us-east-1")
    return model.model_copy(update={"api_key": KEYLESS, "options": options})


def provider_module(provider: str) -> ModuleType:
    """Import what asks a provider's models, with its SDK; the sandbox has none.

    Raises
    ------
    ImportError
        The SDK is not installed.
    """
    return import_module(f"{__package__}.{_MODULES[provider][0]}")


def make_ready(provider: str) -> None:
    """Have what asks a provider's models in memory, and all that its SDK makes once, for the first client.

    Raises
    ------
    ImportError
        The SDK is not installed.
    """
    made = getattr(provider_module(provider), _MODULES[provider][1])
    model = RunModel.model_validate({"name": provider, "provider": provider, "model": provider})
    made.of(_keyless(model.model_copy(update={"base_url": _SOME_ADDRESS})), ModelSettings(), StopSignal())


# Addresses that a run's own user has named, held to the rules for tools.
#
# A user may send the run's models to a server of their own, and must not reach by that what only this
# machine can reach. The address was looked at when it was stored; what its name leads to may have changed
# since, and a server may redirect. Each provider's client has its own way to the network; all of them look
# names up here.


class AddressRefused(OSError):
    """The run's user may not have this address called."""


def hold_own_addresses(spec: RunSpec) -> None:
    """Have this process call only what its user may, if the user has named any address.

    What admins and the environment have named may be called as well, at its very port. Tools are held to the
    rules by themselves.
    """
    embedder = spec.memory.embedder if spec.memory is not None else None
    named: list[RunModel | RunEmbedder] = list(spec.models.values())
    if embedder is not None:
        named.append(embedder)
    if not any(each.guarded for each in named):
        return
    search = spec.tool_settings.search
    free = [each.base_url for each in named if not each.guarded]
    free += [server.url for server in spec.mcp_servers if not server.guarded]
    free += [] if search.guarded else [search.base_url]
    # Where a proxy has to be asked, it looks the names up, and is who must hold to rules.
    free += getproxies().values()
    _guard_lookups(HostGuard(spec.allowed_hosts), _places(free))


def _places(addresses: Iterable[str | None]) -> set[tuple[str, int]]:
    return {origin_of(address)[1:] for address in addresses if address and urlsplit(address).hostname}


def _guard_lookups(guard: HostGuard, free: set[tuple[str, int]]) -> None:
    look_up = socket.getaddrinfo

    def checked(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        found = []

        def seen(_host: str, _port: int) -> list[str]:
            found.extend(look_up(host, port, *args, **options))
            return [str(each[4][0]) for each in found]

        if name is None or (name.rstrip("."), _number(port)) in free:
            return look_up(host, port, *args, **options)
        try:
            # The very addresses that will be called, not those of another look-up.
            HostGuard(guard.allowed_hosts, seen).addresses(name, 0)
        except HostRefused as error:
            raise AddressRefused(str(error)) from None
        return found

    socket.getaddrinfo = checked


def _number(port: Any) -> int:
    try:
        return int(port or 0)
    except ValueError:
        return 0
