import pytest

from kasal_jupyter.auth.failures import PER_ACCOUNT, PER_ADDRESS, FailedLogins, network_of
from kasal_jupyter.auth.rates import RateMeter
from kasal_jupyter.errors import TooManyRequests, Unauthorized


@pytest.fixture
def failures():
    return FailedLogins(RateMeter())


def fail(failures, account="ada@example.com", address="192.0.2.7"):
    with pytest.raises(Unauthorized), failures.attempt(account, address):
        raise Unauthorized("wrong")


def succeed(failures, account="ada@example.com", address="192.0.2.7"):
    with failures.attempt(account, address):
        pass


def test_an_account_has_so_many_failures_from_wherever_they_come(failures):
    for number in range(PER_ACCOUNT.amount):
        fail(failures, address=f"192.0.2.{number}")
    with pytest.raises(TooManyRequests, match="10 failed logins of one account") as refused:
        succeed(failures)
    assert 1 <= refused.value.retry_after <= 2 * PER_ACCOUNT.seconds
    succeed(failures, account="grace@example.com")


def test_an_address_has_so_many_failures_of_whichever_account(failures):
    for number in range(PER_ADDRESS.amount):
        fail(failures, account=f"user{number}@example.com")
    with pytest.raises(TooManyRequests, match="50 failed logins from one address"):
        succeed(failures)
    succeed(failures, address="192.0.2.8")


def test_success_and_refusals_of_another_kind_are_not_counted(failures):
    for _ in range(PER_ACCOUNT.amount):
        succeed(failures)
        with pytest.raises(KeyError), failures.attempt("ada@example.com", "192.0.2.7"):
            raise KeyError
    succeed(failures)


def test_attempts_at_the_same_time_are_not_let_through_together(failures):
    under_way = [failures.attempt("ada@example.com", "192.0.2.7") for _ in range(PER_ACCOUNT.amount)]
    for attempt in under_way:
        attempt.__enter__()
    with pytest.raises(TooManyRequests):
        succeed(failures)
    for attempt in under_way:
        attempt.__exit__(None, None, None)
    succeed(failures)
    assert not failures._under_way


def test_an_ipv6_network_is_one_sender():
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("0.0.0.0") == "0.0.0.0"
    assert network_of("@") == "@"
