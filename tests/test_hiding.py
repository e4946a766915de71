"""Secrets, in whatever form they are said, and texts that have none."""

import json
import tracemalloc

import pytest

from kasal_jupyter.hiding import MARK, Hider, password_of, secrets_among, too_short, unhidden_among
from tests.forms import encodings

SECRET = "sk-Live/7f+Q=9&'w\"é\\ <🔑>%z"
PLAIN = "tvly-e99a18c428cb38d5f260"


FORMS = [
    pytest.param(secret, form, id=f"{which}: {name}".encode("unicode_escape").decode())
    for which, secret in (("all kinds of characters", SECRET), ("usual characters", PLAIN))
    for name, form in encodings(secret)
]


@pytest.mark.parametrize(("secret", "form"), FORMS)
def test_a_secret_is_hidden_in_every_form(secret, form):
    hider = Hider([secret, "another-secret"])
    said = f"It is {form} <- this"
    hidden = hider.hide(said)
    assert MARK in hidden
    assert form not in hidden
    assert len(hidden) < 40 + len(form) // 2, hidden
    assert hidden.startswith("It is ")
    assert hidden.endswith(" <- this")
    # In JSON, whose strings are escaped once more.
    read = json.loads(hider.json(json.dumps({"a": [said, 1], form: True}).encode()))
    assert form not in read
    assert form not in read["a"][0]
    assert hider.hide({"a": (said, [said]), form: 1}) == {"a": (hidden, [hidden]), hider.hide(form): 1}
    assert hider.hide(said.encode()) == hidden.encode()


@pytest.mark.parametrize(("secret", "form"), [each for each in FORMS if len(each.values[1]) < 200])
def test_a_secret_is_hidden_wherever_a_stream_is_cut(secret, form):
    hider = Hider([secret, secret[:12], "another-secret"])
    said = f"It is {form} <- this".encode()
    whole = hider.hide(said)
    for at in range(1, len(said)):
        first, rest = hider.split(said[:at])
        assert first + hider.hide(rest + said[at:]) == whole, at
    shown, rest = b"", b""
    for at in range(len(said)):
        more, rest = hider.split(rest + said[at : at + 1])
        shown += more
    assert shown + hider.hide(rest) == whole


def test_what_cannot_be_a_secrets_beginning_does_not_wait():
    hider = Hider([SECRET, PLAIN])
    for text in ("Hello ", "Hello, tv", "sk-Lives", "100 %", "a & b"):
        shown, rest = hider.split(text)
        assert shown + rest == text
        assert len(rest) <= 2, text
    assert hider.split("Hello tvly-e99a18") == ("Hello ", "tvly-e99a18")
    assert hider.split("Hello tvly-e99a19") == ("Hello tvly-e99a19", "")


def test_words_and_what_is_part_of_words_stay():
    hider = Hider(["none", "EMPTY", "lm-studio", "x", "abc", "cat7", "", "pass1!"])
    said = "none EMPTY lm-studio x abc concat7 cat70 my_cat7"
    assert hider.hide(said) == said
    assert hider.hide("It is cat7, (cat7) or cat7/pass1!.") == f"It is {MARK}, ({MARK}) or {MARK}/{MARK}."
    # The escape before it is no letter of its word.
    assert json.loads(hider.json(b'"a\\ncat7"')) == f"a\n{MARK}"


def test_json_stays_json_whatever_a_secret_consists_of():
    for secret in (
        '"abcdefgh',
        "nosecret1",
        "\\\\\\\\\\\\\\\\",
        '","b":"12',
        "12345678",
        "]}]}]}]}",
        "true, false",
    ):
        value = {
            "abcdefgh": ["a\nosecret1", "\\" * 9, 12345678, 123456789.5, {"b": '12","b":"12'}],
            secret: True,
        }
        hidden = Hider([secret]).json(json.dumps(value).encode())
        assert len(json.loads(hidden)) == 2
        assert secret not in json.dumps(json.loads(hidden).get("abcdefgh"))[1:-1].split(", ")


def test_the_longer_one_of_two_secrets_is_hidden_whole():
    assert Hider([PLAIN, PLAIN + "-more"]).hide(f"{PLAIN}-more {PLAIN}") == f"{MARK} {MARK}"


