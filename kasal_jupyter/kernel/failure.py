"""What fails a cell: one readable message instead of a traceback, and still an exception.

The server's refusals are read back into the errors they were made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kasal_jupyter import errors
from kasal_jupyter.errors import Fault, KasalError
from kasal_jupyter.kernel.clean import clean

if TYPE_CHECKING:
    from kasal_jupyter.kernel.result import RunResult


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


class RunFailed(CellError):
    """A run that ended otherwise than completed.

    Attributes
    ----------
    result
        The run, with its trace, as far as it is known here.
    """

    result: RunResult | None = None


def _fault(fault: Fault) -> str:
    return f"{fault.field}: {fault.reason}"


def _below(kind: type[errors.KasalError]) -> list[type[errors.KasalError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in _below(below))]


_BY_CODE: dict[str, type[errors.KasalError]] = {
    # A class that inherits its code is a special case that the code alone does not tell.
    kind.code: kind
    for kind in reversed(_below(errors.KasalError))
    if "code" in vars(kind) and kind.__module__ == errors.__name__
}
_BY_STATUS = {kind.status: kind for kind in _BY_CODE.values()}
"""The most general class of each status: the tree's lower classes come first above."""


def read_refusal(error: dict[str, Any], status: int = 500) -> errors.KasalError:
    """Make the error that an error body's ``error`` object describes; ``status`` tells where its code is new.

    Raises
    ------
    KeyError, TypeError
        It is no such object.
    """
    details = error.get("details") or {}
    listed = details.get("errors") or ([details] if details else [])
    faults = [errors.Fault(each["field"], each["reason"]) for each in listed]
    kind = _BY_CODE.get(error["code"]) or _BY_STATUS.get(status, errors.KasalError)
    return kind(error["message"], faults=faults)


def refusal_of(status: int, content: bytes) -> errors.KasalError:
    """Make the error that an answer of the API stands for, whatever else answered in its place."""
    try:
        return read_refusal(orjson.loads(content)["error"], status)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        kind = _BY_STATUS.get(status, errors.KasalError)
        return kind(f"The server answered {status}, and not as Kasal does; is the extension enabled there?")
