"""Text that no UTF-8 can hold ends neither a cell nor a run; and `%kasal provider test`."""

import pytest

from tests.kernel.test_notebook_tools import CREW, outcome
from tests.kernels import kernel_of
from tests.servers.openai_server import Reply
from tests.servers.picky_server import ListingServer

HALF = "chr(0xd800)"


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        assert running.run("from kasal_jupyter.kernel.functions.notebook_tools import tool").status == "ok"
        yield running


def test_half_a_pair_in_a_tools_result_and_in_its_error_reaches_the_agent_as_a_mark(kernel):
    kernel.run(f"@tool\ndef halved(what: str = 'tea'):\n    '''Halve.'''\n    return ['tea', {HALF}]")
    kernel.run(
        f"@tool\ndef broken(what: str = 'tea'):\n    '''Break.'''\n    raise ValueError('no ' + {HALF})"
    )
    cell = kernel.run(CREW.format(name="Halves", tools="halved, broken"))
    assert cell.status == "ok", cell.error
    _, events = outcome(kernel, "Halves")
    told = [each["result"] for each in events["tool_result"]]
    told += [each["error"]["message"] for each in events["tool_failed"]]
    assert any("\ufffd" in text for text in told), told


def test_half_a_pair_in_an_input_in_words_and_in_a_cell_is_sent(kernel):
    kernel.run(f"half = 'tea ' + {HALF}")
    made = kernel.run(
        "get_ipython().run_cell_magic('kasal', 'crew Half of it', "
        + repr(CREW.format(name="x", tools="").split("\n", 1)[1].replace("the price", "{topic} HALF"))
        + f".replace('HALF', {HALF}))"
    )
    assert made.status == "ok", made.error
    cell = kernel.run('r = %kasal run "Half of it" topic=$half')
    assert cell.status == "ok", cell.error
    assert kernel.value("r.status") == "completed"
    assert kernel.value("any('tea \\ufffd' in str(event) for event in r.events)")
    refused = kernel.run(f"get_ipython().run_line_magic('kasal', 'run ' + {HALF})")
    assert refused.status == "error"
    assert "\ufffd" in refused.error


def test_a_provider_is_tested_from_a_cell(kernel, api):
    with ListingServer(Reply("Here."), Reply("No.", status=401)) as server:
        body = {"base_url": server.url, "api_key": "sk-of-a-cell-0123456789"}
        assert api.put("/providers/den", json=body).status_code == 200
        works = kernel.run("%kasal provider test den")
        fails = kernel.run("%kasal provider test den --model llama3")
    api.delete("/providers/den")
    assert works.status == "ok", works.error
    text = works.shown[-1]["text/plain"]
    assert "✔ den works: den/llama3 has answered" in text
    assert "It said: Here." in text
    assert fails.status == "error"
    assert "jupyter kasal provider set den" in fails.error
    unknown = kernel.run("%kasal provider tset den")
    assert unknown.status == "error"
