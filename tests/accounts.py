"""Users for tests of the API, logged in."""

from __future__ import annotations

from typing import Any

import httpx

from kasal_jupyter.schemas.base import new_id
from tests.server import LiveServer

PASSWORD = "secure_password"


def log_in(
    server: LiveServer, role: str = "editor", tier: str = "enterprise", **options: Any
) -> httpx.Client:
    """Make a user, log them in, and give a client that sends their token."""
    email = f"{new_id('user')}@example.com"
    body = {"email": email, "password": PASSWORD, "role": role, "tier": tier}
    with server.client() as owner:
        answer = owner.post("/users", json=body)
        assert answer.status_code == 201, answer.text
        tokens = owner.post("/auth/login", json={"email": email, "password": PASSWORD}).json()
    client = server.client(**options)
    client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    return client
