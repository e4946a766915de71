"""``/models`` and ``/providers``: what agents think with, who serves it, and the keys entrusted for it."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler, require
from kasal_jupyter.api.long_answer import AwaitedAnswer
from kasal_jupyter.api.operation import operation
from kasal_jupyter.errors import NotFound, nearest
from kasal_jupyter.executions.model_question import tested
from kasal_jupyter.models.catalog import ModelCatalog
from kasal_jupyter.models.listing import Readiness, list_models, readiness
from kasal_jupyter.models.providers import Provider
from kasal_jupyter.schemas.models import (
    ModelInfo,
    ModelList,
    ModelQuery,
    ProviderInfo,
    ProviderList,
    ProviderQuery,
    ProviderSet,
    ProviderTest,
    ProviderTested,
)
from kasal_jupyter.toolbox.provider_settings import INVALID_PROVIDER


class ModelsHandler(ApiHandler):
    """``GET /models``."""

    tag = "Model Management"

    @operation("List models", access="viewer", query=ModelQuery, answers={200: ModelList})
    async def get(self) -> None:
        """List models with what they cost, those that can run here and now first; the others say why not.

        `search` looks in names and providers. An OpenAI-compatible server is asked which models it serves, at
        most once a minute; otherwise nobody is asked anything. Models that are not listed run as well, as
        `openai/<model>`.
        """
        query = self.query(ModelQuery)
        text = (query.search or "").casefold()
        models = [
            model
            for model in await list_models(self.parts.runs.catalog.of(self.caller.owner))
            if (query.available is None or model.available == query.available)
            and (query.provider is None or model.provider.casefold() == query.provider.casefold())
            and (text in model.name.casefold() or text in model.provider.casefold())
        ]
        models = _sorted(models, query.sort)
        shown = query.part(models)
        self.answer(ModelList.of(query, shown, len(models)))


def _sorted(models: list[ModelInfo], sort: str) -> list[ModelInfo]:
    """Sort models that come with those that can run first; a price is what a token in and one out cost."""
    descending = sort.startswith("-")
    match sort.removeprefix("-"):
        case "name":
            return sorted(models, key=lambda model: model.name, reverse=descending)
        case "provider":
            return sorted(models, key=lambda model: model.provider, reverse=descending)
        case "price":
            priced = [(model.price.input + model.price.output, model) for model in models if model.price]
            priced.sort(key=lambda pair: pair[0], reverse=descending)
            return [*(model for _, model in priced), *(model for model in models if not model.price)]
        case _:
            return sorted(models, key=lambda model: model.available, reverse=descending)


# ``/providers``: who serves models and searches the web, and the keys that are entrusted for them.


class ProviderResource(ApiHandler):
    """What the resources of providers share."""

    tag = "Model Management"
    message = INVALID_PROVIDER

    def catalog(self) -> ModelCatalog:
        """Give the caller's catalogue."""
        return self.parts.runs.catalog.of(self.caller.owner)

    def info(self, ready: Readiness, provider: Provider) -> ProviderInfo:
        """Say what the caller may know of a provider."""
        given = ready.catalog.credentials(provider.name)
        fault = ready.lack(provider)
        admin = self.caller.role == "admin"
        stored = self.parts.providers.scopes(self.caller.owner).get(provider.name, [])
        shown = given is not None and (admin or given.source == "user")
        return ProviderInfo(
            name=provider.name,
            title=provider.title,
            kind=provider.kind,
            ready=fault is None,
            reason=None if fault is None else f"{provider.title} {fault}",
            source=given.source if given else None,
            has_key=given is not None and bool(given.api_key or _has_secret(given.options)),
            base_url=_without_password(given.base_url) if given is not None and shown else None,
            options=sorted(given.options) if given else [],
            variables=provider.variables(),
            install=None if provider.installed else provider.install,
            # How short a key is, is nobody else's business.
            remark=given.remark() if given is not None and shown else None,
            scopes=[scope for scope in stored if scope == "user" or admin],
        )


