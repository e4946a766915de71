"""What becomes of runs when things break: a round of the benchmark that breaks them."""

from importlib import import_module
from pathlib import Path

import psutil
import pytest

from tests.shared_zygote import lent_to

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def faults(monkeypatch):
    """The benchmark, whose servers have borrowed their zygotes: see `tests.shared_zygote`."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    server = import_module("mortal_server").Server
    look_below, zygote = server.look_below, server.zygote

    def lent(self):
        for warden in lent_to(self.process.pid):
            try:
                yield (process := psutil.Process(warden)), process.children(recursive=True)
            except psutil.NoSuchProcess:
                continue

    def look_below_and_beside(self):
        look_below(self)
        self.below |= {each.pid: each for warden, below in lent(self) for each in (warden, *below)}
        return [each for each in self.below.values() if each.is_running()]

    def its_zygote(self):
        return next((below[0] for _, below in lent(self) if below), None) or zygote(self)

    monkeypatch.setattr(server, "look_below", look_below_and_beside)
    monkeypatch.setattr(server, "zygote", its_zygote)
    benchmark = import_module("faults")
    monkeypatch.setattr(benchmark, "STARTERS", 1)
    return benchmark


@pytest.mark.parametrize("kind", ["kills", "damage"])
def test_a_round_of_faults(faults, kind):
    accepted, broken = faults.measure(kind, 1, 1)
    assert broken == []
    assert accepted


def test_a_round_of_cut_offs(faults):
    runs, broken, _ = faults.measure_cut_offs(1, 1, tiny=True)
    assert broken == []
    assert runs


def test_a_round_of_batches(faults):
    rows, broken, _ = faults.measure_batches(1, 1, tiny=True)
    assert broken == []
    assert rows
