"""What a model's answer says: its text without what it thought aloud, the object in it, and how it ended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from kasal_jupyter.hiding import beginning
from kasal_jupyter.worker.process.sizes import shortened

_TAG = re.compile(r"<(/?)(?:think|thinking)>|\[(/?)THINK\]", re.IGNORECASE | re.ASCII)
"""How models that think aloud mark it: those of DeepSeek, Qwen and their kin, and Mistral's Magistral."""

_TAGS = ("<think>", "</think>", "<thinking>", "</thinking>", "[think]", "[/think]")
_LONGEST_TAG = max(map(len, _TAGS))


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer, taken apart.

    Attributes
    ----------
    thought
        What the model thought before it spoke; empty where it did not say.
    said
        Its answer.
    """

    thought: str
    said: str


def spoken(text: str) -> Spoken:
    """Take what a model thought out of its answer.

    It stands between ``<think>`` and ``</think>``, anywhere. Where only the end is there, the beginning stood
    in the prompt, as templates of Qwen's and DeepSeek's have it; where only the beginning is there, and the
    answer begins with it, the model did not get further. A tag in backticks is spoken of, and marks nothing.
    """
    tags = [tag for tag in _TAG.finditer(text) if text[tag.start() - 1 : tag.start()] != "`"]
    if not tags:
        return Spoken("", text)
    thought: list[str] = []
    said: list[str] = []
    at = 0
    if _closes(tags[0]):
        thought.append(text[: tags[0].start()])
        at = tags.pop(0).end()
    place = 0
    while place < len(tags):
        begin = tags[place]
        if _closes(begin):
            place += 1
            continue
        end = _end_of(tags, place)
        if end is None:
            if not "".join([*said, text[at : begin.start()]]).strip():
                return Spoken(_joined([*thought, text[begin.end() :]]), "")
            break
        said.append(text[at : begin.start()])
        thought.append(text[begin.end() : tags[end].start()])
        at = tags[end].end()
        place = end + 1
    said.append(text[at:])
    return Spoken(_joined(thought), "".join(said).lstrip() if thought else text)


def _closes(tag: re.Match[str]) -> bool:
    return bool(tag[1] or tag[2])


def _end_of(tags: list[re.Match[str]], begin: int) -> int | None:
    """Give the tag that ends what one begins: of several within each other, the outermost."""
    depth, last = 0, None
    for place in range(begin, len(tags)):
        if not _closes(tags[place]):
            depth += 1
            continue
        depth -= 1
        last = place
        if depth == 0:
            return place
    return last


def _joined(parts: list[str]) -> str:
    return "\n\n".join(stripped for part in parts if (stripped := part.strip()))


class LiveSpeech:
    """An answer as it comes, without what the model thinks aloud.

    What may be the beginning of a tag is held back until more has come.

    Parameters
    ----------
    thinks
        Whether the answer begins within a thought, whose beginning stood in the prompt. Nothing is shown
        before its end then.
    """

    def __init__(self, *, thinks: bool = False) -> None:
        self._depth = int(thinks)
        self._thinks = thinks
        self._pieces: list[str] = []
        self._shown: list[str] = []
        self._held = ""
        self._before = ""
        self._tagged = False
        self.overheard = False
        """Whether a thought was shown: only its end was marked, and that came too late."""

    def add(self, piece: str) -> str:
        """Take in a piece; give what can be shown now."""
        self._pieces.append(piece)
        text = self._held + piece
        at = 0
        parts: list[str] = []
        for tag in _TAG.finditer(text):
            if (text[tag.start() - 1] if tag.start() else self._before) == "`":
                continue
            if not self._depth:
                parts.append(text[at : tag.start()])
            at = tag.end()
            if not _closes(tag):
                # The tag that the prompt had stands in the answer as well.
                self._depth += not (self._thinks and not self._tagged)
            elif self._depth:
                self._depth -= 1
            elif not self._tagged:
                self.overheard = True
                self._shown, parts = [], []
            self._tagged = True
        begins = _tag_begins(text, at)
        self._held = text[begins:]
        self._before = text[begins - 1 : begins] or self._before
        if not self._depth:
            parts.append(text[at:begins])
        return self._show("".join(parts))

    def rest(self) -> str:
        """Give what is still to be shown once the answer is whole."""
        said, shown = spoken("".join(self._pieces)).said, "".join(self._shown)
        return self._show(said[len(shown) :]) if said.startswith(shown) else ""

    def _show(self, text: str) -> str:
        if self._tagged and not self._shown:
            text = text.lstrip()
        if text:
            self._shown.append(text)
        return text


def _tag_begins(text: str, at: int) -> int:
    """Give where a tag begins that may go on behind a text's end; the end where there is none."""
    for start in range(max(at, len(text) - _LONGEST_TAG + 1), len(text)):
        end = text[start:].lower()
        if any(tag.startswith(end) for tag in _TAGS):
            return start
    return len(text)


