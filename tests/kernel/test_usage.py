"""Cost, budgets and files in a notebook, in a real kernel against a real server."""

import pytest

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.runs.artifacts import Artifact
from kasal_jupyter.kernel.runs.run_list import read_budget
from kasal_jupyter.kernel.views.figures import spent_text
from kasal_jupyter.schemas.usage import Usage
from tests.kernels import kernel_of
from tests.sample_crews import crew_body, run
from tests.server import start_server

HEADS = ["day", "runs", "model", "calls", "tool", "calls", "tokens", "in", "tokens", "out", "cost"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of these tests' own: they count everything that was used."""
    running = start_server(tmp_path_factory.mktemp("server"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def job(server):
    with server.client() as api:
        job_id = run(api, crew_body("Report Crew"))[1]["job_id"]
    (server.folder / "runs" / job_id / "charts").mkdir()
    (server.folder / "runs" / job_id / "charts" / "tea.csv").write_text("year,price\n2024,4\n")
    return job_id


@pytest.fixture(scope="module")
def kernel(server, job, tmp_path_factory):
    del job
    with kernel_of(server, tmp_path_factory.mktemp("kernel")) as running:
        yield running


def shown(kernel, code):
    cell = kernel.run(code)
    assert cell.status == "ok", cell.error
    return cell.shown[0]["text/plain"]


def test_usage_is_a_table_and_a_frame(kernel, job):
    del job
    title, heads, row = shown(kernel, "%kasal usage").splitlines()
    assert "1 run, 3 model calls" in title
    assert "$0; stored now: " in title
    assert heads.split() == HEADS
    assert row.split()[1:4] == ["1", "3", "1"]
    lines = shown(kernel, '%kasal usage --by task --crew "Report Crew"').splitlines()
    assert {line.split()[0] for line in lines[2:]} == {"report", "research"}
    assert (
        shown(
            kernel,
            "import kasal_jupyter as kasal\n"
            "table = kasal.usage('agent', crew='Report Crew')\n"
            "table.cost, table.df()[['name', 'llm_calls']].values.tolist()",
        )
        == "(0.0, [['Researcher', 2], ['Writer', 1]])"
    )


def test_files_are_listed_read_and_saved(kernel, server, job, tmp_path):
    assert shown(kernel, f"%kasal artifacts {job}").splitlines()[1].split()[:2] == ["charts/tea.csv", "18"]
    assert kernel.run(f"%kasal artifacts {job} --to {tmp_path}").status == "ok"
    assert (tmp_path / "charts" / "tea.csv").read_text() == "year,price\n2024,4\n"
    again = kernel.run(f"%kasal artifacts {job} --get charts/tea.csv --to {tmp_path}")
    assert "is there already" in str(again.error)
    told = shown(
        kernel,
        "files = kasal.runs()[0].result().artifacts()\n"
        "len(files), files['charts/tea.csv'].read_text().splitlines()",
    )
    assert told == "(1, ['year,price', '2024,4'])"


def test_a_budget_goes_with_the_run(kernel, server, job):
    del job
    assert kernel.run('%kasal run "Report Crew" topic=tea --max-cost 0.5 --max-seconds 600').status == "ok"
    assert (
        kernel.run(
            "crew = kasal.Crew.load('Report Crew')\ncrew.run(topic='tea', budget={'max_tokens': 50_000})"
        ).status
        == "ok"
    )
    with server.client() as api:
        latest = api.get("/executions").json()["executions"]
    assert [each["budget"] for each in latest[:2]] == [
        {"max_cost": None, "max_tokens": 50_000, "max_seconds": None},
        {"max_cost": 0.5, "max_tokens": None, "max_seconds": 600.0},
    ]
    refused = kernel.run("crew.run(topic='tea', budget={'max_token': 5})")
    assert "max_token: Extra inputs are not permitted; did you mean 'max_tokens'?" in str(refused.error)
    assert "is no number above 0" in str(kernel.run('%kasal run "Report Crew" topic=tea --max-cost 0').error)


def test_a_check_says_what_a_run_takes(kernel, job):
    del job
    title, heads, *rows = shown(kernel, '%kasal check "Report Crew" topic=tea').splitlines()
    assert title.startswith("✔ Report Crew can run; its last 3 runs took about ")
    assert heads.split() == ["a", "run", "takes", "median", "from", "to"]
    assert [row.split()[0] for row in rows] == ["time", "tokens", "cost"]


def test_a_bound_is_named_where_it_is_wrong():
    assert read_budget({"max_cost": None}) is None
    assert read_budget({"max_cost": 0.5}).max_cost == 0.5
    with pytest.raises(CellError, match="The budget's max_seconds: Input should be greater than 0"):
        read_budget({"max_seconds": 0})


@pytest.mark.parametrize(
    ("usage", "text"),
    [
        ({"cost": 0.0278}, "$0.0278"),
        ({"llm_calls": 2, "cost": None, "cost_at_least": 0.5, "unknown_costs": 1}, "at least $0.5000"),
        ({"llm_calls": 2, "cost": None}, "unknown"),
        ({}, "$0"),
    ],
)
def test_what_is_unknown_is_never_nothing(usage, text):
    assert spent_text(Usage(**usage)) == text


@pytest.mark.parametrize("name", ["../escaped", "/etc/cron.d/job", "a/../../b", "a//b", "c:\\x", ""])
def test_a_name_that_leads_elsewhere_is_saved_nowhere(tmp_path, name):
    """A server that is not ours may name a file as it likes."""
    artifact = Artifact(name, 1, "text/plain", "2024-01-15T10:30:00Z", "job_1", _client=None)
    with pytest.raises(CellError, match="cannot be saved under its name"):
        artifact.save(tmp_path)
    assert list(tmp_path.parent.glob("escaped")) == []


def test_a_link_in_the_folder_is_not_followed_out_of_it(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "charts").symlink_to(tmp_path)
    artifact = Artifact("charts/x.txt", 1, "text/plain", "2024-01-15T10:30:00Z", "job_1", _client=None)
    with pytest.raises(CellError, match="leads out of"):
        artifact.save(tmp_path / "mine")
