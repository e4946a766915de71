import httpx
import jwt
import pytest

from kasal_jupyter.schemas.base import new_id

PASSWORD = "secure_password"


@pytest.fixture
def new_user(api):
    """Make a user of their own for a test: their body, as it was sent, with the id."""

    def make(**fields):
        body = {"email": f"{new_id('user')}@example.com", "password": PASSWORD, **fields}
        created = api.post("/users", json=body)
        assert created.status_code == 201, created.text
        return {**body, "id": created.json()["id"]}

    return make


@pytest.fixture
def anybody(live_server):
    """A client without a token."""
    with live_server.client() as client:
        del client.headers["Authorization"]
        yield client


@pytest.fixture
def login(anybody):
    def call(user):
        return anybody.post("/auth/login", json={"email": user["email"], "password": user["password"]})

    return call


@pytest.fixture
def client_of(live_server, login):
    """Give a client with a user's token, and the tokens."""
    clients = []

    def make(user):
        tokens = login(user).json()
        clients.append(live_server.client())
        clients[-1].headers["Authorization"] = f"Bearer {tokens['access_token']}"
        return clients[-1], tokens

    yield make
    for client in clients:
        client.close()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_a_login_answers_as_the_reference_does(new_user, login, anybody):
    answer = login(new_user())
    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("access_token").startswith("eyJ")
    assert body.pop("refresh_token").startswith("eyJ")
    assert body == {"token_type": "bearer", "expires_in": 86_400}
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_token_opens_the_api_and_no_more_of_jupyter(new_user, client_of, live_server):
    client, tokens = client_of(new_user())
    assert client.get("/crews").json() == {"crews": [], "total": 0, "page": 1, "per_page": 100}
    with live_server.client() as jupyter:
        jupyter.headers.update(bearer(tokens["access_token"]))
        assert jupyter.get(f"{live_server.url}/api/kernels").status_code == 403
        assert jupyter.get(f"{live_server.url}/api/contents").status_code == 403


def test_a_refresh_answers_as_the_reference_does_and_rotates(new_user, client_of, anybody):
    client, tokens = client_of(new_user())
    answer = anybody.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert answer.status_code == 200
    renewed = answer.json()
    assert renewed["expires_in"] == 86_400
    assert renewed["refresh_token"] != tokens["refresh_token"]
    assert anybody.get("/auth/me", headers=bearer(renewed["access_token"])).status_code == 200

    # The used one comes back: somebody has stolen it, and nothing of the login is good any more.
    answer = anybody.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "UNAUTHORIZED"
    assert client.get("/auth/me").status_code == 401
    assert anybody.get("/auth/me", headers=bearer(renewed["access_token"])).status_code == 401
    answer = anybody.post("/auth/refresh", json={"refresh_token": renewed["refresh_token"]})
    assert answer.status_code == 401


def test_a_logout_revokes_both_tokens(new_user, client_of, anybody):
    client, tokens = client_of(new_user())
    answer = client.post("/auth/logout")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get("/auth/me").status_code == 401
    answer = anybody.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert answer.status_code == 401


def test_who_has_not_logged_in_is_told_how_to_leave(api, new_user, client_of):
    key = client_of(new_user())[0].post("/auth/keys", json={"name": "nightly"}).json()["key"]
    for answer in (api.post("/auth/logout"), api.post("/auth/logout", headers=bearer(key))):
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "VALIDATION_ERROR"
        assert "DELETE /auth/keys/{key_id}" in error["details"]["reason"]


@pytest.mark.parametrize("what", ["none", "cut", "another", "refresh", "key"])
def test_a_token_that_is_not_good_is_401_even_beside_jupyters_cookie(new_user, client_of, live_server, what):
    _, tokens = client_of(new_user())
    token = tokens["access_token"]
    said = jwt.decode(token, options={"verify_signature": False})
    wrong = {
        "none": jwt.encode(said, None, algorithm="none"),
        "cut": token[:-1],
        "another": jwt.encode(said, b"another key of as many bytes ....", algorithm="HS256"),
        "refresh": tokens["refresh_token"],
        "key": "kasal_0123456789",
    }[what]
    with live_server.client() as browser:
        # Jupyter's log-in page leaves a cookie.
        del browser.headers["Authorization"]
        browser.get(f"{live_server.url}/api/status?token={live_server.token}")
        assert browser.get("/crews").status_code == 200
        answer = browser.get("/crews", headers=bearer(wrong))
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "UNAUTHORIZED"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_wrong_credentials_are_401_and_too_many_are_429(new_user, login):
    user = new_user()
    for _ in range(10):
        answer = login({**user, "password": "a guess"})
        assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "The e-mail address or the password is wrong"
    answer = login(user)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "RATE_LIMIT"
    assert 1 <= int(answer.headers["Retry-After"]) <= 1_800


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/auth/login", {"email": "ada@example.com"}, "password"),
        ("/auth/login", {"email": "ada@example.com", "password": ""}, "password"),
        ("/auth/login", {"email": 5, "password": "x"}, "email"),
        ("/auth/login", {"email": "ada@example.com", "password": "x" * 1_025}, "password"),
        ("/auth/login", {"username": "ada", "email": "a@b", "password": "x"}, "username"),
        ("/auth/refresh", {}, "refresh_token"),
        ("/auth/refresh", {"refresh_token": None}, "refresh_token"),
    ],
)
def test_what_is_wrong_with_a_body_is_told_by_field(anybody, path, body, field):
    answer = anybody.post(path, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["details"]["field"]) == ("VALIDATION_ERROR", field)


