"""`web_search` by each engine, against servers on loopback that speak as the engines do."""

import socket
from contextlib import suppress

import ddgs.engines
import pytest
from ddgs.engines.duckduckgo import Duckduckgo

from kasal_jupyter.schemas.spec import RunSearch, RunToolSettings
from kasal_jupyter.tools.builtin import web_search as search
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.tools.tool import ToolContext, find_tool
from tests.servers.endpoint_server import redirect, reply
from tests.servers.search_server import KEY, search_server

FOUND = """\
1. Green tea
   https://example.com/tea
   What there is to know about tea

2. Oolong
   https://example.com/oolong
   Half way to black tea"""


@pytest.fixture
def engines():
    with search_server() as running:
        yield running


@pytest.fixture
def look_for(engines, tmp_path):
    """Searches by an engine of the server."""

    def look(query="tea", *, engine="searxng", guard=None, base_url=None, api_key=KEY, guarded=False, **more):
        settings = RunToolSettings(
            search=RunSearch(
                engine=engine, base_url=base_url or engines.url, api_key=api_key, guarded=guarded
            )
        )
        context = ToolContext(tmp_path, guard or HostGuard(), settings)
        return find_tool("web_search").run(context, query=query, **more)

    return look


@pytest.mark.parametrize("engine", ["searxng", "tavily", "brave"])
def test_each_engine_gives_titles_addresses_and_texts(look_for, engine):
    assert look_for(engine=engine) == FOUND


def test_the_query_and_how_many_are_asked_for(look_for, engines):
    look_for("tea & milk", engine="tavily", max_results=3)
    assert engines.asked[-1].json() == {"query": "tea & milk", "max_results": 3}
    look_for("tea & milk", engine="brave", max_results=3)
    assert engines.asked[-1].query == {"q": ["tea & milk"], "count": ["3"]}
    look_for("tea & milk", engine="searxng")
    assert engines.asked[-1].query == {"q": ["tea & milk"], "format": ["json"]}


def test_no_more_are_given_than_were_asked_for(look_for, engines):
    engines.results *= 20
    assert look_for(max_results=3).count("https://") == 3
    with pytest.raises(ValueError, match="max_results"):
        look_for(max_results=21)
    with pytest.raises(ValueError, match="query"):
        look_for("  ")


def test_markup_of_an_engine_is_left_out(look_for, engines):
    engines.results = [("Tea", "https://example.com/", "x & y <b>")]
    assert look_for(engine="brave").splitlines()[-1] == "   x & y"


def test_where_nothing_is_found_that_is_the_answer(look_for, engines):
    engines.results = []
    assert look_for() == "Nothing was found for 'tea'; try other words."


@pytest.mark.parametrize(
    ("engine", "status", "reason"),
    [
        ("searxng", 403, "format json"),
        ("tavily", 401, "key that is stored for it is wrong"),
        ("brave", 429, "no more searches for now"),
        ("tavily", 432, "no more searches for now"),
        ("brave", 500, r"answered 500 Internal Server Error: no, not with \[secret\]"),
    ],
)
def test_a_refusal_is_told_without_the_key(look_for, engines, engine, status, reason):
    engines.status = status
    with pytest.raises(ValueError, match=reason) as refused:
        look_for(engine=engine)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("engine", ["tavily", "brave"])
def test_a_wrong_key_is_told(look_for, engine):
    with pytest.raises(ValueError, match="key that is stored"):
        look_for(engine=engine, api_key="another-key")


@pytest.mark.parametrize(
    "body",
    ["<html>Log in</html>", "[1, 2]", '{"results": [1, {"title": "x"}, null]}', "[" * 1_000_000],
    ids=["page", "list", "nulls", "deep"],
)
def test_an_answer_that_makes_no_sense_is_no_crash(look_for, engines, body):
    engines.http.replies["/search"] = reply(body, content_type="application/json")
    try:
        assert look_for().startswith("Nothing was found")
    except ValueError as error:
        assert "makes no sense" in str(error)  # noqa: PT017 - either is right


def test_an_address_that_a_user_has_given_is_held_to_the_rules(look_for, engines):
    with pytest.raises(ValueError, match=r"this machine; .* KasalApp\.allowed_hosts"):
        look_for(guarded=True)
    assert engines.asked == []
    assert look_for(guarded=True, guard=HostGuard(["127.0.0.1"])) == FOUND


def test_an_engine_of_the_deployers_leads_nowhere_else_on_the_network(look_for, engines):
    engines.http.replies["/search"] = redirect("http://127.0.0.2:1/")
    with pytest.raises(ValueError, match=r"127\.0\.0\.2 is this machine"):
        look_for()


def test_an_engine_that_is_not_there_is_told(look_for, engines):
    with pytest.raises(ValueError, match=r"connection to 127\.0\.0\.1 failed"):
        look_for(base_url="http://127.0.0.1:9")
    assert engines.asked == []


# -- the public engines, by ddgs: the real library, one of whose engines is on loopback ------------------

PAGE = """<html><body><div class="links_main"><h2><a href="{url}">Green tea</a></h2>
<a class="result__snippet" href="{url}">What there is to know about tea</a></div></body></html>"""


@pytest.fixture
def keyless(tmp_path):
    return lambda query="tea": find_tool("web_search").run(ToolContext(tmp_path), query=query)


@pytest.fixture
def one_engine(engines, monkeypatch):
    """The one public engine that there is: DuckDuckGo, on loopback, asked in this process."""
    monkeypatch.setitem(ddgs.engines.ENGINES, "text", {"duckduckgo": Duckduckgo})
    monkeypatch.setattr(Duckduckgo, "search_url", f"{engines.url}/html/")
    monkeypatch.setattr(search, "confined", lambda _function, given, **_limits: search.answer_ddgs(given))
    return engines.http


def test_without_a_key_the_public_engines_are_asked(keyless, one_engine):
    one_engine.replies["/html/"] = reply(
        f"<html><body><div class='body'><h2>Green tea</h2><a href='https://example.com/tea'>"
        f"What there is to know about tea</a></div></body></html>{PAGE.format(url='https://example.com/tea')}",
        content_type="text/html",
    )
    said = keyless("green tea")
    assert "https://example.com/tea" in said
    assert "Green tea" in said
    (asked,) = one_engine.asked
    assert b"q=green+tea" in asked.body or b"q=green%20tea" in asked.body


def test_public_engines_that_find_nothing_are_no_failure(keyless, one_engine):
    one_engine.replies["/html/"] = reply("<html><body>No luck</body></html>", content_type="text/html")
    assert keyless().startswith("Nothing was found")


# -- in the limited process that their pages are read in, where only a proxy leads to them ----------------


def test_without_the_internet_the_agent_is_told(keyless, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="public search engines cannot be reached"):
        keyless()


def test_public_engines_that_do_not_answer_are_given_up_with_their_process(keyless, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        proxy.settimeout(0)
        # Where the machine is busy, its process may not have begun to ask within three seconds.
        for seconds in (3.0, 30.0):
            monkeypatch.setattr(search, "TIMEOUT", seconds)
            with pytest.raises(ValueError, match=f"nothing that can be read within {seconds:.0f} seconds"):
                keyless()
            with suppress(BlockingIOError):
                connection, _ = proxy.accept()
                break
        # Somebody has come, and is gone.
        connection.settimeout(60)
        with connection:
            while connection.recv(4_096):
                pass
