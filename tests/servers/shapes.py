"""What OpenAI-compatible servers send besides what OpenAI describes: each by its name, whole and streamed.

Tests parametrise over the tables. A shape is a body to send, and what is to be understood of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
TEXT = "It is five."


@dataclass(frozen=True)
class Shape:
    """An answer of a server.

    Attributes
    ----------
    whole
        The body where no stream is asked for; what is no text is sent as JSON.
    pieces
        The events of a stream; what is no text is sent as JSON. None: whoever streams is sent the whole, too.
    done
        Whether a stream says that it is done.
    status, kind
        The status, and the type of the content where it is neither JSON nor a stream.
    """

    whole: Any
    pieces: list[Any] | None = None
    done: bool = True
    status: int = 200
    kind: str | None = None

    def body(self, *, stream: bool) -> tuple[bytes, str]:
        """Give the bytes to send, and the type of their content."""
        if not stream or self.pieces is None:
            return _encoded(self.whole), self.kind or "application/json"
        events = [b"data: " + _encoded(piece) for piece in self.pieces]
        events += [b"data: [DONE]"] if self.done else []
        return b"\n\n".join([*events, b""]), self.kind or "text/event-stream"


def _encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()


def whole(finish: Any = "stop", usage: Any = USAGE, **message: Any) -> dict[str, Any]:
    """Give a whole answer."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": None, **message},
                "finish_reason": finish,
            }
        ],
        **({} if usage is ... else {"usage": usage}),
    }


def piece(finish: Any = None, usage: Any = ..., **delta: Any) -> dict[str, Any]:
    """Give a piece of a stream."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **({} if usage is ... else {"usage": usage}),
    }


def counted(usage: Any = USAGE) -> dict[str, Any]:
    """Give a piece that only counts tokens."""
    return {**piece(), "choices": [], "usage": usage}


def _growing(at: int) -> dict[str, int]:
    return {"prompt_tokens": 20, "completion_tokens": at, "total_tokens": 20 + at}


# -- usage beside content ------------------------------------------------------------------------------------

_WORDS = ("It ", "is ", "five.")

USAGES: Mapping[str, tuple[Shape, dict[str, int] | None]] = {
    "in every piece": (
        Shape(
            whole(content=TEXT),
            [
                *(piece(content=word, usage=_growing(at)) for at, word in enumerate(_WORDS, 2)),
                piece("stop", usage=_growing(5)),
            ],
        ),
        USAGE,
    ),
    "in the last with text": (
        Shape(
            whole(content=TEXT),
            [piece(content="It "), piece(content="is "), piece("stop", content="five.", usage=USAGE)],
        ),
        USAGE,
    ),
    "alone at the end": (
        Shape(whole(content=TEXT), [*(piece(content=word) for word in _WORDS), piece("stop"), counted()]),
        USAGE,
    ),
    "with the finish": (
        Shape(whole(content=TEXT), [*(piece(content=word) for word in _WORDS), piece("stop", usage=USAGE)]),
        USAGE,
    ),
    "in the choice": (
        Shape(
            whole(content=TEXT),
            [
                *(piece(content=word) for word in _WORDS),
                {**piece(), "choices": [{"delta": {}, "finish_reason": "stop", "usage": USAGE}]},
            ],
        ),
        USAGE,
    ),
    "null": (
        Shape(
            whole(content=TEXT, usage=None),
            [*(piece(content=word, usage=None) for word in _WORDS), piece("stop", usage=None)],
        ),
        None,
    ),
    "absent": (
        Shape(whole(content=TEXT, usage=...), [*(piece(content=word) for word in _WORDS), piece("stop")]),
        None,
    ),
    "null behind a count": (
        Shape(
            whole(content=TEXT),
            [*(piece(content=word, usage=USAGE) for word in _WORDS), piece("stop", usage=None)],
        ),
        USAGE,
    ),
}
"""Where the tokens are counted, and what is counted; the text is always :data:`TEXT`."""


# -- the ways a text comes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What is understood of an answer."""

    text: str = TEXT
    reasoning: str | None = None
    remark: str | None = None


