"""`%kasal memory` and `%kasal knowledge` in a real kernel, and memories in the views of a trace."""

import bleach
import pytest

from kasal_jupyter.events.trace import build_trace
from kasal_jupyter.kernel.views.rows import recalled_note
from kasal_jupyter.kernel.views.view_html import render_html, render_live
from kasal_jupyter.kernel.views.view_text import LineView, render_text
from tests.kernel.test_views import HOSTILE, events
from tests.kernels import kernel_of
from tests.sample_crews import crew_body, run

NAME = "Remembering Crew"


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        yield running


@pytest.fixture(scope="module")
def crew_id(live_server):
    """A crew that has run, and remembers it."""
    with live_server.client() as api:
        return run(api, {**crew_body(NAME), "memory": True})[0]


def shown(kernel, code):
    cell = kernel.run(code)
    assert cell.status == "ok", cell.error
    return cell.shown[0]["text/plain"]


def test_what_a_crew_remembers_is_a_table_short_term_first(kernel, crew_id):
    head, *rows = shown(kernel, f"%kasal memory '{NAME}'").splitlines()
    assert head.split() == ["memory", "about", "when", "what", "id"]
    assert [row[:10] for row in rows] == ["short term", "short term", "long term ", "long term "]
    assert "Research tea (Researcher): [sandbox] Researcher on" in "\n".join(rows)
    assert all("memory_" in row for row in rows)


def test_words_search_in_it(kernel, crew_id):
    head, *rows = shown(kernel, f"%kasal memory '{NAME}' what did the research on tea say").splitlines()
    assert head.split() == ["near", "from", "about", "what", "id"]
    assert 0 < float(rows[0].split()[0]) <= 1
    assert shown(kernel, f"%kasal memory '{NAME}' birthday cake") == f"{NAME} remembers nothing near to that"


def test_it_is_added_to_and_cleared_and_single_memories_forgotten(kernel, crew_id, api):
    added = kernel.run(f"%kasal memory '{NAME}' --add 'Email preferred' --about preferences").text
    memory_id = added.split()[-1]
    assert api.get(f"/memory/{crew_id}/{memory_id}").json()["category"] == "preferences"
    assert memory_id in kernel.run(f"%kasal memory '{NAME}' --forget {memory_id}").text
    assert api.get(f"/memory/{crew_id}/{memory_id}").status_code == 404
    assert kernel.run(f"%kasal memory '{NAME}' --clear short_term").status == "ok"
    memory = api.get(f"/memory/{crew_id}").json()
    assert memory["short_term"] == []
    assert memory["long_term"] != []


def test_files_are_given_shown_and_taken_away(kernel, crew_id, tmp_path, api):
    (tmp_path / "prices.csv").write_text("tea,price\nSencha,7\n", "utf-8")
    assert "prices.csv" in shown(kernel, f"%kasal knowledge '{NAME}' --add {tmp_path}/prices.csv")
    head, row = shown(kernel, f"%kasal knowledge '{NAME}'").splitlines()
    assert head.split()[:3] == ["source", "what", "it"]
    assert row.split()[:3] == ["prices.csv", "text/csv", "1"]
    assert "tea: Sencha; price: 7" in shown(kernel, f"%kasal knowledge '{NAME}' --show prices.csv")
    assert "prices.csv" in shown(kernel, f"%kasal memory '{NAME}' price of sencha")
    assert kernel.run(f"%kasal knowledge '{NAME}' --remove prices.csv").status == "ok"
    assert api.get(f"/crews/{crew_id}/knowledge").json()["total"] == 0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("memory '{}' --about x", "--about goes with --add"),
        ("memory '{}' --add x --clear all", "One at a time"),
        ("memory '{}' words --add x words", "One at a time"),
        ("memory '{}' --clear everything", "everything"),
        ("memory '{}' --forget memory_nothing", "has no memory memory_nothing"),
        ("memory '{}' --type knowledge", "%kasal knowledge"),
        ("knowledge '{}' --add nowhere.txt", "nowhere.txt cannot be read: No such file or directory"),
        ("knowledge '{}' --remove nothing", "was given no 'nothing'"),
        ("knowledge '{}' --name x", "--name goes with --add"),
    ],
)
def test_what_is_wrong_is_a_readable_line(kernel, crew_id, line, told):
    cell = kernel.run(f"%kasal {line.format(NAME)}")
    assert cell.status == "error"
    assert told in cell.error
    assert "Traceback" not in cell.error


def remembering(content="Reports must name sources", remark=None):
    """A run that recalls and remembers something."""
    whole = events()
    kept = {"id": "memory_1", "type": "long_term", "content": content, "category": content}
    at = next(place for place, event in enumerate(whole) if event["type"] == "agent_start")
    recalled = {
        "type": "memory_recalled",
        "span_id": 2,
        "parent_id": 1,
        "query": "q",
        "duration_ms": 1.5,
        "memories": [{**kept, "score": 0.5}, {**kept, "type": "knowledge", "score": 0.4}],
        **({"remark": remark} if remark else {}),
    }
    stored = {"type": "memory_stored", "memories": [kept]}
    told = [*whole[: at + 1], recalled, *whole[at + 1 : -1], stored, whole[-1]]
    span = {"task_id": "task_1", "task": "Find the facts", "agent": "Analyst", "job_id": "job_1"}
    return [
        {**span, **event, "seq": seq, "time": f"2026-11-24T12:00:{seq:02}.000000Z"}
        for seq, event in enumerate(told, 1)
    ]


def test_every_view_tells_of_them():
    run = remembering()
    trace = build_trace(run)
    html = render_html(trace)
    assert "recalled 1 memory, 1 passage" in html
    assert "will remember 1 memory" in html
    assert html.count("Reports must name sources") >= 3
    assert "recalled 1 memory, 1 passage" in render_live(build_trace(run[:6]))
    text = render_text(trace, width=140)
    assert "recalled 1 memory, 1 passage" in text
    assert "✎ will remember 1 memory: [long term · Reports must name sources]" in text
    view = LineView()
    lines = [line.rstrip() for event in run for line in view.feed(event)]
    assert "│  ├─ ✎ recalled 1 memory, 1 passage · 1.5 ms" in lines
    assert "├─ ✎ will remember 1 memory" in lines


def test_where_words_were_compared_that_is_told():
    assert (
        recalled_note({"memories": [], "remark": "Compared by words: it is down"})
        == "recalled by words alone"
    )
    assert "it is down" in render_html(build_trace(remembering(remark="Compared by words: it is down")))
    assert recalled_note({"memories": []}) == ""


def test_what_is_remembered_stays_data_in_every_view():
    trace = build_trace(remembering(HOSTILE))
    html = render_html(trace)
    assert "<script" not in html
    assert "<img" not in html
    assert "\x1b" not in html + render_text(trace)
    assert "\u202e" not in html + render_text(trace)
    cleaned = bleach.clean(html, tags={"details", "summary", "div", "span", "pre"})
    assert "alert(1)" in cleaned
    view = LineView()
    assert "\x1b" not in "\n".join(line for event in remembering(HOSTILE) for line in view.feed(event))
