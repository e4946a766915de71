"""`web_page` and `http_request`, called as an agent calls them, against real servers on loopback."""

import json

import pytest

from kasal_jupyter.tools import readable
from kasal_jupyter.tools.builtin import http_request, web_page
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.tools.tool import ToolContext, find_tool
from tests.servers.endpoint_server import redirect, reply
from tests.servers.hostile_server import hostile_server
from tests.servers.site_server import site_server


@pytest.fixture(scope="module")
def site():
    with site_server() as running:
        yield running


@pytest.fixture(scope="module")
def hostile():
    with hostile_server() as running:
        yield running


@pytest.fixture
def context(tmp_path):
    return ToolContext(tmp_path, HostGuard(["127.0.0.1"]))


@pytest.fixture
def page(context, site):
    return lambda path, **arguments: find_tool("web_page").run(context, url=f"{site.url}{path}", **arguments)


@pytest.fixture
def request_(context):
    return lambda url, **arguments: find_tool("http_request").run(context, url=url, **arguments)


# -- web_page ------------------------------------------------------------------------------------------


def test_of_a_page_there_is_its_text_and_nothing_around_it(page):
    text = page("/tea")
    assert text.startswith("# All about tea")
    assert "Boil the water, wait a little" in text
    assert "| Green | 2 |" in text
    for left_out in ("by a script", "color: red", "Our shop", "nobody reads", "/making", "<p>"):
        assert left_out not in text


def test_links_are_kept_where_they_are_wanted(page, site):
    assert f"]({site.url}/making)" in page("/tea", links=True)


def test_a_redirect_leads_to_the_page(page):
    assert "Boil the water" in page("/moved")


def test_a_page_without_an_article_still_has_its_words(page):
    assert page("/form").split() == ["#", "Log", "in", "Name"]


def test_the_page_says_its_encoding_where_the_server_does_not(page):
    assert "Grüner Tee schmeckt" in page("/latin")


def test_a_long_page_is_read_on(page):
    first = page("/long")
    assert first.rstrip().endswith("start=50000 gives what follows.]")
    second = page("/long", start=50_000)
    third = page("/long", start=100_000)
    said = "".join(part.partition("\n[It goes on")[0] for part in (first, second, third))
    assert said.count("A line of the page that goes on and on, so that there is much of it.") == 1_600
    with pytest.raises(ValueError, match="start must be smaller"):
        page("/long", start=10_000_000)


@pytest.mark.parametrize(
    ("path", "text"), [("/data", '{"price": 17.5}'), ("/plain", "only text"), ("/feed", "<rss>")]
)
def test_what_is_text_already_comes_as_it_is(page, path, text):
    assert text in page(path)


def test_a_pdf_is_read_page_by_page(page):
    assert page("/paper") == "[Page 1]\nTea (Camellia) in numbers\n\n[Page 2]\nThe end"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/scan", "has no text"),
        ("/broken", "cannot be read"),
        ("/picture", r"no page to read: 10 bytes of image/png"),
        (
            "/gone",
            "answered 404 Not Found: # There is no such tea|answered 404 Not Found: There is no such tea",
        ),
    ],
)
def test_what_cannot_be_read_is_said(page, path, reason):
    with pytest.raises(ValueError, match=reason):
        page(path)


@pytest.mark.parametrize("path", ["/tea", "/paper"])
def test_what_others_have_written_is_parsed_in_a_limited_process(page, path, monkeypatch):
    def here(*_args, **_options):
        raise AssertionError("parsed in the run's own process")

    monkeypatch.setattr(readable, "page_text", here)
    monkeypatch.setattr(readable, "pdf_text", here)
    assert "Tea" in page(path) or "tea" in page(path)
    monkeypatch.setattr(readable, "SECONDS", 0.01)
    with pytest.raises(ValueError, match=r"cannot be read: It took longer than 0\.01 seconds\. Look for"):
        page(path)


def test_an_empty_page_is_no_failure(page):
    assert page("/empty").endswith("has no text.]")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "http://x:port/", "  "]
)
def test_only_web_addresses_are_read(context, url):
    with pytest.raises(ValueError, match=r"address|unsupported|scheme|Invalid"):
        find_tool("web_page").run(context, url=url)


# -- http_request --------------------------------------------------------------------------------------


def test_a_request_is_sent_as_it_is_described(request_, server):
    said = request_(
        f"{server.url}/orders?all=yes",
        method="POST",
        headers={"X-Request-Id": "r-1"},
        query={"tag": ["green", "black"], "fresh": True},
        json={"tea": "oolong", "grams": 50},
    )
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/orders")
    assert asked.query == {"all": ["yes"], "tag": ["green", "black"], "fresh": ["true"]}
    assert asked.headers["x-request-id"] == "r-1"
    assert asked.headers["content-type"] == "application/json"
    assert asked.json() == {"tea": "oolong", "grams": 50}
    assert said.startswith("HTTP 200 OK\nURL: ")
    assert "content-type: application/json" in said
    assert json.loads(said.rpartition("\n\n")[2])["method"] == "POST"


