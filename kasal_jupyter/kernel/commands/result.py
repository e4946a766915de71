"""`%kasal result`: a run's answer, whole."""

from __future__ import annotations

from argparse import Namespace

from kasal_jupyter.kernel.clean import clean, escape
from kasal_jupyter.kernel.commands.runs import check_variable
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.html_parts import MUTED, PRE
from kasal_jupyter.kernel.session import Session

MOST_SHOWN = 200_000
"""Characters of an answer that a cell shows: a notebook keeps them."""


class Answer(str):
    """What came of a run: its text, of which a cell shows a beginning where it is very long."""

    __slots__ = ()

    def __repr__(self) -> str:
        note = self._note()
        return clean(self[:MOST_SHOWN]) + (f"\n{note}" if note else "")

    def _repr_html_(self) -> str:
        note = self._note()
        more = f'<div style="{MUTED}">{escape(note)}</div>' if note else ""
        return f'<pre dir="auto" style="{PRE}">{escape(self[:MOST_SHOWN])}</pre>{more}'

    def _note(self) -> str:
        if len(self) <= MOST_SHOWN:
            return ""
        return (
            f"… the first {MOST_SHOWN:,} of {len(self):,} characters are shown; "
            "`%kasal result JOB -o NAME` keeps them all in a variable"
        )


def result_command(session: Session, words: Namespace, cell: str | None) -> Answer | None:
    """Give what came of a run that has ended, whole."""
    del cell
    check_variable(words.output)
    job_id = session.job(words.job)
    found = session.client.result(job_id)
    if found.result is None:
        why = f": {found.error.code}: {found.error.message}" if found.error else ", without a result"
        raise CellError(f"{job_id} is {found.status}{why}")
    answer = Answer(found.result)
    if not words.output:
        return answer
    session.namespace[words.output] = str(answer)
    print(f"{words.output} has {len(answer):,} characters")  # noqa: T201 - it is the answer
    return None
