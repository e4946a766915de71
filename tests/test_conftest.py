"""What all modules of tests build on: a server in which nothing of the others is left, and their order."""

import re

from kasal_jupyter.store.collections import CATALOG
from kasal_jupyter.store.store import Store
from tests.accounts import log_in
from tests.conftest import HERE, LONG
from tests.sample_crews import crew_body, new_crew, run, slow_crew, start, wait_for


def test_nothing_that_the_store_keeps_is_left_and_nothing_runs(live_server, api):
    run(api, crew_body())
    with log_in(live_server) as ada:
        assert ada.put("/providers/openai", json={"api_key": "sk-of-ada"}).status_code == 200
        job_id = start(ada, new_crew(ada, slow_crew()))
        wait_for(ada, job_id, "running")
    assert api.post("/auth/keys", json={"name": "left"}).status_code == 201
    assert api.put("/maintenance", json={"enabled": True}).status_code == 200

    live_server.forget()

    with Store.open(live_server.folder) as store:
        assert not [each.name for each in CATALOG if store.repository(each).count()]
    assert api.get(f"/executions/{job_id}").status_code == 404
    paths = api.get("/openapi.json").json()["paths"]
    lists = [
        path
        for path in paths
        if "{" not in path
        and "get" in paths[path]
        and any(re.fullmatch(f"{path}/{{\\w+}}", each) for each in paths)
    ]
    assert {"/crews", "/users", "/executions", "/tools/mcp"} <= set(lists)
    for path in lists:
        answer = api.get(path)
        assert answer.status_code == 200
        assert path in {"/providers", "/tools"} or answer.json()["total"] == 0, answer.text
    # It serves as before.
    assert run(api, crew_body())[1]["status"] == "completed"


def test_what_takes_long_is_there():
    assert not [name for name in LONG if not (HERE / f"{name}.py").exists()]
