"""Kasal on JupyterHub: who gets in where, through the hub's proxy."""

import json
import re

import httpx
import websocket

from tests.hub.hub import cookie
from tests.hub.kernels import execute, running_kernel
from tests.sample_crews import ENDED, crew_body, new_crew, start, wait_for


def xsrf(session, user):
    """Give the header with which a page of the user's server shows that it is one."""
    return {"X-XSRFToken": cookie(session, "_xsrf", f"/user/{user}/")}


def cookies(session, path):
    """Give the Cookie header that a browser sends to a path."""
    return "; ".join(
        f"{each.name}={each.value}" for each in session.cookies.jar if path.startswith(each.path)
    )


def test_a_users_token_opens_the_users_own_server(alice, bob):
    for server in (alice, bob):
        with server.client() as api:
            assert api.get("/crews").status_code == 200


def test_a_users_token_opens_nobody_elses_server(alice, bob):
    for server, stranger in ((alice, bob), (bob, alice)):
        with server.client(stranger.token) as api:
            for answer in (api.get("/crews"), api.post("/crews", json=crew_body("Not mine"))):
                assert answer.status_code in {401, 403}
                assert answer.json()["error"]["code"] in {"UNAUTHORIZED", "FORBIDDEN"}


def test_each_user_has_crews_of_their_own(alice, bob):
    with alice.client() as hers, bob.client() as his:
        her_crew = new_crew(hers, crew_body("Alice's crew"))
        his_crew = new_crew(his, crew_body("Bob's crew"))
        assert her_crew in {crew["id"] for crew in hers.get("/crews").json()["crews"]}
        assert [crew["id"] for crew in his.get("/crews").json()["crews"]] == [his_crew]
        assert his.get(f"/crews/{her_crew}").status_code == 404
    assert alice.folder.is_dir()
    assert bob.folder.is_dir()


def test_who_sends_nothing_is_asked_for_a_token(alice):
    answer = httpx.get(f"{alice.url}/v1/crews")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "UNAUTHORIZED"


def test_the_apis_page_works_behind_the_proxy(alice):
    with alice.client() as client:
        page = client.get("/docs")
        assert "'nonce-" in page.headers["content-security-policy"]
        files = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
        assert len(files) == 4
        for name in files:
            # As a browser takes it, from the page's own address.
            assert client.get(page.url.join(name)).status_code == 200
        document = client.get(page.url.join("openapi.json")).json()
        assert client.get(f"{page.url.join(document['servers'][0]['url'])}/health").status_code == 200


def test_a_page_of_the_users_server_may_write(alices_browser, alice):
    created = alices_browser.post(
        "/crews", json=crew_body("From a page"), headers=xsrf(alices_browser, "alice")
    )
    assert created.status_code == 201, created.text
    with alice.client() as api:
        assert api.get(f"/crews/{created.json()['id']}").json()["name"] == "From a page"


def test_a_page_of_another_site_may_not(alices_browser):
    # A browser sends the cookies along, and can't know what belongs into the header.
    for headers in ({}, {"X-XSRFToken": "guessed"}):
        answer = alices_browser.post("/crews", json=crew_body("Forged"), headers=headers)
        assert answer.status_code in {401, 403}
        assert answer.json()["error"]["code"] in {"UNAUTHORIZED", "FORBIDDEN"}
    assert "Forged" not in alices_browser.get("/crews").text


def test_a_script_of_a_page_reads_with_the_header(alices_browser):
    fetch = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
    assert alices_browser.get("/crews", headers=fetch | xsrf(alices_browser, "alice")).status_code == 200
    assert alices_browser.get("/crews", headers=fetch).status_code in {401, 403}


def test_a_users_cookies_open_nobody_elses_server(hub, alices_browser, bob):
    every_cookie = {"Cookie": cookies(alices_browser, "/user/alice/")}
    answer = httpx.get(f"{bob.url}/v1/crews", headers=every_cookie)
    assert answer.status_code in {401, 403}