TEXTS: Mapping[str, tuple[Shape, Told]] = {
    "a list of parts": (
        Shape(
            whole(content=[{"type": "text", "text": "It is "}, {"type": "text", "text": "five."}]),
            [piece(content=[{"type": "text", "text": word}]) for word in _WORDS] + [piece("stop")],
        ),
        Told(),
    ),
    "a thought and a text as parts": (
        Shape(
            whole(
                content=[
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                    {"type": "text", "text": TEXT},
                ]
            ),
            [
                piece(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]),
                piece("stop", content=[{"type": "text", "text": TEXT}]),
            ],
        ),
        Told(reasoning="Hm."),
    ),
    **{
        f"reasoning in {name}": (
            Shape(
                whole(content=TEXT, **{name: "Two and three."}),
                [piece(**{name: "Two "}), piece(**{name: "and three."}), piece("stop", content=TEXT)],
            ),
            Told(reasoning="Two and three."),
        )
        for name in ("reasoning_content", "reasoning")
    },
    "reasoning said twice": (
        Shape(
            whole(content=TEXT, reasoning="Hm.", reasoning_content="Hm."),
            [piece(reasoning="Hm.", reasoning_content="Hm."), piece("stop", content=TEXT)],
        ),
        Told(reasoning="Hm."),
    ),
    "half a character in each piece": (
        Shape(whole(content="It is 😀."), [piece(content="It is \ud83d"), piece("stop", content="\ude00.")]),
        Told("It is 😀."),
    ),
    "half a character": (
        Shape(whole(content="It is \ud83d."), [piece(content="It is \ud83d."), piece("stop")]),
        Told("It is \ufffd."),
    ),
    "the whole where a stream was asked for": (Shape(whole(content=TEXT)), Told()),
    "a stream that was not asked for": (
        Shape(
            b"".join(
                b"data: " + _encoded(each) + b"\r\n\r\n" for each in (piece("stop", content=TEXT), counted())
            ),
            [piece("stop", content=TEXT), counted()],
        ),
        Told(),
    ),
    "a stream with comments and names": (
        Shape(
            b": hello\n\nevent: message\nid: 1\ndata: " + _encoded(piece("stop", content=TEXT)) + b"\n\n",
            [piece("stop", content=TEXT)],
            kind="text/event-stream",
        ),
        Told(),
    ),
    "no chunk of OpenAI's": (
        Shape(
            {"choices": [{"message": {"content": TEXT}}]},
            [{"choices": [{"delta": {"content": TEXT}}]}],
            done=False,
        ),
        Told(remark="The stream ended without a finish"),
    ),
    "cut off by its length": (
        Shape(whole("length", content=TEXT), [piece(content=TEXT), piece("length")]),
        Told(remark="The answer is cut off: it reached the length"),
    ),
    "held back by a filter": (
        Shape(whole("content_filter", content=TEXT), [piece(content=TEXT), piece("content_filter")]),
        Told(remark="the provider's content filter cut in (content_filter)"),
    ),
    "without a finish": (
        Shape(whole(None, content=TEXT), [piece(content=TEXT)], done=False),
        Told(remark="The stream ended without a finish"),
    ),
    "with a refusal beside it": (
        Shape(
            whole(content=TEXT, refusal="Not the rest."),
            [piece(content=TEXT), piece(refusal="Not "), piece("stop", refusal="the rest.")],
        ),
        Told(remark="The model also refuses: Not the rest."),
    ),
}
"""Answers that have a text. Of those that say nothing of their end, only a stream may be incomplete."""


# -- no text ------------------------------------------------------------------------------------------


def _both(finish: Any, **said: Any) -> Shape:
    return Shape(whole(finish, **said), [piece(**said), piece(finish), counted()])


EMPTY: Mapping[str, tuple[Shape, str, int]] = {
    "stop": (_both("stop", content=""), "the answer is empty (stop).", 2),
    "null": (_both("stop", content=None), "the answer is empty (stop).", 2),
    "blanks": (_both("stop", content=" \n\t "), "the answer is nothing but blanks (stop).", 2),
    "length": (
        _both("length", content=""),
        "the answer is empty: it was cut off before its first word (length).",
        1,
    ),
    "length, all reasoning": (
        _both("length", content="", reasoning_content="Let me think"),
        "the answer is empty: all of max_tokens (77) went into reasoning (length).",
        1,
    ),
    "reasoning only": (
        _both("stop", content="", reasoning="Let me think"),
        "the answer is empty: there is reasoning, and no text behind it (stop).",
        2,
    ),
    "length, all thought aloud": (
        _both("length", content="<think>Let me think</think>"),
        "the answer is empty: all of max_tokens (77) went into reasoning (length).",
        1,
    ),
    "filter": (
        _both("content_filter", content=""),
        "the answer is empty: the provider's content filter held it back (content_filter).",
        1,
    ),
    "refusal": (
        _both("stop", refusal="I can't help with sums."),
        "the model refuses: I can't help with sums.",
        1,
    ),
}
"""Answers without a text; why, in words, and how often they are asked for. ``max_tokens`` is 77."""


