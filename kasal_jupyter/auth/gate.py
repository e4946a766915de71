"""The gate: who a token says is asking, how often they may, when nobody is let in; the parts behind it."""

from __future__ import annotations

import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from jupyter_server.auth import User

from kasal_jupyter.auth.logins import FailedLogins, Sessions
from kasal_jupyter.auth.rates import Allowance, RateMeter, rates_of
from kasal_jupyter.auth.tokens import (
    KEY_PREFIX,
    ApiKeys,
    Claims,
    Clock,
    TokenSigner,
    digest,
    invalid_token,
    looks_like_token,
    signing_key,
)
from kasal_jupyter.auth.users import Passwords, Users
from kasal_jupyter.errors import Unauthorized, Unavailable
from kasal_jupyter.schemas.base import parse_time, utc_now
from kasal_jupyter.schemas.server import MAINTENANCE_ID, Maintenance, MaintenanceState, MaintenanceUpdate
from kasal_jupyter.schemas.users import Role, Tier
from kasal_jupyter.store.collections import API_KEYS, SESSIONS, USERS
from kasal_jupyter.store.store import Store

# Who is asking.

SERVER_OWNER = "jupyter"
"""Whose things are what anybody let in by Jupyter makes.

Not the user's name: with a token and no cookie, Jupyter makes up a new name at every request.
"""

RANK: Mapping[Role, int] = {"viewer": 1, "editor": 2, "admin": 3}
"""How much a role may, by its place."""


class Owned(Protocol):
    """What belongs to somebody."""

    @property
    def owner(self) -> str:
        """Whose it is."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request.

    Attributes
    ----------
    owner
        Whose resources the caller sees and makes: :data:`SERVER_OWNER`, or the id of a Kasal user.
    name
        For people to read.
    role
        What the caller may do.
    tier
        How often the caller may ask.
    user_id
        The Kasal user; None for whoever Jupyter let in, and for the sandbox.
    session_id
        The login that the caller's token comes from; None where it is no such token.
    sandbox
        Whether the caller works in the sandbox, apart from everything else.
    """

    owner: str
    name: str
    role: Role = "editor"
    tier: Tier = "free"
    user_id: str | None = None
    session_id: str | None = None
    sandbox: bool = False

    @property
    def author(self) -> str:
        """Who it is for whoever reads it later: Jupyter makes up a name for each who comes with its token."""
        return self.owner if self.user_id is None and self.name.startswith("Anonymous ") else self.name

    @property
    def only(self) -> str | None:
        """Whose documents the caller's lists show; None for everybody's, which an admin's do."""
        return None if self.role == "admin" else self.owner

    @property
    def scope(self) -> dict[str, str]:
        """The criteria of the documents that the caller's lists show."""
        return {} if self.only is None else {"owner": self.owner}

    def sees(self, document: Owned) -> bool:
        """Say whether the caller may see something at all."""
        return self.role == "admin" or document.owner == self.owner


def caller_of(user: User) -> Caller:
    """Give the caller that a Jupyter user is: whoever Jupyter let in owns the server."""
    return Caller(
        owner=SERVER_OWNER, name=user.display_name or user.username, role="admin", tier="enterprise"
    )


REMEMBERED = 10_000
"""Tokens that are remembered with whom they mean; 1 kB each."""

SANDBOX_OWNER = "sandbox"
"""Whose things are what the sandbox token's bearers make."""

SANDBOX = Caller(owner=SANDBOX_OWNER, name="Sandbox", role="editor", tier="pro", sandbox=True)

