"""Indexes for tests."""

from contextlib import ExitStack

import pytest

from kasal_jupyter.memory.build import build_index
from kasal_jupyter.memory.recall import Recall
from kasal_jupyter.memory.record import Record
from kasal_jupyter.schemas.spec import RunEmbedder


def records(*texts, kind="long_term", category=None):
    """Make records of texts; their ids are their places."""
    return [
        Record(str(place), kind, text, category, "2024-01-15T10:00:00Z") for place, text in enumerate(texts)
    ]


@pytest.fixture
def open_recall():
    """Opens indexes, and closes them with the test."""
    with ExitStack() as opened:

        def open_one(folder, embedder=None):
            recall = Recall(folder, embedder or RunEmbedder())
            opened.callback(recall.close)
            return recall

        yield open_one


@pytest.fixture
def found(tmp_path, open_recall):
    """Builds an index of records and searches it."""

    def search(known, text, context="", **how):
        build_index(tmp_path, known, "r", None, seconds=1)
        return open_recall(tmp_path).search(text, context, **how)

    return search
