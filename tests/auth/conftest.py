import asyncio

import pytest

from kasal_jupyter.auth.gate import Accounts
from kasal_jupyter.schemas.users import UserCreate
from kasal_jupyter.store.store import Store

EMAIL = "ada@example.com"
PASSWORD = "secure_password"
ADDRESS = "192.0.2.7"


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self):
        self.now = 1_705_314_600.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def accounts(store, tmp_path, clock):
    opened = Accounts.open(store, tmp_path / "data", sandbox_token="sandbox-token", clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def other(accounts, tmp_path, clock):
    """The accounts of another server on the same folder."""
    with Store.open(tmp_path / "data") as opened:
        others = Accounts.open(opened, tmp_path / "data", clock=clock)
        yield others
        others.close()


@pytest.fixture
def ada(accounts):
    """A user, whose password is known."""
    return asyncio.run(accounts.users.create(UserCreate(email=EMAIL, password=PASSWORD, tier="pro")))


@pytest.fixture
def login(accounts, ada):
    """Log Ada in."""
    return lambda **given: asyncio.run(
        accounts.sessions.login(**{"email": EMAIL, "password": PASSWORD, "address": ADDRESS, **given})
    )
