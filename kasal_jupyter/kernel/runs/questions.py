"""Questions that agents ask humans: asked here, or answered by a command."""

from __future__ import annotations

import _thread
import json
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kasal_jupyter.events.summary import question_of
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.views.clean import one_line
from kasal_jupyter.kernel.views.rows import asked_text
from kasal_jupyter.schemas.people import APPROVE, AskedKind

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.events.event import InputRequest
    from kasal_jupyter.schemas.executions import OpenQuestion, ToolAnswer

NOBODY = "Nobody is here to answer"
"""What an agent is told where nobody can be asked."""

_WATCH_SECONDS = 0.2


class Pending:
    """What an agent waits for, by this kernel's clock."""

    __slots__ = ()

    deadline: float

    @property
    def seconds_left(self) -> float:
        """How long it may take still."""
        return self.deadline - time.monotonic()


@dataclass(slots=True, eq=False)
class HumanQuestion(Pending):
    """A question that an agent has asked.

    Attributes
    ----------
    deadline
        When nobody waits for the answer any more, by this kernel's clock.
    closed
        Set when the agent waits no more: somebody has answered, or its time is over.
    """

    call_id: str
    text: str
    choices: Sequence[str]
    span_id: int
    deadline: float
    kind: AskedKind = "question"
    closed: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, event: InputRequest) -> HumanQuestion:
        """Give the question of an event that has come just now."""
        return cls(
            event["call_id"],
            asked_text(question_of(event)),
            event["choices"],
            event["span_id"],
            time.monotonic() + event["timeout"],
            event.get("kind", "question"),
        )


_ELSE = {
    "review": "or say what is to be different",
    "approval": "or say why not; a JSON object stands for other arguments",
}
"""What may be answered besides the choices."""


def prompt_of(question: HumanQuestion) -> str:
    """Write a question with its choices, numbered, and a place to type the answer in."""
    lines = [f"  {number}. {one_line(choice, 200)}" for number, choice in enumerate(question.choices, 1)]
    if more := _ELSE.get(question.kind):
        lines.append(f"  {more}")
    return "\n".join([question.text, *lines, "Answer: "])


def answer_meant(text: str, choices: Sequence[str], kind: AskedKind = "question") -> ToolAnswer | None:
    """Give the answer that a typed text means; None where it is none.

    It is a choice or its number. Of a review and of an approval, any other text is one as well; a JSON object
    approves a call with these arguments.
    """
    from kasal_jupyter.schemas.executions import ToolAnswer

    if (known := chosen(text, choices)) is not None:
        return ToolAnswer(result=known)
    said = text.strip()
    if kind == "question" or not said:
        return ToolAnswer(result=APPROVE) if kind == "review" else None
    if kind == "approval" and said.startswith("{"):
        try:
            return ToolAnswer(result=APPROVE, arguments=json.loads(said))
        except ValueError:
            return None
    return ToolAnswer(result=said)


def chosen(text: str, choices: Sequence[str]) -> str | None:
    """Give the answer that a typed text means: a choice, or its number; None where it is no answer.

    Where there is nothing to choose from, any text is an answer that is not blank.
    """
    said = text.strip()
    if not choices:
        return said or None
    for choice in choices:
        if choice.casefold() == said.casefold():
            return choice
    if said.isdecimal() and 1 <= int(said) <= len(choices):
        return choices[int(said) - 1]
    return None


def ask_here(question: HumanQuestion) -> ToolAnswer | None:
    """Ask whoever sits at this kernel; None where somebody else has answered meanwhile.

    Where nobody can be asked (a program runs the notebook, or there is no terminal), the agent is told so.

    Raises
    ------
    KeyboardInterrupt
        The user has interrupted the kernel.
    """
    from kasal_jupyter.schemas.executions import ToolAnswer

    prompt = prompt_of(question)
    while True:
        try:
            text = _typed(prompt, question)
        except (EOFError, OSError, RuntimeError):
            # RuntimeError is what a frontend without input gives, and a process whose input was closed.
            return ToolAnswer(error=NOBODY)
        if text is None:
            print("That question is no longer open.")  # noqa: T201 - whoever was asked is told
            return None
        if (answer := answer_meant(text, question.choices, question.kind)) is not None:
            return answer
        prompt = "One of these, or its number: " if question.choices else "An answer, please: "


def _typed(prompt: str, question: HumanQuestion) -> str | None:
    """Wait for a line, or until the question is closed: None."""
    if threading.current_thread() is not threading.main_thread():
        return input(prompt)
    lock, over = threading.Lock(), threading.Event()

    def watch() -> None:
        while not question.closed.wait(_WATCH_SECONDS):
            if over.is_set():
                return
        with lock:
            if not over.is_set():
                _interrupt_main()

    threading.Thread(target=watch, name="kasal-question", daemon=True).start()
    try:
        text = input(prompt)
        # Held by the watching thread while it interrupts: the interrupt comes within this `try`, or never.
        with lock:
            over.set()
    except KeyboardInterrupt:
        if question.closed.is_set():
            return None
        raise
    finally:
        over.set()
    return text


def _interrupt_main() -> None:
    """Interrupt the main thread as the kernel's interrupt does, in whatever it waits for."""
    if hasattr(signal, "pthread_kill"):
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signal.SIGINT)
    else:
        _thread.interrupt_main()


def answer_open(
    client: Client, job_id: str, text: str, arguments: Mapping[str, Any] | None = None
) -> OpenQuestion:
    """Answer the question of a run that has been open for longest; give that question.

    Parameters
    ----------
    client
        The server.
    job_id
        The run.
    text
        What somebody has typed.
    arguments
        With an approval: what the call is made with.

    Raises
    ------
    CellError
        No question is open, or the text is none of the answers to choose from.
    KasalError
        The server refuses the answer: somebody else was quicker.
    """
    question = open_questions(client, job_id)[0]
    answer = answer_meant(text, question.choices, question.kind)
    if answer is None:
        which = ", ".join(question.choices)
        raise CellError(f"Answer one of these: {which}" if which else "An answer is needed")
    if arguments is not None:
        answer = answer.model_copy(update={"arguments": dict(arguments)})
    client.answer_tool(job_id, question.call_id, answer)
    return question


def open_questions(client: Client, job_id: str) -> list[OpenQuestion]:
    """Give the questions of a run that nobody has answered yet, the oldest first.

    Raises
    ------
    CellError
        There are none.
    """
    state = client.execution(job_id)
    if not state.questions:
        raise CellError(f"{job_id} is {state.status}, and waits for no answer")
    return state.questions
