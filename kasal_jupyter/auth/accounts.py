"""The parts of the room, built and wired."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from kasal_jupyter.auth.gate import Gate
from kasal_jupyter.auth.logins import FailedLogins, Sessions
from kasal_jupyter.auth.passwords import Passwords
from kasal_jupyter.auth.rates import RateMeter
from kasal_jupyter.auth.tokens import ApiKeys, Clock, TokenSigner, signing_key
from kasal_jupyter.auth.users import Users
from kasal_jupyter.store.store import Store


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
