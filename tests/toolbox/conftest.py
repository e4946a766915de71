"""What tests of toolbox share."""

from tests.store.conftest import new_agent, new_crew, other, store  # noqa: F401