# How a model's answer ended, in any provider's words, and what is to be said of it.

MOST_OF_A_REFUSAL = 400
"""Characters of the words in which a model refuses."""

Ending = Literal["stop", "calls", "length", "filter", "refusal"]

_ENDINGS: Mapping[str, Ending] = {
    **dict.fromkeys(("stop", "endturn", "stopsequence", "completed", "eos", "stopped"), "stop"),
    **dict.fromkeys(("toolcalls", "tooluse", "functioncall"), "calls"),
    **dict.fromkeys(
        (
            *("length", "maxtokens", "maxoutputtokens", "modelcontextwindowexceeded", "incomplete"),
            "tokenlimitreached",
        ),
        "length",
    ),
    **dict.fromkeys(
        (
            *("contentfilter", "contentfiltered", "guardrailintervened", "safety", "recitation", "blocklist"),
            *("prohibitedcontent", "spii", "imagesafety", "language"),
        ),
        "filter",
    ),
    "refusal": "refusal",
}
"""By the word in lower case, without what stands between its parts."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What CrewAI has no place for in a model's answer.

    Attributes
    ----------
    text
        What it says, also beside its tool calls.
    reasoning
        What it thought before, where the provider tells it apart.
    refusal
        In which words it refuses.
    streamed
        Whether it came in pieces, of which the last may be missing.
    """

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Empty:
    """Why an answer has no text.

    Attributes
    ----------
    message
        In words, without the model's name.
    helps
        Whether there may well be one when the model is asked again.
    """

    message: str
    helps: bool


def ending_of(reason: str | None) -> Ending | None:
    """Read a provider's word for why an answer ended; None where it has none, or another."""
    if reason is None:
        return None
    return _ENDINGS.get("".join(char for char in reason.rpartition(".")[2].lower() if char.isalpha()))


def emptiness(
    text: str, reason: str | None, heard: Heard, *, reasoned: int = 0, most: int | None = None
) -> Empty | None:
    """Say why an answer without tool calls has no text; None where it has one.

    Parameters
    ----------
    text
        The answer.
    reason
        Why it ended, in the provider's word.
    heard
        What else there is of it.
    reasoned
        How many tokens went into reasoning, as far as the provider counts them.
    most
        The agent's ``max_tokens``.
    """
    if text.strip():
        return None
    ending = ending_of(reason)
    thought = bool(heard.reasoning.strip()) or reasoned > 0
    word = f" ({reason})" if reason else ""
    if heard.refusal.strip():
        return Empty(f"the model refuses: {beginning(heard.refusal, MOST_OF_A_REFUSAL)}", helps=False)
    if ending == "refusal":
        return Empty(f"the model refuses to answer, and says no more{word}.", helps=False)
    if ending == "filter":
        return Empty(f"the answer is empty: the provider's content filter held it back{word}.", helps=False)
    if ending == "length":
        limit = f"all of max_tokens ({most:,})" if most else "all the tokens that an answer may have"
        if thought:
            return Empty(f"the answer is empty: {limit} went into reasoning{word}.", helps=False)
        return Empty(f"the answer is empty: it was cut off before its first word{word}.", helps=False)
    if text:
        return Empty(f"the answer is nothing but blanks{word}.", helps=True)
    if thought:
        return Empty(f"the answer is empty: there is reasoning, and no text behind it{word}.", helps=True)
    if reason is None and heard.streamed:
        return Empty("the answer is empty: the stream ended without a word and without a finish.", helps=True)
    return Empty(f"the answer is empty{word}.", helps=True)


