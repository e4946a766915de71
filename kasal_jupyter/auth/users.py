"""Users: who there is, what they may do, and their passwords."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kasal_jupyter.auth.passwords import Passwords
from kasal_jupyter.errors import Conflict, Fault, NotFound
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.users import User, UserCreate, UserDetails, UserUpdate
from kasal_jupyter.store.store import Store

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
