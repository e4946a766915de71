"""What tests of crews share."""

from tests.store.conftest import store  # noqa: F401
