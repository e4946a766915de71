"""Logins: the reference's *Authentication Endpoints*, and how many may fail."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NoReturn

from kasal_jupyter.auth.rates import Rate, RateMeter
from kasal_jupyter.auth.tokens import REFRESH_SECONDS, Clock, TokenSigner, invalid_token
from kasal_jupyter.auth.users import Passwords, Users
from kasal_jupyter.errors import Fault, InvalidRequest, TooManyRequests, Unauthorized
from kasal_jupyter.schemas.base import new_id
from kasal_jupyter.schemas.users import Session, Tokens, UserUpdate
from kasal_jupyter.store.store import Store

MOST_SESSIONS = 100
"""Logins a user may have at a time; one more ends the oldest. Programs forget to log out."""

SWEEP_SECONDS = 3_600
"""How often expired logins are removed, at the most; that they are there harms nobody."""

_WRONG = "The e-mail address or the password is wrong"


class Sessions:
    """The logins of a store. One is a document; its tokens are good while it is there.

    Parameters
    ----------
    store
        The opened data folder.
    users, passwords, signer, failures
        Who logs in, with what, to get what; and how often they may fail.
    clock
        Gives the time.
    """

    def __init__(
        self,
        store: Store,
        users: Users,
        passwords: Passwords,
        signer: TokenSigner,
        failures: FailedLogins,
        *,
        clock: Clock = time.time,
    ) -> None:
        self._store = store
        self._users = users
        self._passwords = passwords
        self._signer = signer
        self._failures = failures
        self._clock = clock
        self._swept = 0.0

    async def login(self, email: str, password: str, address: str) -> Tokens:
        """Check a password, and begin a session.

        Parameters
        ----------
        email, password
            Who says that they are who.
        address
            Where the request comes from.

        Raises
        ------
        Unauthorized
            It is the wrong password, or there is no such account; nobody is told which.
        TooManyRequests
            Too many logins of this account from this address have failed.
        Unavailable
            Too many people log in at the same time.
        """
        email = email.strip().lower()
        async with self._failures.attempt(email, address):
            user = self._users.find(email)
            stored = user.password_hash if user else None
            right = await self._passwords.verify(stored, password, network_of(address))
            if user is None or not right or user.disabled:
                raise Unauthorized(_WRONG)
        checked = await self._users.rehash(user, password)
        now = self._clock()
        session = Session(
            id=new_id("session"),
            user_id=user.id,
            refresh_jti=new_id("token"),
            created_at=_utc(now),
            refreshed_at=_utc(now),
            expires_at=_utc(now + REFRESH_SECONDS),
        )

        def begin() -> None:
            latest = self._store.users.get(user.id)
            if latest is None or latest.disabled or latest.password_hash != checked.password_hash:
                # Disabled, or given another password, while this one was hashed.
                raise Unauthorized(_WRONG)
            self._sweep(now)
            # In the order they were made.
            for oldest in self._store.sessions.find(user_id=user.id)[: 1 - MOST_SESSIONS]:
                self._store.sessions.delete(oldest.id)
            self._store.sessions.insert(session)

        await self._store.change(begin)
        return self._tokens(session)

    async def refresh(self, token: str) -> Tokens:
        """Give new tokens for a refresh token, which is used up by it.

        One that was used before has been in two hands, and one of them has stolen it: its session ends,
        for both.

        Raises
        ------
        Unauthorized
            It is not a valid refresh token, or was used before.
        """
        claims = self._signer.read(token, "refresh")
        now = self._clock()

        def rotate() -> Session | None:
            session = self._store.sessions.readable(claims.session_id)
            user = self._store.users.readable(claims.user_id)
            if session is None or user is None or user.disabled or session.user_id != user.id:
                raise invalid_token()
            if session.refresh_jti != claims.jti:
                self._store.sessions.delete(session.id)
                return None
            self._sweep(now)
            fields = {
                "refresh_jti": new_id("token"),
                "refreshed_at": _utc(now),
                "expires_at": _utc(now + REFRESH_SECONDS),
            }
            return self._store.sessions.update(session.id, fields)

        # None instead of an exception, which would undo that the session has ended.
        session = await self._store.change(rotate)
        return self._tokens(session) if session is not None else _used_before()

    async def logout(self, session_id: str) -> None:
        """End a session, and with it all of its tokens."""
        await self._store.change(lambda: self._store.sessions.delete(session_id))

    async def change_password(self, user_id: str, current: str, password: str, address: str) -> None:
        """Change a user's own password, which ends all of their logins.

        Parameters
        ----------
        user_id
            The user.
        current, password
            The password as it is, and as it is to be.
        address
            Where the request comes from: whoever has stolen a token may guess here no more than at a login.

        Raises
        ------
        InvalidRequest
            The current password is another one.
        NotFound
            There is no such user.
        TooManyRequests
            Too many guesses were wrong.
        """
        user = self._users.get(user_id)
        try:
            async with self._failures.attempt(user.email, address):
                if not await self._passwords.verify(user.password_hash, current, network_of(address)):
                    raise Unauthorized(_WRONG)  # noqa: TRY301  # what counts as a failed attempt
        except Unauthorized:
            raise InvalidRequest(
                "The password was not changed",
                faults=[Fault("current_password", "This is not your current password")],
            ) from None
        await self._users.update(user_id, UserUpdate(password=password))

    def _tokens(self, session: Session) -> Tokens:
        return Tokens(
            access_token=self._signer.access(session.user_id, session.id),
            refresh_token=self._signer.refresh(session.user_id, session.id, session.refresh_jti),
        )

    def _sweep(self, now: float) -> None:
        """Remove what has expired."""
        if abs(now - self._swept) < SWEEP_SECONDS:
            return
        self._swept = now
        for session in self._store.sessions.find():
            if session.expires_at <= _utc(now):
                self._store.sessions.delete(session.id)


def _used_before() -> NoReturn:
    raise Unauthorized("The refresh token was used before, so all tokens of its login were revoked; log in")


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


# Failed logins: how many an account may have from one address, and what slows whoever tries many.

QUARTER = 900

PER_PAIR = Rate(10, QUARTER, "10 failed logins of this account from your address in 15 minutes")
"""Past it, nothing more of the account is tried from the address."""

PER_ACCOUNT = Rate(100, QUARTER, "100 failed logins of one account")
"""Past it, the account's logins are slow, but for those from addresses where it has logged in before."""

