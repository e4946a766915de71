import asyncio

import pytest

from kasal_jupyter.auth import logins as sessions
from kasal_jupyter.auth.failed_logins import PER_PAIR
from kasal_jupyter.auth.tokens import REFRESH_SECONDS
from kasal_jupyter.errors import InvalidRequest, TooManyRequests, Unauthorized
from kasal_jupyter.schemas.users import UserUpdate
from tests.auth.conftest import ADDRESS, PASSWORD


@pytest.fixture
def refresh(accounts):
    return lambda tokens: asyncio.run(accounts.sessions.refresh(tokens.refresh_token))


def refused(accounts, tokens):
    with pytest.raises(Unauthorized):
        accounts.gate.recognise(tokens.access_token)
    with pytest.raises(Unauthorized):
        asyncio.run(accounts.sessions.refresh(tokens.refresh_token))


def test_a_login_gives_tokens_as_the_reference_has_them(accounts, ada, login):
    tokens = login()
    assert (tokens.token_type, tokens.expires_in) == ("bearer", 86_400)
    caller = accounts.gate.recognise(tokens.access_token)
    assert (caller.user_id, caller.owner, caller.name) == (ada.id, ada.id, ada.email)
    assert login(email=" ADA@example.com").access_token != tokens.access_token


def test_a_wrong_password_and_an_unknown_account_are_answered_alike(accounts, login):
    answers = set()
    for given in ({"password": "a guess"}, {"email": "nobody@example.com"}, {"email": "nonsense"}):
        with pytest.raises(Unauthorized) as refusal:
            login(**given)
        answers.add(str(refusal.value.body()))
    assert len(answers) == 1


def test_guessing_is_stopped_before_anything_is_hashed(accounts, login, monkeypatch):
    for _ in range(PER_PAIR.amount):
        with pytest.raises(Unauthorized):
            login(password="a guess")
    monkeypatch.setattr(accounts.passwords, "verify", lambda *_: pytest.fail("it was hashed"))
    with pytest.raises(TooManyRequests) as refusal:
        login()
    assert refusal.value.retry_after >= 1


def test_many_guesses_at_once_are_no_more_than_one_after_the_other(accounts, ada):
    async def guess():
        return await asyncio.gather(
            *(accounts.sessions.login(ada.email, f"guess {number}", ADDRESS) for number in range(30)),
            return_exceptions=True,
        )

    outcomes = [type(outcome) for outcome in asyncio.run(guess())]
    assert outcomes.count(Unauthorized) == PER_PAIR.amount
    assert outcomes.count(TooManyRequests) == 20


def test_a_refresh_gives_new_tokens_and_leaves_the_access_token_good(accounts, clock, login, refresh):
    first = login()
    clock.sleep(80_000)
    second = refresh(first)
    assert accounts.gate.recognise(first.access_token) == accounts.gate.recognise(second.access_token)
    clock.sleep(80_000)
    assert accounts.gate.recognise(second.access_token)
    with pytest.raises(Unauthorized, match="expired"):
        accounts.gate.recognise(first.access_token)
    # Each gives the next for another thirty days.
    for _ in range(3):
        second = refresh(second)
        clock.sleep(REFRESH_SECONDS - 1)
    refresh(second)


def test_a_used_refresh_token_that_comes_back_ends_the_whole_login(accounts, login, refresh):
    first, elsewhere = login(), login()
    second = refresh(first)
    third = refresh(second)
    with pytest.raises(Unauthorized, match="used before"):
        refresh(first)
    refused(accounts, first)
    refused(accounts, second)
    refused(accounts, third)
    assert accounts.gate.recognise(elsewhere.access_token)


def test_of_two_refreshes_at_the_same_time_one_counts_as_a_theft(accounts, other, login):
    token = login().refresh_token

    async def both():
        return await asyncio.gather(
            accounts.sessions.refresh(token), other.sessions.refresh(token), return_exceptions=True
        )

    outcomes = asyncio.run(both())
    assert sum(isinstance(outcome, Unauthorized) for outcome in outcomes) == 1
    refused(accounts, next(outcome for outcome in outcomes if not isinstance(outcome, Unauthorized)))


