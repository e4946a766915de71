"""``kasal_cassette``: tests whose crews are answered by cassettes, a file a test.

::

    def test_the_report(kasal_cassette):
        result = kasal.Crew("Market research", tasks=[report]).run(topic="tea")
        assert "tea" in result.output

Recorded once, with ``pytest --kasal-record``, it needs no key from then on. The file is
``cassettes/test_report/test_the_report.jsonl`` beside the test; ``@pytest.mark.kasal_cassette("tea.jsonl",
varies=[…])`` names another, and what varies in prompts. It holds for whatever the test starts as well:
notebooks, and `jupyter kasal run`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

_FAILED = pytest.StashKey[bool]()
_BEGUN = pytest.StashKey[set[Path]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--kasal-record``."""
    parser.getgroup("kasal").addoption(
        "--kasal-record",
        action="store_true",
        help="record the cassettes of kasal_cassette anew: crews are run",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        "kasal_cassette(name, varies=[]): the cassette's file, below the folder `cassettes` beside the test, "
        "and regular expressions for what varies in its prompts",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Note whether a test has failed: then what it has recorded is thrown away."""
    report = yield
    if call.when == "call":
        item.stash[_FAILED] = call.excinfo is not None
    return report


@pytest.fixture
def kasal_cassette(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have the test's crews be answered by its cassette, or, with ``--kasal-record``, recorded for it."""
    from kasal_jupyter.client.cassette import ON_MISS, RECORD, REPLAY, rewind

    path, varies = _asked_for(request)
    rewind()
    for name in (RECORD, REPLAY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(ON_MISS, "fail")
    if not request.config.getoption("--kasal-record"):
        if not path.exists():
            pytest.fail(f"There is no cassette {path}; `pytest --kasal-record` records it", pytrace=False)
        monkeypatch.setenv(REPLAY, str(path))
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    begun, known = path.with_suffix(".part"), request.config.stash.setdefault(_BEGUN, set())
    if path in known:
        # Another test has recorded for it: this one adds to that.
        shutil.copyfile(path, begun)
    else:
        _begin(begun, varies)
    monkeypatch.setenv(RECORD, str(begun))
    try:
        yield path
        if not request.node.stash.get(_FAILED, True):
            begun.replace(path)
            known.add(path)
    finally:
        begun.unlink(missing_ok=True)


def _asked_for(request: pytest.FixtureRequest) -> tuple[Path, list[str]]:
    """Give a test's file, and what varies in it."""
    marker = request.node.get_closest_marker("kasal_cassette")
    folder = request.path.parent / "cassettes"
    varies = list(marker.kwargs.get("varies", ())) if marker is not None else []
    if marker is not None and marker.args:
        return folder / marker.args[0], varies
    name = re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")
    return folder / request.path.stem / f"{name}.jsonl", varies


def _begin(path: Path, varies: list[str]) -> None:
    from kasal_jupyter.client.cassette import Contents
    from kasal_jupyter.schemas.cassettes import CassetteHead

    Contents(CassetteHead(cassette=1, varies=varies)).write(path)
