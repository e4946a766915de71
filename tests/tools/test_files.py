"""`file_reader`, `file_writer` and `directory_list`: inside the run's folder, and nowhere else."""

import os
import socket
import stat
import threading
from dataclasses import replace

import pytest

from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.tools import readable, workspace
from kasal_jupyter.tools import workspace as folders
from kasal_jupyter.tools.tool import ToolContext, find_tool
from kasal_jupyter.tools.workspace import PathRefused, Workspace
from tests.servers.site_server import pdf

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files")


@pytest.fixture(params=[True, False], ids=["by handle", "by path"])
def by_handle(request, monkeypatch):
    """Both ways to reach files: the second is that of systems which cannot open a folder."""
    if request.param and not folders.BY_HANDLE:
        pytest.skip("this system cannot")
    monkeypatch.setattr(folders, "BY_HANDLE", request.param)
    return request.param


@pytest.fixture
def context(tmp_path, by_handle):
    folder = tmp_path / "run"
    folder.mkdir()
    return ToolContext(folder)


@pytest.fixture
def read(context):
    return lambda path=".", **arguments: find_tool("file_reader").run(context, path=path, **arguments)


@pytest.fixture
def write(context):
    return lambda path, content, **more: find_tool("file_writer").run(
        context, path=path, content=content, **more
    )


@pytest.fixture
def list_(context):
    return lambda **arguments: find_tool("directory_list").run(context, **arguments)


# -- reading -------------------------------------------------------------------------------------------


def test_files_are_read_and_folders_listed(context, read):
    (context.folder / "notes").mkdir()
    (context.folder / "notes" / "a.txt").write_text("hello", encoding="utf-8")
    assert read() == read(None) == "notes/"
    assert read("notes/a.txt") == read("./notes/../notes/a.txt") == "hello"
    assert read(str(context.folder / "notes" / "a.txt")) == "hello"


def test_a_long_file_is_read_on_and_no_character_is_cut(context, read):
    text = "ä€😀x" * 20_000
    (context.folder / "long.txt").write_text(text, encoding="utf-8")
    found, start = "", 0
    while True:
        part, _, more = read("long.txt", start=start).partition("\n[It goes on")
        found += part
        if not more:
            break
        start = int(more.partition("start=")[2].partition(" ")[0])
    assert found == text
    with pytest.raises(ValueError, match="bytes only"):
        read("long.txt", start=10**9)


def test_what_is_no_text_is_told_by_its_size(context, read):
    (context.folder / "data.bin").write_bytes(b"PK\0\0" * 100)
    with pytest.raises(ValueError, match="binary file of 400 bytes"):
        read("data.bin")


def test_marks_and_wrong_bytes_do_not_matter(context, read):
    (context.folder / "marked.csv").write_bytes(b"\xef\xbb\xbfa,b")
    (context.folder / "latin.txt").write_bytes("grün".encode("latin-1"))
    (context.folder / "empty.txt").touch()
    assert read("marked.csv") == "a,b"
    assert read("latin.txt") == "gr\ufffdn"
    assert read("empty.txt") == ""


def test_a_pdf_is_read_as_text(context, read):
    (context.folder / "paper.pdf").write_bytes(pdf("Tea in numbers"))
    assert read("paper.pdf") == "[Page 1]\nTea in numbers"


def test_a_pdf_is_parsed_in_a_limited_process(context, read, monkeypatch):
    (context.folder / "paper.pdf").write_bytes(pdf("Tea in numbers"))
    monkeypatch.setattr(readable, "SECONDS", 0.01)
    with pytest.raises(ValueError, match=r"The PDF cannot be read: It took longer than 0\.01 seconds"):
        read("paper.pdf")


def test_a_missing_file_is_named(read):
    with pytest.raises(ValueError, match=r"no file or folder 'absent\.txt'"):
        read("absent.txt")


# -- nothing outside -----------------------------------------------------------------------------------

OUTSIDE = [
    "../secret.txt",
    "notes/../../secret.txt",
    "link.txt",
    "linked/secret.txt",
    "chain/secret.txt",
    "../run-of-another/x.txt",
    "/etc/passwd",
    "..",
]


@pytest.fixture
def surrounded(context):
    """A run's folder with a secret outside, links that lead there, and a neighbour of a similar name."""
    outside = context.folder.parent
    (outside / "secret.txt").write_text("secret", encoding="utf-8")
    (outside / "run-of-another").mkdir()
    (outside / "run-of-another" / "x.txt").write_text("secret", encoding="utf-8")
    (context.folder / "notes").mkdir()
    (context.folder / "link.txt").symlink_to(outside / "secret.txt")
    (context.folder / "linked").symlink_to(outside)
    (context.folder / "chain").symlink_to("linked")
    return outside


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_and_no_link_leads_out(surrounded, read, write, list_, path):
    for use in (
        lambda: read(path),
        lambda: write(path, "mine"),
        lambda: write(path, "mine", append=True),
        lambda: list_(path=path),
    ):
        with pytest.raises(ValueError, match="outside"):
            use()
    assert (surrounded / "secret.txt").read_text(encoding="utf-8") == "secret"
    assert sorted(each.name for each in surrounded.iterdir()) == ["run", "run-of-another", "secret.txt"]


