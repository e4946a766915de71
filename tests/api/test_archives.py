"""Runs that are exported, imported and pruned over the API, from the terminal, and in between."""

from __future__ import annotations

import io
import zipfile

import orjson
import pytest

from kasal_jupyter.cli import main
from tests.accounts import log_in
from tests.sample_crews import crew_body, run, wait_for


@pytest.fixture(scope="module")
def ran(live_server):
    """Give a run that has written a file, as the API tells of it."""
    body = crew_body("Archived")
    body["tasks"][1]["output_file"] = "reports/tea.md"
    with live_server.client() as api:
        return run(api, body)[1]


def test_a_run_is_exported_and_imported_and_replays_the_same(api, ran, live_server, tmp_path, capsys):
    job_id = ran["job_id"]
    answer = api.get(f"/executions/{job_id}/archive")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/zip")
    assert f"{job_id}.kasal.zip" in answer.headers["Content-Disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["run.json", "journal.jsonl", "artifacts/reports/tea.md"]
    headers = {"Content-Type": "application/zip"}
    came = api.post("/executions/import", content=answer.content, headers=headers)
    assert came.status_code == 201, came.text
    there = came.json()
    assert (there["was"], there["artifacts"], there["crew_id"]) == (job_id, 1, ran["crew_id"])
    mine = api.get(f"/executions/{there['job_id']}").json()
    told = {name for name in ran if name not in {"job_id", "imported_at"}}
    assert {name: mine[name] for name in told} == {name: ran[name] for name in told}
    assert mine["imported_at"] is not None
    name = "artifacts/reports/tea.md"
    files = [api.get(f"/executions/{each}/{name}").content for each in (job_id, there["job_id"])]
    assert files[0] == files[1]
    rows = [api.get(f"/executions/{each}/traces").json()["traces"] for each in (job_id, there["job_id"])]
    assert rows[0] == rows[1]
    # A real run takes its answers from it.
    begun = api.post(f"/executions/{there['job_id']}/replay").json()
    again = wait_for(api, begun["job_id"])
    assert (again["status"], again["result"]) == ("completed", ran["result"])
    assert again["usage"]["llm_calls"] == 0
    steps = api.get(f"/executions/{job_id}/diff/{begun['job_id']}").json()
    assert steps["first"] is None

    bad = api.post("/executions/import", content=b"PK" * 100, headers=headers)
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert "no archive of a run" in bad.json()["error"]["message"]
    assert api.post("/executions/import").status_code == 400

    server = ["--url", live_server.url, "--token", live_server.token]
    path = tmp_path / "run.zip"
    assert main(["export", job_id, str(path), *server]) == 0
    assert main(["export", job_id, str(path), *server]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["import", str(path), *server]) == 0
    said = capsys.readouterr().out
    assert f"Archived, completed, {there['events']} events, 1 file (was {job_id})" in said
    assert main(["import", __file__, *server]) == 1
    assert main(["export", job_id, "--as", "archive", *server]) == 2


def test_what_is_kept_no_longer_goes_when_an_admin_says_so(api, ran, live_server, capsys):
    job_id = ran["job_id"]
    kept = api.get("/executions").json()["total"]
    nothing = {"execution_days": 0, "executions": 0, "bytes": 0}
    report = api.post("/prune", json={"dry_run": True, **nothing}).json()
    assert (report["steps"], report["executions"], report["dry_run"]) == ([], kept, True)
    assert report["bytes"] > 10_000
    assert report["rules"]["compress_days"] == 7
    wrong = api.post("/prune", json={"execution_days": -1, "keep": 3}).json()["error"]["details"]["errors"]
    assert {each["field"] for each in wrong} == {"execution_days", "keep"}
    with log_in(live_server) as other:
        assert other.post("/prune", json={"dry_run": True}).status_code == 403
        assert other.get(f"/executions/{job_id}/archive").status_code == 404
    server = ["--url", live_server.url, "--token", live_server.token]
    # All that has ended is older than no time at all, in days.
    words = ["prune", "--execution-days", "0", "--executions", "0", "--bytes", "1B", *server]
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "deleted" in said
    assert "they take more than is kept" in said
    # What tests before this one have left of files is nobody's.
    assert "There would be 0 runs with " in said
    assert "left; the books stay" in said
    assert api.get(f"/executions/{job_id}").status_code == 200
    books = api.get("/usage").json()
    assert main([*words, "--json"]) == 0
    report = orjson.loads(capsys.readouterr().out)
    assert (report["executions"], report["steps"][0]["executions"]) == (0, kept)
    assert api.get(f"/executions/{job_id}").status_code == 404
    assert api.get("/usage").json() == books
    with pytest.raises(SystemExit):
        main(["prune", "--bytes", "some", *server])
