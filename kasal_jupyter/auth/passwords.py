"""Passwords: hashed with Argon2id, beside the server's loop."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from kasal_jupyter.errors import Unavailable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

TIME_COST = 2
MEMORY_KIB = 19 * 1024
PARALLELISM = 1
"""OWASP's minimum for Argon2id: 19 ms and 19 MiB for each password."""

WORKERS = 2
"""Passwords that are hashed at the same time; each takes 19 MiB meanwhile."""

WAITING = 32
"""Passwords that may wait, for a third of a second at the most; one more is refused."""

T = TypeVar("T")


class Passwords:
    """Hashes and checks passwords, a bounded number at a time.

    Parameters
    ----------
    workers
        How many are hashed at the same time.
    waiting
        How many may wait besides.
    """

    def __init__(self, workers: int = WORKERS, waiting: int = WAITING) -> None:
        self._workers = workers
        self._most = workers + waiting
        self._under_way = 0

    async def hash(self, password: str) -> str:
        """Make what is stored in the place of a password.

        Raises
        ------
        Unavailable
            Too many passwords are being hashed.
        """
        return await self._run(lambda: self._hasher.hash(_bytes(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Say whether a password is the stored one.

        Parameters
        ----------
        stored
            What :meth:`hash` made; None where there is no such account, which takes as long to deny.
        password
            What somebody says it is.

        Raises
        ------
        Unavailable
            Too many passwords are being hashed.
        """
        return await self._run(lambda: self._verify(stored, password))

    def outdated(self, stored: str) -> bool:
        """Say whether a stored password was hashed with parameters that are no longer ours."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """End the threads, if there are any; what waits is not done any more."""
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

    async def _run(self, work: Callable[[], T]) -> T:
        if self._under_way >= self._most:
            raise Unavailable("Too many logins at the same time; try again in a second", retry_after=1)
        self._under_way += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # Counted until the work is done, also if whoever asked for it has gone.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[T]) -> None:
        self._under_way -= 1
        if not future.cancelled():
            future.exception()

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
