"""`%kasal providers`, `%kasal models` and `%kasal doctor`, as far as they tell of providers."""

import pytest

from tests.kernels import kernel_of
from tests.server import start_server
from tests.servers.ollama_server import Installed, OllamaServer

KEY = "sk-of-the-environment-0123456789"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A kernel whose server has an Ollama, a key for OpenAI, and a vLLM that is not there."""
    room = tmp_path_factory.mktemp("providers")
    with OllamaServer([Installed("llama3.2:latest")]) as ollama:
        environ = {
            "OPENAI_API_KEY": KEY,
            "OLLAMA_HOST": ollama.url,
            "VLLM_BASE_URL": "http://127.0.0.1:9/v1",
            "AZURE_API_KEY": KEY,
            "TAVILY_API_KEY": "t7v",
            "https_proxy": "http://ada:p4s@127.0.0.1:9",
        }
        server = start_server(room, environ=environ)
        try:
            with kernel_of(server, room) as running:
                yield running
            # What no run can hide is told where it is set.
            assert "The secret in https_proxy has fewer than 4 characters" in server.log.read_text()
        finally:
            server.close()


def shown(kernel, code):
    cell = kernel.run(code)
    assert cell.status == "ok", cell.error
    text = cell.shown[-1]["text/plain"]
    assert KEY not in str(cell.shown)
    return text


def test_providers_that_are_ready_come_first_and_the_others_say_what_they_need(kernel):
    text = shown(kernel, "%kasal providers")
    lines = text.splitlines()
    ready = [line.split()[1] for line in lines if "✔" in line]
    # A server that does not answer is ready nowhere.
    assert ready == ["openai", "ollama", "tavily"]
    assert "jupyter kasal provider set NAME" in text
    assert "ANTHROPIC_API_KEY" in text
    (openai,) = (line for line in lines if "(OpenAI)" in line)
    assert "the server's environment" in openai
    only = shown(kernel, "%kasal providers anthropic").splitlines()
    assert sum("✖" in line for line in only) == 1
    assert "did you mean 'openai'" in kernel.run("%kasal providers opena1").error


def test_models_name_the_successors_of_those_retired(kernel):
    text = shown(kernel, "%kasal models gpt-4")
    (line,) = (line for line in text.splitlines() if line.split()[1:2] == ["gpt-4"])
    assert "retired on 2026-10-23: gpt-5.6-sol answers" in line
    assert "ollama/llama3.2:latest" in shown(kernel, "%kasal models llama")


def test_the_doctor_tells_of_what_is_set_and_cannot_be_used(kernel):
    lines = shown(kernel, "%kasal doctor --quick").splitlines()
    (vllm,) = (line for line in lines if line.split()[:2] == ["✖", "vllm"])
    assert "it cannot be reached" in vllm
    (azure,) = (line for line in lines if line.split()[:2] == ["✖", "azure"])
    assert "AZURE_ENDPOINT" in azure
    assert not any(line.split()[:2] == ["✖", "ollama"] for line in lines)


def test_the_doctor_tells_of_a_key_that_is_too_short_to_be_hidden(kernel):
    text = shown(kernel, "%kasal doctor --quick")
    (tavily,) = (line for line in text.splitlines() if line.split()[:2] == ["✖", "tavily"])
    assert "the secret in api_key has fewer than 4 characters: it cannot be hidden" in tavily
    assert "t7v" not in text