def test_a_body_is_sent_as_it_is(request_, server):
    request_(server.url, method="PUT", body="grün", headers={"Content-Type": "text/plain; charset=utf-8"})
    assert server.asked[0].body == "grün".encode()
    assert server.asked[0].headers["content-type"] == "text/plain; charset=utf-8"


def test_null_is_a_value_of_json_where_an_agent_leaves_it_out(request_, server):
    request_(server.url, method="POST", json=None)
    assert server.asked[0].body == b""


def test_other_statuses_are_answers_too(request_, server):
    server.replies["/"] = reply("too much", 429, Retry_After="3", Set_Cookie="secret=1", X_RateLimit_Left="0")
    said = request_(server.url)
    assert said.startswith("HTTP 429 Too Many Requests")
    assert "retry-after: 3" in said
    assert "x-ratelimit-left: 0" in said
    assert "cookie" not in said
    assert said.endswith("too much")


def test_what_is_no_text_is_told_by_its_size(request_, server):
    server.replies["/"] = reply(b"\0\1\2", content_type="application/octet-stream")
    assert request_(server.url).endswith("[3 bytes of application/octet-stream, which is no text.]")
    server.replies["/"] = reply(b"", 204, content_type=None)
    assert request_(server.url).endswith("[Nothing.]")


def test_what_an_agent_puts_in_a_header_stays_with_the_host(request_, server, elsewhere):
    server.replies["/"] = redirect(f"{elsewhere.url}/end")
    request_(server.url, headers={"X-Token": "of-this-host", "Cookie": "session=1"})
    assert "of-this-host" not in str(elsewhere.asked)
    assert "session=1" not in str(elsewhere.asked)
    assert elsewhere.asked[0].path == "/end"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"method": "TRACE"}, "TRACE"),
        ({"method": "POST", "json": 1, "body": "1"}, "either json or body"),
        ({"headers": {"Host": "localhost"}}, "belongs to the request itself"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "belongs to the request itself"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "no header"),
        ({"headers": {"X A": "a"}}, "no header"),
        ({"timeout": 500}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"method": "POST", "body": "x" * 1_000_001}, "body"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_nothing_is_sent(request_, server, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        request_(server.url, **arguments)
    assert server.asked == []


# -- servers that do their worst -----------------------------------------------------------------------


@pytest.fixture(params=["web_page", "http_request"])
def tool(request, monkeypatch):
    monkeypatch.setattr(web_page, "TIMEOUT", 0.5)
    monkeypatch.setattr(http_request, "TIMEOUT", 0.5)
    return find_tool(request.param)


def test_without_leave_this_machine_is_out_of_reach(tool, hostile, tmp_path):
    before = len(hostile.asked)
    with pytest.raises(ValueError, match="this machine; only public hosts"):
        tool.run(ToolContext(tmp_path), url=f"{hostile.url}/data")
    assert len(hostile.asked) == before


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/metadata", "link-local network"),
        ("/home", "this machine"),
        ("/mapped", "link-local network"),
        ("/file", "no web address"),
        ("/round", "more than 5 times"),
        ("/drip", r"within 0\.5 seconds"),
        ("/silent", r"within 0\.5 seconds"),
        ("/headers", "connection to 127.0.0.1 failed|makes no sense"),
        ("/garbage", "connection to 127.0.0.1 failed|makes no sense"),
    ],
)
def test_no_server_leads_astray_or_holds_up(tool, hostile, context, path, reason):
    with pytest.raises(ValueError, match=reason):
        tool.run(context, url=f"{hostile.url}{path}")


@pytest.mark.parametrize("path", ["/endless", "/bomb"])
def test_no_server_fills_the_memory(tool, hostile, context, path):
    try:
        text = tool.run(context, url=f"{hostile.url}{path}")
    except ValueError as error:
        # Zeros are no page.
        text = str(error)
    assert len(text) < 60_000


def test_headers_that_are_shown_are_bounded(hostile, context):
    text = find_tool("http_request").run(context, url=f"{hostile.url}/many")
    assert len(text) < 15_000
    assert text.endswith("hello")


def test_a_name_that_moves_to_this_machine_after_it_was_looked_at_is_called_where_it_was(
    tool, site, tmp_path
):
    """A rebinding name: the first answer is allowed, each one after it is the machine itself."""
    answers = ["127.0.0.1", "127.0.0.3"]
    asked = []

    def resolve(host, _port):
        asked.append(host)
        return [answers.pop(0) if len(answers) > 1 else answers[0]]

    context = ToolContext(tmp_path, HostGuard(["127.0.0.1"], resolve))
    assert "17.5" in tool.run(context, url=f"http://rebinding.example:{site.port}/data")
    assert asked == ["rebinding.example"]
    with pytest.raises(ValueError, match="no public host"):
        tool.run(context, url=f"http://rebinding.example:{site.port}/data")
