"""Artifacts: the files that a run writes, over the API."""

import io
import os
import zipfile

import pytest

from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, run, slow_crew, start, wait_for


def folder_of(server, job_id):
    """Where a run writes: files are put there as its agents would."""
    return server.folder / "runs" / job_id


@pytest.fixture(scope="module")
def job(live_server):
    """A run that has left a few files."""
    with live_server.client() as api:
        job_id = run(api, crew_body())[1]["job_id"]
    folder = folder_of(live_server, job_id)
    (folder / "charts" / "2024").mkdir(parents=True)
    (folder / "report.md").write_text("# Tea\n")
    (folder / "charts" / "2024" / "Grüße & mehr.html").write_text("<script>alert(1)</script>")
    (folder / "big.bin").write_bytes(os.urandom(1_000_000))
    return job_id


def names(answer):
    assert answer.status_code == 200, answer.text
    return [each["name"] for each in answer.json()["artifacts"]]


def test_the_files_are_listed_and_the_runs_own_log_is_none(api, live_server, job):
    assert (folder_of(live_server, job) / "output.log").exists()
    answer = api.get(f"/executions/{job}/artifacts")
    assert names(answer) == ["big.bin", "charts/2024/Grüße & mehr.html", "report.md"]
    report = answer.json()["artifacts"][-1]
    assert report == {
        "name": "report.md",
        "size": 6,
        "media_type": "text/markdown",
        "modified": report["modified"],
    }
    assert names(api.get(f"/executions/{job}/artifacts?sort=-size"))[0] == "big.bin"
    assert names(api.get(f"/executions/{job}/artifacts?search=REPORT")) == ["report.md"]
    page = api.get(f"/executions/{job}/artifacts?per_page=1&page=2").json()
    assert (len(page["artifacts"]), page["total"]) == (1, 3)


@pytest.mark.parametrize(
    "path",
    ["charts/2024/Gr%C3%BC%C3%9Fe%20&%20mehr.html", "charts%2F2024%2FGr%C3%BC%C3%9Fe%20%26%20mehr.html"],
)
def test_a_file_is_for_saving_and_never_for_showing(api, job, path):
    answer = api.get(f"/executions/{job}/artifacts/{path}")
    assert answer.text == "<script>alert(1)</script>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    said = answer.headers["Content-Disposition"]
    assert said == "attachment; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%26%20mehr.html"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_large_file_comes_whole(api, live_server, job):
    content = (folder_of(live_server, job) / "big.bin").read_bytes()
    assert api.get(f"/executions/{job}/artifacts/big.bin").content == content
    head = api.head(f"/executions/{job}/artifacts/big.bin")
    assert (head.headers["Content-Length"], head.content) == ("1000000", b"")


@pytest.mark.parametrize("asked", ["format", "accept"])
def test_all_files_in_one_archive(api, live_server, job, asked):
    wanted = (
        {"params": {"format": "zip"}} if asked == "format" else {"headers": {"Accept": "application/zip"}}
    )
    answer = api.get(f"/executions/{job}/artifacts", **wanted)
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{job}.zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == names(api.get(f"/executions/{job}/artifacts"))
        assert archive.read("big.bin") == (folder_of(live_server, job) / "big.bin").read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "..%2F..%2Fsecrets.key",
        "charts/..%2F..%2F..%2Fsecrets.key",
        "%2Fetc%2Fpasswd",
        "output.log",
        "charts",
        "charts/",
        "nothing.txt",
        "report.md%00",
        "report.md/",
        ".%2Freport.md",
        "charts%5C2024",
        "%FF",
    ],
)
def test_no_path_leads_to_anything_else(api, job, path):
    answer = api.get(f"/executions/{job}/artifacts/{path}")
    assert answer.status_code in ({400} if path == "%FF" else {404}), answer.text
    assert "error" in answer.json()


def test_links_pipes_and_second_names_are_no_artifacts(api, live_server, tmp_path):
    """Whatever a run leaves in its folder, nothing outside of it can be had through it."""
    job_id = run(api, crew_body())[1]["job_id"]
    folder, outside = folder_of(live_server, job_id), live_server.folder / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.txt").write_text("s3cret")
    (folder / "file").symlink_to(outside / "secret.txt")
    (folder / "folder").symlink_to(outside)
    (folder / "inside").symlink_to(folder / "real.txt")
    (folder / "real.txt").write_text("mine")
    os.link(outside / "secret.txt", folder / "second")
    os.mkfifo(folder / "pipe")
    assert names(api.get(f"/executions/{job_id}/artifacts")) == ["real.txt"]
    for path in ("file", "folder/secret.txt", "folder%2Fsecret.txt", "inside", "second", "pipe"):
        assert api.get(f"/executions/{job_id}/artifacts/{path}").status_code == 404, path
    packed = api.get(f"/executions/{job_id}/artifacts?format=zip").content
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist() == ["real.txt"]


def test_they_are_there_while_the_run_goes_on(api, live_server):
    job_id = start(api, new_crew(api, slow_crew()))
    wait_for(api, job_id, "running")
    (folder_of(live_server, job_id) / "notes.txt").write_text("so far")
    assert names(api.get(f"/executions/{job_id}/artifacts")) == ["notes.txt"]
    assert api.get(f"/executions/{job_id}/artifacts/notes.txt").text == "so far"
    api.post(f"/executions/{job_id}/stop")
    assert names(api.get(f"/executions/{job_id}/artifacts")) == ["notes.txt"]
    api.delete(f"/executions/{job_id}")
    assert api.get(f"/executions/{job_id}/artifacts/notes.txt").status_code == 404


def test_whose_they_are(live_server, job):
    with log_in(live_server) as bob:
        for path in ("artifacts", "artifacts/report.md", "artifacts?format=zip"):
            assert bob.get(f"/executions/{job}/{path}").status_code == 404
