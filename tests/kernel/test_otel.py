"""Runs as OpenTelemetry spans: held against OpenTelemetry's own definitions."""

import base64
import json
import re

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv._incubating.attributes import error_attributes, gen_ai_attributes
from opentelemetry.semconv.resource import ResourceAttributes

from tests.kernel.test_result import result_of
from tests.kernel.test_views import deep, events

# The package has the names of before the conventions moved; what v0.1.0 of their own has changed of ours:
OPERATIONS = {operation.value for operation in gen_ai_attributes.GenAiOperationNameValues} | {"plan"}
NAMES = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI")}
NAMES -= {"gen_ai.workflow.name", "gen_ai.usage.cache_creation.input_tokens", "gen_ai.system"}
NAMES |= {"gen_ai.usage.cache_write.input_tokens"}


def spans_of(document):
    return document["resourceSpans"][0]["scopeSpans"][0]["spans"]


def attributes_of(span):
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def parsed(document):
    """Parse a document as a collector does: ids are hexadecimal in OTLP's JSON, base64 in protobuf's."""
    encoded = re.sub(
        r'"(traceId|spanId|parentSpanId)": "([0-9a-f]+)"',
        lambda found: f'"{found[1]}": "{base64.b64encode(bytes.fromhex(found[2])).decode()}"',
        json.dumps(document),
    )
    return json_format.Parse(encoded, ExportTraceServiceRequest())


@pytest.fixture
def document():
    return result_of(events(extra_calls=1)).to_otel()


def test_a_collector_reads_the_whole_run(document):
    request = parsed(document)
    (scope,) = request.resource_spans[0].scope_spans
    assert [span.name for span in scope.spans] == [
        "invoke_workflow Market research",
        "task Find the facts",
        "invoke_agent Analyst",
        "chat gpt-4",
        "execute_tool sql",
        "execute_tool calculator",
    ]
    assert {len(span.trace_id) for span in scope.spans} == {16}
    assert {len(span.span_id) for span in scope.spans} == {8}
    chat = scope.spans[3]
    assert chat.kind == chat.SPAN_KIND_CLIENT
    assert chat.end_time_unix_nano - chat.start_time_unix_nano == 1_000_000_000
    assert [span.status.code for span in scope.spans] == [0, 0, 0, 0, 2, 0]
    assert scope.spans[4].status.message == "no such table"


def test_the_spans_are_a_tree_under_the_run(document):
    spans = spans_of(document)
    ids = [span["spanId"] for span in spans]
    assert len(set(ids)) == len(ids)
    parents = [ids.index(span["parentSpanId"]) if "parentSpanId" in span else None for span in spans]
    assert parents == [None, 0, 1, 2, 2, 2]


def test_every_name_is_of_the_conventions_or_our_own(document):
    resource = document["resourceSpans"][0]["resource"]
    assert attributes_of(resource)[ResourceAttributes.SERVICE_NAME] == "kasal"
    for span in spans_of(document):
        attributes = attributes_of(span)
        own = {name for name in attributes if name.startswith("kasal.")}
        assert attributes.keys() - own <= NAMES | {error_attributes.ERROR_TYPE}
        if span["name"].startswith("task "):
            assert gen_ai_attributes.GEN_AI_OPERATION_NAME not in attributes
        else:
            operation = attributes[gen_ai_attributes.GEN_AI_OPERATION_NAME]
            assert operation in OPERATIONS
            assert span["name"].startswith(f"{operation} ")


def test_the_document_names_the_version_of_the_conventions_and_the_crew_as_they_do(document):
    (scope,) = document["resourceSpans"][0]["scopeSpans"]
    assert attributes_of(scope["scope"]) == {"kasal.conventions.gen_ai": "0.1.0"}
    run = attributes_of(scope["spans"][0])
    assert run["gen_ai.operation.name"] == "invoke_workflow"
    assert run["gen_ai.agent.name"] == "Market research"