_OF_TOKEN = (USERS.name, SESSIONS.name)
_OF_KEY = (USERS.name, API_KEYS.name)


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was checked.

    Attributes
    ----------
    caller
        Whom it means.
    expires
        When it ends, in seconds since 1970.
    source
        The collections that this was read from, by name.
    versions
        Their state.
    claims
        What the token says, if it is signed: that stays true whatever changes.
    """

    caller: Caller
    expires: float
    source: tuple[str, ...]
    versions: tuple[int, ...]
    claims: Claims | None = None


class Gate:
    """Tells callers by what they send, and counts their requests.

    Parameters
    ----------
    store
        The opened data folder.
    signer
        Reads tokens.
    meter
        Counts requests.
    sandbox_token
        What lets into the sandbox; empty: nothing does.
    enterprise_burst
        Requests a minute of the tier without an hourly limit; 0: any number.
    clock
        Gives the time.
    """

    def __init__(
        self,
        store: Store,
        signer: TokenSigner,
        meter: RateMeter,
        *,
        sandbox_token: str = "",
        enterprise_burst: int = 0,
        clock: Clock = time.time,
    ) -> None:
        self._store = store
        self._signer = signer
        self._meter = meter
        self._sandbox_token = sandbox_token.encode()
        self._rates = rates_of(enterprise_burst)
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def recognise(self, token: str) -> Caller | None:
        """Tell whom a token means.

        A token that was checked is remembered. It is checked anew once a user, a session or a key has
        changed anywhere on the data folder, so that whatever is revoked or changed holds at once.

        Parameters
        ----------
        token
            What was sent.

        Returns
        -------
        Caller or None
            None where it is not one of ours, and so is Jupyter's business.

        Raises
        ------
        Unauthorized
            It is one of ours, and invalid, expired or revoked.
        """
        known = self._known.get(token)
        if known is not None:
            if known.expires > self._clock() and known.versions == self._store.versions(known.source):
                return known.caller
            del self._known[token]
        if self._sandbox_token and hmac.compare_digest(token.encode(), self._sandbox_token):
            return SANDBOX
        if token.startswith(KEY_PREFIX):
            found = self._by_key(token)
        elif looks_like_token(token):
            found = self._by_token(token, known.claims if known else None)
        else:
            return None
        self._known[token] = found
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found.caller

    def spend(self, caller: Caller) -> Allowance | None:
        """Count a request of a caller.

        All tokens and keys of a user share one account; whoever Jupyter let in has none.

        Returns
        -------
        Allowance or None
            What is left; None where nothing is limited.

        Raises
        ------
        TooManyRequests
            Nothing is left.
        """
        rates = self._rates[caller.tier]
        if not rates or caller.owner == SERVER_OWNER:
            return None
        return self._meter.spend(caller.owner, rates)

    # In both, the versions are taken before anything is read: what is remembered may be newer than it says,
    # never older.

    def _by_token(self, token: str, claims: Claims | None) -> _Known:
        if claims is None or claims.expires <= self._clock():
            claims = self._signer.read(token, "access")
        versions = self._store.versions(_OF_TOKEN)
        session = self._store.sessions.readable(claims.session_id)
        if session is None or session.user_id != claims.user_id:
            raise invalid_token()
        caller = self._user(claims.user_id, session.id)
        return _Known(caller, claims.expires, _OF_TOKEN, versions, claims)

    def _by_key(self, key: str) -> _Known:
        versions = self._store.versions(_OF_KEY)
        found = self._store.api_keys.find(digest=digest(key))
        if not found:
            raise Unauthorized("The API key is not valid; make a new one with POST /auth/keys")
        document = found[0]
        expires = math.inf if document.expires_at is None else parse_time(document.expires_at).timestamp()
        if expires <= self._clock():
            raise Unauthorized(f"The API key {document.name!r} has expired; make a new one")
        if document.owner == SERVER_OWNER:
            caller = Caller(SERVER_OWNER, document.name, "admin", "enterprise")
        else:
            caller = self._user(document.owner, None)
        return _Known(caller, expires, _OF_KEY, versions)

    def _user(self, user_id: str, session_id: str | None) -> Caller:
        user = self._store.users.readable(user_id)
        if user is None or user.disabled:
            raise invalid_token()
        return Caller(
            owner=user.id,
            name=user.email,
            role=user.role,
            tier=user.tier,
            user_id=user.id,
            session_id=session_id,
        )


# Maintenance mode: nobody is let in but for what switches it off again.


class MaintenanceMode:
    """The switch, which all servers on a data folder share.

    Parameters
    ----------
    store
        Where its state is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version = -1
        self._state = MaintenanceState(enabled=False)

    @property
    def state(self) -> MaintenanceState:
        """The state as it is now, whichever server switched it."""
        version = self._store.settings.version()
        if version != self._version:
            stored = self._store.settings.readable(MAINTENANCE_ID)
            self._state = (
                MaintenanceState(enabled=False)
                if stored is None
                else MaintenanceState.model_validate(stored.model_dump(exclude={"id"}))
            )
            self._version = version
        return self._state

    def check(self) -> None:
        """Refuse a request while the mode is on.

        Raises
        ------
        Unavailable
            It is; the reference's 503.
        """
        state = self.state
        if state.enabled:
            text = "The server is in maintenance mode"
            raise Unavailable(
                f"{text}: {state.message}" if state.message else text, retry_after=state.retry_after
            )

    async def switch(self, wanted: MaintenanceUpdate) -> MaintenanceState:
        """Switch the mode on or off; on return it holds, also after a restart."""
        before = self.state
        since = (before.since or utc_now()) if wanted.enabled else None
        document = Maintenance(**wanted.model_dump(), since=since)

        def store() -> None:
            self._store.settings.delete(MAINTENANCE_ID)
            self._store.settings.insert(document)

        await self._store.change(store)
        return self.state


# The parts of the room, built and wired.


@dataclass(frozen=True, slots=True)
class Accounts:
    """Everything about who may use the API besides whoever Jupyter has let in.

    Attributes
    ----------
    users
        Who there is.
    sessions
        Their logins.
    api_keys
        Their keys, and the server's owner's.
    gate
        Whom a token means, and how often they may ask.
    passwords
        Hashes passwords in threads of its own.
    """

    users: Users
    sessions: Sessions
    api_keys: ApiKeys
    gate: Gate
    passwords: Passwords

    @classmethod
    def open(
        cls,
        store: Store,
        folder: Path,
        *,
        sandbox_token: str = "",
        enterprise_burst: int = 0,
        clock: Clock = time.time,
    ) -> Self:
        """Build the parts on a data folder, which gets a secret for signing tokens if it has none.

        Parameters
        ----------
        store
            The store in the folder.
        folder
            The data folder.
        sandbox_token
            What lets into the sandbox; empty: nothing does.
        enterprise_burst
            Requests a minute of the tier enterprise; 0: any number.
        clock
            Gives the time of tokens, sessions and keys, in seconds since 1970.

        Raises
        ------
        StoreError
            The secret can't be read or made.
        """
        signer = TokenSigner(signing_key(folder), clock)
        meter = RateMeter()
        passwords = Passwords()
        users = Users(store, passwords)
        return cls(
            users=users,
            sessions=Sessions(store, users, passwords, signer, FailedLogins(meter), clock=clock),
            api_keys=ApiKeys(store, clock),
            gate=Gate(
                store,
                signer,
                meter,
                sandbox_token=sandbox_token,
                enterprise_burst=enterprise_burst,
                clock=clock,
            ),
            passwords=passwords,
        )

    def close(self) -> None:
        """End the threads that hash passwords."""
        self.passwords.close()
