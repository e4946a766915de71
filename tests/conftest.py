"""What tests of several rooms share."""

import pytest

from tests.engine import SECRETS, Engine


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """A local backend; warming it up takes seconds, so there is one for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        running = Engine(tmp_path_factory.mktemp("engine"))
        running.call(running.backend.start())
        yield running
        running.close()
