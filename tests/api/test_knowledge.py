"""What crews are given to know, over the API."""

import base64

import pytest

from kasal_jupyter.memory.parse import PASSAGE
from tests.sample_crews import crew_body, is_time, new_crew
from tests.servers.site_server import pdf


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
