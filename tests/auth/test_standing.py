import asyncio
from contextlib import nullcontext

import pytest

from kasal_jupyter.auth.gate import SERVER_OWNER, Caller
from kasal_jupyter.auth.rates import Senders
from kasal_jupyter.auth.standing import Standing, Watch
from kasal_jupyter.errors import TooManyRequests, Unauthorized
from kasal_jupyter.schemas.users import ACCESS_SECONDS, UserUpdate


@pytest.fixture
def standing(accounts, login):
    token = login().access_token
    return Standing(accounts.gate, accounts.gate.recognise(token), token)


def change(accounts, ada, **fields):
    asyncio.run(accounts.users.update(ada.id, UserUpdate(**fields)))


def test_who_has_lost_nothing_stays(accounts, ada, standing, login):
    caller = standing.caller
    assert standing.look() is caller
    login()
    change(accounts, ada, tier="free")
    assert standing.look().tier == standing.caller.tier == "free"


@pytest.mark.parametrize("fields", [{"disabled": True}, {"role": "viewer"}, {"password": "another one"}])
def test_who_has_lost_a_right_does_not(accounts, other, ada, standing, fields):
    # By another server on the folder.
    change(other, ada, **fields)
    with pytest.raises(Unauthorized):
        standing.look()


def test_who_may_more_may_more_and_then_not_less(accounts, ada, standing):
    change(accounts, ada, role="admin")
    assert standing.look().role == "admin"
    change(accounts, ada, role="editor")
    with pytest.raises(Unauthorized, match="rights have changed"):
        standing.look()


def test_a_token_expires_on_an_open_connection(standing, clock):
    clock.sleep(ACCESS_SECONDS - 1)
    standing.look()
    clock.sleep(1)
    with pytest.raises(Unauthorized, match="expired"):
        standing.look()


def test_whom_jupyter_has_let_in_jupyter_knows(accounts):
    caller = Caller(SERVER_OWNER, "ada", "admin")
    standing = Standing(accounts.gate, caller, None)
    assert standing.by_jupyter
    assert standing.look() is caller


def test_the_watch_looks_at_all_who_stay():
    looked = []

    class Each:
        def look_again(self):
            looked.append("look")
            return True

        async def ask_again(self):
            looked.append("ask")

    watch = Watch(nullcontext)
    stop = watch.add(Each())
    watch.look()
    asyncio.run(watch.ask())
    stop()
    watch.look()
    assert looked == ["look", "ask"]


def test_a_sender_has_so_much_under_way_and_nobody_elses():
    senders = Senders(10, "bytes")
    # One thing of any size, for whoever has nothing under way.
    large = senders.take("ada", 100)
    with pytest.raises(TooManyRequests, match="more than 10 bytes"):
        senders.take("ada")
    senders.take("grace", 10)()
    large()
    large()
    assert senders.of("ada") == 0
    small = [senders.take("ada", 5) for _ in range(2)]
    with pytest.raises(TooManyRequests):
        senders.take("ada", 1)
    small[0]()
    senders.take("ada", 5)
    assert senders.of("ada") == 10
