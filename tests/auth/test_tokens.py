import jwt
import pytest

from kasal_jupyter.auth.tokens import REFRESH_SECONDS, TokenSigner, looks_like_token
from kasal_jupyter.errors import Unauthorized

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
