"""Logins: the reference's *Authentication Endpoints*."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NoReturn

from kasal_jupyter.auth.failed_logins import FailedLogins, network_of
from kasal_jupyter.auth.passwords import Passwords
from kasal_jupyter.auth.tokens import REFRESH_SECONDS, Clock, TokenSigner, invalid_token
from kasal_jupyter.auth.users import Users
from kasal_jupyter.errors import Fault, InvalidRequest, Unauthorized
from kasal_jupyter.schemas.auth import Session, Tokens
from kasal_jupyter.schemas.base import new_id
from kasal_jupyter.schemas.users import UserUpdate
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
