"""CrewAI's own Bedrock provider, for Amazon's Converse API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any, Self

from boto3.session import Session
from botocore.config import Config
from botocore.parsers import EventStreamJSONParser, ResponseParserFactory, RestJSONParser
from botocore.session import get_session
from crewai.llms.providers.bedrock.completion import BedrockCompletion

from kasal_jupyter.events.event import TokenUsage
from kasal_jupyter.models import prices
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.spec import RunModel
from kasal_jupyter.worker.crewai_seams import BedrockAnswers
from kasal_jupyter.worker.models.chat_answer import AnswerReader, word
from kasal_jupyter.worker.models.chat_body import NotAnAnswer, body_words, objects, whole
from kasal_jupyter.worker.models.llm import CALL_SECONDS, CONNECT_SECONDS, ReportedLLM
from kasal_jupyter.worker.models.model_call import note_address
from kasal_jupyter.worker.process.stop import StopSignal

_STREAM = "application/vnd.amazon.eventstream"


class _EventParser(EventStreamJSONParser):  # type: ignore[misc]
    """Gives events as they come: the SDK refuses an answer for one wrong type in it."""

    def _do_parse(self, response: Any, shape: Any) -> dict[str, Any]:
        del shape
        return {response["headers"].get(":event-type"): whole(response["body"])}


class _Parser(RestJSONParser):  # type: ignore[misc]
    """Gives answers as they come; what is none is said to be none."""

    EVENT_STREAM_PARSER_CLS = _EventParser

    def _do_parse(self, response: Any, shape: Any) -> dict[str, Any]:
        if shape.event_stream_name is None:
            return whole(response["body"])
        if _STREAM in response["headers"].get("content-type", ""):
            return dict(super()._do_parse(response, shape))
        for _ in objects(response["body"].stream()):
            raise NotAnAnswer("it is no stream of Amazon's")
        raise NotAnAnswer("the answer has no content at all")

    def _do_error_parse(self, response: Any, shape: Any) -> dict[str, Any]:
        parsed: dict[str, Any] = super()._do_error_parse(response, shape)
        if words := body_words(response["body"].decode(errors="replace")):
            parsed.setdefault("Error", {})["Message"] = words
        return parsed


class _Parsers(ResponseParserFactory):  # type: ignore[misc]
    def create_parser(self, protocol_name: str) -> Any:
        if protocol_name == "rest-json":
            return _Parser(**self._defaults)
        return super().create_parser(protocol_name)


class BedrockLLM(ReportedLLM, BedrockAnswers, BedrockCompletion):
    """A model that Amazon serves."""

    @classmethod
    def of(cls, model: RunModel, settings: ModelSettings, signal: StopSignal) -> Self:
        """Make it. The Converse API has no ``seed``."""
        given = settings.model_dump(exclude_none=True, exclude={"timeout", "seed"})
        return cls(
            model=model.model,
            label=model.name,
            aws_access_key_id=model.options.get("aws_access_key_id"),
            aws_secret_access_key=model.options.get("aws_secret_access_key"),
            aws_session_token=model.options.get("aws_session_token"),
            region_name=model.options.get("aws_region_name"),
            base_url=model.base_url,
            signal=signal,
            patience=settings.timeout or CALL_SECONDS,
            **given,
        )

    def bodies(self, request: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Ask, and give what comes: the events of a stream, or the whole."""
        client = self.the_client
        if not self.streams:
            yield client.converse(**request)
            return
        stream = client.converse_stream(**request)["stream"]
        try:
            yield from stream
        finally:
            stream.close()

    def reader(self, request: Mapping[str, Any]) -> AnswerReader:
        """Give what reads the answer to a request."""
        return ConverseReader(request, streamed=self.streams)

    def cost(self, usage: TokenUsage | None, at: datetime) -> float | None:
        """Give what a call has cost."""
        return prices.cost(self.model, self.base_url, usage, at, provider="bedrock")

    def client(self) -> Any:
        """Make it as CrewAI does, but for its retries, its time-out, and an endpoint that may be another."""
        config = Config(
            connect_timeout=min(CONNECT_SECONDS, self.patience),
            read_timeout=self.patience,
            retries={"total_max_attempts": 1, "mode": "standard"},
            tcp_keepalive=True,
        )
        beneath = get_session()
        beneath.register_component("data_loader", _descriptions())
        beneath.register_component("response_parser_factory", _Parsers())
        session = Session(
            botocore_session=beneath,
            aws_access_key_id=self.aws_access_key_id,
            aws_secret_access_key=self.aws_secret_access_key,
            aws_session_token=self.aws_session_token,
            region_name=self.region_name,
        )
        made = session.client("bedrock-runtime", config=config, endpoint_url=self.base_url)
        made.meta.events.register("before-send.bedrock-runtime", note_address)
        return made


@cache
def _descriptions() -> Any:
    """Give what reads the SDK's descriptions of services: 40 ms, where each client has one of its own."""
    return get_session().get_component("data_loader")


class ConverseReader(AnswerReader):
    """Reads an answer of Amazon's Converse API.

    Parameters
    ----------
    request
        What it answers.
    streamed
        Whether it comes in pieces.
    """

    mark = "output"

    def __init__(self, request: Mapping[str, Any], *, streamed: bool) -> None:
        tools = (request.get("toolConfig") or {}).get("tools") or ()
        specs = [tool["toolSpec"] for tool in tools if "toolSpec" in tool]
        offered = {spec["name"]: spec.get("inputSchema", {}).get("json") or {} for spec in specs}
        super().__init__(offered, len(request["messages"]))
        self._streamed = streamed

    def take(self, body: Mapping[str, Any]) -> str:
        """Take in an event of a stream, or the whole; give what it adds to the text.

        Raises
        ------
        NotAnAnswer
            It is neither.
        """
        if not self._streamed:
            return self._whole(body)
        for name, event in body.items():
            if isinstance(event, dict):
                index = event.get("contentBlockIndex")
                match name:
                    case "contentBlockStart":
                        return self._block(event.get("start"), index)
                    case "contentBlockDelta":
                        return self._block(event.get("delta"), index)
                    case "messageStop":
                        self._finish = word(event.get("stopReason"))
                    case "metadata":
                        self._count(event.get("usage"))
        return ""

    def _whole(self, body: Mapping[str, Any]) -> str:
        output = body.get("output")
        message = output.get("message") if isinstance(output, dict) else None
        if not isinstance(message, dict):
            raise NotAnAnswer(f"it has no {self.mark} in it, so it describes no model's answer")
        self._finish = word(body.get("stopReason"))
        self._count(body.get("usage"))
        blocks = message.get("content")
        blocks = blocks if isinstance(blocks, list) else []
        return "".join(self._block(block, at) for at, block in enumerate(blocks))

    def _count(self, usage: Any) -> None:
        self._usage = usage if isinstance(usage, dict) else {}

    def _block(self, block: Any, index: Any) -> str:
        """Take in a block, or a piece of one."""
        if not isinstance(block, dict):
            return ""
        thought = block.get("reasoningContent")
        if isinstance(thought, dict):
            # Whole, it is a block of its own; in pieces, it is not.
            inner = thought.get("reasoningText")
            text = inner.get("text") if isinstance(inner, dict) else thought.get("text")
            self._reasoning.add(text if isinstance(text, str) else "")
        if isinstance(use := block.get("toolUse"), dict):
            function = {"name": use.get("name"), "arguments": use.get("input")}
            self._calls.take([{"index": index, "id": use.get("toolUseId"), "function": function}])
        said = block.get("text")
        return self._text.add(said) if isinstance(said, str) else ""
