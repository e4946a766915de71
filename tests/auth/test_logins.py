import asyncio
from contextlib import AsyncExitStack

import pytest

from kasal_jupyter.auth import logins as sessions
from kasal_jupyter.auth.logins import (
    MOST_PAUSED,
    PAUSE_SECONDS,
    PER_ACCOUNT,
    PER_ADDRESS,
    PER_PAIR,
    FailedLogins,
    network_of,
)
from kasal_jupyter.auth.rates import RateMeter
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


ADA = "ada@example.com"
HOME = "192.0.2.7"


class Pauses(list):
    """Waits that are only noted."""

    async def __call__(self, seconds):
        self.append(seconds)


@pytest.fixture
def pauses():
    return Pauses()


@pytest.fixture
def failures(pauses):
    return FailedLogins(RateMeter(), pauses)


def attempt(failures, account=ADA, address=HOME, *, error=None):
    async def make():
        async with failures.attempt(account, address):
            if error is not None:
                raise error

    asyncio.run(make())


def fail(failures, account=ADA, address=HOME):
    with pytest.raises(Unauthorized):
        attempt(failures, account, address, error=Unauthorized("wrong"))


def test_an_account_has_so_many_failures_from_one_address(failures, pauses):
    for _ in range(PER_PAIR.amount):
        fail(failures)
    with pytest.raises(TooManyRequests, match="10 failed logins of this account") as refused:
        attempt(failures)
    assert 1 <= refused.value.retry_after <= 2 * PER_PAIR.seconds
    # Neither the address's other accounts, nor the account's other addresses.
    attempt(failures, account="grace@example.com")
    attempt(failures, address="198.51.100.1")
    assert pauses == []


def test_wrong_passwords_of_others_behind_one_address_refuse_nobody(failures, pauses):
    for number in range(PER_ADDRESS.amount):
        fail(failures, account=f"user{number}@example.com")
    attempt(failures)
    assert pauses == [PAUSE_SECONDS]
    # By now it is known that Ada logs in from there.
    attempt(failures)
    attempt(failures, account="grace@example.com", address="192.0.2.8")
    assert pauses == [PAUSE_SECONDS]


def test_who_forgets_a_password_slows_nobody(failures, pauses):
    for number in range(PER_ADDRESS.amount - 1):
        for _ in range(PER_PAIR.amount):
            fail(failures, account=f"user{number}@example.com")
    attempt(failures)
    assert pauses == []


def test_nobody_locks_somebody_else_out_from_many_addresses(failures, pauses):
    attempt(failures)
    for number in range(PER_ACCOUNT.amount):
        fail(failures, address=f"198.51.100.{number}")
    assert pauses == []
    attempt(failures)
    assert pauses == []
    # From elsewhere Ada waits a little, and so does who goes on guessing.
    attempt(failures, address="203.0.113.1")
    fail(failures, address="198.51.100.200")
    assert pauses == [PAUSE_SECONDS] * 2


def test_so_many_slow_logins_of_an_address_wait_at_the_same_time():
    async def crowd():
        go = asyncio.Event()
        failures = FailedLogins(RateMeter(), lambda _: go.wait())
        for number in range(PER_ADDRESS.amount):
            with pytest.raises(Unauthorized):
                async with failures.attempt(f"user{number}@example.com", HOME):
                    raise Unauthorized("wrong")

        async def slow(number):
            async with failures.attempt(f"new{number}@example.com", HOME):
                pass

        waiting = [asyncio.ensure_future(slow(number)) for number in range(MOST_PAUSED)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests):
            await slow("one more")
        go.set()
        await asyncio.gather(*waiting)
        assert not failures._under_way
        assert not failures._paused

    asyncio.run(crowd())


def test_success_and_refusals_of_another_kind_are_not_counted(failures):
    for _ in range(PER_PAIR.amount):
        attempt(failures)
        with pytest.raises(KeyError):
            attempt(failures, error=KeyError())
    attempt(failures)


def test_attempts_at_the_same_time_are_not_let_through_together(failures):
    async def crowd():
        async with AsyncExitStack() as under_way:
            for _ in range(PER_PAIR.amount):
                await under_way.enter_async_context(failures.attempt(ADA, HOME))
            with pytest.raises(TooManyRequests):
                async with failures.attempt(ADA, HOME):
                    pass

    asyncio.run(crowd())
    attempt(failures)
    assert not failures._under_way


def test_an_ipv6_network_is_one_sender():
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("0.0.0.0") == "0.0.0.0"
    assert network_of("@") == "@"
