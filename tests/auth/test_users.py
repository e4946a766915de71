import asyncio

import pytest
from argon2 import PasswordHasher
from pydantic import ValidationError

from kasal_jupyter.errors import Conflict, NotFound
from kasal_jupyter.schemas.users import UserCreate, UserUpdate
from tests.auth.conftest import EMAIL, PASSWORD


def test_a_user_is_stored_without_their_password(accounts, store, ada):
    assert ada.id.startswith("user_")
    assert (ada.email, ada.tier, ada.role, ada.disabled) == (EMAIL, "pro", "editor", False)
    assert store.users.get(ada.id) == ada
    assert PASSWORD not in ada.model_dump_json()
    assert "argon2" not in repr(ada)
    assert not {"password", "password_hash"} & accounts.users.details(ada).model_dump().keys()


@pytest.mark.parametrize("email", ["Ada@Example.com", "  ada@example.com "])
def test_an_address_is_one_account_however_it_is_written(accounts, ada, email):
    assert accounts.users.by_email(email) == ada
    with pytest.raises(Conflict) as refused:
        asyncio.run(accounts.users.create(UserCreate(email=email, password=PASSWORD)))
    assert refused.value.details()["field"] == "email"


def test_of_two_that_ask_for_an_address_at_the_same_time_one_gets_it(accounts, other, store):
    body = UserCreate(email=EMAIL, password=PASSWORD)

    async def both():
        return await asyncio.gather(
            accounts.users.create(body), other.users.create(body), return_exceptions=True
        )

    outcomes = asyncio.run(both())
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    assert store.users.count() == 1


@pytest.mark.parametrize("email", ["ada@lab", "ada@host.local", "a+b@x.example", "ädä@exämple.org"])
def test_addresses_of_an_intranet_and_of_other_alphabets_are_fine(email):
    assert UserCreate(email=email, password=PASSWORD).email == email


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("email", "ada", "looks like user@example.com"),
        ("email", "a d@example.com", "looks like user@example.com"),
        ("email", "a@b@c", "looks like user@example.com"),
        ("email", "x" * 250 + "@x.org", "at most 254"),
        ("password", "1234567", "at least 8"),
        ("password", "x" * 1_025, "at most 1024"),
        ("password", "\udc80" * 9, "valid string"),
        ("tier", "gold", "'free', 'pro' or 'enterprise'"),
        ("role", "root", "'admin', 'editor' or 'viewer'"),
    ],
)
def test_what_is_wrong_is_told_by_field(field, value, reason):
    with pytest.raises(ValidationError) as refused:
        UserCreate(**{"email": EMAIL, "password": PASSWORD, field: value})
    assert [(error["loc"], reason in error["msg"]) for error in refused.value.errors()] == [((field,), True)]


def test_what_is_given_changes_and_nothing_else(accounts, ada):
    changed = asyncio.run(accounts.users.update(ada.id, UserUpdate(tier="enterprise")))
    assert changed == ada.model_copy(update={"tier": "enterprise", "updated_at": changed.updated_at})
    renamed = asyncio.run(accounts.users.update(ada.id, UserUpdate(email="Lovelace@example.com")))
    assert renamed.email == "lovelace@example.com"
    assert accounts.users.find(EMAIL) is None
    # One's own address is free.
    asyncio.run(accounts.users.update(ada.id, UserUpdate(email="lovelace@example.com")))


def test_nobody_takes_somebody_elses_address(accounts, ada):
    grace = asyncio.run(accounts.users.create(UserCreate(email="grace@example.com", password=PASSWORD)))
    with pytest.raises(Conflict):
        asyncio.run(accounts.users.update(grace.id, UserUpdate(email=EMAIL)))
    assert accounts.users.get(grace.id) == grace


def test_a_user_who_is_not_there_is_told(accounts):
    with pytest.raises(NotFound):
        asyncio.run(accounts.users.update("user_9", UserUpdate(role="viewer")))
    with pytest.raises(NotFound):
        accounts.users.by_email("nobody@example.com")


def test_a_hash_of_another_time_is_made_anew_at_the_next_login(accounts, store, ada, login):
    old = PasswordHasher(time_cost=1, memory_cost=8_192).hash(PASSWORD)
    store.change_now(lambda: store.users.update(ada.id, {"password_hash": old}))
    earlier = login()
    new = store.users.get(ada.id).password_hash
    assert new != old
    assert not accounts.passwords.outdated(new)
    # It is the same password: nobody is logged out.
    assert accounts.gate.recognise(earlier.access_token)
    login()
    assert store.users.get(ada.id).password_hash == new
