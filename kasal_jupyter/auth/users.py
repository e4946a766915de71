"""Users: who there is, what they may do, and their passwords."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from kasal_jupyter.errors import Conflict, Fault, NotFound, Unavailable
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.users import User, UserCreate, UserDetails, UserUpdate
from kasal_jupyter.store.store import Store

if TYPE_CHECKING:
    from argon2 import PasswordHasher


Ask = Callable[[], Awaitable[None]]


class Users:
    """The users of a store.

    There may be none, and no admin among them: whoever Jupyter lets in is one already.

    Parameters
    ----------
    store
        The opened data folder.
    passwords
        Hashes them.
    """

    def __init__(self, store: Store, passwords: Passwords) -> None:
        self._store = store
        self._passwords = passwords

    def get(self, user_id: str) -> User:
        """Give a user.

        Raises
        ------
        NotFound
            There is no such user.
        """
        return self._store.users.required(user_id, "user")

    def details(self, user: User) -> UserDetails:
        """Give what may be shown of a user. It takes a look for each of their crews."""
        shown = user.model_dump(include=set(UserDetails.model_fields))
        return UserDetails(**shown, stored=self._store.stored_by(user.id))

    def all(self) -> list[User]:
        """Give all users, the oldest first."""
        return self._store.users.find()

    def find(self, email: str) -> User | None:
        """Give the user with an e-mail address, or None."""
        found = self._store.users.find(email=email.strip().lower())
        return found[0] if found else None

    def by_email(self, email: str) -> User:
        """Give the user with an e-mail address.

        Raises
        ------
        NotFound
            There is no such user.
        """
        user = self.find(email)
        if user is None:
            raise NotFound(f"There is no user {email}")
        return user

    async def create(self, body: UserCreate, ask: Ask | None = None) -> User:
        """Store a new user.

        Parameters
        ----------
        body
            The user.
        ask
            Raises where whoever asks for it may do so no more: passwords wait to be hashed.

        Raises
        ------
        Conflict
            There is a user with this e-mail address.
        """
        # Before hashing as well, which takes a while: a list of known users costs nothing this way.
        self._require_free(body.email, None)
        now = utc_now()
        user = User(
            id=new_id("user"),
            email=body.email,
            password_hash=await self._passwords.hash(body.password),
            tier=body.tier,
            role=body.role,
            limits=body.limits,
            created_at=now,
            updated_at=now,
        )
        if ask is not None:
            await ask()

        def insert() -> None:
            self._require_free(body.email, None)
            self._store.users.insert(user)

        await self._store.change(insert)
        return user

    async def update(self, user_id: str, body: UserUpdate, ask: Ask | None = None) -> User:
        """Change what the body gives; it holds for the user's next request, and for what they have open.

        A new password, and being disabled, end all of the user's logins.

        Parameters
        ----------
        user_id
            The user.
        body
            What is new.
        ask
            As for :meth:`create`.

        Raises
        ------
        NotFound
            There is no such user.
        Conflict
            Somebody else has the e-mail address.
        """
        self.get(user_id)
        fields: dict[str, Any] = body.model_dump(exclude_unset=True, exclude={"password"})
        if body.password is not None:
            fields["password_hash"] = await self._passwords.hash(body.password)
            if ask is not None:
                await ask()

        def change() -> User:
            self.get(user_id)
            if body.email is not None:
                self._require_free(body.email, user_id)
            if body.password is not None or body.disabled:
                self._store.sessions.delete_where(user_id=user_id)
            return self._store.users.update(user_id, {**fields, "updated_at": utc_now()})

        return await self._store.change(change)

    async def rehash(self, user: User, password: str) -> User:
        """Store a password anew that was hashed with parameters of another time; no login ends.

        Returns
        -------
        User
            The user as they are stored now.
        """
        if not self._passwords.outdated(user.password_hash):
            return user
        hashed = await self._passwords.hash(password)

        def change() -> User:
            now = self._store.users.get(user.id)
            if now is None or now.password_hash != user.password_hash:
                # The password was changed meanwhile: that one stays.
                return user
            return self._store.users.update(user.id, {"password_hash": hashed})

        return await self._store.change(change)

    def _require_free(self, email: str, user_id: str | None) -> None:
        user = self.find(email)
        if user is not None and user.id != user_id:
            text = f"There is already a user {email}"
            raise Conflict(text, faults=[Fault("email", text)])


# Passwords: hashed with Argon2id, beside the server's loop.

TIME_COST = 2
MEMORY_KIB = 19 * 1024
PARALLELISM = 1
"""OWASP's minimum for Argon2id: 19 ms and 19 MiB for each password."""