def test_what_a_model_thought_a_cache_that_was_written_and_a_plan_have_their_names():
    steps = events()
    answer = next(step for step in steps if step["type"] == "llm_response")
    answer["reasoning"] = "Let me see."
    answer["usage"] = {**answer["usage"], "cache_write_tokens": 7}
    for step in steps:
        if step["type"].startswith("agent_"):
            step |= {"agent": "Planner", "task_id": None, "task": None}
    spans = spans_of(result_of(steps).to_otel())
    chat = attributes_of(next(span for span in spans if span["name"].startswith("chat")))
    assert chat["gen_ai.usage.cache_write.input_tokens"] == "7"
    (said,) = json.loads(chat[gen_ai_attributes.GEN_AI_OUTPUT_MESSAGES])
    assert [part["type"] for part in said["parts"]] == ["reasoning", "text"]
    assert said["parts"][0]["content"] == "Let me see."
    (planned,) = (span for span in spans if span["name"] == "plan Planner")
    assert attributes_of(planned)["gen_ai.operation.name"] == "plan"


def test_a_model_call_has_its_figures_and_messages(document):
    chat = attributes_of(spans_of(document)[3])
    assert chat[gen_ai_attributes.GEN_AI_REQUEST_MODEL] == "gpt-4"
    assert chat[gen_ai_attributes.GEN_AI_PROVIDER_NAME] == "openai"
    assert chat[gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS] == "100"
    assert chat[gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS] == "20"
    assert chat["kasal.cost"] == 0.0012
    assert json.loads(chat[gen_ai_attributes.GEN_AI_OUTPUT_MESSAGES]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Tea fell 4 %."}],
            "finish_reason": "stop",
        }
    ]
    failed = attributes_of(spans_of(document)[4])
    assert failed[error_attributes.ERROR_TYPE] == "TOOL_ERROR"
    assert json.loads(failed[gen_ai_attributes.GEN_AI_TOOL_CALL_ARGUMENTS]) == {"query": "Tea fell 4 %."}


def test_messages_with_tool_calls_become_typed_parts():
    steps = events()
    call = {"id": "call_1", "type": "function", "function": {"name": "sql", "arguments": "{}"}}
    steps[4]["messages"] = [
        {"role": "user", "content": "Find"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3 rows"},
    ]
    chat = attributes_of(spans_of(result_of(steps).to_otel())[3])
    assert json.loads(chat[gen_ai_attributes.GEN_AI_INPUT_MESSAGES]) == [
        {"role": "user", "parts": [{"type": "text", "content": "Find"}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "call_1", "name": "sql", "arguments": "{}"}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "3 rows"}]},
    ]


def test_the_content_may_be_left_out():
    told = json.dumps(
        result_of(events(answer="secret", tool_result="secret", extra_calls=1)).to_otel(content=False)
    )
    assert "secret" not in told
    assert "gen_ai.usage.input_tokens" in told


def test_a_run_has_the_same_ids_at_every_export_and_another_run_has_others(document):
    assert result_of(events(extra_calls=1)).to_otel() == document
    steps = [event | {"job_id": "job_2"} for event in events(extra_calls=1)]
    other = result_of(steps)
    other.trace.job_id = "job_2"
    assert not {s["spanId"] for s in spans_of(other.to_otel())} & {s["spanId"] for s in spans_of(document)}


def test_a_failed_run_and_one_that_goes_on_are_exported_as_they_stand():
    steps = events()
    error = {"code": "RATE_LIMIT", "message": "Rate limit exceeded"}
    steps[-1] = steps[-1] | {"status": "failed", "error": error}
    run = spans_of(result_of(steps).to_otel())[0]
    assert run["status"] == {"code": 2, "message": "Rate limit exceeded"}
    assert attributes_of(run)["error.type"] == "RATE_LIMIT"
    running = spans_of(result_of(deep(1_500)).to_otel())
    assert len(running) == 1_500
    assert parsed(result_of(events()[:5]).to_otel())
    assert spans_of(result_of([]).to_otel()) == []