# -- tool calls ------------------------------------------------------------------------------------------


def called(name: str, arguments: Any, call_id: Any = ..., index: Any = ...) -> dict[str, Any]:
    """Give a tool call, or a piece of one."""
    given = {"id": call_id, "index": index}
    return {
        **{key: value for key, value in given.items() if value is not ...},
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


ONE, TWO = '{"expression": "1 + 1"}', '{"expression": "2 + 2"}'


def _calls(*lists: list[dict[str, Any]], together: list[dict[str, Any]] | None = None, **more: Any) -> Shape:
    """Give calls, streamed in these lists."""
    said = together or [call for calls in lists for call in calls]
    return Shape(
        whole("tool_calls", tool_calls=said, **more),
        [*(piece(tool_calls=calls) for calls in lists), piece("tool_calls"), counted()],
    )


_WHOLE_TWO = [called("calculator", ONE, "a"), called("calculator", TWO, "b")]

PARALLEL: Mapping[str, Shape] = {
    "an index each": _calls([called("calculator", ONE, "a", 0), called("calculator", TWO, "b", 1)]),
    "one index": _calls([called("calculator", ONE, "a", 0)], [called("calculator", TWO, "b", 0)]),
    "one index, in one list": _calls([called("calculator", ONE, "a", 0), called("calculator", TWO, "b", 0)]),
    "no index": _calls([called("calculator", ONE, "a")], [called("calculator", TWO, "b")]),
    "no index, in one list": _calls([called("calculator", ONE, "a"), called("calculator", TWO, "b")]),
    "no ids": _calls([called("calculator", ONE, index=0)], [called("calculator", TWO, index=1)]),
    "no ids and no index": _calls([called("calculator", ONE)], [called("calculator", TWO)]),
    "no ids and no index, in one list": _calls([called("calculator", ONE), called("calculator", TWO)]),
    "null for both": _calls([called("calculator", ONE, None, None)], [called("calculator", TWO, None, None)]),
    "one id": _calls([called("calculator", ONE, "a")], [called("calculator", TWO, "a")]),
    "in pieces": _calls(
        [called("calculator", "", "a", 0)],
        [{"index": 0, "function": {"arguments": ONE[:9]}}],
        [{"index": 0, "function": {"arguments": ONE[9:]}}],
        [called("calculator", "", "b", 1)],
        [{"index": 1, "function": {"arguments": TWO[:9]}}],
        [{"index": 1, "function": {"arguments": TWO[9:]}}],
        together=_WHOLE_TWO,
    ),
    "in pieces, in turn": _calls(
        [called("calculator", ONE[:9], "a", 0), called("calculator", TWO[:9], "b", 1)],
        [{"index": 1, "function": {"arguments": TWO[9:]}}, {"index": 0, "function": {"arguments": ONE[9:]}}],
        together=_WHOLE_TWO,
    ),
    "in pieces, by id alone": _calls(
        [called("calculator", "", "a")],
        [called("calculator", "", "b")],
        [{"id": "a", "function": {"arguments": ONE}}],
        [{"id": "b", "function": {"arguments": TWO}}],
        together=_WHOLE_TWO,
    ),
    "in pieces, without index and ids": _calls(
        [called("calculator", ONE[:9])],
        [{"function": {"arguments": ONE[9:]}}],
        [called("calculator", TWO[:9])],
        [{"function": {"arguments": TWO[9:]}}],
        together=_WHOLE_TWO,
    ),
    "names in pieces": _calls(
        [called("calc", "", "a", 0)],
        [called("ulator", "", index=0)],
        [{"index": 0, "function": {"arguments": ONE}}],
        [called("calc", "", "b", 1)],
        [called("ulator", TWO, index=1)],
        together=_WHOLE_TWO,
    ),
    "another id in every piece": _calls(
        [called("calculator", ONE[:9], "a", 0)],
        [{"id": "a2", "index": 0, "function": {"arguments": ONE[9:]}}],
        [called("calculator", TWO[:9], "b", 1)],
        [{"id": "b2", "index": 1, "function": {"arguments": TWO[9:]}}],
        together=_WHOLE_TWO,
    ),
    "names in every piece": _calls(
        [called("calculator", ONE[:9], "a", 0)],
        [called("calculator", ONE[9:], "a", 0)],
        [called("calculator", "", "a", 0)],
        [called("calculator", TWO[:9], "b", 1)],
        [called("calculator", TWO[9:], "b", 1)],
        together=_WHOLE_TWO,
    ),
    "beside a text": _calls(
        [called("calculator", ONE, "a", 0)], [called("calculator", TWO, "b", 1)], content="So:"
    ),
    "with the count": Shape(
        whole("tool_calls", tool_calls=_WHOLE_TWO),
        [
            piece(tool_calls=[called("calculator", ONE, "a", 0)], usage=USAGE),
            piece("tool_calls", tool_calls=[called("calculator", TWO, "b", 1)], usage=USAGE),
        ],
    ),
    "the whole where a stream was asked for": Shape(whole("tool_calls", tool_calls=_WHOLE_TWO)),
    "without a finish of their own": _calls(
        [called("calculator", ONE, "a", 0)], [called("calculator", TWO, "b", 1)], together=_WHOLE_TWO
    ),
}
"""Two calls at once: 1 + 1 and 2 + 2."""

_FENCED = {"expression": "2 + 2"}

ARGUMENTS: Mapping[str, Any] = {
    "an object": _FENCED,
    "text": TWO,
    "encoded twice": json.dumps(TWO),
    "encoded three times": json.dumps(json.dumps(TWO)),
    "a list of it": [_FENCED],
    "a list of it, as text": json.dumps([_FENCED]),
    "its only argument": "2 + 2",
    "its only argument, as JSON": json.dumps("2 + 2"),
    "its only argument, in a list": ["2 + 2"],
    "with a tab in its text": '{"expression":\n "2 +\t2"}',
}
"""Arguments that mean 2 + 2."""

BROKEN: Mapping[str, Any] = {
    "cut off": '{"expression": "2 + ',
    "a list of two": [_FENCED, _FENCED],
    "two objects": TWO + TWO,
    "Python": "{'expression': '2 + 2'}",
    "a number": 4,
    "deeply nested": "[" * 100_000,
}
"""Arguments that mean nothing one could be sure of."""


def calling(arguments: Any) -> Shape:
    """Give one call with these arguments."""
    return _calls([called("calculator", arguments, "a", 0)])


# -- no answer at all ------------------------------------------------------------------------------------

_PAGE = "<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head><body>Hello</body></html>"


@dataclass(frozen=True)
class Wrong:
    """What a wrong address answers, and which words of it are to be told."""

    shape: Shape
    words: str
    code: str = "MODEL_ERROR"
    requests: int = 1
    where: Callable[[str], str] = field(default=lambda root: f"{root}/v1/chat/completions")


WRONG: Mapping[str, Wrong] = {
    "an error with status 200": Wrong(
        Shape({"error": "Unexpected endpoint or method. (POST /chat/completions)"}),
        "answered with an error: Unexpected endpoint or method. (POST /chat/completions).",
    ),
    "an error in an object": Wrong(
        Shape(
            {"error": {"message": "No such route.", "type": "invalid"}},
            [{"error": {"message": "No such route."}}],
        ),
        "answered with an error: No such route.",
    ),
    "vLLM's older error": Wrong(
        Shape({"object": "error", "message": "It is not served.", "type": "BadRequest"}), "It is not served."
    ),
    "a page": Wrong(
        Shape(_PAGE, kind="text/html"), "sent no model's answer: it is a web page (Welcome to nginx!)."
    ),
    "a page that says it is a stream": Wrong(
        Shape(_PAGE, kind="text/event-stream"),
        "sent no model's answer: it is a web page (Welcome to nginx!).",
    ),
    "a page that is not found": Wrong(
        Shape(_PAGE, status=404, kind="text/html"),
        "(404): a web page (Welcome to nginx!).",
        "MODEL_NOT_FOUND",
    ),
    "a detail": Wrong(Shape({"detail": "Not Found"}, status=404), "(404): Not Found.", "MODEL_NOT_FOUND"),
    "another API": Wrong(
        Shape({"status": "ok", "version": 3}),
        "it has no choices in it, so it describes no model's answer.",
        requests=3,
    ),
    "words": Wrong(
        Shape("OK", kind="text/plain"), "sent no model's answer: it is no JSON object: OK.", requests=3
    ),
    "nothing": Wrong(Shape("", kind="text/plain"), "the answer has no content at all.", requests=3),
}
"""What is no model's answer; what is told of it."""
