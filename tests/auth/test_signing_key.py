import subprocess
import sys

import pytest

from kasal_jupyter.auth.tokens import FILE_NAME, KEY_BYTES, signing_key
from kasal_jupyter.errors import StoreError


def test_a_folder_has_one_secret_for_its_owner_alone(tmp_path):
    key = signing_key(tmp_path)
    assert len(key) == KEY_BYTES
    assert signing_key(tmp_path) == key
    if sys.platform != "win32":
        assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
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
    assert not list(tmp_path.glob(f".{FILE_NAME}*"))


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_damaged_secret_is_never_used(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged\. Delete it"):
        signing_key(tmp_path)


def test_a_folder_that_is_none_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be read or made: Not a directory"):
        signing_key(tmp_path / "file")
