"""Executions that are only a question to a model, and end with whoever asks; one that tries a provider."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from kasal_jupyter.errors import Conflict, InvalidRequest, NotRunnable, TooManyRequests, Unavailable, listed
from kasal_jupyter.events.event import ErrorInfo
from kasal_jupyter.events.summary import RunSummary
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.executions.verbs import start
from kasal_jupyter.models.catalog import ModelCatalog, ModelUnavailable
from kasal_jupyter.models.listing import list_models, readiness
from kasal_jupyter.models.providers import Credentials, Provider
from kasal_jupyter.places import MODEL_SERVERS
from kasal_jupyter.schemas.agents import Agent, ModelSettings
from kasal_jupyter.schemas.base import utc_now
from kasal_jupyter.schemas.crews import Crew, WholeCrew
from kasal_jupyter.schemas.models import ProviderTested
from kasal_jupyter.schemas.spec import RunSearch
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.tools.builtin.web_search import search
from kasal_jupyter.tools.guard import HostGuard

REQUEST_ENDED = ErrorInfo(
    code="REQUEST_ENDED",
    message="The request that it was for is over: its client has gone, or its time was up.",
)


async def asked(
    runs: Runs, whole: WholeCrew, owner: str, *, started: Callable[[str], object], unrepeated: bool = False
) -> RunSummary:
    """Run a crew to its end; cancelled, it stops the execution.

    Parameters
    ----------
    runs
        Where it runs.
    whole
        The crew, without inputs.
    owner
        Whose execution it is.
    started
        Takes the execution's id, before it is waited for.
    unrepeated
        Whether a model that fails is not asked again.
    """
    # Not to be cut off in between: an execution that was started must be known, to be stopped.
    starting = asyncio.ensure_future(start(runs, whole, {}, owner, unrepeated=unrepeated))
    try:
        execution = await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(Conflict):
            await runs.stop((await starting).id, REQUEST_ENDED)
        raise
    started(execution.id)
    feed = await runs.feed(execution.id)
    news = asyncio.Event()
    unsubscribe = feed.subscribe(lambda *_: news.set())
    try:
        while not feed.summary.ended:
            news.clear()
            await news.wait()
    except asyncio.CancelledError:
        with suppress(Conflict):
            await runs.stop(execution.id, REQUEST_ENDED)
        raise
    finally:
        unsubscribe()
    return feed.summary


# Whether a provider works: one small real request, and what its answer says of key, address and model.
#
# A model is asked in an execution like any other: what is tested is the way that crews take, SDK and all, and
# what it cost stands where it does of every run. A search engine is searched once.

TESTER = "provider_test"
"""The crew that these executions are of; it is stored nowhere."""

SECONDS = 60
"""How long the request may take."""

MOST_ANSWER = 200
"""Characters of the answer that are told."""


async def tested(runs: Runs, provider: Provider, model: str | None, owner: str) -> ProviderTested:
    """Ask a provider something small, and say what that has shown.

    Parameters
    ----------
    runs
        Where a model is asked.
    provider
        Who is asked.
    model
        Which model, as the provider calls it, or by its whole name; None for one that it serves.
    owner
        Whose keys count.

    Raises
    ------
    InvalidRequest
        A model is named of somebody who serves none, or must be named and is not.
    TooManyRequests, Unavailable
        Nothing can be asked now.
    """
    catalog = runs.catalog.of(owner)
    begun = time.monotonic()
    lack = (await readiness(catalog, only=provider.name)).lack(provider)
    if provider.kind == "search":
        if model is not None:
            raise InvalidRequest(f"{provider.title} searches the web, and has no models to name")
        found = await _searched(catalog, provider, runs.toolbox(owner).allowed_hosts, lack)
    elif lack is not None and (model is None or catalog.fault(provider) is not None):
        found = ProviderTested(provider=provider.name, works=False, message=f"{provider.title} {lack}.")
    else:
        found = await _answered(runs, catalog, provider, model or await _one_of(catalog, provider), owner)
    return found.model_copy(update={"duration_ms": round((time.monotonic() - begun) * 1_000)})


async def _one_of(catalog: ModelCatalog, provider: Provider) -> str:
    """Choose a model to ask: the cheapest that is listed.

    Raises
    ------
    InvalidRequest
        None is listed.
    """
    mine = [
        each
        for each in await list_models(catalog)
        if each.available and each.retired is None and _is_of(catalog, provider, each.name)
    ]
    if not mine:
        raise InvalidRequest(
            f"{provider.title} does not say which models it serves; name one, as model "
            f'"{provider.name}/<model>" (--model MODEL)'
        )
    return min(
        mine, key=lambda each: each.price.input + each.price.output if each.price else float("inf")
    ).name


def _is_of(catalog: ModelCatalog, provider: Provider, name: str) -> bool:
    try:
        return catalog.split(name)[0].name == provider.name
    except ModelUnavailable:
        return False


async def _answered(
    runs: Runs, catalog: ModelCatalog, provider: Provider, model: str, owner: str
) -> ProviderTested:
    name = model if _is_of(catalog, provider, model) else f"{provider.name}/{model}"
    started: list[str] = []
    told = ProviderTested(provider=provider.name, model=name, works=False, message="")
    try:
        async with asyncio.timeout(SECONDS + 10):
            summary = await asked(runs, _crew(name, owner), owner, started=started.append, unrepeated=True)
    except NotRunnable as error:
        return told.model_copy(update={"code": error.code, "message": error.faults[0].reason})
    except TimeoutError:
        text = f"{name}: no answer within {SECONDS} seconds. {_remedy('MODEL_TIMEOUT', provider)}"
        return told.model_copy(
            update={"code": "MODEL_TIMEOUT", "message": text, "job_id": next(iter(started), None)}
        )
    told = told.model_copy(update={"job_id": started[0]})
    if summary.status == "completed":
        answer = " ".join((summary.result or "").split())[:MOST_ANSWER]
        text = f"{provider.title} works: {name} has answered. Key, address and model are right"
        return told.model_copy(update={"works": True, "message": f"{text}.", "answer": answer})
    code = summary.error.code if summary.error else "INTERRUPTED"
    said = summary.error.message if summary.error else f"The execution was {summary.status}."
    remedy = _remedy(code, provider)
    if code == "MODEL_NOT_FOUND":
        names = [each.name for each in await list_models(catalog) if _is_of(catalog, provider, each.name)]
        remedy += f" It serves {listed(names)}." if names and "<model>" not in names[0] else ""
    return told.model_copy(update={"code": code, "message": f"{said} {remedy}".strip()})


def _remedy(code: str, provider: Provider) -> str:
    """Say what to do about a failure."""
    match code:
        case "MODEL_AUTH":
            return f"Give the right key by {provider.setting}."
        case "MODEL_NOT_FOUND":
            return (
                "Where it says that itself, key and address work: name another model. Else look at the "
                f"address, base_url by {provider.setting}; most end in /v1."
            )
        case "MODEL_UNREACHABLE":
            return f"Look whether it runs, and at its address: base_url by {provider.setting}."
        case "MODEL_TIMEOUT":
            return "It can be reached, and takes too long: look at its load, or name a smaller model."
        case "RATE_LIMIT":
            return "The key and the address work: wait, or look at the limits of your account there."
        case "MODEL_UNAVAILABLE":
            return ""
        case _:
            return f"Look at the address, base_url by {provider.setting}, and at the model's name."


async def _searched(
    catalog: ModelCatalog, provider: Provider, allowed_hosts: list[str] | None, lack: str | None
) -> ProviderTested:
    told = ProviderTested(provider=provider.name, works=False, message=f"{provider.title} {lack}.")
    if lack is not None:
        return told
    given = catalog.credentials(provider.name) or Credentials("environment")
    engine = RunSearch.model_validate(
        {
            "engine": provider.protocol,
            "base_url": given.base_url,
            "api_key": given.api_key,
            "guarded": given.guarded,
        }
    )
    guard = HostGuard(allowed_hosts)
    try:
        found = await MODEL_SERVERS.do(lambda: search("Jupyter", 1, engine, guard), owner=provider.name)
    except (TooManyRequests, Unavailable):
        raise
    except ValueError as error:
        remedy = f"Look at its key and its address: {provider.setting}."
        return told.model_copy(update={"code": "TOOL_ERROR", "message": f"{error}. {remedy}"})
    what = f"found {found[0].url}" if found else "answered, and found nothing"
    return told.model_copy(update={"works": True, "message": f"{provider.title} works: it has {what}."})


def _crew(model: str, owner: str) -> WholeCrew:
    now = utc_now()
    shared = {"owner": owner, "crew_id": TESTER, "created_at": now, "updated_at": now, "position": 0}
    return WholeCrew(
        crew=Crew(id=TESTER, name="Provider test", owner=owner, created_at=now, updated_at=now),
        agents=[
            Agent(
                **shared,
                id="agent_tester",
                name="tester",
                role="Tester",
                goal="Answer",
                backstory="You answer briefly.",
                model=model,
                settings=ModelSettings(timeout=SECONDS),
            )
        ],
        tasks=[
            Task(
                **shared,
                id="task_test",
                name="answer",
                agent_id="agent_tester",
                description="Say that you are there, in one word.",
                expected_output="One word",
            )
        ],
    )
