"""What fails a cell: one readable line instead of a traceback, and still an exception."""

from __future__ import annotations

from kasal_jupyter.errors import Fault, KasalError


class CellError(KasalError):
    """Something that `%kasal` refuses or that failed.

    It is a normal exception, so that a notebook's runner (nbclient, nbval, papermill) sees the cell fail,
    and it renders itself: IPython's ``UsageError`` would not fail a cell there.
    """

    code = "KASAL"

    def _render_traceback_(self) -> list[str]:
        lines = [f"{type(self).__name__}: {self.message}"]
        if len(self.faults) > 1 or (self.faults and self.faults[0].reason not in self.message):
            lines += [f"  {_fault(fault)}" for fault in self.faults]
        return lines


class RunFailed(CellError):
    """A run that ended otherwise than completed."""


def _fault(fault: Fault) -> str:
    return f"{fault.field}: {fault.reason}"