def test_an_access_token_refreshes_nothing(accounts, login):
    tokens = login()
    with pytest.raises(Unauthorized):
        asyncio.run(accounts.sessions.refresh(tokens.access_token))
    with pytest.raises(Unauthorized, match="POST /auth/refresh"):
        accounts.gate.recognise(tokens.refresh_token)


def test_a_logout_ends_both_tokens_at_once_on_every_server(accounts, other, login):
    tokens, elsewhere = login(), login()
    caller = other.gate.recognise(tokens.access_token)
    assert caller == accounts.gate.recognise(tokens.access_token)
    asyncio.run(accounts.sessions.logout(caller.session_id))
    refused(accounts, tokens)
    refused(other, tokens)
    assert other.gate.recognise(elsewhere.access_token)


@pytest.mark.parametrize("change", [{"password": "another one"}, {"disabled": True}])
def test_a_new_password_and_being_disabled_end_every_login(accounts, ada, login, change):
    tokens = login()
    assert accounts.gate.recognise(tokens.access_token)
    asyncio.run(accounts.users.update(ada.id, UserUpdate(**change)))
    refused(accounts, tokens)
    with pytest.raises(Unauthorized, match="password is wrong"):
        login()


def test_a_user_who_is_enabled_again_has_to_log_in_again(accounts, ada, login):
    tokens = login()
    asyncio.run(accounts.users.update(ada.id, UserUpdate(disabled=True)))
    asyncio.run(accounts.users.update(ada.id, UserUpdate(disabled=False)))
    refused(accounts, tokens)
    assert accounts.gate.recognise(login().access_token)


def test_a_password_that_is_changed_during_a_login_stops_it(accounts, ada):
    async def both():
        logging_in = asyncio.ensure_future(accounts.sessions.login(ada.email, PASSWORD, ADDRESS))
        verify = accounts.passwords.verify

        async def verify_and_change(*given):
            right = await verify(*given)
            await accounts.users.update(ada.id, UserUpdate(password="another one"))
            return right

        accounts.passwords.verify = verify_and_change
        with pytest.raises(Unauthorized):
            await logging_in

    asyncio.run(both())


def test_expired_logins_are_removed_by_a_later_one(accounts, store, clock, login):
    login()
    login()
    clock.sleep(REFRESH_SECONDS - 10)
    kept = login()
    assert store.sessions.count() == 3
    clock.sleep(sessions.SWEEP_SECONDS)
    login()
    assert store.sessions.count() == 2
    assert accounts.gate.recognise(kept.access_token)


def test_a_user_has_so_many_logins_and_the_oldest_ends(accounts, store, login, monkeypatch):
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 3)
    tokens = [login() for _ in range(4)]
    assert store.sessions.count() == 3
    refused(accounts, tokens[0])
    for each in tokens[1:]:
        assert accounts.gate.recognise(each.access_token)


def test_tokens_are_not_in_the_store(store, login):
    tokens = login()
    stored = str([session.dump() for session in store.sessions.find()])
    assert tokens.access_token not in stored
    assert tokens.refresh_token not in stored
    assert "eyJ" not in repr(tokens)


def test_ones_own_password_is_changed_by_whoever_knows_it(accounts, ada, login):
    def change(current):
        asyncio.run(accounts.sessions.change_password(ada.id, current, "another one", ADDRESS))

    tokens = login()
    for _ in range(PER_PAIR.amount - 1):
        with pytest.raises(InvalidRequest) as refusal:
            change("a guess")
        assert refusal.value.details()["field"] == "current_password"
    change(PASSWORD)
    refused(accounts, tokens)
    login(password="another one")
    # Guesses count as those at a login do.
    with pytest.raises(InvalidRequest):
        change("a guess")
    with pytest.raises(TooManyRequests):
        change("another one")
    with pytest.raises(TooManyRequests):
        login(password="another one")
