"""Secrets at rest."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from kasal_jupyter.errors import StoreError
from kasal_jupyter.toolbox.secrets import KEY_FILE, SecretBox, SecretLost

SEAL = """
import sys
from pathlib import Path
from kasal_jupyter.toolbox.secrets import SecretBox
box = SecretBox(Path(sys.argv[1]))
sys.stdin.readline()
print(box.seal("of " + sys.argv[2]))
"""


def test_a_sealed_secret_opens_and_shows_nothing(tmp_path):
    box = SecretBox(tmp_path)
    sealed = box.seal("s3cret")
    assert "s3cret" not in sealed
    assert sealed != box.seal("s3cret")
    assert SecretBox(tmp_path).open(sealed) == "s3cret"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_key_is_for_its_owner_alone(tmp_path):
    SecretBox(tmp_path).seal("s3cret")
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_the_key_is_made_when_it_is_needed(tmp_path):
    SecretBox(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_key_opens_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    sealed = SecretBox(tmp_path / "a").seal("s3cret")
    with pytest.raises(SecretLost):
        SecretBox(tmp_path / "b").open(sealed)
    with pytest.raises(SecretLost):
        SecretBox(tmp_path / "b").open("no token at all")


def test_a_broken_key_is_named_and_not_replaced(tmp_path):
    (tmp_path / KEY_FILE).write_bytes(b"broken")
    with pytest.raises(StoreError, match=KEY_FILE):
        SecretBox(tmp_path).seal("s3cret")
    assert (tmp_path / KEY_FILE).read_bytes() == b"broken"


def test_threads_that_begin_at_once_agree_on_the_key(tmp_path):
    boxes = [SecretBox(tmp_path) for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        sealed = list(pool.map(lambda box: box.seal("s3cret"), boxes))
    assert {SecretBox(tmp_path).open(each) for each in sealed} == {"s3cret"}


def test_and_so_do_servers(tmp_path):
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", SEAL, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for server in servers:
        server.stdin.write("go\n")
        server.stdin.flush()
    sealed = [server.communicate()[0].strip() for server in servers]
    assert [SecretBox(tmp_path).open(each) for each in sealed] == ["of 0", "of 1", "of 2"]
