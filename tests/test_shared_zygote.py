"""The process that lends zygotes: the servers of tests do come to it."""

import os

import psutil
import pytest

from tests.sample_crews import crew_body, run
from tests.shared_zygote import lent_to

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="zygotes are shared on Linux")


def test_a_server_has_its_zygote_from_the_shared_process(live_server, api):
    assert run(api, crew_body())[1]["status"] == "completed"
    (warden,) = lent_to(live_server.process.pid)
    assert psutil.Process(warden).parent().cmdline()[2] == "tests.shared_zygote"
    assert psutil.Process(warden).children()
