"""`python`: an agent's code in a process of its own, with limits."""

import os
import sys
import time
from pathlib import Path

import pytest

from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.tools import limited_python
from kasal_jupyter.tools.tool import ToolContext, find_tool

pytestmark = pytest.mark.skipif(os.name != "posix", reason="only there can a process be limited")


@pytest.fixture
def context(tmp_path):
    return ToolContext(tmp_path, settings=RunToolSettings(python=True))


@pytest.fixture
def run(context):
    return lambda code, **more: find_tool("python").run(context, code=code, **more)


def test_it_is_off_until_the_deployer_turns_it_on(tmp_path):
    tool = find_tool("python")
    assert "KasalApp.python_tool = True" in tool.unavailable(RunToolSettings())
    assert tool.unavailable(RunToolSettings(python=True)) is None
    with pytest.raises(ValueError, match="turned off"):
        tool.run(ToolContext(tmp_path), code="print(1)")


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("print(6 * 7)", "42"),
        ("6 * 7", "42"),
        ("x = 6\nx * 7", "42"),
        ("x = 6", "[It printed nothing.]"),
        ("None", "[It printed nothing.]"),
        ("import sys\nprint('a')\nprint('b', file=sys.stderr)", "a\nb"),
        ("print('grün', 'x' * 3)\n'😀'", "grün xxx\n'😀'"),
        ("if __name__ == '__main__':\n    print('main')", "main"),
        ("def f():\n    return n\nn = 5\nf()", "5"),
        ("import sys\nsys.exit()", "[It printed nothing.]"),
    ],
)
def test_what_code_prints_and_the_value_of_its_last_line_is_the_answer(run, code, output):
    assert run(code) == output


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", 'last):\n  File "<code>", line 1, in <module>\nZeroDivisionError: division by zero'),
        ("def f(:", 'File "<code>", line 1'),
        ("import sys\nsys.exit(3)", "It ended with status 3"),
        ("import sys\nsys.exit('no tea')", "no tea"),
        ("input()", "EOFError"),
        ("import absent_module", "ModuleNotFoundError"),
        ("import os\nos.abort()", "status 134"),
    ],
)
def test_what_fails_is_told_without_a_word_of_ours(run, code, said):
    with pytest.raises(ValueError, match=r".") as failed:
        run(code)
    assert said in str(failed.value)
    assert "limited_python" not in str(failed.value)


def test_files_lie_in_the_runs_folder_and_are_there_for_the_next_call(run, context):
    run("open('a.txt', 'w').write('hello')")
    (context.folder / "lib.py").write_text("ANSWER = 42", encoding="utf-8")
    assert run("import lib\nopen('a.txt').read(), lib.ANSWER") == "('hello', 42)"


def test_there_is_nothing_of_the_servers_environment(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-server")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("SOMETHING", "private")
    said = run("import os\nprint(dict(os.environ))")
    assert "sk-of-the-server" not in said
    assert "private" not in said
    assert "/somewhere" not in said


def alive(folder: Path) -> list[str]:
    """Give the processes that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink() == folder:
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


def none_left(folder: Path) -> bool:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if not alive(folder):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("code", ["while True: pass", "import time\nprint('begun')\ntime.sleep(600)"])
def test_what_takes_too_long_is_ended_and_what_it_has_said_is_kept(run, context, code):
    with pytest.raises(ValueError, match="longer than 1 seconds") as ended:
        run(code, timeout=1)
    assert ("begun" in str(ended.value)) == ("begun" in code)
    assert none_left(context.folder)


ORPHAN = """\
import os, time
if os.fork() == 0:
    os.setsid()
    os.close(1); os.close(2)
    time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans come back to nobody here")
@pytest.mark.parametrize("apart", [True, False])
def test_what_it_has_started_ends_with_it(run, context, tmp_path, monkeypatch, apart):
    if not apart:
        refused = tmp_path / "limited.py"
        program = Path(limited_python.__file__).read_text(encoding="utf-8")
        refused.write_text(program.replace("= _isolate()", "= False"), encoding="utf-8")
        monkeypatch.setattr(limited_python, "__file__", str(refused))
        assert not isolated(run)
    assert run(ORPHAN) == "[It printed nothing.]"
    assert none_left(context.folder)
    with pytest.raises(ValueError, match="longer than 1 seconds"):
        run(f"{ORPHAN}else:\n    time.sleep(600)", timeout=1)
    assert none_left(context.folder)


def isolated(run):
    return run("import os\nos.getpid()") == "2"


def test_there_is_no_network_where_the_system_allows_that(run, server):
    if not isolated(run):
        pytest.skip("this system lets no user have a network of their own")
    with pytest.raises(ValueError, match="unreachable"):
        run(f"import socket\nsocket.create_connection(('127.0.0.1', {server.port}), 5)")
    assert server.asked == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 'a' * (8 * 1024**3)", "MemoryError"),
        ("open('big', 'wb').write(b'x' * 150_000_000)", "File too large"),
        ("files = [open('/dev/null') for _ in range(1000)]", "Too many open files"),
    ],
)
def test_memory_and_files_are_limited(run, code, said):
    with pytest.raises(ValueError, match=said):
        run(code)


def test_so_is_the_time_of_the_processor(run):
    with pytest.raises(ValueError, match=r"longer than|more time or memory"):
        run("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass", timeout=20)


@pytest.mark.skipif(os.geteuid() == 0, reason="the system counts no processes of root's")
def test_so_are_processes(run, context):
    with pytest.raises(ValueError, match=r"BlockingIOError|longer than"):
        run(
            "import os, time\nfor _ in range(5000):\n    if os.fork() == 0:\n        time.sleep(60)",
            timeout=10,
        )
    assert none_left(context.folder)


def test_output_is_bounded_and_all_of_it_is_read(run):
    said = run("print('x' * 5_000_000)\nprint('y')")
    assert said.startswith("x" * 20_000)
    assert len(said) < 20_100
    assert said.endswith("this is its beginning.]")


@pytest.mark.parametrize(
    ("arguments", "reason"), [({"timeout": 0.5}, "timeout"), ({"timeout": 301}, "timeout")]
)
def test_its_bounds_are_told(run, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        run("1", **arguments)
    with pytest.raises(ValueError, match="code"):
        run("#" * 100_001)