def test_a_long_secret_is_hidden_and_waited_for():
    secret = "".join(chr(65 + each * each % 58) for each in range(8_000))
    hider = Hider([secret])
    assert hider.hide(f"a{secret}b") == f"a{MARK}b"
    assert hider.split(f"a {secret[:5_000]}") == ("a ", secret[:5_000])


def test_without_secrets_everything_is_as_it_was():
    hider = Hider([])
    value = {"a": ["b", 1, None, 2.5, b"c"]}
    assert not hider
    assert hider.hide(value) is value
    assert hider.json(b"{}") == b"{}"
    assert hider.split("abc") == ("abc", "")
    text = "nothing of it is one"
    assert Hider([SECRET]).hide(text) is text


@pytest.mark.parametrize("piece", ["sk-Live/7f", "\\", "%25", "&amp;", '"', "736b2d", "=\n", "a"])
def test_a_megabyte_of_beginnings_takes_no_more_memory_than_a_few_copies(piece):
    """A search that backtracks, or one that keeps each beginning, would not end."""
    hider = Hider([SECRET, PLAIN])
    text = piece * (1_000_000 // len(piece))
    hider.split("")
    tracemalloc.start()
    assert hider.hide(text) is text
    shown, rest = hider.split(text)
    assert shown + rest == text
    assert len(rest) < 5_000
    assert hider.json(text.encode()) == text.encode()
    assert tracemalloc.get_traced_memory()[1] < 12_000_000
    tracemalloc.stop()


def test_what_is_secret_of_named_values():
    named = {
        "API_KEY": "0123456789",
        "DATABASE_URL": "postgres://ada:hunter22@db/x",
        "MIRROR": "https://u:p%40ssword@host/",
        "MAX_TOKENS": "4096",
        "AUTH_TYPE": "basic",
        "DEBUG": "true and long enough",
        "PASSWORD": "abcd",
        "https_proxy": "http://proxy:3128",
        "broken": "http://[::1@",
    }
    assert secrets_among(named.items()) == [
        "0123456789",
        "postgres://ada:hunter22@db/x",
        "hunter22",
        "p@ssword",
        "abcd",
    ]
    assert password_of(None) is None


@pytest.mark.parametrize(
    ("secret", "name", "refused"),
    [
        ("1234567", "key", True),
        ("12345678", "key", False),
        ("none", "key", False),
        ("Ollama", "api_key", False),
        ("", "API_KEY", False),
        ("4096", "MAX_TOKENS", False),
        ("v1", "api_version", False),
        ("fast", "X-Mode", False),
        ("abc", "X-Api-Key", True),
        ("abc", "Authorization", True),
    ],
)
def test_what_is_too_short_to_be_hidden_is_not_entrusted(secret, name, refused):
    reason = too_short(secret, name)
    assert (reason is not None) is refused
    assert secret not in (reason or "").split()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("GROQ_API_KEY", "abc", True),
        ("api_key", "abcd", False),
        ("api_key", "", False),
        ("api_key", "x", False),
        ("DEBUG", "1", False),
        ("https_proxy", "http://ada:abc@proxy:8080", True),
        ("https_proxy", "http://ada:abcd@proxy:8080", False),
        ("MAX_TOKENS", "9", False),
    ],
)
def test_what_is_too_short_to_be_hidden_is_told(name, value, told):
    assert unhidden_among([(name, value)]) == ([name] if told else [])


def test_a_key_that_nobody_says_is_not_looked_for_whole():
    key = "sk-proj-" + "aB3_x9-Qz7" * 16
    hider = Hider([key])
    for said in ("It is sk-proj", "a plain text " * 100, "sk-", f"{key[:11]} and no more"):
        assert hider.hide(said) == said
        assert hider.json(json.dumps(said).encode()) == json.dumps(said).encode()
        shown, rest = hider.split(said)
        assert shown + rest == said
    # Its expressions take longer to make than most runs' own work.
    assert not vars(hider).keys() & {"_anywhere", "_whole", "_begun"}
    assert hider.hide(f"It is {key}.") == f"It is {MARK}."
    assert hider.split(f"It is {key[:100]}") == ("It is ", key[:100])
