"""Exceptions to error codes and sentences."""

import httpx
import openai
import pytest

from kasal_jupyter.worker.process.failures import ModelFailed, describe, model_failure
from tests.worker.faulty_zygote import STUMBLES

REQUEST = httpx.Request("POST", "http://127.0.0.1/v1")


def answered(status, kind=openai.APIStatusError):
    return kind(f"status {status}", response=httpx.Response(status, request=REQUEST), body=None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (answered(401), "MODEL_AUTH"),
        (answered(403), "MODEL_AUTH"),
        (answered(404), "MODEL_NOT_FOUND"),
        (answered(408), "MODEL_TIMEOUT"),
        (answered(429), "RATE_LIMIT"),
        (answered(400), "MODEL_ERROR"),
        (answered(503), "MODEL_ERROR"),
        (openai.APITimeoutError(REQUEST), "MODEL_TIMEOUT"),
        (openai.APIConnectionError(request=REQUEST), "MODEL_UNREACHABLE"),
        (ModelFailed("No.", code="CREW_INVALID"), "CREW_INVALID"),
        (ValueError("context_length_exceeded"), "CONTEXT_OVERFLOW"),
        (ValueError("anything"), "INTERNAL_ERROR"),
    ],
)
def test_each_kind_of_failure_has_its_code(error, code):
    described = describe(error, model="gpt-4")
    assert described["code"] == code
    assert described["message"]


def test_the_cause_is_found_behind_what_wraps_it():
    wrapped = ValueError("Model gpt-4 not found")
    wrapped.__cause__ = answered(404)
    assert describe(wrapped, model="gpt-4") == {
        "code": "MODEL_NOT_FOUND",
        "message": "gpt-4: nothing answers at http://127.0.0.1/v1 (404): status 404.",
    }


def test_what_came_before_and_was_dealt_with_is_not_the_cause():
    error = ValueError("new")
    error.__context__ = answered(401)
    error.__suppress_context__ = True
    assert describe(error)["message"] == "new"


def test_a_message_is_one_line_of_bounded_length():
    assert describe(ValueError("a\n  b"))["message"] == "a b"
    assert describe(ValueError())["message"] == "ValueError."
    assert len(describe(ValueError("x" * 10_000))["message"]) == 500


def test_a_tool_s_timeout_is_not_a_model_s():
    error = ValueError("api.example did not answer within 5 seconds.")
    error.__cause__ = httpx.ReadTimeout("")
    assert describe(error, code="TOOL_ERROR", of_tool=True) == {"code": "TOOL_ERROR", "message": str(error)}
    assert describe(error)["code"] == "MODEL_TIMEOUT"


def stumbled(module, code="None.choices"):
    """Give what is raised by code in a module."""
    there = {"__name__": module}
    exec(f"import json\nfrom kasal_jupyter import errors\ndef read():\n    {code}", there)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whichever
        there["read"]()
    return caught.value


def is_internal(failure):
    assert failure.failure_code == "INTERNAL_ERROR"
    assert not failure.passing
    return str(failure).startswith("The call of gpt-4 could not be made: ")


@pytest.mark.parametrize("module", ["kasal_jupyter.worker.crew.report", "crewai.llms", "openai.resources"])
def test_what_goes_wrong_in_a_program_is_not_blamed_on_the_provider(module):
    assert is_internal(model_failure(stumbled(module), "gpt-4"))


@pytest.mark.parametrize("code", STUMBLES)
def test_an_error_of_our_own_is_never_the_providers_whatever_it_is_called_and_says(code):
    ours = stumbled("kasal_jupyter.worker.models.llm", code)
    assert is_internal(model_failure(ours, "gpt-4"))
    # As CrewAI wraps it, and as SDKs do what is raised in a hook of theirs.
    for wrapped in (ValueError(f"API call failed: {ours}"), openai.APIConnectionError(request=REQUEST)):
        wrapped.__cause__ = ours
        assert is_internal(model_failure(wrapped, "gpt-4"))


@pytest.mark.parametrize("code", ["json.loads('{')", "b'\\xff'.decode()"])
def test_what_is_no_json_where_an_sdk_reads_it_is_the_providers(code):
    failure = model_failure(stumbled("google.genai.models", code), "gpt-4")
    assert (failure.failure_code, failure.passing) == ("MODEL_ERROR", True)
    assert "the provider's answer makes no sense" in str(failure)


def test_what_an_sdk_says_of_an_answer_is_the_providers_fault():
    error = openai.APIResponseValidationError(response=httpx.Response(200, request=REQUEST), body=None)
    failure = model_failure(error, "gpt-4")
    assert (failure.failure_code, failure.passing) == ("MODEL_ERROR", True)
