"""What a model says, put together from the pieces in which it came.

OpenAI's description of its API is one thing; what the servers that speak it send is another. Each rule here
is for one that was seen to send it so. The readers of other APIs stand with their providers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from kasal_jupyter.events.event import TokenUsage
from kasal_jupyter.schemas.usage import is_count
from kasal_jupyter.wellformed import well_formed
from kasal_jupyter.worker.models.chat_body import NotAnAnswer, objects
from kasal_jupyter.worker.models.chat_calls import AskedCall, Calls

FORM_TOOL = "structured_output"
"""What the tool is called that a model gives an object with, where there is no other way to ask for one."""

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
        The tokens as the server counts them, under CrewAI's names.
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

    def as_form(self) -> Self:
        """Give the answer where an object was asked for, which :data:`FORM_TOOL` was called with."""
        for call in self.calls:
            if call.name == FORM_TOOL:
                return replace(self, text=call.written, calls=[])
        return self


class AnswerReader(ABC):
    """Reads one answer.

    Parameters
    ----------
    offered
        The schemas of the arguments of the tools that were offered, by their names.
    number
        How many messages the conversation had: where a server gives calls no ids, they are called by it.
    """

    mark: ClassVar[str]
    """What every whole answer of this API has."""

    def __init__(self, offered: Mapping[str, Mapping[str, Any]], number: int) -> None:
        self._calls = Calls(offered, number)
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
            raise NotAnAnswer(f"it has no {self.mark} in it, so it describes no model's answer")

    @abstractmethod
    def take(self, body: Mapping[str, Any]) -> str:
        """Take in a piece of an answer, or the whole; give what it adds to the text."""

    def counts(self) -> dict[str, Any]:
        """Give the tokens that were counted, under CrewAI's names, whatever stands there."""
        return self._usage

    def answer(self) -> ChatAnswer:
        """Give the answer, once its pieces were read."""
        return ChatAnswer(
            self._text.whole(),
            self._reasoning.whole(),
            self._refusal.whole(),
            self._calls.asked(),
            self._finish,
            self.counts(),
            self._id,
            self._streamed,
        )


class ChatReader(AnswerReader):
    """Reads an answer of OpenAI's chat completions.

    Parameters
    ----------
    tools
        The tools that were offered, as the request has them.
    number
        See :class:`AnswerReader`.
    """

    mark = "choices"

    def __init__(self, tools: Iterable[Mapping[str, Any]], number: int) -> None:
        functions = [tool.get("function", {}) for tool in tools]
        super().__init__({each["name"]: each.get("parameters") or {} for each in functions}, number)

    def take(self, body: Mapping[str, Any]) -> str:
        """Take in a piece of an answer, or the whole; give what it adds to the text."""
        self._id = self._id or word(body.get("id"))
        # Alone at the end, in every chunk, or with the last piece: what was counted last counts all.
        grok = body.get("x_groq")
        self._count(body.get("usage"), grok.get("usage") if isinstance(grok, dict) else None)
        choices = body.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return ""
        self._found = True
        self._count(choice.get("usage"))
        self._finish = word(choice.get("finish_reason")) or self._finish
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

    def counts(self) -> dict[str, Any]:
        """Give the tokens that were counted."""
        return openai_counts(self._usage)

    def _count(self, *usages: Any) -> None:
        for usage in usages:
            if isinstance(usage, dict) and usage:
                self._usage = usage


class ResponseReader(AnswerReader):
    """Reads an answer of OpenAI's Responses API.

    Parameters
    ----------
    tools
        The tools that were offered, as the request has them.
    number
        See :class:`AnswerReader`.
    """

    mark = "output"

    def __init__(self, tools: Iterable[Mapping[str, Any]], number: int) -> None:
        offered = {each["name"]: each.get("parameters") or {} for each in tools if "name" in each}
        super().__init__(offered, number)
        self._asked: set[str] = set()

    def take(self, body: Mapping[str, Any]) -> str:
        """Take in an event of a stream, or the whole; give what it adds to the text."""
        kind = str(body.get("type") or "")
        delta = body.get("delta")
        if isinstance(response := body.get("response"), dict):
            return self._response(response)
        if isinstance(body.get("output"), list):
            return self._response(body)
        if kind == "response.output_item.done":
            self._call(body.get("item"))
        elif isinstance(delta, str):
            if kind == "response.output_text.delta":
                return self._text.add(delta)
            if kind in {"response.reasoning_text.delta", "response.reasoning_summary_text.delta"}:
                self._reasoning.add(delta)
            elif kind == "response.refusal.delta":
                self._refusal.add(delta)
        return ""

    def counts(self) -> dict[str, Any]:
        """Give the tokens that were counted."""
        return responses_counts(self._usage)

    def _response(self, response: Mapping[str, Any]) -> str:
        """Take in a response as far as it is there; what a stream has said already is not taken twice."""
        self._id = word(response.get("id")) or self._id
        if isinstance(usage := response.get("usage"), dict):
            self._usage = usage
        if error := response.get("error"):
            inner = error if isinstance(error, dict) else {"message": error}
            said = word(inner.get("message")) or "the response has failed"
            raise NotAnAnswer(said, {"error": inner}, begun=self._streamed)
        output = response.get("output")
        status = word(response.get("status"))
        if not isinstance(output, list) or status in {"in_progress", "queued"}:
            return ""
        self._found = True
        details = response.get("incomplete_details")
        self._finish = word(details.get("reason")) if isinstance(details, dict) else None
        self._finish = self._finish or status
        before = (self._text.whole(), self._reasoning.whole(), self._refusal.whole())
        added = ""
        for item in output:
            if not isinstance(item, dict):
                continue
            self._call(item)
            parts = _parts(item.get("content")) if item.get("type") in {"message", "reasoning"} else _Parts()
            if item.get("type") == "reasoning":
                self._reasoning.add("" if before[1] else parts.text or _parts(item.get("summary")).text)
                continue
            if not before[2]:
                self._refusal.add(parts.refusal)
            if not before[0]:
                added += self._text.add(parts.text)
        return added

    def _call(self, item: Any) -> None:
        if not isinstance(item, dict) or item.get("type") != "function_call":
            return
        call_id = str(item.get("call_id") or item.get("id") or "")
        if call_id in self._asked:
            return
        self._asked.add(call_id)
        self._calls.take([{"id": call_id, "index": len(self._asked), "function": item}])


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


