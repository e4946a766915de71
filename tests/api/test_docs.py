"""The API's page in a real browser."""

import json
import re
from urllib.parse import urlsplit

import httpx
import pytest

from tests.accounts import log_in


@pytest.fixture
def page(browser):
    """A page that says at its end that nothing was amiss and no other host was asked."""
    page = browser.new_page(viewport={"width": 1200, "height": 400})
    page.set_default_timeout(30_000)
    wrong, hosts = [], set()
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    yield page
    page.close()
    assert wrong == []
    assert hosts - {None, ""} == {"127.0.0.1"}


@pytest.fixture
def few(page, live_server):
    """Let the page show a few operations only, and what they are about: all take it ten seconds."""
    document = httpx.get(f"{live_server.url}/v1/openapi.json").json()
    paths = {path: document["paths"][path] for path in ("/auth/me", "/auth/login", "/crews")}
    components = {kind: dict[str, object]() for kind in document["components"]}
    components["securitySchemes"] = document["components"]["securitySchemes"]
    parts = [paths]
    while parts:
        for kind, name in re.findall(r'"#/components/(\w+)/(\w+)"', json.dumps(parts.pop())):
            if name not in components[kind]:
                components[kind][name] = document["components"][kind][name]
                parts.append(components[kind][name])
    shown = {**document, "paths": paths, "components": components}
    page.route("**/v1/openapi.json", lambda route: route.fulfill(json=shown))


def operation(page, name):
    """Open an operation's box."""
    box = page.locator(f".opblock[id$='-{name}']")
    box.locator(".opblock-summary").click()
    box.locator(".opblock-body").wait_for()
    return box


def answered(box):
    """Send an operation's request as it stands there, and give the answer as it is shown."""
    box.locator(".execute").click()
    answer = box.locator(".live-responses-table .response").first
    answer.wait_for()
    return answer


def me_as_the_page_sees_it(page):
    """Call ``GET /auth/me`` on the page, and give the answer's text."""
    box = operation(page, "get_me")
    box.locator(".try-out__btn").click()
    said = answered(box).inner_text()
    # As it was, for another time.
    box.locator(".btn-clear").click()
    box.locator(".try-out__btn").click()
    box.locator(".opblock-summary").click()
    return said


def create_a_crew(page):
    """Send the example of ``POST /crews``, and give the answer's status."""
    box = operation(page, "create_crew")
    box.locator(".try-out__btn").click()
    return answered(box).locator(".response-col_status").inner_text().split()[0]


def test_all_operations_are_shown_and_called_with_a_token(page, live_server):
    document = httpx.get(f"{live_server.url}/v1/openapi.json").json()
    page.goto(f"{live_server.url}/v1/docs")
    page.locator(".opblock").first.wait_for()
    shown = page.locator(".opblock-tag").all_inner_texts()
    assert [text.splitlines()[0] for text in shown] == [tag["name"] for tag in document["tags"]]
    methods = [method for item in document["paths"].values() for method in item.keys() - {"parameters"}]
    assert page.locator(".opblock").count() == len(methods)
    assert page.locator(".opblock-summary-path", has_text="/crews/").first.is_visible()
    box = operation(page, "create_crew")
    example = box.locator(".opblock-section-request-body .body-param__example").inner_text()
    assert "Content Writer" in example
    assert example.index('"name"') < example.index('"agents"')
    box.locator(".opblock-summary").click()
    with log_in(live_server, "editor") as client:
        token = client.headers["Authorization"].removeprefix("Bearer ")
        page.locator(".btn.authorize").first.click()
        page.locator("#auth-bearer-value").fill(token)
        page.locator(".auth-container", has_text="bearer").get_by_role(
            "button", name="Apply credentials"
        ).click()
        page.keyboard.press("Escape")
        page.locator(".btn-done").first.click()
        assert create_a_crew(page) == "201"
        assert [crew["name"] for crew in client.get("/crews").json()["crews"]] == ["Marketing Crew"]


def test_the_token_in_its_address_is_used_when_the_visitor_says_so_until_somebody_logs_in(
    page, few, live_server
):
    with log_in(live_server, "viewer") as first, log_in(live_server, "viewer") as second:
        token = first.headers["Authorization"].removeprefix("Bearer ")
        sent, logged_in = (client.get("/auth/me").json()["email"] for client in (first, second))
    page.goto(f"{live_server.url}/v1/docs?token={token}")
    offer = page.locator("#offer")
    offer.wait_for()
    assert "token" not in page.url
    assert sent in offer.inner_text()
    offer.get_by_role("button", name="Yes").click()
    page.locator(".btn.authorize.locked").wait_for()
    assert sent in me_as_the_page_sees_it(page)
    box = operation(page, "login")
    box.locator(".try-out__btn").click()
    box.locator("textarea").fill(f'{{"email": "{logged_in}", "password": "secure_password"}}')
    answered(box)
    assert logged_in in me_as_the_page_sees_it(page)


def test_whom_jupyter_has_let_in_needs_no_token_and_is_signed_in_as_nobody_else_by_a_link(
    page, few, live_server
):
    with log_in(live_server, "viewer") as client:
        foreign = client.get("/auth/me").json()["email"]
        token = client.headers["Authorization"].removeprefix("Bearer ")
    # The visitor is in already, by Jupyter's cookie, and follows somebody's link.
    assert page.context.request.get(f"{live_server.url}/login?token={live_server.token}").ok
    page.goto(f"{live_server.url}/v1/docs?token={token}")
    page.locator("#offer").wait_for()
    said = me_as_the_page_sees_it(page)
    assert "200" in said
    assert foreign not in said
    page.locator("#offer").get_by_role("button", name="No").click()
    assert page.locator("#offer").count() == 0
    assert page.locator(".btn.authorize.locked").count() == 0
    assert create_a_crew(page) == "201"


def test_only_its_own_scripts_may_run(live_server):
    policies = []
    for _ in range(2):
        answer = httpx.get(f"{live_server.url}/v1/docs")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        policies.append(answer.headers["content-security-policy"])
        nonce = policies[-1].partition("'nonce-")[2].partition("'")[0]
        assert answer.text.count("<script") == answer.text.count(f'nonce="{nonce}"') == 2
        assert "unsafe" not in policies[-1]
        assert "default-src 'none'" in policies[-1]
    assert policies[0] != policies[1]


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_its_files_come_whole_and_once(live_server, encoding):
    url = f"{live_server.url}/v1/docs/swagger-ui-bundle.js"
    whole = httpx.get(url, headers={"Accept-Encoding": encoding})
    assert whole.status_code == 200
    assert "SwaggerUIBundle" in whole.text
    assert whole.headers.get("content-encoding", "identity") == encoding
    again = httpx.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["swagger-ui.html", "..%2Fdocs.py", "%2Fetc%2Fpasswd", "docs.js%00"])
def test_it_has_no_other_files(live_server, name):
    answer = httpx.get(f"{live_server.url}/v1/docs/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "NOT_FOUND"
