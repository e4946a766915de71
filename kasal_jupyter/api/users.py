"""``/users``: who may use the API besides whoever Jupyter lets in."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.places import SMALL
from kasal_jupyter.schemas.users import UserCreate, UserDetails, UserList, UserQuery, UserUpdate


class UsersHandler(ApiHandler):
    """``GET /users`` and ``POST /users``."""

    tag = "Administration"
    message = "Invalid user"

    @operation("List users", access="admin", query=UserQuery, answers={200: UserList})
    async def get(self) -> None:
        """List users, the newest first where no other order is asked for."""
        query = self.query(UserQuery)
        page = await list_page(
            self.parts.store.users,
            query,
            {},
            searched=("email",),
            equal={"tier": query.tier, "role": query.role},
        )
        details = self.parts.accounts.users.details
        await self.answer_with(
            lambda: UserList(
                users=list(map(details, page.documents)),
                total=page.total,
                page=query.page,
                per_page=query.per_page,
            ),
            size=SMALL + 1,
        )

    @operation("Create user", access="admin", body=UserCreate, answers={201: UserDetails}, errors=(409, 503))
    async def post(self) -> None:
        """Create a user, who can log in at once."""
        user = await self.parts.accounts.users.create(self.body(UserCreate), self.ask_once_more)
        self.answer(self.parts.accounts.users.details(user), 201)


class UserHandler(ApiHandler):
    """``GET``, ``PUT`` and ``DELETE /users/{user_id}``."""

    tag = "Administration"
    message = "Invalid user"

    @operation("Get user", access="admin", answers={200: UserDetails}, errors=(404,))
    async def get(self, user_id: str) -> None:
        """Give a user."""
        users = self.parts.accounts.users
        self.answer(users.details(users.get(user_id)))

    @operation(
        "Update user", access="admin", body=UserUpdate, answers={200: UserDetails}, errors=(404, 409, 503)
    )
    async def put(self, user_id: str) -> None:
        """Change what the body gives, at once: open connections that lose a right by it end.

        A new password ends all of the user's logins; so does `disabled`, which stops their API keys and
        executions as well.
        """
        users = self.parts.accounts.users
        user = await users.update(user_id, self.body(UserUpdate), self.ask_once_more)
        self.answer(users.details(user))

    @operation("Disable user", access="admin", answers={204: None}, errors=(404,))
    async def delete(self, user_id: str) -> None:
        """Disable a user: the same as `PUT` with `disabled: true`.

        Nothing is deleted: what they made stays theirs, and `disabled: false` lets them in again. What they
        have running or waiting is stopped.
        """
        await self.parts.accounts.users.update(user_id, UserUpdate(disabled=True))
        self.nothing()
