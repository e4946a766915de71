"""What fails a cell: one readable message instead of a traceback, and still an exception."""

from __future__ import annotations

from kasal_jupyter.errors import Fault, KasalError
from kasal_jupyter.kernel.views.clean import clean


class CellError(KasalError):
    """Something that `%kasal` refuses or that failed.

    It is a normal exception, so that a notebook's runner (nbclient, nbval, papermill) sees the cell fail,
    and it renders itself: IPython's ``UsageError`` would not fail a cell there.
    """

    code = "KASAL"

    def _render_traceback_(self) -> list[str]:
        return [clean(f"{type(self).__name__}: {self}")]

    def __str__(self) -> str:
        """Give the message; where there are several faults, each of them on a line of its own."""
        if len(self.faults) > 1:
            return "\n".join([self._head(), *(f"  {_fault(fault)}" for fault in self.faults)])
        if self.faults and self.faults[0].reason not in self.message:
            return f"{self.message}\n  {_fault(self.faults[0])}"
        return self.message

    def _head(self) -> str:
        """Give the message without the first fault, which is told again below it."""
        head, found, _ = self.message.partition(self.faults[0].reason)
        return head.rstrip(": ").removesuffix(self.faults[0].field).rstrip(": ") if found else self.message


def _fault(fault: Fault) -> str:
    return f"{fault.field}: {fault.reason}"
