"""The reference's error codes, each from a server that has cause for it, and its format of errors."""

import httpx
import pytest

from tests.accounts import log_in
from tests.reference.world import SANDBOX_TOKEN

FORMAT = {
    "error": {
        "code": "VALIDATION_ERROR",
        "message": "Invalid crew configuration",
        "details": {"field": "agents", "reason": "At least one agent required"},
    }
}
"""The reference's example, word for word."""


def error(answer, status):
    """Give an answer's error, once it is seen to have the reference's format."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["message"]
    return body["error"]


@pytest.fixture
def anybody(world):
    """A client without a token."""
    with httpx.Client(base_url=world.client.base_url, timeout=60) as client:
        yield client


def test_the_references_error_word_for_word(world):
    answer = world.client.post("crews", json={"name": "Marketing Crew", "agents": []})
    assert answer.status_code == 400
    assert answer.json() == FORMAT


def test_400_invalid_parameters(world):
    wrong = error(world.client.get("crews", params={"page": 0}), 400)
    assert (wrong["code"], wrong["details"]["field"]) == ("VALIDATION_ERROR", "page")


def test_401_invalid_or_missing_token(anybody):
    for headers in ({}, {"Authorization": "Bearer eyJ0eXAi.eyJ0eXAi.eyJ0eXAi"}):
        answer = anybody.get("crews", headers=headers)
        assert error(answer, 401)["code"] == "UNAUTHORIZED"
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_401_after_the_logout(world, anybody):
    tokens = anybody.post("auth/login", json={"email": "user@example.com", "password": "secure_password"})
    token = {"Authorization": f"Bearer {tokens.json()['access_token']}"}
    assert anybody.get("crews", headers=token).status_code == 200
    assert anybody.post("auth/logout", headers=token).status_code == 204
    assert error(anybody.get("crews", headers=token), 401)["code"] == "UNAUTHORIZED"


def test_403_insufficient_permissions(world):
    with log_in(world.server, role="viewer") as viewer:
        body = {"name": "Marketing Crew", "agents": [{"role": "Writer", "goal": "Write"}]}
        assert error(viewer.post("/crews", json=body), 403)["code"] == "FORBIDDEN"


def test_404_the_resource_does_not_exist(world):
    for path in ("crews/crew_abc123", "executions/job_qwerty123/traces", "memory/crew_abc123", "nothing"):
        assert error(world.client.get(path), 404)["code"] == "NOT_FOUND"


def test_429_beyond_the_burst_of_the_free_tier(world):
    with log_in(world.server, tier="free") as user:
        answers = [user.get("/crews") for _ in range(101)]
    assert {answer.status_code for answer in answers[:100]} == {200}
    assert error(answers[100], 429)["code"] == "RATE_LIMIT"
    assert 1 <= int(answers[100].headers["Retry-After"]) <= 60
    assert answers[100].headers["X-RateLimit-Remaining"] == "0"


@pytest.mark.parametrize(("tier", "hourly"), [("free", "1000"), ("pro", "10000"), ("enterprise", None)])
def test_the_rate_limits_of_each_tier(world, tier, hourly):
    with log_in(world.server, tier=tier) as user:
        first, second = user.get("/crews").headers, user.get("/crews").headers
    assert first.get("X-RateLimit-Limit") == hourly
    if hourly is not None:
        left = [int(headers["X-RateLimit-Remaining"]) for headers in (first, second)]
        assert left == [int(hourly) - 1, int(hourly) - 2]
        assert 1 <= int(first["X-RateLimit-Reset"]) <= 3600


def test_500_where_the_store_is_damaged(world):
    # The sandbox's: it is a store like the other, and is thrown away anyway.
    with world.server.client() as sandbox:
        sandbox.headers["Authorization"] = f"Bearer {SANDBOX_TOKEN}"
        assert sandbox.get("/crews").status_code == 200
        for file in world.server.folder.glob("sandbox/*/kasal.db*"):
            with file.open("r+b") as opened:
                opened.write(b"no database" * 400)
        body = {"name": "Marketing Crew", "agents": [{"role": "Writer", "goal": "Write"}]}
        assert error(sandbox.post("/crews", json=body), 500)["code"] == "STORE_ERROR"


def test_503_in_maintenance_mode(world):
    with world.server.client() as owner:
        assert owner.put("/maintenance", json={"enabled": True, "retry_after": 60}).status_code == 200
        try:
            answer = world.client.get("crews")
            assert error(answer, 503)["code"] == "SERVICE_UNAVAILABLE"
            assert answer.headers["Retry-After"] == "60"
        finally:
            assert owner.put("/maintenance", json={"enabled": False}).status_code == 200
    assert world.client.get("crews").status_code == 200
