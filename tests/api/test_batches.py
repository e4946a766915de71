"""Batches over HTTP: made, checked, followed, told what to do, and what comes of them."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kasal_jupyter.schemas.batches import row_keys
from tests.accounts import log_in
from tests.processes import wait_until
from tests.sample_crews import new_crew


def letters(name="Letters", topic="{topic}", **fields):
    """Describe a crew of one task, whose rows say by themselves whether they fail."""
    return {
        "name": name,
        "agents": [{"role": "Writer", "goal": "Write", "model": "sandbox", **fields}],
        "tasks": [{"name": "write", "description": f"Write about {topic}", "expected_output": "Text"}],
    }


def rows_of(*topics):
    return [{"inputs": {"topic": topic}} for topic in topics]
