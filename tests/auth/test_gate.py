import asyncio

import jwt
import pytest

from kasal_jupyter.auth import gate as gate_module
from kasal_jupyter.auth.gate import SERVER_OWNER, Accounts, Caller
from kasal_jupyter.errors import TooManyRequests, Unauthorized
from kasal_jupyter.schemas.users import UserUpdate


@pytest.mark.parametrize("token", ["", "tests-own-token", "0123456789abcdef" * 3, "kasal", "a.b.c", "é"])
def test_what_is_not_ours_is_jupyters_business(accounts, token):
    assert accounts.gate.recognise(token) is None


@pytest.mark.parametrize("token", ["kasal_", "kasal_é", "kasal_0123", "eyJ0eXAi.e30.x", "eyJ.."])
def test_what_looks_like_ours_and_is_not_valid_is_refused(accounts, token):
    with pytest.raises(Unauthorized):
        accounts.gate.recognise(token)


def test_a_token_of_another_folder_is_refused(accounts, login, tmp_path, clock, store):
    tokens = login()
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Accounts.open(store, tmp_path / "elsewhere", clock=clock)
    with pytest.raises(Unauthorized):
        elsewhere.gate.recognise(tokens.access_token)
    elsewhere.close()


def test_an_unsigned_copy_of_a_token_is_refused(accounts, login):
    token = login().access_token
    said = jwt.decode(token, options={"verify_signature": False})
    with pytest.raises(Unauthorized):
        accounts.gate.recognise(jwt.encode(said, None, algorithm="none"))
    assert accounts.gate.recognise(token)


def test_the_sandbox_token_lets_into_the_sandbox(accounts, other):
    caller = accounts.gate.recognise("sandbox-token")
    assert caller.sandbox
    assert (caller.owner, caller.role, caller.tier, caller.user_id) == ("sandbox", "editor", "pro", None)
    assert accounts.gate.recognise("sandbox-token2") is None
    # Without one, nothing does.
    assert other.gate.recognise("sandbox-token") is None
    assert other.gate.recognise("") is None


@pytest.mark.parametrize("change", [{"role": "viewer"}, {"tier": "free"}, {"email": "lovelace@example.com"}])
def test_a_change_of_a_user_holds_at_once_on_every_server(accounts, other, ada, login, change):
    token = login().access_token
    for gate in (accounts.gate, other.gate):
        gate.recognise(token)
    asyncio.run(accounts.users.update(ada.id, UserUpdate(**change)))
    for gate in (accounts.gate, other.gate):
        caller = gate.recognise(token)
        assert {"role": caller.role, "tier": caller.tier, "email": caller.name}.items() >= change.items()


def test_a_token_is_checked_once_and_its_user_read_when_something_changed(
    accounts, store, ada, login, monkeypatch
):
    token, another = login().access_token, login().access_token
    decoded, read = [], []
    real_decode, real_read = jwt.decode, store.users.readable
    monkeypatch.setattr(
        jwt, "decode", lambda *args, **named: decoded.append(1) or real_decode(*args, **named)
    )
    monkeypatch.setattr(store.users, "readable", lambda user_id: read.append(1) or real_read(user_id))
    for _ in range(10):
        assert accounts.gate.recognise(token) is accounts.gate.recognise(token)
    assert (len(decoded), len(read)) == (1, 1)

    asyncio.run(accounts.sessions.logout(accounts.gate.recognise(another).session_id))
    decoded.clear()
    read.clear()
    for _ in range(10):
        accounts.gate.recognise(token)
    assert (len(decoded), len(read)) == (0, 1)
    with pytest.raises(Unauthorized):
        accounts.gate.recognise(another)


def test_a_token_that_is_remembered_expires_all_the_same(accounts, clock, login):
    token = login().access_token
    assert accounts.gate.recognise(token)
    clock.sleep(86_400)
    with pytest.raises(Unauthorized, match="expired"):
        accounts.gate.recognise(token)


def test_no_more_tokens_are_remembered_than_fit(accounts, login, monkeypatch):
    monkeypatch.setattr(gate_module, "REMEMBERED", 2)
    tokens = [login().access_token for _ in range(4)]
    for token in tokens * 2:
        assert accounts.gate.recognise(token)
    assert list(accounts.gate._known) == tokens[-2:]
    for text in ("kasal_guess", "eyJ.a.b"):
        with pytest.raises(Unauthorized):
            accounts.gate.recognise(text)
    assert len(accounts.gate._known) == 2


def test_all_of_a_users_tokens_share_one_allowance(accounts, login):
    first, second = (accounts.gate.recognise(login().access_token) for _ in range(2))
    assert first != second
    assert accounts.gate.spend(first).remaining == 9_999
    assert accounts.gate.spend(second).remaining == 9_998


def test_the_burst_of_a_tier_ends(accounts, ada, login):
    asyncio.run(accounts.users.update(ada.id, UserUpdate(tier="free")))
    caller = accounts.gate.recognise(login().access_token)

    def spend_all():
        for _ in range(201):
            accounts.gate.spend(caller)

    with pytest.raises(TooManyRequests, match="100 requests a minute"):
        spend_all()


def test_whoever_jupyter_let_in_is_not_limited(accounts):
    assert accounts.gate.spend(Caller(SERVER_OWNER, "ada", "admin", "enterprise")) is None


def test_enterprise_has_the_burst_that_the_administrator_sets(store, tmp_path):
    caller = Caller("user_1", "ada", "editor", "enterprise", "user_1")
    free = Accounts.open(store, tmp_path / "data")
    assert free.gate.spend(caller) is None
    bounded = Accounts.open(store, tmp_path / "data", enterprise_burst=2)
    assert bounded.gate.spend(caller).limit == 2

    def spend_all():
        for _ in range(5):
            bounded.gate.spend(caller)

    with pytest.raises(TooManyRequests, match="2 requests a minute"):
        spend_all()
    # That is for users: the owner's keys are the owner.
    assert bounded.gate.spend(Caller(SERVER_OWNER, "key", "admin", "enterprise")) is None
