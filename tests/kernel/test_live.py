"""The live view in a real kernel: how often it draws, and that what came last is drawn."""

import pytest
from jupyter_client.manager import start_new_kernel

from kasal_jupyter.kernel.views.live import BURST
from tests.kernel.test_views import events
from tests.kernels import Kernel
from tests.shared_servers import borrowed_kernels

FEEDING = """
import time
from kasal_jupyter.kernel.views.live import REDRAW_SECONDS, LiveView
from kasal_jupyter.kernel.runs.result import RunResult

view = LiveView(RunResult("job_1"))
began = time.monotonic()
for event in EVENTS:
    view.feed(event)
    time.sleep(PAUSE)
    view.tick()
print(time.monotonic() - began, REDRAW_SECONDS)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    room = tmp_path_factory.mktemp("kernel")
    with pytest.MonkeyPatch.context() as patch, borrowed_kernels():
        patch.setenv("JUPYTER_RUNTIME_DIR", str(room))
        patch.setenv("IPYTHONDIR", str(room / "ipython"))
        manager, client = start_new_kernel()
    running = Kernel(manager, client)
    yield running
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def feed(kernel, steps, pause):
    cell = kernel.run(f"EVENTS = {steps!r}\nPAUSE = {pause}\n{FEEDING}")
    assert cell.status == "ok", cell.error
    return cell


def test_an_event_that_comes_alone_is_drawn_at_once(kernel):
    cell = feed(kernel, events()[:3], 0.5)
    assert len(cell.updates) >= 3
    assert "Find the facts" in cell.updates[2]["text/html"]


def test_many_events_are_drawn_a_few_times_and_the_last_as_soon_as_may_be(kernel):
    steps = events(extra_calls=200, tool_result="ok")[:-3]
    cell = feed(kernel, steps, 0.005)
    took, least = map(float, cell.text.split())
    assert 2 <= len(cell.updates) <= took / least + BURST + 1
    waiting = kernel.run("for _ in range(10):\n    time.sleep(0.05)\n    view.tick()")
    assert "expression=199 → ok" in [*cell.updates, *waiting.updates][-1]["text/html"]


def test_what_goes_on_is_small_and_what_is_over_is_whole(kernel):
    cell = feed(kernel, events(extra_calls=30), 0.01)
    *live, final = cell.updates
    assert all("<details" not in update["text/html"] for update in live)
    assert "<details" in final["text/html"]
    assert "✔ completed" in final["text/plain"]
    assert "█" in final["text/plain"]


def test_nothing_more_is_drawn_when_the_run_is_over(kernel):
    feed(kernel, events(), 0.01)
    assert kernel.run("time.sleep(1.2); view.tick()").updates == []