def remark_on(reason: str | None, heard: Heard, *, most: int | None = None) -> str | None:
    """Say what is wrong with an answer that has a text or tool calls; None where it is whole."""
    ending = ending_of(reason)
    if ending == "length":
        limit = f"max_tokens ({most:,})" if most else "the length that an answer may have"
        return f"The answer is cut off: it reached {limit}."
    if ending == "filter":
        return f"The answer is not whole: the provider's content filter cut in ({reason})."
    if ending == "refusal":
        return "The answer is not whole: the model broke off, and refuses to go on."
    if heard.refusal.strip():
        return f"The model also refuses: {beginning(heard.refusal, MOST_OF_A_REFUSAL)}"
    if reason is None and heard.streamed:
        return "The stream ended without a finish, so the answer may not be whole."
    return None


# The object that a model is to answer with: asked for in words, and taken out of what it says.

M = TypeVar("M", bound=BaseModel)

MOST_STARTS = 64
"""Braces of an answer at which an object is looked for: each look may read on to the answer's end."""

MOST_REASON = 300
"""Characters of why an answer is not the object that was asked for, as the model is told."""

MOST_REPEATED = 8_000
"""Characters of an answer that it is shown again."""

_ASK = """\
Answer with one JSON object and nothing else: no other words, no code fence. It must fit this JSON schema:
{schema}"""

_AGAIN = (
    "That answer cannot be used: {why}. Answer once more, with the one JSON object that was asked for and "
    "nothing else."
)

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*", re.MULTILINE)

_DECODER = json.JSONDecoder(strict=False)


def in_words(messages: str | list[Any], form: type[BaseModel]) -> str | list[Any]:
    """Give messages that ask for an object in words, in the last one of the user's."""
    schema = json.dumps(form.model_json_schema(), ensure_ascii=False)
    return _with_user(messages, _ASK.format(schema=schema))


def not_the_object(messages: str | list[Any], answer: str, why: str) -> list[Any]:
    """Give messages that say why an answer is not the object that was asked for."""
    begun = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    said = {"role": "assistant", "content": shortened(answer, MOST_REPEATED) or "…"}
    return [*begun, said, {"role": "user", "content": _AGAIN.format(why=why)}]


def _with_user(messages: str | list[Any], text: str) -> str | list[Any]:
    # Some servers refuse two messages of one role in a row.
    if isinstance(messages, str):
        return f"{messages}\n\n{text}"
    *before, last = messages
    if last.get("role") == "user" and isinstance(last.get("content"), str):
        return [*before, {**last, "content": f"{last['content']}\n\n{text}"}]
    return [*messages, {"role": "user", "content": text}]


class NotTheObject(ValueError):
    """An answer is not the object that was asked for; the text says why."""


def read_object(text: str, form: type[M]) -> M:
    """Take the object out of an answer that may have a fence or prose around it.

    Raises
    ------
    NotTheObject
        None of those in it is such an object; says what is wrong with the one that comes nearest.
    """
    reason = "there is no JSON object in it"
    fewest = None
    for found in _objects(text):
        try:
            return form.model_validate(found)
        except ValidationError as error:
            if fewest is None or error.error_count() < fewest:
                fewest, reason = error.error_count(), _reason(error)
        except RecursionError:
            continue
    raise NotTheObject(reason)


def _objects(text: str) -> Iterator[Any]:
    """Give the JSON objects in a text: all of it, what stands in fences, and what begins with a brace."""
    for whole in (text, *_fenced(text)):
        try:
            found = _DECODER.decode(whole.strip())
        except (ValueError, RecursionError):
            continue
        if isinstance(found, str):  # Encoded twice.
            found = _decoded(found)
        if isinstance(found, list) and len(found) == 1:
            (found,) = found
        if isinstance(found, dict):
            yield found
    at = 0
    for _ in range(MOST_STARTS):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            found, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        yield found


def _decoded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _fenced(text: str) -> Iterator[str]:
    marks = list(_FENCE.finditer(text))
    for opening, closing in zip(marks[::2], marks[1::2], strict=False):
        yield text[opening.end() : closing.start()]


def _reason(error: ValidationError) -> str:
    faults = (
        f"{'.'.join(map(str, fault['loc'])) or 'the object'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)[:5]
    )
    return "; ".join(faults)[:MOST_REASON]
