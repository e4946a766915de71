import asyncio
import threading

import pytest
from argon2 import PasswordHasher, extract_parameters

from kasal_jupyter.auth.users import MEMORY_KIB, PARALLELISM, TIME_COST, Passwords
from kasal_jupyter.errors import Unavailable


@pytest.fixture
def passwords():
    made = Passwords(workers=1, waiting=2)
    yield made
    made.close()


def test_a_password_is_hashed_as_owasp_asks(passwords):
    stored = asyncio.run(passwords.hash("secure_password"))
    assert stored.startswith("$argon2id$")
    assert "secure_password" not in stored
    said = extract_parameters(stored)
    assert (said.time_cost, said.memory_cost, said.parallelism) == (TIME_COST, MEMORY_KIB, PARALLELISM)
    assert said.memory_cost >= 19_456
    assert asyncio.run(passwords.verify(stored, "secure_password"))
    assert not asyncio.run(passwords.verify(stored, "Secure_password"))
    assert stored != asyncio.run(passwords.hash("secure_password"))


def test_no_account_and_a_damaged_hash_fit_no_password(passwords):
    assert not asyncio.run(passwords.verify(None, "secure_password"))
    assert not asyncio.run(passwords.verify("not a hash", "secure_password"))


def test_an_unknown_account_costs_as_many_hashes_as_a_known_one(passwords, monkeypatch):
    stored = asyncio.run(passwords.hash("secure_password"))
    asyncio.run(passwords.verify(stored, "warm up"))
    done = []
    real = PasswordHasher.verify
    monkeypatch.setattr(
        PasswordHasher, "verify", lambda self, stored, given: done.append(stored) or real(self, stored, given)
    )
    monkeypatch.setattr(PasswordHasher, "hash", lambda *_: pytest.fail("one more hash"))
    assert asyncio.run(passwords.verify(stored, "secure_password"))
    assert not asyncio.run(passwords.verify(None, "secure_password"))
    assert len(done) == 2
    assert extract_parameters(done[0]) == extract_parameters(done[1])


def test_a_letter_is_the_same_however_a_keyboard_writes_it(passwords):
    stored = asyncio.run(passwords.hash("mot de passé"))
    assert asyncio.run(passwords.verify(stored, "mot de passe\u0301"))


def test_a_hash_of_other_parameters_is_outdated(passwords):
    assert not passwords.outdated(asyncio.run(passwords.hash("secure_password")))
    assert passwords.outdated(PasswordHasher(time_cost=1, memory_cost=8_192).hash("secure_password"))


def test_too_many_at_a_time_are_refused_and_the_loop_goes_on(passwords, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(passwords, "_verify", lambda *_: go.wait(30))

    async def crowd():
        waiting = [asyncio.ensure_future(passwords.verify(None, "x")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await passwords.verify(None, "x")
        assert refused.value.retry_after == 1
        # Whoever does not wait any longer has not made room: the thread still works for them.
        waiting[0].cancel()
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await passwords.verify(None, "x")
        go.set()
        assert await asyncio.gather(*waiting[1:]) == [True, True]
        assert await passwords.verify(None, "x")

    asyncio.run(crowd())


def test_senders_take_turns(passwords, monkeypatch):
    go = threading.Event()
    done = []
    monkeypatch.setattr(passwords, "_verify", lambda _, given: go.wait(30) and done.append(given))

    async def crowd():
        flood = [asyncio.ensure_future(passwords.verify(None, n, "192.0.2.1")) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await passwords.verify(None, "one more", "192.0.2.1")
        # The flood refuses nobody else, and is not before them but with what is done already.
        other = asyncio.ensure_future(passwords.verify(None, "other", "192.0.2.2"))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*flood, other)

    asyncio.run(crowd())
    assert done == [0, 1, "other", 2]


def test_what_waits_when_the_server_ends_is_not_done(monkeypatch):
    passwords = Passwords(workers=1, waiting=2)
    go = threading.Event()
    monkeypatch.setattr(passwords, "_verify", lambda *_: go.wait(30))

    async def crowd():
        waiting = [asyncio.ensure_future(passwords.verify(None, "x")) for _ in range(2)]
        await asyncio.sleep(0)
        go.set()
        passwords.close()
        assert isinstance((await asyncio.gather(*waiting, return_exceptions=True))[1], asyncio.CancelledError)

    asyncio.run(crowd())
