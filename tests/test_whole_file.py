"""Files that are there whole, or not at all."""

import errno
import os
import stat
import threading

import pytest

from kasal_jupyter.whole_file import whole_file, write_whole


def test_what_is_written_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "answer.md"
    write_whole(path, b"first")
    write_whole(path, b"second")

    assert path.read_bytes() == b"second"
    assert [file.name for file in tmp_path.iterdir()] == ["answer.md"]


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_was_there_stays_when_writing_fails(tmp_path, fault):
    path = tmp_path / "answer.md"
    write_whole(path, b"paid for")

    def pieces():
        yield b"half of"
        raise fault

    with pytest.raises(type(fault)), whole_file(path) as file:
        file.writelines(pieces())

    assert path.read_bytes() == b"paid for"
    assert [file.name for file in tmp_path.iterdir()] == ["answer.md"]


def test_a_new_file_has_the_mode_of_any_other_and_a_private_one_is_its_owners(tmp_path):
    umask = os.umask(0o027)
    try:
        write_whole(tmp_path / "shared", b"")
        with whole_file(tmp_path / "key", private=True, durable=True) as file:
            file.write(b"secret")
    finally:
        os.umask(umask)

    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_what_takes_a_files_place_is_no_more_open_than_that_was(tmp_path):
    path = tmp_path / "answer.md"
    write_whole(path, b"mine")
    path.chmod(0o600)
    write_whole(path, b"mine still")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_name_that_is_taken_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "answer.md"
    write_whole(path, b"first")

    with pytest.raises(FileExistsError), whole_file(path, new=True):
        pytest.fail("it was opened")

    assert path.read_bytes() == b"first"


def test_of_many_who_want_a_new_name_at_once_one_gets_it(tmp_path):
    path, opened, refused = tmp_path / "answer.md", threading.Barrier(8), []

    def write(number):
        try:
            with whole_file(path, new=True) as file:
                file.write(b"%d" % number)
                opened.wait()
        except FileExistsError as error:
            refused.append(error.filename)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert refused == [str(path)] * 7
    assert [file.name for file in tmp_path.iterdir()] == ["answer.md"]


def test_a_link_stays_and_a_device_is_written_to(tmp_path):
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", b"through it")
    write_whole(tmp_path / "link", b"again")
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(tmp_path / "pipe", b"passed on")
        assert os.read(reading, 100) == b"passed on"
    finally:
        os.close(reading)

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"again"