def word(value: Any) -> str | None:
    """Give a server's word for something; None where it has none."""
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


# The tokens of a call as its provider counts them, in one form.
#
# A provider may say anything: nothing, words, less than nothing, more than there can be. What is no count is
# unknown; the answer that it came with is as good as any other.

# OpenAI's and Azure's names, Gemini's, Anthropic's, whose cached tokens CrewAI has added to the prompt's.
_PROMPT = ("prompt_tokens", "prompt_token_count", "input_tokens")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_COMPLETION = ("completion_tokens", "candidates_token_count", "output_tokens")


def token_usage(counted: object) -> TokenUsage | None:
    """Read what CrewAI passes on of a provider's counts; None where the provider counts nothing, or nonsense.

    CrewAI reports a provider that counts nothing as a total of zero, or as zeros. No prompt has no tokens.
    """
    if not isinstance(counted, Mapping) or not counted:
        return None
    if "inputTokens" in counted:
        return _bedrock(counted)
    prompt, completion = _first(counted, _PROMPT), _first(counted, _COMPLETION)
    if prompt is None or completion is None or not (prompt or completion):
        return None
    return _usage(
        prompt,
        completion,
        cached=_first(counted, ("cached_prompt_tokens",)),
        written=_first(counted, ("cache_creation_tokens",)),
        reasoning=_first(counted, ("reasoning_tokens",)),
        total=_first(counted, ("total_tokens",)),
    )


def openai_counts(counted: Mapping[str, Any]) -> dict[str, Any]:
    """Give the counts of an OpenAI-compatible server under CrewAI's names, whatever stands there."""
    return {name: counted.get(name) for name in _COUNTS} | _details(counted, "prompt", "completion")


def responses_counts(counted: Mapping[str, Any]) -> dict[str, Any]:
    """Give the counts of OpenAI's Responses API under CrewAI's names."""
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
    whole = {ours: counted.get(theirs) for ours, theirs in names.items()}
    return whole | {"total_tokens": counted.get("total_tokens")} | _details(counted, "input", "output")


def anthropic_counts(counted: Mapping[str, Any]) -> dict[str, Any]:
    """Give Anthropic's counts under CrewAI's names; its prompt tokens are without those of the cache."""
    cached, written = counted.get("cache_read_input_tokens"), counted.get("cache_creation_input_tokens")
    parts = [part for part in (counted.get("input_tokens"), cached, written) if part]
    prompt = sum(parts) if all(is_count(part) for part in parts) else parts
    return {
        "input_tokens": prompt,
        "output_tokens": counted.get("output_tokens"),
        "cached_prompt_tokens": cached,
        "cache_creation_tokens": written,
    }


def _details(counted: Mapping[str, Any], prompt: str, completion: str) -> dict[str, Any]:
    """Give what OpenAI's servers tell apart within the prompt and the answer."""
    details = {
        "cached_prompt_tokens": (f"{prompt}_tokens_details", "cached_tokens"),
        "reasoning_tokens": (f"{completion}_tokens_details", "reasoning_tokens"),
    }
    return {
        name: part.get(field)
        for name, (details_name, field) in details.items()
        if isinstance(part := counted.get(details_name), Mapping)
    }


def _bedrock(counted: Mapping[str, Any]) -> TokenUsage | None:
    """Read Bedrock's counts, whose prompt tokens are without those that a cache gave or was given."""
    cached = _first(counted, ("cacheReadInputTokens", "cacheReadInputTokenCount"))
    written = _first(counted, ("cacheWriteInputTokens", "cacheWriteInputTokenCount"))
    prompt, completion = _first(counted, ("inputTokens",)), _first(counted, ("outputTokens",))
    if prompt is None or completion is None or cached is None or written is None:
        return None
    prompt += cached + written
    return _usage(prompt, completion, cached=cached, written=written) if prompt or completion else None


def _usage(
    prompt: int,
    completion: int,
    *,
    cached: int | None = 0,
    written: int | None = 0,
    reasoning: int | None = 0,
    total: int | None = 0,
) -> TokenUsage:
    usage = TokenUsage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=total or prompt + completion
    )
    if cached:
        usage["cached_tokens"] = cached
    if written:
        usage["cache_write_tokens"] = written
    if reasoning:
        usage["reasoning_tokens"] = reasoning
    return usage


def _first(counted: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """Give the first count that is there, 0 where there is none; None where it is no count."""
    value = next((value for name in names if (value := counted.get(name))), 0)
    return value if is_count(value) else None