class ProvidersHandler(ProviderResource):
    """``GET /providers``."""

    @operation("List providers", access="viewer", answers={200: ProviderList})
    async def get(self) -> None:
        """List who serves models or searches the web, with whether each is ready and why it is not.

        A provider is ready where all that it needs is set; an OpenAI-compatible server, and Ollama, where it
        answers besides, as `GET /models` has it. Keys are never shown: only that there is one, and whether it
        is the caller's own (`user`), an administrator's for everybody (`server`), or from the server's
        `environment`.
        """
        ready = await readiness(self.catalog())
        providers = [self.info(ready, each) for each in ready.catalog.providers()]
        self.answer(ProviderList(providers=providers))


class ProviderHandler(ProviderResource):
    """``GET``, ``PUT`` and ``DELETE /providers/{provider}``."""

    @operation("Get a provider", access="viewer", answers={200: ProviderInfo}, errors=(404,))
    async def get(self, provider: str) -> None:
        """Give a provider, or an OpenAI-compatible server that was registered by name."""
        await self._answer_info(provider)

    @operation("Set a provider", access="editor", body=ProviderSet, answers={200: ProviderInfo})
    async def put(self, provider: str) -> None:
        """Store a provider's key, address and options, encrypted; they are never given out again.

        What was stored before is replaced as a whole. Any name that is not a provider's registers an
        OpenAI-compatible server, whose models are then called `<name>/<model>`. With `scope` `server`, an
        administrator sets it for everybody. A user's own setting counts before the server's, and that before
        the environment's; each as a whole, so that nobody's key is sent to another's address. Addresses on
        this machine and on private networks are refused, unless an administrator gives or allows them.
        """
        body = self.body(ProviderSet)
        if body.scope == "server":
            require("admin", self.caller)
        any_address = self.caller.role == "admin" and not self.caller.sandbox
        await self.parts.providers.put(provider, body, self.caller.owner, any_address=any_address)
        await self._answer_info(provider)

    @operation(
        "Delete a provider's setting",
        access="editor",
        query=ProviderQuery,
        answers={204: None},
        errors=(404,),
    )
    async def delete(self, provider: str) -> None:
        """Delete what is stored for a provider: the caller's own, or with `scope` `server` everybody's."""
        query = self.query(ProviderQuery)
        if query.scope == "server":
            require("admin", self.caller)
        await self.parts.providers.delete(provider, query.scope, self.caller.owner)
        self.nothing()

    async def _answer_info(self, name: str) -> None:
        catalog = self.catalog()
        provider = known_provider(catalog, name)
        self.answer(self.info(await readiness(catalog, only=name), provider))


class ProviderTestHandler(ProviderResource, AwaitedAnswer):
    """``POST /providers/{provider}/test``."""

    @operation(
        "Test a provider",
        access="editor",
        body=ProviderTest,
        answers={200: ProviderTested},
        errors=(404, 429, 503),
    )
    async def post(self, provider: str) -> None:
        """Ask a provider something small: whether its key, address and model work, and else what to do.

        A model is asked once, in an execution, which has the trace and the cost; a search engine is searched.
        What does not work is an answer too (200), with `works: false`.
        """
        body = self.body(ProviderTest)
        found = known_provider(self.catalog(), provider)
        answer = await self.while_awaited(tested(self.parts.runs, found, body.model, self.caller.owner))
        if answer is not None:
            self.answer(answer)


def known_provider(catalog: ModelCatalog, name: str) -> Provider:
    """Give a provider by its name.

    Raises
    ------
    NotFound
        There is none.
    """
    known = {provider.name: provider for provider in catalog.providers()}
    if name not in known:
        raise NotFound(f"There is no provider {name!r}{nearest(name, known)}")
    return known[name]


def _has_secret(options: object) -> bool:
    return isinstance(options, dict) and any("secret" in name for name in options)


def _without_password(base_url: str | None) -> str | None:
    if base_url is None:
        return None
    scheme, separator, rest = base_url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"
