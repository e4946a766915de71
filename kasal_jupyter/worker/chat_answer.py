"""What an OpenAI-compatible model says, put together from the pieces in which it came.

OpenAI's description of its API is one thing; what the servers that speak it send is another. Each rule here
is for one that was seen to send it so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.wellformed import well_formed
from kasal_jupyter.worker.chat_body import NotAnAnswer, objects
from kasal_jupyter.worker.chat_calls import AskedCall, Calls

_REASONING = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
"""Where DeepSeek, vLLM and llama-server have it; OpenRouter, Groq and Ollama; others. Some say it twice."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A model's answer.

    Attributes
    ----------
    text
        What it says.
    reasoning
        What it has thought before, where the server tells it apart.
    refusal
        In which words it refuses.
    calls
        The tools that it wants called.
    finish_reason
        Why it ended, in the server's word.
    usage
        The tokens as the server counts them.
    id
        The server's id of it.
    streamed
        Whether it came in pieces.
    """

    text: str
    reasoning: str
    refusal: str
    calls: list[AskedCall]
    finish_reason: str | None
    usage: dict[str, Any]
    id: str | None
    streamed: bool


class ChatReader:
    """Reads one answer.

    Parameters
    ----------
    tools
        The tools that were offered, as the request has them.
    number
        How many messages the conversation had: where a server gives calls no ids, they are called by it.
    """

    def __init__(self, tools: Iterable[Mapping[str, Any]], number: int) -> None:
        functions = [tool.get("function", {}) for tool in tools]
        self._calls = Calls({each["name"]: each.get("parameters") or {} for each in functions}, number)
        self._text, self._reasoning, self._refusal = _Text(), _Text(), _Text()
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}
        self._id: str | None = None
        self._streamed = False
        self._found = False

    def pieces(self, chunks: Iterable[bytes]) -> Iterable[str]:
        """Read a body; give what each of its pieces adds to the text, if only nothing.

        Raises
        ------
        NotAnAnswer
            The body is no model's answer.
        """
        for body, self._streamed in objects(chunks):
            yield self.take(body)
        if not self._found and not self._streamed:
            raise NotAnAnswer("it has no choices in it, so it describes no model's answer")

    def answer(self) -> ChatAnswer:
        """Give the answer, once its pieces were read."""
        return ChatAnswer(
            self._text.whole(),
            self._reasoning.whole(),
            self._refusal.whole(),
            self._calls.asked(),
            self._finish,
            self._usage,
            self._id,
            self._streamed,
        )

    def take(self, body: Mapping[str, Any], *, streamed: bool | None = None) -> str:
        """Take in a piece of an answer, or the whole; give what it adds to the text."""
        if streamed is not None:
            self._streamed = streamed
        self._id = self._id or _word(body.get("id"))
        # Alone at the end, in every chunk, or with the last piece: what was counted last counts all.
        grok = body.get("x_groq")
        self._count(body.get("usage"), grok.get("usage") if isinstance(grok, dict) else None)
        choices = body.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return ""
        self._found = True
        self._count(choice.get("usage"))
        self._finish = _word(choice.get("finish_reason")) or self._finish
        said = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
        if not isinstance(said, dict):
            return ""
        thought = next((found for name in _REASONING if (found := said.get(name))), None)
        self._reasoning.add(_parts(thought).text)
        parts = _parts(said.get("content"))
        self._reasoning.add(parts.reasoning)
        self._refusal.add(parts.refusal + _parts(said.get("refusal")).text)
        self._calls.take(said.get("tool_calls") or said.get("function_call"))
        return self._text.add(parts.text)

    def _count(self, *usages: Any) -> None:
        for usage in usages:
            if isinstance(usage, dict) and usage:
                self._usage = usage


@dataclass(frozen=True, slots=True)
class _Parts:
    text: str = ""
    reasoning: str = ""
    refusal: str = ""


def _parts(content: Any) -> _Parts:
    """Read a content: a text, or a list of parts, of which some are thoughts or a refusal."""
    if isinstance(content, str):
        return _Parts(content)
    texts, thoughts, refusals = list[str](), list[str](), list[str]()
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            thought = part.get("thinking") or part.get("reasoning")
            if thought or part.get("type") in {"thinking", "reasoning"}:
                thoughts.append(_words(thought or part.get("text") or part.get("summary")))
            else:
                texts.append(_words(part.get("text")))
                refusals.append(_words(part.get("refusal")))
    return _Parts("".join(texts), "".join(thoughts), "".join(refusals))


def _words(value: Any) -> str:
    """Give the text of a part, which may be a list of parts in turn."""
    for _ in range(3):
        if isinstance(value, list):
            value = "".join(each if isinstance(each, str) else _words_of(each) for each in value)
        elif isinstance(value, dict):
            value = value.get("value") or value.get("text")
    return value if isinstance(value, str) else ""


def _words_of(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def _word(value: Any) -> str | None:
    return None if value is None or value == "" else well_formed(str(value))


@dataclass(slots=True)
class _Text:
    """A text that comes in pieces, which may end in the middle of a character."""

    _pieces: list[str] = field(default_factory=list)
    _half: str = ""

    def add(self, piece: str) -> str:
        if not piece:
            return ""
        piece, self._half = self._half + piece, ""
        if "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        piece = well_formed(piece)
        self._pieces.append(piece)
        return piece

    def whole(self) -> str:
        return "".join(self._pieces) + ("\ufffd" if self._half else "")
