"""What tests of client share."""

from tests.kernel.conftest import client  # noqa: F401
