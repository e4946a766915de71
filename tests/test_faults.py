"""What becomes of runs when things break: a round of the benchmark that breaks them."""

import psutil
import pytest

from benchmarks import faults
from tests.shared_zygote import lent_to


class Server(faults.Server):
    """A server whose zygote is none of its children, where it has borrowed one: see `tests.shared_zygote`."""

    def look_below(self):
        super().look_below()
        for warden in lent_to(self.process.pid):
            try:
                found = [(lent := psutil.Process(warden)), *lent.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            self.below |= {each.pid: each for each in found}
        return [each for each in self.below.values() if each.is_running()]

    def zygote(self):
        for warden in lent_to(self.process.pid):
            for child in psutil.Process(warden).children():
                return child
        return super().zygote()


@pytest.mark.parametrize("kind", ["kills", "damage"])
def test_a_round_of_faults(kind, monkeypatch):
    monkeypatch.setattr(faults, "Server", Server)
    monkeypatch.setattr(faults, "STARTERS", 1)
    accepted, broken = faults.measure(kind, 1, 1)
    assert broken == []
    assert accepted