PER_ADDRESS = Rate(50, QUARTER, "failed logins of 50 accounts from one address")
"""Past it, logins from the address are slow, but for those of accounts that have logged in there before."""

PAUSE_SECONDS = 2.0
"""How long a slow login waits before its password is looked at."""

MOST_PAUSED = 20
"""Slow logins of one address that may wait at the same time."""

MOST_KNOWN = 10_000
"""Pairs of account and address that are remembered as good; 0.3 kB each."""

Pause = Callable[[float], Awaitable[object]]


class FailedLogins:
    """Stops who guesses passwords before a password is even hashed, and nobody else.

    Nobody can be locked out of an account by somebody at another address: past what one address may, only
    that address is refused. Who guesses from many addresses, or tries many accounts, is slowed. Behind a
    proxy everybody has its address, unless the server is told to trust the proxy's headers.

    Parameters
    ----------
    meter
        Where failures are counted.
    pause
        Waits some seconds.
    """

    def __init__(self, meter: RateMeter, pause: Pause = asyncio.sleep) -> None:
        self._meter = meter
        self._pause = pause
        self._under_way: Counter[str] = Counter()
        self._paused: Counter[str] = Counter()
        self._known: OrderedDict[str, None] = OrderedDict()

    @asynccontextmanager
    async def attempt(self, account: str, address: str) -> AsyncIterator[None]:
        """Try a password inside; that it is wrong is told by raising :class:`Unauthorized`.

        Attempts that are under way count as if they had failed: otherwise, a thousand made at the same
        time would all be let through.

        Parameters
        ----------
        account
            The e-mail address that is tried, whether there is such an account or not.
        address
            Where the request comes from.

        Raises
        ------
        TooManyRequests
            So many have failed that this one is not tried.
        """
        network = network_of(address)
        pair = f"pair {account} {network}"
        if self._meter.left(pair, PER_PAIR).remaining <= self._under_way[pair]:
            seconds = self._meter.wait(pair, PER_PAIR)
            raise TooManyRequests(
                f"More than {PER_PAIR.words}; try again in {seconds} s", retry_after=seconds
            )
        self._under_way[pair] += 1
        try:
            if pair not in self._known and self._is_slow(account, network):
                await self._wait(network)
            yield
        except Unauthorized:
            self._count(pair, account, network)
            raise
        else:
            self._remember(pair)
        finally:
            _take_back(self._under_way, pair)

    def _is_slow(self, account: str, network: str) -> bool:
        counted = ((f"account {account}", PER_ACCOUNT), (f"address {network}", PER_ADDRESS))
        return any(self._meter.left(name, rate).remaining == 0 for name, rate in counted)

    async def _wait(self, network: str) -> None:
        if self._paused[network] >= MOST_PAUSED:
            raise TooManyRequests(
                "Too many logins from your address have failed; try again in some seconds",
                retry_after=int(PAUSE_SECONDS) + 1,
            )
        self._paused[network] += 1
        try:
            await self._pause(PAUSE_SECONDS)
        finally:
            _take_back(self._paused, network)

    def _count(self, pair: str, account: str, network: str) -> None:
        # An address counts accounts, each once: ten mistakes of one person are no search for weak passwords.
        if self._meter.left(pair, PER_PAIR).remaining == PER_PAIR.amount:
            self._meter.count(f"address {network}", PER_ADDRESS)
        self._meter.count(f"account {account}", PER_ACCOUNT)
        self._meter.count(pair, PER_PAIR)

    def _remember(self, pair: str) -> None:
        self._known[pair] = None
        self._known.move_to_end(pair)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)


def _take_back(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]


def network_of(address: str) -> str:
    """Give what stands for the sender: of IPv6, a /64, since everybody has 2⁶⁴ addresses there."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        # A server on a UNIX socket has no addresses.
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