WORKERS = 2
"""Passwords that are hashed at the same time; each takes 19 MiB meanwhile."""

WAITING = 16
"""Passwords of one sender that may wait; one more is refused."""

MOST_WAITING = 512
"""Passwords of all senders that may wait."""

T = TypeVar("T")

_Work = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Passwords:
    """Hashes and checks passwords, a bounded number at a time, in turn by sender.

    Whoever sends a thousand waits behind themselves: another's password is the next but one.

    Parameters
    ----------
    workers
        How many are hashed at the same time.
    waiting
        How many of one sender may wait besides.
    """

    def __init__(self, workers: int = WORKERS, waiting: int = WAITING) -> None:
        self._workers = workers
        self._most_each = waiting
        self._under_way = 0
        self._queues: OrderedDict[str, deque[_Work]] = OrderedDict()

    async def hash(self, password: str, sender: str = "") -> str:
        """Make what is stored in the place of a password.

        Parameters
        ----------
        password
            The password.
        sender
            In whose turn; empty for who runs the server.

        Raises
        ------
        Unavailable
            Too many passwords are being hashed.
        """
        return await self._run(sender, lambda: self._hasher.hash(_bytes(password)))

    async def verify(self, stored: str | None, password: str, sender: str = "") -> bool:
        """Say whether a password is the stored one.

        Parameters
        ----------
        stored
            What :meth:`hash` made; None where there is no such account, which takes as long to deny.
        password
            What somebody says it is.
        sender
            In whose turn.

        Raises
        ------
        Unavailable
            Too many passwords are being hashed.
        """
        return await self._run(sender, lambda: self._verify(stored, password))

    def outdated(self, stored: str) -> bool:
        """Say whether a stored password was hashed with parameters that are no longer ours."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """End the threads, if there are any; what waits is not done any more."""
        for queue in self._queues.values():
            for _, done in queue:
                done.cancel()
        self._queues.clear()
        if "_threads" in self.__dict__:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def _verify(self, stored: str | None, password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        # Made for known accounts, too, so that the first unknown one does not stand out.
        nobody = self._nobody
        try:
            return self._hasher.verify(stored or nobody, _bytes(password)) and stored is not None
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, sender: str, work: Callable[[], T]) -> T:
        queue = self._queues.get(sender, ())
        if self._under_way >= self._workers and (
            len(queue) >= self._most_each or sum(map(len, self._queues.values())) >= MOST_WAITING
        ):
            raise Unavailable("Too many logins at the same time; try again in a second", retry_after=1)
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(sender, deque()).append((work, done))
        self._begin()
        return await done

    def _begin(self) -> None:
        """Have threads work on the first of each sender in turn, as far as there are threads."""
        while self._queues and self._under_way < self._workers:
            sender, queue = self._queues.popitem(last=False)
            work, done = queue.popleft()
            if queue:
                self._queues[sender] = queue
            # Whoever asked for it may have gone.
            if not done.done():
                self._under_way += 1
                future = done.get_loop().run_in_executor(self._threads, work)
                # Counted until the work is done, also if nobody waits for it any more.
                future.add_done_callback(partial(self._end, done))

    def _end(self, done: asyncio.Future[Any], future: asyncio.Future[Any]) -> None:
        self._under_way -= 1
        if future.cancelled():
            done.cancel()
        elif (error := future.exception()) is not None:
            if not done.done():
                done.set_exception(error)
        elif not done.done():
            done.set_result(future.result())
        self._begin()

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._workers, thread_name_prefix="kasal-passwords")

    @cached_property
    def _hasher(self) -> PasswordHasher:
        from argon2 import PasswordHasher

        return PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)

    @cached_property
    def _nobody(self) -> str:
        """A hash that no password fits."""
        return self._hasher.hash(secrets.token_bytes(32))


def _bytes(password: str) -> bytes:
    # Keyboards of different systems write one letter in different ways.
    return unicodedata.normalize("NFKC", password).encode()