def test_a_wrong_token_is_not_mended_by_a_cookie(alices_browser):
    assert alices_browser.get("/crews").status_code == 200
    for wrong in ("Bearer wrong", "token wrong", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.wrong"):
        answer = alices_browser.get("/crews", headers={"Authorization": wrong})
        assert answer.status_code == 401, wrong


def test_a_run_is_followed_through_the_proxy(alice):
    with alice.client() as api:
        connection = alice.socket()
        job_id = start(api, new_crew(api, crew_body("Followed")))
        connection.send(json.dumps({"type": "subscribe", "job_id": job_id}))
        events = [json.loads(connection.recv())]
        while events[-1].get("status") not in ENDED:
            events.append(json.loads(connection.recv()))
        connection.close()
        assert events[-1]["status"] == "completed"
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert wait_for(api, job_id)["result"] == events[-1]["result"]


def knows(server, *messages, **options):
    """Say whether a server's WebSocket lets a client in that connects like this and sends this first."""
    try:
        connection = server.socket(**options)
    except websocket.WebSocketBadStatusException as refused:
        if refused.status_code not in {401, 403}:
            raise
        return False
    for message in (*messages, {"type": "subscribe", "job_id": "job_nope"}):
        connection.send(json.dumps(message))
        answer = json.loads(connection.recv())
        if answer.get("code") == "UNAUTHORIZED":
            break
    connection.close()
    assert answer["code"] in {"NOT_FOUND", "UNAUTHORIZED"}
    return answer["code"] == "NOT_FOUND"


def test_the_websocket_knows_the_users_own_pages(hub, alices_browser, alice, bob):
    sent = [f"Cookie: {cookies(alices_browser, '/user/alice/')}"]
    assert knows(alice, header=sent, origin=hub.url)
    assert not knows(alice, header=sent, origin="http://elsewhere.example")
    assert not knows(bob, header=sent, origin=hub.url)
    assert not knows(alice, header=[])
    assert not knows(bob, header=[f"Authorization: Bearer {alice.token}"])


def test_the_websocket_takes_the_users_token_as_a_first_message(alice, bob):
    elsewhere = {"header": [], "origin": "http://elsewhere.example"}
    assert knows(alice, {"type": "auth", "token": alice.token}, **elsewhere)
    assert not knows(alice, {"type": "auth", "token": bob.token}, **elsewhere)


def test_a_users_guest_gets_in_with_a_login_of_the_api_alone(alice, bob):
    # The guest is nobody to the hub; its owner, alice, gives the guest an account of the API.
    account = {"email": "guest@example.com", "password": "the guest's own"}
    with alice.client() as hers:
        assert hers.post("/users", json=account | {"tier": "pro", "role": "editor"}).status_code == 201
        her_crew = new_crew(hers, crew_body("Not the guest's"))
    tokens = httpx.post(f"{alice.url}/v1/auth/login", json=account).json()
    with alice.client(tokens["access_token"]) as guests:
        crew_id = new_crew(guests, crew_body("The guest's"))
        assert [crew["id"] for crew in guests.get("/crews").json()["crews"]] == [crew_id]
        assert guests.get(f"/crews/{her_crew}").status_code == 404
        job_id = start(guests, crew_id)
        connection = alice.socket(header=[f"Authorization: Bearer {tokens['access_token']}"])
        connection.send(json.dumps({"type": "subscribe", "job_id": job_id}))
        assert json.loads(connection.recv())["job_id"] == job_id
        connection.close()
        assert wait_for(guests, job_id)["status"] == "completed"
        assert guests.delete(f"/crews/{crew_id}").status_code == 204
        # It opens the API and nothing else, and nothing of anybody else's.
        for path in ("/api/contents", "/api/kernels"):
            assert guests.get(f"{alice.url}{path}").status_code in {302, 401, 403}
    with bob.client(tokens["access_token"]) as guests:
        assert guests.get("/crews").status_code == 401


def test_a_kernel_finds_its_users_server(alice):
    with alice.client() as api, running_kernel(alice) as kernel_id:
        new_crew(api, crew_body("For the notebook"))
        code = "from kasal_jupyter.client.finding import find_server; print(find_server().url)"
        # Straight to the server, not through the proxy, which a kernel need not know.
        found = execute(alice, kernel_id, code).strip()
        assert found.endswith("/user/alice")
        assert found != alice.url
        code = (
            '%load_ext kasal_jupyter\nresult = %kasal run "For the notebook" topic=tea\nprint(result.job_id)'
        )
        job_id = execute(alice, kernel_id, code).split()[-1]
        assert api.get(f"/executions/{job_id}").json()["status"] == "completed"
