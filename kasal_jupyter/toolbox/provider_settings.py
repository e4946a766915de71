"""What users and admins have set for providers: keys, addresses, options, sealed as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from kasal_jupyter.errors import Fault, InvalidRequest, NotFound
from kasal_jupyter.models.providers import (
    ALIASES,
    PROVIDERS,
    RESERVED,
    Credentials,
    Provider,
    provider_named,
)
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.models import NAME_FORM, ProviderSet, Scope, SealedProvider, Source, StoredProvider
from kasal_jupyter.store.layout import decode
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.secrets import SecretBox, SecretLost
from kasal_jupyter.tools.guard import HostGuard, HostRefused

INVALID_PROVIDER = "Invalid provider"

SERVERS = ""
"""The owner of what is set for everybody."""


class Providers:
    """What is stored for providers.

    Parameters
    ----------
    store
        The opened data folder.
    secrets
        What seals it.
    guard
        Which hosts may be named by those who may not name any.
    """

    def __init__(self, store: Store, secrets: SecretBox, guard: HostGuard) -> None:
        self.store = store
        self.secrets = secrets
        self.guard = guard

    def credentials(self, owner: str) -> Mapping[str, Credentials]:
        """Give what is stored for an owner's runs, by provider: the owner's own before the server's."""
        found: dict[str, Credentials] = {}
        sources: tuple[tuple[str, Source], ...] = ((SERVERS, "server"), (owner, "user"))
        for whose, source in sources:
            for name, stored in self.store.providers.bodies(self._read, limit=None, owner=whose)[0]:
                found[name] = self._opened(stored, source)
        return found

    def _read(self, body: bytes) -> tuple[str, StoredProvider | None]:
        """Read what is stored for a provider: its name, where that is all that can be read of it."""
        row = decode(body)
        try:
            stored = StoredProvider.model_validate(row)
        except ValidationError:
            if not isinstance(row.get("name"), str):
                raise
            # Which has it logged, once.
            return row["name"], self.store.providers.readable(row.get("id", ""))
        return stored.name, stored

    def scopes(self, owner: str) -> Mapping[str, list[Scope]]:
        """Say what is stored: by provider, whether for the owner and whether for everybody."""
        found: dict[str, list[Scope]] = {}
        for scope in ("user", "server"):
            for stored in self.store.providers.find(owner=_owner_of(scope, owner)):
                found.setdefault(stored.name, []).append(scope)
        return found

    async def put(self, name: str, body: ProviderSet, owner: str, *, any_address: bool) -> None:
        """Store what a body sets for a provider, in place of what was stored.

        Parameters
        ----------
        name
            A known provider, or the name that an OpenAI-compatible server gets.
        body
            What is set, and for whom.
        owner
            Who sets it.
        any_address
            Whether the address may be one that is not public: an admin's may.

        Raises
        ------
        InvalidRequest
            With every fault by field; nothing was stored.
        """
        provider = provider_named(name)
        faults = [*_faults(provider, body)]
        if body.base_url is not None and not any_address:
            try:
                self.guard.check(body.base_url)
            except HostRefused as error:
                faults.append(Fault("base_url", str(error)))
        if faults:
            raise InvalidRequest(INVALID_PROVIDER, faults=faults)
        sealed = SealedProvider(
            api_key=body.api_key,
            base_url=provider.whole_address(body.base_url),
            options=body.options,
        )
        now = utc_now()
        whose = _owner_of(body.scope, owner)

        def change() -> None:
            fields = {
                "sealed": self.secrets.seal(sealed.model_dump_json()),
                "guarded": body.base_url is not None and not any_address,
                "updated_at": now,
            }
            before = next(iter(self.store.providers.find(owner=whose, name=name)), None)
            if before is not None:
                self.store.providers.replace(before.model_copy(update=fields))
                return
            # One that can't be read any more, say.
            self.store.providers.delete_where(owner=whose, name=name)
            self.store.providers.insert(
                StoredProvider.model_validate(
                    {"id": new_id("provider"), "owner": whose, "name": name, "created_at": now, **fields}
                )
            )

        await self.store.change(change)

    async def delete(self, name: str, scope: Scope, owner: str) -> None:
        """Delete what is stored for a provider.

        Raises
        ------
        NotFound
            Nothing is.
        """

        def change() -> None:
            if not self.store.providers.delete_where(owner=_owner_of(scope, owner), name=name):
                whom = "you" if scope == "user" else "the server"
                raise NotFound(f"Nothing is stored for the provider {name!r} and {whom}")

        await self.store.change(change)

    def _opened(self, stored: StoredProvider | None, source: Source) -> Credentials:
        if stored is None:
            return Credentials(source, unreadable=True)
        try:
            opened = SealedProvider.model_validate_json(self.secrets.open(stored.sealed))
        except SecretLost:
            # Not the next one's in its place: it might cost somebody else's money.
            return Credentials(source, unreadable=True)
        return Credentials(source, opened.api_key, opened.base_url, opened.options, guarded=stored.guarded)


def _owner_of(scope: Scope | str, owner: str) -> str:
    return SERVERS if scope == "server" else owner


def _faults(provider: Provider, body: ProviderSet) -> Iterator[Fault]:
    """Find what does not fit the provider."""
    name = provider.name
    if not re.fullmatch(NAME_FORM, name):
        yield Fault("name", "A provider's name begins with a letter, and has a-z, 0-9, _ and - only")
    elif name in ALIASES:
        yield Fault("name", f"{name!r} is {ALIASES[name]!r} here: PUT /v1/providers/{ALIASES[name]}")
    elif name in RESERVED:
        yield Fault("name", f"{name!r} means something else in a model's name; choose another")
    for option in body.options:
        if option not in provider.options:
            takes = f"; it takes {', '.join(provider.options)}" if provider.options else ""
            yield Fault(f"options.{option}", f"{provider.title} has no such option{takes}")
    if body.api_key is not None and not (provider.key or provider.name not in PROVIDERS):
        yield Fault("api_key", f"{provider.title} takes no such key; it takes {', '.join(provider.options)}")
    if name == "bedrock" and body.base_url is not None:
        yield Fault("base_url", "Amazon Bedrock's address follows from options.aws_region_name")
    given = Credentials("user", body.api_key, body.base_url, body.options)
    missing = provider.missing(given)
    for need in missing:
        fields = [
            {"key": "api_key", "address": "base_url"}.get(one, f"options.{one}") for one in need.split(" or ")
        ]
        yield Fault(fields[0], f"{provider.title} needs {' or '.join(fields)}")
    if not (missing or body.api_key or body.base_url or body.options):
        yield Fault("api_key", "Give what is to be set; DELETE takes away what was")
