import time

import pytest

from kasal_jupyter.auth import rates as room
from kasal_jupyter.auth.rates import HOUR, MINUTE, Rate, RateMeter, rates_of
from kasal_jupyter.errors import TooManyRequests

SLOW = Rate(4, MINUTE, "4 requests a minute")


@pytest.fixture
def meter(clock):
    # A round minute and hour.
    clock.now = 1_705_312_800.0
    return RateMeter(clock)


def spend_all(meter, rates, name="user_1"):
    """Ask until it is refused; tell how often it was not, and the refusal."""
    for asked in range(100_000):
        try:
            meter.spend(name, rates)
        except TooManyRequests as refusal:
            return asked, refusal
    raise AssertionError("nothing was refused")


def test_the_tiers_are_the_references():
    rates = rates_of(0)
    assert [(rate.amount, rate.seconds) for rate in rates["free"]] == [(100, MINUTE), (1_000, HOUR)]
    assert [(rate.amount, rate.seconds) for rate in rates["pro"]] == [(1_000, MINUTE), (10_000, HOUR)]
    assert rates["enterprise"] == ()
    assert [(rate.amount, rate.seconds) for rate in rates_of(7)["enterprise"]] == [(7, MINUTE)]


def test_the_burst_ends_first_and_comes_back_after_a_while(meter, clock):
    asked, refusal = spend_all(meter, rates_of(0)["free"])
    assert asked == 100
    assert refusal.message.startswith("More than 100 requests a minute; try again in ")
    assert (refusal.status, refusal.code) == (429, "RATE_LIMIT")
    clock.sleep(refusal.retry_after)
    meter.spend("user_1", rates_of(0)["free"])


def test_the_hour_ends_after_its_requests(meter, clock):
    free = rates_of(0)["free"]
    asked = 0
    for _ in range(11):
        more, refusal = spend_all(meter, free)
        asked += more
        clock.sleep(2 * MINUTE)
    assert refusal.message.startswith("More than 1,000 requests an hour")
    assert asked == 1_000
    assert refusal.retry_after > MINUTE
    clock.sleep(refusal.retry_after - 2 * MINUTE)
    meter.spend("user_1", free)


def test_everybody_has_an_allowance_of_their_own(meter):
    spend_all(meter, (SLOW,))
    assert meter.spend("user_2", (SLOW,)).remaining == 3


def test_the_headers_tell_what_is_left_of_the_hour(meter, clock):
    clock.sleep(600)
    left = meter.spend("user_1", rates_of(0)["pro"])
    assert (left.limit, left.remaining) == (10_000, 9_999)
    assert 3_000 <= left.reset <= 3_001


@pytest.mark.parametrize("start", [0, 1, 29.5, 59.9])
@pytest.mark.parametrize("pause", [0, 7, 61])
def test_whoever_waits_as_long_as_told_is_let_in_and_not_much_later_than_needed(meter, clock, start, pause):
    clock.sleep(start)
    spend_all(meter, (SLOW,))
    clock.sleep(pause)
    _, refusal = spend_all(meter, (SLOW,))
    assert 1 <= refusal.retry_after <= 2 * MINUTE
    clock.sleep(refusal.retry_after - 2)
    if refusal.retry_after > 2:
        with pytest.raises(TooManyRequests):
            meter.spend("user_1", (SLOW,))
    clock.sleep(2)
    meter.spend("user_1", (SLOW,))


def test_a_window_that_slides_admits_no_double_burst_at_its_edge(meter, clock):
    clock.sleep(59)
    assert spend_all(meter, (SLOW,))[0] == 4
    clock.sleep(2)
    assert spend_all(meter, (SLOW,))[0] == 1


def test_the_counts_are_bounded_and_the_newest_are_kept(meter, clock, monkeypatch):
    monkeypatch.setattr(room, "MOST_COUNTS", 100)
    for number in range(1_000):
        # So that windows begin and end among them.
        clock.sleep(0.5)
        spend_all(meter, (SLOW,), f"user_{number}")
    assert len(meter._counts) <= 100
    with pytest.raises(TooManyRequests):
        meter.spend("user_999", (SLOW,))


@pytest.mark.parametrize("hours", [-2, 2])
def test_the_machines_clock_may_be_set(hours, monkeypatch):
    """Nobody is let in sooner by it, and nobody has to wait for longer."""
    meter = RateMeter()
    spend_all(meter, (SLOW,))
    wait, left = meter.wait("user_1", SLOW), meter.left("user_1", SLOW)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + hours * HOUR)
    with pytest.raises(TooManyRequests):
        meter.spend("user_1", (SLOW,))
    assert meter.wait("user_1", SLOW) <= wait
    assert meter.left("user_1", SLOW).reset <= left.reset
