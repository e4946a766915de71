"""Cassettes beside notebooks and tests: recorded by what people write there, and replayed without any key."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.api.test_verbs import lab  # noqa: F401 - a fixture
from tests.kernels import kernel_of
from tests.servers.openai_server import OpenAIServer, Reply

CREW = """\
%%kasal crew Taped tea
agents:
  taster:
    role: Taster
    goal: GOAL
    llm: MODEL
    settings: {stream: false}
tasks:
  sip:
    description: Taste {topic}, on the {day}
    expected_output: A word
    agent: taster
"""


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CI", "KASAL_RECORD", "KASAL_REPLAY", "KASAL_ON_MISS"):
            patch.delenv(name, raising=False)
        room = tmp_path_factory.mktemp("tape")
        with kernel_of(live_server, room) as running:
            assert running.run(f"%cd {room}").status == "ok"
            running.room = room
            yield running


def done(kernel, code):
    cell = kernel.run(code)
    assert cell.status == "ok", cell.error
    return cell


def calls(kernel, name="run"):
    return kernel.value(f"[{name}.trace.summary.answers.recorded, {name}.trace.summary.answers.live]")


def test_a_notebook_is_recorded_once_and_needs_no_key_from_then_on(api, kernel, lab):  # noqa: F811
    path = kernel.room / "tea.jsonl"
    varies = r"--varies '\d{4}-\d\d-\d\d'"
    with OpenAIServer(Reply("Green."), Reply("Minty.")) as server:
        provider = lab(server)
        crew = CREW.replace("MODEL", f"{provider}/m")
        done(kernel, crew.replace("GOAL", "Taste"))
        cell = done(
            kernel, f"run = %kasal run Taped tea topic=tea day='2026-11-30' --record tea.jsonl {varies}"
        )
        assert "tea.jsonl: 1 call recorded" in cell.text
        whole = path.read_bytes()
        # As many words in Python; what goes on in the background is recorded when it has ended.
        done(kernel, "import kasal_jupyter as kasal\ncrew = kasal.Crew.load('Taped tea')")
        done(
            kernel,
            "run = crew.run(topic='mint', day='2026-11-30', record='tea.jsonl', background=True).wait()",
        )
        assert path.read_bytes().startswith(whole)
        assert len(server.requests) == 2
    assert "2026" not in path.read_text()
    assert api.delete(f"/providers/{provider}").status_code == 204
    # Another day is no other question.
    done(kernel, "run = %kasal run Taped tea topic=mint day='2027-01-01' --replay tea.jsonl --on-miss fail")
    assert (kernel.value("run.output"), calls(kernel)) == ("Minty.", [1, 0])
    # Where it may be asked live, what is recorded is not, and needs no key either.
    done(kernel, "run = %kasal run Taped tea topic=tea day='2027-01-02' --replay tea.jsonl")
    assert (kernel.value("run.output"), calls(kernel)) == ("Green.", [1, 0])
    done(kernel, "%env KASAL_REPLAY=tea.jsonl\n%env KASAL_ON_MISS=fail")
    done(kernel, "run = %kasal run Taped tea topic=tea day='2027-01-03'")
    assert kernel.value("run.output") == "Green."
    missed = kernel.run("%kasal run Taped tea topic=coffee day='2027-01-03'")
    assert "REPLAY_MISS: tea.jsonl has no run of 'Taped tea' with topic=\"coffee\"" in missed.error
    done(kernel, crew.replace("GOAL", "Hurry"))
    missed = kernel.run("%kasal run Taped tea topic=tea day='2027-01-03'")
    assert "REPLAY_MISS" in missed.error
    assert "ersonal goal is: Hurry" in missed.error
    assert "ersonal goal is: Taste" in missed.error
    done(kernel, "import os; del os.environ['KASAL_REPLAY'], os.environ['KASAL_ON_MISS']")


def test_what_is_missed_is_asked_and_put_into_the_cassette(api, kernel, lab):  # noqa: F811
    both = "--record more.jsonl --replay more.jsonl"
    with OpenAIServer(Reply("Green."), Reply("Blue.")) as server:
        crew = CREW.replace("MODEL", f"{lab(server)}/m").replace("Taped tea", "More tea")
        done(kernel, crew.replace("GOAL", "Taste"))
        for answer, asked in (("Green.", [0, 1]), ("Green.", [1, 0])):
            done(kernel, f"run = %kasal run More tea topic=tea day=one {both}")
            assert (kernel.value("run.output"), calls(kernel)) == (answer, asked)
        whole = (kernel.room / "more.jsonl").read_bytes()
        done(kernel, crew.replace("GOAL", "Hurry"))
        done(kernel, f"run = %kasal run More tea topic=tea day=one {both}")
        assert (kernel.value("run.output"), calls(kernel)) == ("Blue.", [0, 1])
        assert (kernel.room / "more.jsonl").read_bytes() != whole
        assert len(server.requests) == 2


PLUGIN = "kasal_jupyter.pytest_plugin"

TESTS = """
import os
import pytest
import kasal_jupyter as kasal

