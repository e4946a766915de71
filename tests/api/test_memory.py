"""What crews remember, over the API."""

import asyncio
import base64
import sqlite3

import pytest

from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.memory.memories import Memories
from kasal_jupyter.memory.parse import PASSAGE
from kasal_jupyter.store.store import Store
from tests.remembering import remember_long, remember_short
from tests.sample_crews import crew_body, is_time, new_crew
from tests.servers.site_server import pdf


@pytest.fixture
def remember(live_server):
    """Has crews remember things, as a process beside the server does."""

    def write(crew_id, short=(), long=()):
        async def main(memories):
            for content in short:
                await remember_short(memories, crew_id, content)
            for category, insight in long:
                await remember_long(memories, crew_id, category, insight)

        with Store.open(live_server.folder, SCHEMAS) as store:
            asyncio.run(main(Memories(store)))

    return write


@pytest.fixture
def crews(api, remember):
    """Two crews that remember alike."""
    made = [new_crew(api, crew_body()) for _ in range(2)]
    for crew_id in made:
        remember(
            crew_id,
            short=["Customer prefers email communication"],
            long=[("preferences", "Weekly reports"), ("preferences", "Email preferred")],
        )
    return made


def test_a_crew_s_memory_as_the_reference_shows_it(api, crews):
    answer = api.get(f"/memory/{crews[0]}")
    assert answer.status_code == 200
    memory = answer.json()
    (short,) = memory["short_term"]
    assert is_time(short.pop("timestamp"))
    assert short == {"content": "Customer prefers email communication"}
    assert memory["long_term"] == [
        {"category": "preferences", "insights": ["Email preferred", "Weekly reports"]}
    ]
    assert memory.keys() == {"short_term", "long_term"}


def test_a_crew_without_memories_has_empty_lists(api):
    crew_id = new_crew(api, crew_body())
    assert api.get(f"/memory/{crew_id}").json() == {"short_term": [], "long_term": []}


@pytest.mark.parametrize(
    ("type_", "left"),
    [("short_term", (0, 1)), ("long_term", (1, 0)), ("all", (0, 0))],
)
def test_clearing_takes_what_is_named_from_one_crew(api, crews, type_, left):
    mine, other = crews
    before = api.get(f"/memory/{other}").json()
    answer = api.post(f"/memory/{mine}/clear", json={"type": type_})
    assert (answer.status_code, answer.content) == (204, b"")
    memory = api.get(f"/memory/{mine}").json()
    assert (len(memory["short_term"]), len(memory["long_term"])) == left
    assert api.get(f"/memory/{other}").json() == before


