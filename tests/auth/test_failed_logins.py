import asyncio
from contextlib import AsyncExitStack

import pytest

from kasal_jupyter.auth.failed_logins import (
    MOST_PAUSED,
    PAUSE_SECONDS,
    PER_ACCOUNT,
    PER_ADDRESS,
    PER_PAIR,
    FailedLogins,
    network_of,
)
from kasal_jupyter.auth.rates import RateMeter
from kasal_jupyter.errors import TooManyRequests, Unauthorized

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
