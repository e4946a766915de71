"""Buttons under a run's view, for what it asks people while the notebook goes on.

They are a widget in the place of the view, with the view in it: an output shows one thing. Where nobody
shows widgets, and in the saved notebook, the view stands there and says how to answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets

from kasal_jupyter.errors import KasalError
from kasal_jupyter.kernel.views.clean import clean, one_line
from kasal_jupyter.schemas.executions import OpenQuestion, ToolAnswer
from kasal_jupyter.schemas.people import APPROVE, REJECT

Answering = Callable[[str, ToolAnswer], None]

_WIDGET = "application/vnd.jupyter.widget-view+json"
_STYLES = {APPROVE: "success", REJECT: "danger"}


class QuestionButtons:
    """What a run asks, with a row of buttons for each question.

    Parameters
    ----------
    answering
        Sends an answer; it is called where the buttons are clicked, on the kernel's main thread.
    """

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._view = widgets.HTML()
        self._rows: dict[str, _Row] = {}
        self._box = widgets.VBox([self._view])

    def show(self, questions: Sequence[OpenQuestion], html: str) -> dict[str, Any] | None:
        """Show what is asked, under the view.

        Returns
        -------
        dict or None
            What the output has to show for that; None where it shows it already: drawn again, it would lose
            what is being typed.
        """
        self._view.value = html
        if self._rows and list(self._rows) == [each.call_id for each in questions]:
            return None
        begun = bool(self._rows)
        rows = {
            each.call_id: self._rows.get(each.call_id) or _Row(each, self._answering) for each in questions
        }
        for call_id in self._rows.keys() - rows.keys():
            self._rows[call_id].box.close()
        self._rows = rows
        self._box.children = [self._view, *(row.box for row in rows.values())]
        if begun:
            return None
        return {_WIDGET: {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}}

    def close(self) -> None:
        """Take them away: nothing is asked any more."""
        for row in self._rows.values():
            row.box.close()
        self._box.close()
        self._view.close()


class _Row:
    """One question's buttons."""

    def __init__(self, question: OpenQuestion, answering: Answering) -> None:
        self._question = question
        self._answering = answering
        self._said = widgets.Label("")
        self._arguments: widgets.Textarea | None = None
        parts: list[widgets.Widget] = []
        if question.output is not None:
            parts.append(_data(question.output))
        if question.arguments is not None:
            written = json.dumps(question.arguments, indent=2, ensure_ascii=False, default=str)
            self._arguments = widgets.Textarea(
                written, description=one_line(question.tool or "", 40), layout=_wide("6em")
            )
            parts.append(self._arguments)
        self._buttons = [self._button(choice, choice) for choice in question.choices]
        line: list[widgets.Widget] = list(self._buttons)
        if question.kind != "question" or not question.choices:
            hint = {"review": "or what is to be different", "approval": "or why not"}
            self._text = widgets.Text(placeholder=hint.get(question.kind, "the answer"))
            send = self._button("Send", None)
            self._buttons.append(send)
            line += [self._text, send]
        parts += [widgets.HBox(line, layout=widgets.Layout(flex_flow="row wrap")), self._said]
        self.box = widgets.VBox(parts)

    def _button(self, name: str, choice: str | None) -> widgets.Button:
        button = widgets.Button(
            description=one_line(name, 60),
            button_style=_STYLES.get(name, ""),
            tooltip=one_line(f"{self._question.question} {name}", 200),
        )
        button.on_click(partial(self._clicked, choice))
        return button

    def _clicked(self, choice: str | None, _button: widgets.Button) -> None:
        text = self._text.value if choice is None else choice
        if not text.strip():
            self._said.value = "An answer, please"
            return
        try:
            self._answering(self._question.call_id, self._answer(text))
        except ValueError as error:
            self._said.value = f"The arguments are no JSON object: {error}"
        except KasalError as error:
            self._said.value = one_line(error.message, 200)
        else:
            self._said.value = f"Answered: {one_line(text, 200)}"
            for each in self._buttons:
                each.disabled = True

    def _answer(self, text: str) -> ToolAnswer:
        if text != APPROVE or self._arguments is None:
            return ToolAnswer(result=text)
        arguments = json.loads(self._arguments.value)
        if not isinstance(arguments, dict):
            raise ValueError("it is another value")  # noqa: TRY004 - as JSON that is none
        if arguments == self._question.arguments:
            return ToolAnswer(result=text)
        return ToolAnswer(result=text, arguments=arguments)


def _wide(height: str) -> widgets.Layout:
    return widgets.Layout(width="100%", max_width="1080px", height=height)


def _data(text: str) -> widgets.Widget:
    """Show what a model has said, which is data: in a field, where nothing of it is markup."""
    return widgets.Textarea(clean(text), disabled=True, layout=_wide("9em"))
