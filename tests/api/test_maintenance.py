import time

import httpx
import pytest
import websocket

from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, slow_crew, start, wait_for
from tests.server import start_server


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two servers on one data folder: the switch is the folder's."""
    room = tmp_path_factory.mktemp("maintenance")
    first = start_server(room / "a", folder=room / "data")
    second = start_server(room / "b", folder=room / "data")
    yield first, second
    for server in (first, second):
        server.close()


def test_nobody_is_served_but_for_what_switches_it_off(pair):
    first, second = pair
    with first.client() as api, second.client() as other, log_in(first) as ada:
        crew_id = new_crew(api, slow_crew())
        job_id = start(api, crew_id)
        wait_for(api, job_id, "running")
        on = {"enabled": True, "message": "New disks", "retry_after": 120}
        state = api.put("/maintenance", json=on).json()
        assert state == {**on, "since": state["since"]}
        for client in (api, other, ada):
            for method, path in (("GET", "/crews"), ("POST", "/executions"), ("DELETE", f"/crews/{crew_id}")):
                answer = client.request(method, path, json=crew_body() if method == "POST" else None)
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
                assert "New disks" in answer.json()["error"]["message"]
                assert answer.headers["retry-after"] == "120"
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            second.socket()
        assert refusal.value.status_code == 503
        assert httpx.get(f"{second.url}/v1/health").json()["status"] == "maintenance"
        # Who runs the server sees how things stand, stops what still runs, and switches the mode off.
        assert other.get("/maintenance").json() == state
        assert ada.put("/maintenance", json={"enabled": False}).status_code == 403
        assert api.get("/metrics").status_code == 200
        assert api.post(f"/executions/{job_id}/stop").json()["status"] == "stopped"
        assert ada.get("/auth/me").status_code == 200
        assert other.put("/maintenance", json={"enabled": False}).json()["since"] is None
        for client in (api, other, ada):
            assert client.get("/crews").status_code == 200


def test_it_outlives_the_server(tmp_path):
    server = start_server(tmp_path / "a", folder=tmp_path / "data")
    with server.client() as api:
        api.put("/maintenance", json={"enabled": True})
    server.close()
    again = start_server(tmp_path / "b", folder=tmp_path / "data", ready="/maintenance")
    try:
        with again.client() as api:
            assert api.get("/crews").status_code == 503
    finally:
        again.close()


def test_health_needs_no_token_and_tells_little(live_server):
    answer = httpx.get(f"{live_server.url}/v1/health")
    assert answer.status_code == 200
    assert set(answer.json()) == {"status", "version"}
    assert answer.json()["status"] == "ok"


def test_figures_for_prometheus_beside_jupyters_own(api, live_server):
    def figures():
        return dict(
            line.rsplit(" ", 1) for line in api.get("/metrics").text.splitlines() if not line.startswith("#")
        )

    before = figures()
    job_id = start(api, new_crew(api, crew_body()))
    wait_for(api, job_id)
    assert api.request("BREW", "/crews").status_code == 405
    ended, end = 'kasal_executions_ended_total{status="completed"}', time.monotonic() + 60
    # It is counted once it is stored, a moment after it has ended.
    while (after := figures()).get(ended) == before.get(ended):
        assert time.monotonic() < end
        time.sleep(0.02)

    def grown(name):
        return float(after[name]) - float(before.get(name, 0))

    assert grown(ended) == 1
    assert grown('kasal_tokens_total{kind="prompt"}') > 0
    assert grown('kasal_http_requests_total{method="POST",route="/executions",status="202"}') == 1
    assert grown('kasal_http_requests_total{method="OTHER",route="/crews",status="405"}') == 1
    assert not [name for name in after if job_id in name]
    assert "process_cpu_seconds_total" in after
    jupyters = api.get(f"{live_server.url}/metrics")
    assert 'kasal_executions_ended_total{status="completed"}' in jupyters.text


def test_every_endpoint_says_whom_it_lets_in(live_server):
    # Jupyter lists those that do not, where it is told to let nobody in otherwise.
    assert "registered for /a%40b/v1" not in live_server.log.read_text()


def test_every_answer_has_its_own_date(api):
    first = api.get("/health").headers["date"]
    end = time.monotonic() + 120
    while api.get("/health").headers["date"] == first:
        assert time.monotonic() < end
        time.sleep(0.05)
