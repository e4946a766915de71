"""How a model's answer ended, in any provider's words, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kasal_jupyter.hiding import beginning

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