def test_links_within_the_folder_are_followed(context, read, write):
    (context.folder / "real").mkdir()
    (context.folder / "short").symlink_to("real")
    write("short/a.txt", "hello")
    assert read("real/a.txt") == "hello"


def test_a_link_that_leads_nowhere_makes_no_file_outside(context, write):
    (context.folder / "later.txt").symlink_to(context.folder.parent / "made.txt")
    with pytest.raises(ValueError, match="outside"):
        write("later.txt", "mine")
    assert not (context.folder.parent / "made.txt").exists()


def test_links_in_a_ring_are_refused(context, read, write):
    (context.folder / "a").symlink_to("b")
    (context.folder / "b").symlink_to("a")
    for use in (lambda: read("a/x"), lambda: write("a/x", "mine")):
        with pytest.raises(ValueError, match=r"outside|no file|cannot be used|folder"):
            use()


@pytest.mark.skipif(not folders.BY_HANDLE, reason="needs folders that can be opened")
def test_whoever_exchanges_a_folder_for_a_link_meanwhile_gains_nothing(context, monkeypatch):
    """The race between looking and opening: the folder becomes a link just after it was looked at."""
    outside = context.folder.parent / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("secret", encoding="utf-8")
    inside = context.folder / "inside"
    inside.mkdir()
    (inside / "a.txt").write_text("mine", encoding="utf-8")
    real = Workspace._place

    def place_then_exchange(self, path, roots):
        found = real(self, path, roots)
        if inside.is_dir() and not inside.is_symlink():
            inside.rename(context.folder / "moved")
            inside.symlink_to(outside)
        return found

    monkeypatch.setattr(Workspace, "_place", place_then_exchange)
    monkeypatch.setattr(folders, "BY_HANDLE", True)
    files = Workspace(context.folder)
    with pytest.raises(PathRefused), files.open("inside/a.txt") as file:
        file.read()
    inside.unlink()
    (context.folder / "moved").rename(inside)
    with pytest.raises(PathRefused):
        files.write("inside/b.txt", b"mine")
    assert [each.name for each in outside.iterdir()] == ["a.txt"]


def test_a_file_of_two_names_keeps_its_content_where_it_has_the_other(context, write):
    other = context.folder.parent / "other.txt"
    other.write_text("theirs", encoding="utf-8")
    os.link(other, context.folder / "mine.txt")
    write("mine.txt", " and mine", append=True)
    assert (context.folder / "mine.txt").read_text(encoding="utf-8") == "theirs and mine"
    assert other.read_text(encoding="utf-8") == "theirs"


# -- what is no file -----------------------------------------------------------------------------------


