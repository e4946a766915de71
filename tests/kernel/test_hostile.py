"""What a person, a model or a tool says is data: hostile texts through real runs, into every view.

A crew whose every text is hostile runs twice: on the sandbox, which quotes it, and on a server of OpenAI's
kind whose answers and tool calls are hostile too.
"""

import re
from html.parser import HTMLParser

import pytest

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.kernel.runs.result import RunResult
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.view_html import render_live
from kasal_jupyter.kernel.views.view_text import LineView
from tests.kernel.test_views import MARKDOWN as ANSWERS
from tests.sample_crews import new_crew, wait_for
from tests.server import start_server
from tests.servers.openai_server import OpenAIServer, Reply

MARKUP = (
    "</summary></details></div></pre><script>window.owned=1</script><img src=x onerror=window.owned=2>"
    "<svg/onload=window.owned=3><style>*{display:none}</style><details open ontoggle=window.owned=4>"
    '" onmouseover=window.owned=5 style="position:fixed;inset:0" \' autofocus onfocus=\'window.owned=6 '
    "<a href=javascript:window.owned=7>here</a><iframe srcdoc='<script>top.owned=8</script>'></iframe>"
    "&lt;script&gt;window.owned=9&lt;/script&gt;<!-- <![CDATA[ $x$ \\(y\\)"
)
CONTROLS = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\ \x9b31m "
    "\x07 \x08\x08 \x7f\u202egnp.exe\u202c \u2066isolated\u2069 "
    "\u200fabc zero\u200bwidth \ufeff soft\u00adhyphen "
    "\U000e0049\U000e0067\U000e006e\U000e006f\U000e0072\U000e0065 lines\u2028\u2029\x85\x0b\x0cend"
)
HOSTILE = f"{MARKUP} {CONTROLS}"
MARKDOWN = (
    "\n\n**so** [x](javascript:window.owned=10) ![y](http://evil.invalid/pixel.png) <http://evil.invalid/>\n\n"
    "| <b>a</b> |\n|---|\n| $\\href{javascript:window.owned=11}{z}$ |\n"
)
SURROGATE = "\ud800 \udfff"

OURS = {"div", "span", "details", "summary", "pre", "a"} | ANSWERS

UNWANTED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)


def crew(name, model, tool):
    """A crew whose every text is hostile, so far as the API takes it."""
    line = " ".join(HOSTILE.replace("{", "(").replace("}", ")").split())
    agent = " ".join(f"agent {CONTROLS}"[:190].split())
    return {
        "name": f"{name} {MARKUP}"[:190].strip(),
        "agents": [
            {
                "role": line,
                "name": agent,
                "goal": line,
                "backstory": line,
                "model": model,
                "tools": [tool],
            }
        ],
        "tasks": [
            {
                "name": f"task {MARKUP}"[:190].strip(),
                "description": f"{line}. Do it.",
                "expected_output": line,
                "agent": agent,
            }
        ],
    }


@pytest.fixture(scope="module")
def model():
    arguments = {"expression": HOSTILE, HOSTILE: HOSTILE + SURROGATE}
    replies = [
        Reply(HOSTILE, calls=(("calculator", arguments),)),
        Reply(f"{HOSTILE} {SURROGATE}\n" + f"{HOSTILE}\n" * 20 + MARKDOWN),
    ]
    with OpenAIServer(*replies) as server:
        yield server


@pytest.fixture(scope="module")
def hostile_server(model, tmp_path_factory):
    keys = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": model.url}
    server = start_server(tmp_path_factory.mktemp("hostile"), environ=keys)
    yield server
    server.close()


def run_of(server, body):
    """Run a crew to its end; give it as the notebook holds it, and as a terminal prints it."""
    with server.client() as api:
        crew_id = new_crew(api, body)
        answer = api.post("/executions", json={"crew_id": crew_id, "inputs": {"topic": HOSTILE}})
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["job_id"]
        wait_for(api, job_id)
    connection = Connection(server.url, server.token, "the test")
    result, lines = RunResult(job_id), LineView()
    printed = []
    for event in Client(connection).follow(job_id):
        result.feed(event)
        printed += lines.feed(event)
    return result, printed


