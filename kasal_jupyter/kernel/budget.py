"""What a run may use up, as people write it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from kasal_jupyter.errors import nearest
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.schemas.executions import Budget


def read_budget(bounds: Mapping[str, float | None] | None) -> Budget | None:
    """Give what a run may use up, by ``max_cost``, ``max_tokens`` and ``max_seconds``; None: any amount.

    Raises
    ------
    CellError
        One is no such bound; it says which.
    """
    given = {name: bound for name, bound in (bounds or {}).items() if bound is not None}
    if not given:
        return None
    try:
        return Budget.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        hint = nearest(name, Budget.model_fields) if first["type"] == "extra_forbidden" else ""
        raise CellError(f"The budget's {name}: {first['msg']}{hint}") from None