def crew(goal="Taste"):
    taster = kasal.Agent(role="Taster", goal=goal, llm="MODEL", settings={"stream": False})
    return kasal.Crew("Tested tea", tasks=[kasal.Task("Taste {topic}", "A word", taster)])

def test_tea(kasal_cassette):
    assert crew().run(topic="tea").output == "Green."

@pytest.mark.kasal_cassette("mint.jsonl", varies=[r"[0-9]+"])
@pytest.mark.parametrize("tea", ["3 cups of mint", "lemon"])
def test_mint(kasal_cassette, tea):
    assert crew().run(topic=tea.replace("3", os.environ.get("CUPS", "3"))).output == "Minty."

def test_hurry(kasal_cassette):
    crew(GOAL).run(topic="tea")
"""


def outcome_of(pytester, live_server, *options, **names):
    text = TESTS
    for name, value in names.items():
        text = text.replace(name, value)
    (pytester.path / "test_tea.py").write_text(text)
    return pytester.runpytest_subprocess("-p", PLUGIN, "-p", "no:cacheprovider", "-q", *options)


@pytest.fixture
def in_ci(monkeypatch, live_server):
    monkeypatch.setenv("CI", "true")
    # To load all that is installed here takes each of pytest's processes four seconds.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("KASAL_URL", live_server.url)
    monkeypatch.setenv("KASAL_TOKEN", live_server.token)
    return monkeypatch


pytest_plugins = ["pytester"]


def test_tests_of_users_are_answered_by_cassettes_beside_them(
    api,
    live_server,
    lab,  # noqa: F811
    pytester,
    in_ci,
):
    nothing = outcome_of(pytester, live_server, MODEL="lab/m", GOAL='"Taste"')
    nothing.assert_outcomes(errors=4)
    nothing.stdout.fnmatch_lines(
        ["*There is no cassette *test_tea.jsonl; `pytest --kasal-record` records it*"]
    )
    with OpenAIServer(Reply("Green."), Reply("Minty."), Reply("Minty."), Reply("Green.")) as server:
        provider = lab(server)
        model = f"{provider}/m"
        outcome_of(pytester, live_server, "--kasal-record", MODEL=model, GOAL='"Taste"').assert_outcomes(
            passed=4
        )
    assert api.delete(f"/providers/{provider}").status_code == 204
    found = sorted(str(path.relative_to(pytester.path)) for path in pytester.path.rglob("*.jsonl"))
    assert found == [
        "cassettes/mint.jsonl",
        "cassettes/test_tea/test_hurry.jsonl",
        "cassettes/test_tea/test_tea.jsonl",
    ]
    in_ci.setenv("CUPS", "44")
    again = outcome_of(pytester, live_server, MODEL=model, GOAL='"Hurry"')
    again.assert_outcomes(passed=3, failed=1)
    again.stdout.fnmatch_lines(["*REPLAY_MISS: test_hurry.jsonl has recorded no answer: *Hurry*"])


def test_the_plugin_comes_with_the_package_and_loads_nothing_heavy():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}
    code = (
        "import sys, kasal_jupyter.pytest_plugin\n"
        "print([name for name in ('pydantic', 'httpx', 're2', 'IPython') if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert loaded.stdout.strip() == "[]"
