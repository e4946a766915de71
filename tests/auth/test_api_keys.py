import asyncio
import hashlib

import pytest

from kasal_jupyter.auth import api_keys
from kasal_jupyter.auth.caller import SERVER_OWNER
from kasal_jupyter.errors import Conflict, InvalidRequest, Unauthorized
from kasal_jupyter.schemas.auth import KeyCreate
from kasal_jupyter.schemas.users import UserUpdate


@pytest.fixture
def make(accounts, ada):
    return lambda owner=ada.id, **body: asyncio.run(
        accounts.api_keys.create(owner, KeyCreate(**{"name": "nightly", **body}))
    )


def test_a_key_means_its_user(accounts, ada, make):
    _, key = make()
    caller = accounts.gate.recognise(key)
    assert (caller.user_id, caller.owner, caller.role, caller.tier) == (ada.id, ada.id, "editor", "pro")
    assert caller.session_id is None
    assert accounts.gate.recognise(make()[1]) == caller


def test_only_a_digest_is_stored(store, make):
    document, key = make()
    assert key.startswith("kasal_")
    assert len(key) > 40
    (stored,) = store.api_keys.find()
    assert stored == document
    assert key not in stored.model_dump_json()
    assert stored.digest == hashlib.sha256(key.encode()).hexdigest()
    assert key.startswith(stored.start)
    assert len(stored.start) == 10
    assert "digest" not in document.summary().model_dump()


def test_a_key_of_the_servers_owner_acts_as_the_owner(accounts, make):
    _, key = make(SERVER_OWNER)
    caller = accounts.gate.recognise(key)
    assert (caller.owner, caller.role, caller.tier) == (SERVER_OWNER, "admin", "enterprise")
    assert caller.user_id is None
    assert accounts.gate.spend(caller) is None


def test_a_revoked_key_is_refused_at_once_on_every_server(accounts, other, make):
    document, key = make()
    kept = make()[1]
    assert other.gate.recognise(key)
    assert accounts.gate.recognise(key)
    asyncio.run(accounts.api_keys.revoke(document.id))
    for gate in (accounts.gate, other.gate):
        with pytest.raises(Unauthorized, match="not valid"):
            gate.recognise(key)
        assert gate.recognise(kept)


def test_a_key_expires_when_it_was_said_to(accounts, clock, make):
    # The clock is at 2024-01-15T10:30:00Z.
    document, key = make(expires_at="2024-01-15T12:00:00+01:00")
    assert document.expires_at == "2024-01-15T11:00:00Z"
    clock.sleep(1_799)
    assert accounts.gate.recognise(key)
    clock.sleep(1)
    with pytest.raises(Unauthorized, match="'nightly' has expired"):
        accounts.gate.recognise(key)


def test_a_key_that_would_have_expired_is_not_made(store, make):
    with pytest.raises(InvalidRequest) as refused:
        make(expires_at="2024-01-15T10:30:00Z")
    assert refused.value.details()["field"] == "expires_at"
    assert not store.api_keys.count()


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("2030-01-15T10:30:00", "needs its zone"),
        ("tomorrow", "Invalid isoformat"),
        ("9999-12-31T23:59:59-14:00", "out of range"),
    ],
)
def test_a_time_that_is_none_is_told(time, reason):
    with pytest.raises(ValueError, match=reason):
        KeyCreate(name="nightly", expires_at=time)


def test_a_key_of_a_disabled_user_works_again_when_the_user_does(accounts, ada, make):
    _, key = make()
    assert accounts.gate.recognise(key)
    asyncio.run(accounts.users.update(ada.id, UserUpdate(disabled=True)))
    with pytest.raises(Unauthorized):
        accounts.gate.recognise(key)
    asyncio.run(accounts.users.update(ada.id, UserUpdate(disabled=False)))
    assert accounts.gate.recognise(key)


def test_an_owner_has_so_many_keys(make, monkeypatch):
    monkeypatch.setattr(api_keys, "MOST_KEYS", 2)
    make()
    make()
    with pytest.raises(Conflict, match="revoke one"):
        make()
    make(SERVER_OWNER)
