import httpx
import pytest

from kasal_jupyter.schemas.base import new_id

PASSWORD = "secure_password"


@pytest.fixture
def email():
    return f"{new_id('user')}@example.com"


@pytest.fixture
def user(api, email):
    answer = api.post("/users", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201
    return answer.json()


@pytest.fixture
def as_user(live_server):
    """Log a user in, and give a client with their token."""
    clients = []

    def make(email, password=PASSWORD):
        answer = httpx.post(
            f"{live_server.url}/v1/auth/login", json={"email": email, "password": password}, timeout=60
        )
        if answer.status_code != 200:
            return answer
        clients.append(live_server.client())
        clients[-1].headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_a_user_is_made_and_shown_without_their_password(api, email):
    answer = api.post(
        "/users",
        json={"email": email.upper(), "password": PASSWORD, "tier": "pro", "role": "admin"},
    )
    assert answer.status_code == 201
    user = answer.json()
    assert user.keys() == {"id", "email", "tier", "role", "disabled", "created_at", "updated_at", "stored"}
    assert (user["email"], user["tier"], user["role"], user["disabled"]) == (email, "pro", "admin", False)
    # Admins may store any amount.
    assert user["stored"] == {"bytes": 0, "most_bytes": None, "crews": 0, "most_crews": None}
    assert api.get(f"/users/{user['id']}").json() == user
    assert "argon2" not in api.get("/users").text


def test_an_address_is_taken_once(api, user):
    answer = api.post("/users", json={"email": user["email"], "password": PASSWORD})
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert (error["code"], error["details"]["field"]) == ("CONFLICT", "email")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"email": "ada"}, "email"),
        ({"password": "1234567"}, "password"),
        ({"password": "x" * 1_025}, "password"),
        ({"tier": "gold"}, "tier"),
        ({"role": "root"}, "role"),
        ({"password_hash": "x"}, "password_hash"),
        ({"id": "user_1"}, "id"),
    ],
)
def test_what_is_wrong_is_told_by_field(api, email, wrong, field):
    answer = api.post("/users", json={"email": email, "password": PASSWORD, **wrong})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["details"]["field"]) == ("VALIDATION_ERROR", field)
    assert PASSWORD not in answer.text


def test_users_are_listed_in_pages_sorted_searched_and_filtered(api):
    mark = new_id("mark")
    for name, tier in (("b", "free"), ("a", "pro"), ("c", "free")):
        api.post("/users", json={"email": f"{name}@{mark}.local", "password": PASSWORD, "tier": tier})

    def names(**query):
        answer = api.get("/users", params={"search": mark, **query}).json()
        return [each["email"][0] for each in answer["users"]], answer["total"]

    assert names() == (["c", "a", "b"], 3)
    assert names(sort="email", per_page=2) == (["a", "b"], 3)
    assert names(sort="email", per_page=2, page=2) == (["c"], 3)
    assert names(sort="-email", tier="free") == (["c", "b"], 2)
    assert names(role="admin") == ([], 0)
    assert api.get("/users", params={"sort": "password_hash"}).status_code == 400


def test_a_change_holds_from_the_next_request_on(api, user, as_user):
    client = as_user(user["email"])
    answer = api.put(f"/users/{user['id']}", json={"role": "viewer", "tier": "pro"})
    assert answer.status_code == 200
    changed = answer.json()
    assert (changed["role"], changed["tier"], changed["email"]) == ("viewer", "pro", user["email"])
    answer = client.get("/auth/me")
    assert (answer.json()["role"], answer.headers["X-RateLimit-Limit"]) == ("viewer", "10000")

    assert api.put(f"/users/{user['id']}", json={"password": "another one"}).status_code == 200
    assert client.get("/auth/me").status_code == 401
    assert as_user(user["email"]).status_code == 401
    assert as_user(user["email"], "another one").get("/auth/me").status_code == 200


@pytest.mark.parametrize("by_delete", [True, False])
def test_a_disabled_user_is_out_at_once_until_enabled(api, user, as_user, by_delete):
    client = as_user(user["email"])
    key = client.post("/auth/keys", json={"name": "nightly"}).json()["key"]
    if by_delete:
        answer = api.delete(f"/users/{user['id']}")
        assert (answer.status_code, answer.content) == (204, b"")
    else:
        assert api.put(f"/users/{user['id']}", json={"disabled": True}).json()["disabled"] is True
    assert api.get(f"/users/{user['id']}").json()["disabled"] is True
    assert client.get("/auth/me").status_code == 401
    assert as_user(user["email"]).status_code == 401
    client.headers["Authorization"] = f"Bearer {key}"
    assert client.get("/auth/me").status_code == 401

    assert api.put(f"/users/{user['id']}", json={"disabled": False}).json()["disabled"] is False
    assert client.get("/auth/me").status_code == 200
    assert as_user(user["email"]).get("/auth/me").status_code == 200


def test_an_update_that_is_wrong_changes_nothing(api, user):
    other = api.post("/users", json={"email": f"{new_id('user')}@lab", "password": PASSWORD}).json()
    path = f"/users/{user['id']}"
    assert api.put(path, json={"role": "viewer", "email": other["email"]}).status_code == 409
    answer = api.put(path, json={"role": None})
    assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (400, "role")
    assert api.put(path, json={"password": "short"}).status_code == 400
    assert api.get(path).json() == user


def test_a_user_who_is_not_there_is_404(api):
    for answer in (
        api.get("/users/user_9"),
        api.put("/users/user_9", json={"role": "viewer"}),
        api.delete("/users/user_9"),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == "There is no user user_9"


def test_users_are_an_admins_business(api, email, user, as_user):
    client = as_user(user["email"])
    path = f"/users/{user['id']}"
    for answer in (
        client.get("/users"),
        client.post("/users", json={"email": email, "password": PASSWORD}),
        # Also with a body that is wrong, and of oneself.
        client.post("/users", json={}),
        client.get(path),
        client.put(path, json={"role": "admin"}),
        client.delete(path),
        client.delete("/users/user_9"),
    ):
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "FORBIDDEN"
    api.put(path, json={"role": "admin"})
    assert client.get("/users").status_code == 200
