"""Lists that are cut, searched and sorted by SQL give what looking at each document would."""

import itertools

import pytest

from kasal_jupyter.store.repository import Selection

NAMES = [
    "Tea",
    "tea house",
    "ÄRGER",
    "Ärger im Büro",
    "Straße",
    "STRASSE 5",
    'a "quote" AND b',
    "100%_x",
    "ab",
    "",
]
RESULTS = [None, "The end of tea", "x" * 1_000 + "needle", "line one\nline two", "NULL\0inside", "İstanbul"]
SEARCHES = [
    *(
        "tea",
        "TEA",
        "ärger",
        "ÄRG",
        "straße",
        "strasse",
        '"quote"',
        'quote" AND',
        "%_",
        "a",
        "e",
        "ab",
        "needle",
    ),
    *(
        "one\nline",
        "l\0i",
        "i̇stanbul",
        "İST",
        "no such thing",
        "tea house of",
        "x" * 200,
        "NEAR(a b)",
        "*",
        "''",
    ),
]


@pytest.fixture
def executions(store, new_execution):
    def insert():
        for n, (name, result) in enumerate(itertools.product(NAMES, RESULTS)):
            store.executions.insert(
                new_execution(
                    id=f"job_{n}",
                    owner="ada" if n % 3 else "bob",
                    crew_id=f"crew_{n % 4}",
                    crew_name=name,
                    result=result,
                    status=("completed", "failed")[n % 2],
                    duration=None if n % 5 == 0 else n % 7 / 2,
                    created_at=f"2024-01-{1 + n // 3:02}T10:30:00Z",
                )
            )

    store.change_now(insert)
    return store.executions


def looked_through(documents, wanted):
    """Give the list as looking at each document gives it."""
    rows = [(n, document.dump()) for n, document in enumerate(documents)]
    found = [(n, row) for n, row in rows if wanted.takes(row)]
    found.sort(key=lambda each: wanted.place(wanted.value(each[1], each[0])), reverse=wanted.descending)
    if wanted.sort == "created_at" and wanted.descending:
        found.sort(key=lambda each: -each[0])
    return [row["id"] for _, row in found]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_finds_what_contains_the_text_whatever_its_case(executions, search):
    for searched in (("crew_name",), ("result",), ("crew_name", "result")):
        wanted = Selection(sort="created_at", search=search, searched=searched)
        expected = looked_through(executions.find(), wanted)
        found = executions.select(wanted)
        assert [each.id for each in found.documents] == expected
        assert found.total == len(expected)


@pytest.mark.parametrize("sort", ["created_at", "crew_name", "duration"])
@pytest.mark.parametrize("descending", [False, True])
def test_lists_are_sorted_and_cut(executions, sort, descending):
    cuts = [
        {},
        {"equal": {"status": "failed"}},
        {"least": {"created_at": "2024-01-05T10:30:00Z"}, "below": {"created_at": "2024-01-10T10:30:00Z"}},
        {"search": "tea", "searched": ("crew_name",)},
    ]
    for cut, criteria in itertools.product(
        cuts, [{}, {"owner": "ada"}, {"owner": "ada", "crew_id": "crew_1"}]
    ):
        whole = Selection(sort=sort, descending=descending, **cut)
        expected = looked_through(executions.find(**criteria), whole)
        assert [each.id for each in executions.select(whole, **criteria).documents] == expected
        page = executions.select(
            Selection(sort=sort, descending=descending, offset=2, limit=3, **cut), **criteria
        )
        assert ([each.id for each in page.documents], page.total) == (expected[2:5], len(expected))


@pytest.mark.parametrize("sort", ["created_at", "crew_name", "duration"])
@pytest.mark.parametrize("descending", [False, True])
def test_what_is_not_stored_yet_stands_in_the_place_of_what_is(executions, sort, descending):
    changed = {"crew_name": "Tea", "status": "failed", "duration": 1.5}
    newer = {
        each.id: each.model_copy(update=changed) for each in executions.find(owner="ada") if each.id < "job_3"
    }
    cuts = [{}, {"equal": {"status": "failed"}}, {"search": "tea", "searched": ("crew_name", "result")}]
    for cut in cuts:
        whole = Selection(sort=sort, descending=descending, **cut)
        now = [newer.get(each.id, each) for each in executions.find(owner="ada")]
        expected = looked_through(now, whole)
        found = executions.select(whole, newer, owner="ada")
        assert ([each.id for each in found.documents], found.total) == (expected, len(expected))
        part = Selection(sort=sort, descending=descending, offset=3, limit=4, **cut)
        assert [each.id for each in executions.select(part, newer, owner="ada").documents] == expected[3:7]


def test_a_list_reads_no_documents_but_those_it_gives(executions, store):
    """All else is in its index, so that it takes as long at 20,000 as others do at 1,000."""
    asked = []
    rows = store._engine.rows
    for wanted in (
        Selection(sort="crew_name", descending=True, limit=3),
        Selection(sort="created_at", equal={"status": "failed"}, least={"created_at": "2024-01-05"}, limit=3),
        Selection(sort="duration", search="tea", searched=("crew_name",), limit=3),
    ):
        for criteria in ({}, {"owner": "ada"}):
            store._engine.rows = lambda sql, parameters=(): (
                asked.append((sql, parameters)) or rows(sql, parameters)
            )
            executions.select(wanted, **criteria)
            store._engine.rows = rows
    plans = [
        detail.decode()
        for sql, parameters in asked
        for *_, detail in rows(f"EXPLAIN QUERY PLAN {sql}", parameters)
        if "doc_executions" in detail.decode()
    ]
    assert any("COVERING INDEX doc_executions/lists" in plan for plan in plans)
    read = [plan for plan in plans if "COVERING INDEX" not in plan]
    assert all("USING INTEGER PRIMARY KEY (rowid=?)" in plan for plan in read)


def test_what_no_index_has_is_refused(store):
    with pytest.raises(LookupError, match="not cut or sorted by 'goal'"):
        store.crews.select(Selection(sort="goal"))
    with pytest.raises(LookupError, match="no search in 'owner'"):
        store.crews.select(Selection(sort="name", search="x", searched=("owner",)))


def test_what_is_searched_follows_every_change(store, new_crew):
    crew = new_crew(name="Tea party")

    def found(text):
        wanted = Selection(sort="name", search=text, searched=("name", "description"))
        return [each.id for each in store.crews.select(wanted).documents]

    store.change_now(lambda: store.crews.insert(crew))
    assert found("PARTY") == [crew.id]
    store.change_now(lambda: store.crews.update(crew.id, {"description": "with scones"}))
    assert found("party") == found("Scones") == [crew.id]
    store.change_now(lambda: store.crews.replace(crew.model_copy(update={"name": "Coffee"})))
    assert (found("party"), found("coffee")) == ([], [crew.id])
    store.change_now(lambda: store.crews.delete_where(owner="ada"))
    assert found("coffee") == found("cof") == []
