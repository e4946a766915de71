import asyncio
import hashlib
import subprocess
import sys

import jwt
import pytest

from kasal_jupyter.auth import tokens as api_keys
from kasal_jupyter.auth.gate import SERVER_OWNER
from kasal_jupyter.auth.tokens import (
    KEY_BYTES,
    KEY_FILE,
    REFRESH_SECONDS,
    TokenSigner,
    looks_like_token,
    signing_key,
)
from kasal_jupyter.errors import Conflict, InvalidRequest, StoreError, Unauthorized
from kasal_jupyter.schemas.users import KeyCreate, UserUpdate

KEY = b"k" * 32


@pytest.fixture
def signer(clock):
    return TokenSigner(KEY, clock)


def claims(clock, **given):
    now = int(clock())
    return {
        "iss": "kasal",
        "sub": "user_1",
        "sid": "session_1",
        "jti": "token_1",
        "typ": "access",
        "iat": now,
        "exp": now + 60,
        **given,
    }


def test_an_access_token_says_whose_it_is_for_a_day(signer, clock):
    token = signer.access("user_1", "session_1")
    assert looks_like_token(token)
    said = signer.read(token, "access")
    assert (said.user_id, said.session_id) == ("user_1", "session_1")
    assert said.expires == clock() + 86_400

    clock.sleep(86_399)
    signer.read(token, "access")
    clock.sleep(1)
    with pytest.raises(Unauthorized, match="expired"):
        signer.read(token, "access")


def test_a_refresh_token_lasts_longer_and_is_good_for_nothing_else(signer, clock):
    token = signer.refresh("user_1", "session_1", "token_9")
    assert signer.read(token, "refresh").jti == "token_9"
    with pytest.raises(Unauthorized, match="send it to POST /auth/refresh"):
        signer.read(token, "access")
    with pytest.raises(Unauthorized):
        signer.read(signer.access("user_1", "session_1"), "refresh")
    clock.sleep(REFRESH_SECONDS)
    with pytest.raises(Unauthorized, match="expired"):
        signer.read(token, "refresh")


def test_one_written_by_hand_is_as_good(signer, clock):
    assert signer.read(jwt.encode(claims(clock), KEY), "access").user_id == "user_1"


@pytest.mark.parametrize(
    ("given", "key", "algorithm"),
    [
        ({}, None, "none"),
        ({}, b"another key of as many bytes ....", "HS256"),
        ({}, KEY * 2, "HS512"),
        ({"iss": "somebody"}, KEY, "HS256"),
        ({"typ": "id"}, KEY, "HS256"),
        ({"typ": None}, KEY, "HS256"),
        ({"exp": "soon"}, KEY, "HS256"),
        ({"sub": 5}, KEY, "HS256"),
        ({"sid": 5}, KEY, "HS256"),
        ({"sid": None}, KEY, "HS256"),
        ({"jti": ["a"]}, KEY, "HS256"),
    ],
)
@pytest.mark.filterwarnings("ignore:The HMAC key")
def test_a_forged_or_odd_token_is_refused(signer, clock, given, key, algorithm):
    said = {name: value for name, value in claims(clock, **given).items() if value is not None}
    with pytest.raises(Unauthorized, match="invalid or was revoked"):
        signer.read(jwt.encode(said, key, algorithm=algorithm), "access")


@pytest.mark.parametrize("cut", [1, 10, 43, 80])
def test_a_truncated_token_is_refused(signer, cut):
    token = signer.access("user_1", "session_1")
    with pytest.raises(Unauthorized):
        signer.read(token[:-cut], "access")
    with pytest.raises(Unauthorized):
        signer.read(token[cut:], "access")


@pytest.mark.parametrize("text", ["", "..", "eyJ..", "eyJ.é.x", "x" * 5_000, "eyJ0.e30.AAAA"])
def test_what_is_no_token_at_all_is_refused(signer, text):
    with pytest.raises(Unauthorized):
        signer.read(text, "access")


@pytest.mark.parametrize("text", ["", "abc", "kasal_abc", "a.b.c", "eyJhbGciOi", "eyJ.a.b.c"])
def test_what_does_not_look_like_a_token_is_somebody_elses(text):
    assert not looks_like_token(text)


def test_a_folder_has_one_secret_for_its_owner_alone(tmp_path):
    key = signing_key(tmp_path)
    assert len(key) == KEY_BYTES
    assert signing_key(tmp_path) == key
    if sys.platform != "win32":
        assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    assert signing_key(tmp_path / "other") != key


def test_servers_that_start_together_agree(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from kasal_jupyter.auth.tokens import signing_key\n"
        "sys.stdin.readline()\n"
        "print(signing_key(pathlib.Path(sys.argv[1])).hex())\n"
    )
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for server in servers:
        server.stdin.write("\n")
        server.stdin.flush()
    keys = {server.communicate(timeout=60)[0].strip() for server in servers}
    assert keys == {signing_key(tmp_path).hex()}
    assert not list(tmp_path.glob(f".{KEY_FILE}*"))


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_damaged_secret_is_never_used(tmp_path, content):
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged\. Delete it"):
        signing_key(tmp_path)


def test_a_folder_that_is_none_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be read or made: Not a directory"):
        signing_key(tmp_path / "file")


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