@pytest.fixture(scope="module", params=["sandbox", "model"])
def run(request, hostile_server):
    if request.param == "sandbox":
        return run_of(hostile_server, crew("Sandbox", "sandbox", "calculator"))
    return run_of(hostile_server, crew("Model", "gpt-4o-mini", "calculator"))


class Skeleton(HTMLParser):
    """Collects a page's tags in order, and its attributes."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.open = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in {"br", "hr"}:
            self.open.append(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def skeleton(html):
    parser = Skeleton()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_the_runs_end_and_what_was_said_is_kept(run):
    result, _ = run
    assert result.status == "completed", result.trace.summary.error
    assert "</details>" in result.output
    assert "\u202e" in result.to_json()
    assert [span.name for span in result.trace.spans.values() if span.kind == "tool"] == ["calculator"]


def test_html_holds_nothing_but_our_own_tags_and_attributes(run):
    result, _ = run
    for html in (result.bundle()["text/html"], render_live(result.trace)):
        found = skeleton(html)
        assert set(found.tags) <= OURS
        assert found.attributes <= {
            *("href", "target", "rel", "aria-level", "start", "border", "cellpadding"),
            *("class", "style", "role", "dir", "title", "open"),
            *("aria-label", "aria-hidden", "aria-live", "aria-busy"),
            *("aria-valuenow", "aria-valuemin", "aria-valuemax"),
        }
        assert not UNWANTED.search(html)


def test_texts_hold_no_control_and_keep_their_lines(run):
    result, printed = run
    text = repr(result)
    assert not UNWANTED.search(text)
    assert not UNWANTED.search("\n".join(printed))
    rows = [line for line in text.split("\n") if "▕" in line]
    assert len(rows) == 1 + sum(span.kind in {"llm", "tool"} for span in result.trace.spans.values())
    assert all("\n" not in line for line in printed[:-1])


def test_what_was_said_is_shown_whole(run):
    result, _ = run
    texts = []
    parser = HTMLParser()
    parser.handle_data = texts.append
    parser.feed(result.bundle()["text/html"])
    shown = "".join(texts)
    assert clean(MARKUP)[:120] in shown
    assert "<U+202E>gnp.exe<U+202C>" in shown
    assert "<U+E0049>" in shown


def test_everything_else_that_a_result_gives_holds_it_as_well(run, tmp_path):
    result, _ = run
    assert result.to_json().encode()
    assert result.to_otel()["resourceSpans"]
    assert "</details>" in result.spans().iloc[-1].text
    found = skeleton(
        result.to_html(tmp_path / "page.html").read_text().split("<body>")[1].split("</body>")[0]
    )
    assert set(found.tags) <= OURS


def test_in_a_browser_no_script_runs_and_the_tree_is_whole(run, browser, tmp_path):
    result, _ = run
    page = browser.new_page()
    said = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: said.append(request.url) if "page.html" not in request.url else None)
    path = result.to_html(tmp_path / "page.html")
    # Without the page's policy as well: a notebook has none.
    path.write_text(re.sub(r"<meta http-equiv[^>]*>", "", path.read_text()))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    for summary in page.locator("summary").all()[:3]:
        summary.hover()
        summary.focus()
    assert page.evaluate("window.owned") is None
    assert said == []
    assert page.evaluate("document.body.children.length") == 1
    assert page.locator("script, img, svg, iframe, form, body style").count() == 0
    assert page.locator("a:not([href^='http']), a:not([rel~='noopener'])").count() == 0
    steps = sum(span.kind in {"llm", "tool"} for span in result.trace.spans.values())
    card = page.locator("[aria-label^='Trace of']")
    assert (
        card.locator("details details > summary", has_text=re.compile("model call|tool call")).count()
        == steps
    )
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width <= 0
    page.close()