@pytest.mark.parametrize("body", [{}, {"type": "everything"}, {"type": "all", "crew": "x"}, {"type": None}])
def test_what_is_cleared_must_be_said(api, crews, body):
    answer = api.post(f"/memory/{crews[0]}/clear", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "VALIDATION_ERROR"
    assert len(api.get(f"/memory/{crews[0]}").json()["short_term"]) == 1


def test_the_newest_memories_are_given_first_and_no_more_than_asked_for(api, remember):
    crew_id = new_crew(api, crew_body())
    remember(crew_id, short=[str(number) for number in range(105)])
    given = api.get(f"/memory/{crew_id}").json()["short_term"]
    assert [memory["content"] for memory in given] == [str(number) for number in range(104, 4, -1)]
    assert len(api.get(f"/memory/{crew_id}", params={"limit": 3}).json()["short_term"]) == 3
    assert api.get(f"/memory/{crew_id}", params={"limit": 0}).status_code == 400


def test_a_crew_that_is_not_there_has_no_memory(api):
    assert api.get("/memory/crew_nobody").status_code == 404
    assert api.post("/memory/crew_nobody/clear", json={"type": "all"}).status_code == 404


def test_a_deleted_crew_is_forgotten(api, crews):
    assert api.delete(f"/crews/{crews[0]}").status_code == 204
    assert api.get(f"/memory/{crews[0]}").status_code == 404
    assert len(api.get(f"/memory/{crews[1]}").json()["short_term"]) == 1


def entries(api, crew_id, **query):
    answer = api.get(f"/memory/{crew_id}/entries", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_memory_is_added_shown_changed_and_deleted(api):
    crew_id = new_crew(api, crew_body())
    body = {"type": "long_term", "content": "Email preferred", "category": "preferences"}
    made = api.post(f"/memory/{crew_id}", json=body)
    assert made.status_code == 201
    memory = made.json()
    assert {**memory, **body, "job_id": None} == memory
    assert is_time(memory["created_at"])
    path = f"/memory/{crew_id}/{memory['id']}"
    assert api.get(path).json() == memory
    assert api.put(path, json={"content": "Never phone"}).json() == {"id": memory["id"], "updated": True}
    assert api.get(path).json()["content"] == "Never phone"
    assert api.get(f"/memory/{crew_id}").json()["long_term"] == [
        {"category": "preferences", "insights": ["Never phone"]}
    ]
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404
    assert api.delete(path).status_code == 404
    assert entries(api, crew_id)["total"] == 0


def test_a_memory_is_only_its_own_crew_s(api, crews):
    mine, other = crews
    memory = entries(api, mine)["memories"][0]
    path = f"/memory/{other}/{memory['id']}"
    assert api.get(path).status_code == 404
    assert api.put(path, json={"content": "x"}).status_code == 404
    assert api.delete(path).status_code == 404
    assert entries(api, mine)["total"] == 3


def test_memories_are_listed_one_by_one(api, crews):
    crew_id = crews[0]
    everything = entries(api, crew_id)
    assert (everything["total"], everything["page"], everything["per_page"]) == (3, 1, 100)
    assert [memory["content"] for memory in everything["memories"]] == [
        "Email preferred",
        "Weekly reports",
        "Customer prefers email communication",
    ]
    assert entries(api, crew_id, type="short_term")["total"] == 1
    assert [m["content"] for m in entries(api, crew_id, search="weekly")["memories"]] == ["Weekly reports"]
    page = entries(api, crew_id, per_page=1, page=2, sort="created_at")
    assert [memory["content"] for memory in page["memories"]] == ["Weekly reports"]


def test_memories_are_searched_by_what_they_say(api, crews):
    answer = api.get(f"/memory/{crews[0]}/search", params={"query": "Which reports does the customer want?"})
    assert answer.status_code == 200
    found = answer.json()
    assert found["remark"] is None
    assert {hit["content"] for hit in found["hits"]} == {
        "Weekly reports",
        "Customer prefers email communication",
    }
    for hit in found["hits"]:
        assert hit.keys() == {"id", "type", "content", "category", "created_at", "score"}
        assert 0 < hit["score"] <= 1
    only = api.get(f"/memory/{crews[0]}/search", params={"query": "email", "type": "short_term", "limit": 1})
    assert [hit["type"] for hit in only.json()["hits"]] == ["short_term"]
    assert api.get(f"/memory/{crews[0]}/search", params={"query": "birthday cake"}).json()["hits"] == []


def test_what_is_forgotten_is_found_no_more(api, live_server):
    crew_id = new_crew(api, crew_body())
    secret = "The safe opens with zanzibar"
    body = {"type": "short_term", "content": secret}

    def found():
        hits = api.get(f"/memory/{crew_id}/search", params={"query": "zanzibar safe"}).json().get("hits", [])
        return secret in {hit["content"] for hit in hits}

    for forget in (
        lambda made: api.delete(f"/memory/{crew_id}/{made['id']}"),
        lambda made: api.put(f"/memory/{crew_id}/{made['id']}", json={"content": "The safe is gone"}),
        lambda _: api.post(f"/memory/{crew_id}/clear", json={"type": "short_term"}),
        lambda _: api.delete(f"/crews/{crew_id}"),
    ):
        made = api.post(f"/memory/{crew_id}", json=body).json()
        assert found()
        assert forget(made).status_code < 300
        assert not found()
    with sqlite3.connect(live_server.folder / "kasal.db") as connection:
        left = connection.execute(
            "SELECT count(*) FROM memory_texts WHERE instr(record, CAST('zanzibar' AS BLOB))"
        )
        assert left.fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"type": "long_term", "content": "x"}, "category"),
        ({"type": "short_term", "content": "x", "category": "y"}, "category"),
        ({"content": " ", "category": "y"}, "content"),
        ({"content": "x" * 10_001, "category": "y"}, "content"),
        ({"content": "x", "category": "a\nb"}, "category"),
        ({"content": "x", "category": "y", "type": "medium_term"}, "type"),
        ({"content": "x", "category": "y", "id": "memory_1"}, "id"),
        ({"category": "y"}, "content"),
    ],
)
def test_a_wrong_memory_is_refused_by_field(api, crews, body, field):
    answer = api.post(f"/memory/{crews[0]}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == field
    assert entries(api, crews[0])["total"] == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [({"content": None}, "content"), ({"content": ""}, "content"), ({"type": "long_term"}, "type")],
)
def test_a_wrong_change_is_refused_by_field(api, crews, body, field):
    memory = entries(api, crews[0])["memories"][0]
    answer = api.put(f"/memory/{crews[0]}/{memory['id']}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == field


def test_a_short_term_memory_is_about_nothing(api, crews):
    (memory,) = entries(api, crews[0], type="short_term")["memories"]
    answer = api.put(f"/memory/{crews[0]}/{memory['id']}", json={"category": "x"})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "category"


def test_the_nearest_comes_first_whatever_it_is(api):
    crew_id = new_crew(api, {"name": "Nearest", "agents": [{"role": "R", "goal": "G"}]})
    api.post(f"/memory/{crew_id}", json={"content": "Green tea sells well", "category": "market"})
    text = "Weekly prices of green tea in Zanzibar"
    api.post(f"/crews/{crew_id}/knowledge", json={"name": "prices.txt", "text": text})
    found = api.get(f"/memory/{crew_id}/search", params={"query": text}).json()["hits"]
    assert [hit["type"] for hit in found] == ["knowledge", "long_term"]
    assert found[0]["score"] > found[1]["score"]


@pytest.mark.parametrize(
    "query", [{}, {"query": " "}, {"query": "x", "limit": 0}, {"query": "x", "type": "y"}]
)
def test_a_wrong_search_is_refused(api, crews, query):
    assert api.get(f"/memory/{crews[0]}/search", params=query).status_code == 400


# What crews are given to know, over the API.


@pytest.fixture
def crew_id(api):
    """A crew that knows nothing yet."""
    return new_crew(api, crew_body())


def give(api, crew_id, **body):
    answer = api.post(f"/crews/{crew_id}/knowledge", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def encoded(data):
    return base64.b64encode(data).decode()


def found(api, crew_id, text):
    answer = api.get(f"/memory/{crew_id}/search", params={"query": text, "type": "knowledge"})
    return [(hit["category"], hit["content"]) for hit in answer.json()["hits"]]


def test_a_text_is_given_listed_read_found_and_deleted(api, crew_id):
    source = give(api, crew_id, name="returns", text="Returns are free for 30 days.\n\nAbroad they are not.")
    assert is_time(source.pop("created_at"))
    assert {
        **source,
        "name": "returns",
        "media_type": "text/plain",
        "characters": 51,
        "passages": 1,
    } == source
    path = f"/crews/{crew_id}/knowledge"
    listed = api.get(path).json()
    assert [each["id"] for each in listed["sources"]] == [source["id"]]
    whole = api.get(f"{path}/{source['id']}").json()
    assert [each["content"] for each in whole["passages"]] == [
        "Returns are free for 30 days.\n\nAbroad they are not."
    ]
    assert found(api, crew_id, "For how many days is a return free?")[0][0] == "returns"
    assert api.delete(f"{path}/{source['id']}").status_code == 204
    assert api.get(f"{path}/{source['id']}").status_code == 404
    assert api.get(path).json()["total"] == 0
    assert found(api, crew_id, "For how many days is a return free?") == []


FILES = {
    "notes.txt": (b"\xef\xbb\xbfThe caf\xc3\xa9 opens at nine", "text/plain", "café opens at nine"),
    "latin.txt": ("Das Café öffnet um neun".encode("latin-1"), "text/plain", "Café öffnet um neun"),
    "wide.txt": ("The café opens at nine".encode("utf-16"), "text/plain", "café opens at nine"),
    "guide.md": (b"# Caf\xc3\xa9\n\nIt opens at nine.", "text/markdown", "Café\nIt opens at nine."),
    "hours.csv": (b"place,opens\r\nCafe,nine\r\nBar,ten\r\n", "text/csv", "place: Cafe; opens: nine"),
    "hours.tsv": (b"place\topens\nCafe\tnine\nBar\tten\n", "text/csv", "place: Cafe; opens: nine"),
    "hours.json": (
        b'[{"place": "Cafe", "opens": "nine"}, {"place": "Bar", "opens": ["ten", "six"]}]',
        "application/json",
        "place: Cafe; opens: nine",
    ),
    "hours.jsonl": (b'{"place": "Cafe"}\n{"place": "Bar"}\n', "application/json", "place: Cafe\nplace: Bar"),
    "page.html": (
        (
            b"<html><head><title>Hours</title><style>p {color: red}</style></head><body><nav>Menu</nav>"
            b"<p>The cafe opens at nine.</p><script>alert(1)</script></body></html>"
        ),
        "text/html",
        "The cafe opens at nine.",
    ),
    "hours.pdf": (pdf("The cafe opens at nine"), "application/pdf", "The cafe opens at nine"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_what_its_name_says(api, crew_id, name):
    data, media_type, text = FILES[name]
    source = give(api, crew_id, name=name, content=encoded(data))
    assert source["media_type"] == media_type
    whole = api.get(f"/crews/{crew_id}/knowledge/{source['id']}").json()
    told = "\n".join(each["content"] for each in whole["passages"])
    assert text in told
    assert "alert" not in told
    assert "color" not in told
    assert found(api, crew_id, "When does the cafe open? Hours of the café; wann öffnet es?")[0][0] == name


def test_a_file_may_say_itself_what_it_is(api, crew_id):
    source = give(api, crew_id, name="data", content=encoded(b"a,b\n1,2\n"), media_type="text/csv")
    whole = api.get(f"/crews/{crew_id}/knowledge/{source['id']}").json()
    assert whole["passages"][0]["content"] == "a: 1; b: 2"


def test_a_source_of_the_same_name_is_replaced(api, crew_id):
    first = give(api, crew_id, name="prices", text="Tea costs 3 euros")
    second = give(api, crew_id, name="prices", text="Tea costs 4 euros")
    assert second["id"] == first["id"]
    assert found(api, crew_id, "What does tea cost?") == [("prices", "Tea costs 4 euros")]
    assert api.get(f"/crews/{crew_id}/knowledge").json()["total"] == 1


def test_a_long_text_is_given_in_pages_of_passages(api, crew_id):
    text = " ".join(f"Sentence {number} tells of the number {number}." for number in range(500))
    source = give(api, crew_id, name="long", text=text)
    path = f"/crews/{crew_id}/knowledge/{source['id']}"
    page = api.get(path, params={"per_page": 2, "page": 2}).json()
    assert (page["total"], len(page["passages"])) == (source["passages"], 2)
    whole = api.get(path).json()["passages"]
    assert page["passages"] == whole[2:4]
    assert max(len(each["content"]) for each in whole) <= PASSAGE
    assert "Sentence 217 tells" in found(api, crew_id, "sentence number 217")[0][1]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x"}, "text"),
        ({"name": "x", "text": "a", "content": "YQ=="}, "text"),
        ({"name": "", "text": "a"}, "name"),
        ({"text": "a"}, "name"),
        ({"name": "x", "text": " \n"}, "text"),
        ({"name": "x.txt", "content": "no base64!"}, "content"),
        ({"name": "x.exe", "content": "YQ=="}, "media_type"),
        ({"name": "x", "content": "YQ=="}, "media_type"),
        ({"name": "x.txt", "content": "YQ==", "media_type": "image/png"}, "media_type"),
        ({"name": "x.txt", "content": encoded(b"\x00\x01\x02")}, "content"),
        ({"name": "x.json", "content": encoded(b"{broken")}, "content"),
        ({"name": "x.json", "content": encoded(b"[" * 100_000)}, "content"),
        ({"name": "x.pdf", "content": encoded(b"no pdf")}, "content"),
        ({"name": "x.pdf", "content": encoded(b"%PDF-1.4\nnothing")}, "content"),
        ({"name": "x.html", "content": encoded(b"<html><script>1</script></html>")}, "content"),
        ({"name": "x.csv", "content": encoded(b"\n\n")}, "content"),
    ],
)
def test_what_cannot_be_read_is_refused_by_field(api, crew_id, body, field):
    answer = api.post(f"/crews/{crew_id}/knowledge", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["details"]["field"] == field
    assert api.get(f"/crews/{crew_id}/knowledge").json()["total"] == 0


def test_a_file_that_is_too_large_is_refused(api, crew_id):
    answer = api.post(f"/crews/{crew_id}/knowledge", json={"name": "x", "text": "x" * 2_200_000})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "body"


def test_knowledge_is_its_own_crew_s_and_goes_with_it(api, crew_id):
    other = new_crew(api, crew_body())
    source = give(api, crew_id, name="ours", text="Our secret is tea")
    path = f"/crews/{other}/knowledge/{source['id']}"
    assert api.get(path).status_code == 404
    assert api.delete(path).status_code == 404
    assert found(api, other, "our secret tea") == []
    assert api.delete(f"/crews/{crew_id}").status_code == 204
    assert api.get(f"/crews/{crew_id}/knowledge").status_code == 404
    assert api.get("/crews/crew_nobody/knowledge").status_code == 404
    assert api.post("/crews/crew_nobody/knowledge", json={"name": "x", "text": "x"}).status_code == 404


def test_clearing_the_memory_leaves_the_knowledge(api, crew_id):
    give(api, crew_id, name="ours", text="Our secret is tea")
    assert api.post(f"/memory/{crew_id}/clear", json={"type": "all"}).status_code == 204
    assert found(api, crew_id, "our secret tea") == [("ours", "Our secret is tea")]