@posix
def test_pipes_sockets_and_devices_hold_nobody_up(context, read, write, list_):
    os.mkfifo(context.folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        # Its path must be short.
        os.chdir(context.folder)
        listening.bind("socket")
    (context.folder / "zero").symlink_to("/dev/zero")
    done = threading.Event()

    def use():
        for name in ("pipe", "socket"):
            with pytest.raises(ValueError, match="no ordinary file"):
                read(name)
            with pytest.raises(ValueError, match="no ordinary file"):
                write(name, "x")
            with pytest.raises(ValueError, match="no ordinary file"):
                write(name, "x", append=True)
        with pytest.raises(ValueError, match="outside"):
            read("zero")
        done.set()

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(60)
    assert done.is_set()
    assert list_() == "pipe  (other)\nsocket  (other)\nzero  (link)"


@posix
def test_devices_of_an_allowed_folder_are_no_files_either(context):
    allowed = replace(context, settings=RunToolSettings(folders=["/dev"]))
    with pytest.raises(ValueError, match="no ordinary file"):
        find_tool("file_reader").run(allowed, path="/dev/zero")


def test_a_name_that_no_system_takes_is_refused(read, write):
    for use in (lambda: read("a\0b"), lambda: write("a\0b", "x")):
        with pytest.raises(ValueError, match="null"):
            use()
    for use in (lambda: read("x" * 5_000), lambda: write("x" * 5_000, "x")):
        with pytest.raises(ValueError, match=r"too long|no file|cannot"):
            use()
    with pytest.raises(ValueError, match="32 folders"):
        write("/".join("x" * 40), "x")


# -- the run's own log ---------------------------------------------------------------------------------


def test_the_runs_log_is_not_the_agents(context, read, write, list_):
    log = context.folder / workspace.LOG_NAME
    log.write_text("what another agent printed", encoding="utf-8")
    (context.folder / "alias").symlink_to("output.log")
    for path in ("output.log", "./output.log", "alias"):
        with pytest.raises(ValueError, match="own log"):
            read(path)
    for path in ("output.log", "OUTPUT.log", "alias"):
        with pytest.raises(ValueError, match="own log"):
            write(path, "mine")
    os.link(log, context.folder / "second")
    with pytest.raises(ValueError, match="own log"):
        read("second")
    assert "output.log" not in list_()
    # A file of that name elsewhere is like any other.
    write("sub/output.log", "mine")
    assert read("sub/output.log") == "mine"


# -- writing -------------------------------------------------------------------------------------------


def test_a_file_is_written_and_added_to_with_the_folders_it_needs(context, read, write):
    assert write("reports/2024/tea.md", "# Tea\n") == "Wrote reports/2024/tea.md: 6 bytes."
    assert write("reports/2024/tea.md", "grün", append=True) == "reports/2024/tea.md has 11 bytes now."
    assert read("reports/2024/tea.md") == "# Tea\ngrün"
    write("reports/2024/tea.md", "new")
    assert read("reports/2024/tea.md") == "new"
    assert write("fresh.txt", "x", append=True) == "fresh.txt has 1 bytes now."
    left = sorted(each.name for each in context.folder.rglob("*"))
    assert left == ["2024", "fresh.txt", "reports", "tea.md"]


@pytest.mark.parametrize("path", [".", "notes", "notes/..", "notes/a.txt/b.txt", ""])
def test_a_folder_is_not_written_over(context, write, path):
    (context.folder / "notes").mkdir()
    (context.folder / "notes" / "a.txt").touch()
    with pytest.raises(ValueError, match=r"folder|no file"):
        write(path, "mine")


def test_what_is_too_much_is_refused_and_nothing_is_written(context, write, monkeypatch):
    with pytest.raises(ValueError, match="append=true"):
        write("a.txt", "x" * 1_000_001)
    monkeypatch.setattr(workspace, "MAX_FILE_BYTES", 100)
    write("a.txt", "x" * 90)
    with pytest.raises(ValueError, match="100 bytes"):
        write("a.txt", "x" * 11, append=True)
    monkeypatch.setattr(workspace, "MAX_FOLDER_BYTES", 150)
    with pytest.raises(ValueError, match="150 bytes in all"):
        write("b.txt", "x" * 61)
    monkeypatch.setattr(workspace, "MAX_FILES", 1)
    with pytest.raises(ValueError, match="no more"):
        write("b.txt", "x")
    assert [each.name for each in context.folder.iterdir()] == ["a.txt"]
    assert (context.folder / "a.txt").stat().st_size == 90


@posix
def test_a_written_file_has_ordinary_rights(context, write):
    write("a.txt", "x")
    assert stat.S_IMODE((context.folder / "a.txt").stat().st_mode) & 0o600 == 0o600


# -- listing, and folders that the deployer allows -----------------------------------------------------


def test_folders_are_listed_by_pattern_and_depth(context, write, list_):
    for path in ("a.csv", "b.txt", "sub/c.csv", "sub/deep/d.csv"):
        write(path, "1234")
    assert list_() == "a.csv  4 bytes\nb.txt  4 bytes\nsub/"
    assert list_(pattern="*.csv", depth=8) == ("a.csv  4 bytes\nsub/c.csv  4 bytes\nsub/deep/d.csv  4 bytes")
    assert list_(pattern="sub/*.csv", depth=2) == "sub/c.csv  4 bytes"
    assert list_(path="sub", depth=1) == "c.csv  4 bytes\ndeep/"
    assert list_(pattern="*.pdf") == "Nothing there is called '*.pdf'."
    (context.folder / "none").mkdir()
    assert list_(path="none") == "The folder is empty."
    with pytest.raises(ValueError, match="depth"):
        list_(depth=9)
    with pytest.raises(ValueError, match="no file or folder"):
        list_(path="a.csv")


def test_a_large_folder_is_listed_in_part(context, list_):
    for number in range(501):
        (context.folder / f"{number:04}").touch()
    lines = list_().splitlines()
    assert len(lines) == 501
    assert "first 500" in lines[-1]


def test_what_the_deployer_allows_is_read_and_not_written(context, tmp_path):
    shared = tmp_path / "shared"
    (shared / "in").mkdir(parents=True)
    (shared / "in" / "a.txt").write_text("for all", encoding="utf-8")
    (shared / "out.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    allowed = replace(context, settings=RunToolSettings(folders=[str(shared)]))
    assert find_tool("file_reader").run(allowed, path=f"{shared}/in/a.txt") == "for all"
    assert "in/a.txt  7 bytes" in find_tool("directory_list").run(allowed, path=str(shared), depth=2)
    assert str(shared) in find_tool("directory_list").run(allowed)
    for path in (f"{shared}/out.txt", f"{shared}/../secret.txt"):
        with pytest.raises(ValueError, match="outside"):
            find_tool("file_reader").run(allowed, path=path)
    for path in (f"{shared}/in/a.txt", f"{shared}/b.txt"):
        with pytest.raises(ValueError, match="outside"):
            find_tool("file_writer").run(allowed, path=path, content="mine")
    assert (shared / "in" / "a.txt").read_text(encoding="utf-8") == "for all"
