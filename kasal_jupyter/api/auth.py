"""``/auth`` and ``/users``: the reference's *Authentication Endpoints*, and who may use the API."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.errors import Fault, Forbidden, InvalidRequest
from kasal_jupyter.places import SMALL
from kasal_jupyter.schemas.users import (
    KeyCreate,
    KeyCreated,
    KeyList,
    KeyQuery,
    LoginRequest,
    Me,
    PasswordChange,
    RefreshRequest,
    Tokens,
    UserCreate,
    UserDetails,
    UserList,
    UserQuery,
    UserUpdate,
)

TAG = "Authentication Endpoints"


class LoginHandler(ApiHandler):
    """``POST /auth/login``."""

    tag = TAG
    small_body = True
    message = "Invalid login"

    @operation(
        "Login with credentials",
        access="anyone",
        body=LoginRequest,
        answers={200: Tokens},
        errors=(401, 429, 503),
    )
    async def post(self) -> None:
        """Give tokens for an e-mail address and a password.

        After 10 failures of an account from one address in 15 minutes, nothing more of it is tried from
        there. Where logins of 50 accounts from one address, or 100 of one account from many, have failed,
        others wait some seconds.
        """
        body = self.body(LoginRequest)
        sessions = self.parts.accounts.sessions
        self.answer(await sessions.login(body.email, body.password, self.request.remote_ip or ""))


class RefreshHandler(ApiHandler):
    """``POST /auth/refresh``."""

    tag = TAG
    small_body = True
    message = "Invalid refresh"

    @operation(
        "Refresh access token", access="anyone", body=RefreshRequest, answers={200: Tokens}, errors=(401,)
    )
    async def post(self) -> None:
        """Give new tokens for a refresh token, which is used up by it.

        A refresh token that comes a second time was stolen: all tokens of its login are revoked.
        """
        self.answer(await self.parts.accounts.sessions.refresh(self.body(RefreshRequest).refresh_token))


class LogoutHandler(ApiHandler):
    """``POST /auth/logout``."""

    tag = TAG
    small_body = True
    message = "There is no login to end"

    @operation("Invalidate tokens", access="viewer", answers={204: None}, errors=(400,), in_maintenance=True)
    async def post(self) -> None:
        """Revoke the access token that the request is made with, and the refresh token that came with it."""
        if self.caller.session_id is None:
            reason = (
                "The request was made with no access token of POST /auth/login. Revoke an API key with "
                "DELETE /auth/keys/{key_id}; leave Jupyter on its own log-out page"
            )
            raise InvalidRequest(self.message, faults=[Fault("Authorization", reason)])
        await self.parts.accounts.sessions.logout(self.caller.session_id)
        self.nothing()


class MeHandler(ApiHandler):
    """``GET /auth/me`` and ``PUT /auth/me``."""

    tag = TAG
    small_body = True
    message = "The password was not changed"

    @operation("Tell who the caller is", access="viewer", answers={200: Me}, in_maintenance=True)
    async def get(self) -> None:
        """Tell who the caller is to this server, and with which rights."""
        caller = self.caller
        self.answer(
            Me(
                id=caller.user_id,
                name=caller.name,
                email=caller.name if caller.user_id else None,
                role=caller.role,
                tier=caller.tier,
                owner=caller.owner,
                sandbox=caller.sandbox,
            )
        )

    @operation(
        "Change one's own password", access="viewer", body=PasswordChange, answers={204: None}, errors=(429,)
    )
    async def put(self) -> None:
        """Change the caller's password, which ends all of their logins, this one too. API keys stay."""
        body = self.body(PasswordChange)
        if self.caller.user_id is None:
            reason = "You are no user of Kasal's own, so there is no password here to change"
            raise InvalidRequest(self.message, faults=[Fault("current_password", reason)])
        await self.parts.accounts.sessions.change_password(
            self.caller.user_id, body.current_password, body.password, self.request.remote_ip or ""
        )
        self.nothing()


class KeysHandler(ApiHandler):
    """``GET /auth/keys`` and ``POST /auth/keys``."""

    tag = TAG
    small_body = True
    message = "Invalid API key"

    @operation("List API keys", access="viewer", query=KeyQuery, answers={200: KeyList})
    async def get(self) -> None:
        """List the caller's own API keys, the newest first where no other order is asked for."""
        query = self.query(KeyQuery)
        page = await list_page(
            self.parts.store.api_keys, query, {"owner": self.caller.owner}, searched=("name",)
        )
        keys = [key.summary() for key in page.documents]
        await self.answer_with(
            lambda: KeyList.of(query, keys, page.total),
            size=LISTED * len(page.documents),
        )

    @operation(
        "Create API key", access="viewer", body=KeyCreate, answers={201: KeyCreated}, errors=(403, 409)
    )
    async def post(self) -> None:
        """Make a key that acts as the caller until it expires or is revoked. It is shown this once."""
        body = self.body(KeyCreate)
        if self.caller.sandbox:
            raise Forbidden("The sandbox has no API keys; use its token")
        document, key = await self.parts.accounts.api_keys.create(self.caller.owner, body)
        self.answer(KeyCreated(**document.summary().model_dump(), key=key), 201)


class KeyHandler(ApiHandler):
    """``DELETE /auth/keys/{key_id}``."""

    tag = TAG
    small_body = True

    @operation("Revoke API key", access="viewer", answers={204: None}, errors=(404,))
    async def delete(self, key_id: str) -> None:
        """Revoke a key of the caller's own; an admin may revoke anybody's."""
        keys = self.parts.accounts.api_keys
        self.own(keys.get(key_id), f"API key {key_id}")
        await keys.revoke(key_id)
        self.nothing()


# ``/users``: who may use the API besides whoever Jupyter lets in.


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
            lambda: UserList.of(query, list(map(details, page.documents)), page.total),
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