def test_everybody_is_told_who_they_are(api, new_user, client_of, anybody):
    user = new_user(tier="pro", role="viewer")
    client, _ = client_of(user)
    assert client.get("/auth/me").json() == {
        "id": user["id"],
        "name": user["email"],
        "email": user["email"],
        "role": "viewer",
        "tier": "pro",
        "owner": user["id"],
        "sandbox": False,
    }
    owner = api.get("/auth/me").json()
    assert (owner["id"], owner["owner"], owner["role"], owner["tier"]) == (
        None,
        "jupyter",
        "admin",
        "enterprise",
    )
    assert anybody.get("/auth/me").status_code == 401


def test_the_headers_tell_what_is_left(api, new_user, client_of):
    client, _ = client_of(new_user(tier="free"))
    headers = client.get("/auth/me").headers
    assert headers["X-RateLimit-Limit"] == "1000"
    assert headers["X-RateLimit-Remaining"] == "999"
    assert 1 <= int(headers["X-RateLimit-Reset"]) <= 3_600
    # An answer that refuses something tells it as well.
    assert client.get("/crews/crew_9").headers["X-RateLimit-Remaining"] == "998"
    assert "X-RateLimit-Limit" not in api.get("/auth/me").headers


def test_a_tier_that_is_used_up_is_429(new_user, client_of):
    client, _ = client_of(new_user(tier="free"))
    # At most 200 where a minute ends in between.
    for _ in range(201):
        answer = client.get("/auth/me")
        if answer.status_code == 429:
            break
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "RATE_LIMIT"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["X-RateLimit-Remaining"] == "0"


def test_ones_own_password_is_changed_with_the_old_one(api, new_user, client_of, login):
    user = new_user()
    client, _ = client_of(user)
    answer = client.put("/auth/me", json={"current_password": "a guess", "password": "another one"})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "current_password"
    answer = client.put("/auth/me", json={"current_password": PASSWORD, "password": "short"})
    assert answer.json()["error"]["details"]["field"] == "password"
    answer = client.put("/auth/me", json={"current_password": PASSWORD, "password": "another one"})
    assert answer.status_code == 204
    assert client.get("/auth/me").status_code == 401
    assert login(user).status_code == 401
    assert login({**user, "password": "another one"}).status_code == 200

    answer = api.put("/auth/me", json={"current_password": PASSWORD, "password": "another one"})
    assert answer.status_code == 400
    assert "no password here" in answer.json()["error"]["details"]["reason"]


def test_a_key_is_made_shown_once_listed_and_revoked(new_user, client_of, anybody):
    user = new_user()
    client, _ = client_of(user)
    answer = client.post("/auth/keys", json={"name": "nightly", "expires_at": "2999-01-15T10:30:00+02:00"})
    assert answer.status_code == 201
    made = answer.json()
    key = made.pop("key")
    assert key.startswith("kasal_")
    assert made["expires_at"] == "2999-01-15T08:30:00Z"
    assert anybody.get("/auth/me", headers=bearer(key)).json()["id"] == user["id"]
    # In Jupyter's own way, too.
    assert anybody.get("/auth/me", headers={"Authorization": f"token {key}"}).status_code == 200
    assert anybody.get("/auth/me", params={"token": key}).status_code == 200

    answer = client.get("/auth/keys")
    assert answer.json() == {"keys": [made], "total": 1, "page": 1, "per_page": 100}
    assert key not in answer.text
    assert client.delete(f"/auth/keys/{made['id']}").status_code == 204
    assert anybody.get("/auth/me", headers=bearer(key)).status_code == 401
    assert client.delete(f"/auth/keys/{made['id']}").status_code == 404
    assert client.get("/auth/keys").json()["keys"] == []


def test_keys_are_listed_in_pages_sorted_and_searched(new_user, client_of):
    client, _ = client_of(new_user())
    for name in ("b one", "a two", "c one"):
        client.post("/auth/keys", json={"name": name})

    def names(**query):
        answer = client.get("/auth/keys", params=query).json()
        return [key["name"] for key in answer["keys"]], answer["total"]

    assert names() == (["c one", "a two", "b one"], 3)
    assert names(sort="name", per_page=2) == (["a two", "b one"], 3)
    assert names(sort="name", per_page=2, page=2) == (["c one"], 3)
    assert names(search="ONE", sort="-name") == (["c one", "b one"], 2)
    assert client.get("/auth/keys", params={"sort": "digest"}).status_code == 400


def test_keys_are_ones_own_business_and_an_admins(api, new_user, client_of):
    mine, _ = client_of(new_user())
    other, _ = client_of(new_user())
    key_id = mine.post("/auth/keys", json={"name": "nightly"}).json()["id"]
    assert other.get("/auth/keys").json()["total"] == 0
    assert other.delete(f"/auth/keys/{key_id}").status_code == 404
    assert api.delete(f"/auth/keys/{key_id}").status_code == 204


def test_a_key_of_the_servers_owner_is_the_owner(api, anybody):
    made = api.post("/auth/keys", json={"name": "ci"}).json()
    caller = anybody.get("/auth/me", headers=bearer(made["key"])).json()
    assert (caller["owner"], caller["role"], caller["name"]) == ("jupyter", "admin", "ci")
    assert api.delete(f"/auth/keys/{made['id']}").status_code == 204


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "expires_at": "2020-01-15T10:30:00Z"}, "expires_at"),
        ({"name": "x", "expires_at": "2999-01-15"}, "expires_at"),
        ({"name": "x", "expires_at": 4_102_444_800}, "expires_at"),
    ],
)
def test_a_key_that_is_wrong_is_told_by_field(api, body, field):
    answer = api.post("/auth/keys", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == field


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
    fields = {"id", "email", "tier", "role", "disabled", "created_at", "updated_at", "stored", "limits"}
    assert user.keys() == fields
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
