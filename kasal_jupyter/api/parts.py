"""What the handlers work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kasal_jupyter.api.fanout import Fanouts
from kasal_jupyter.runs.service import Runs
from kasal_jupyter.store.crews import Crews
from kasal_jupyter.store.store import Store


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the running extension.

    Attributes
    ----------
    body_limit
        Most bytes of a request's body.
    wake
        Has the engine load, where it does not yet: whoever asks anything is likely to run a crew.
    """

    store: Store
    crews: Crews
    runs: Runs
    fanouts: Fanouts
    body_limit: int
    wake: Callable[[], None]
