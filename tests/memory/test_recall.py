"""Recall: what is near comes first, what is not does not come."""

import pytest

from kasal_jupyter.memory.build import build_index
from kasal_jupyter.memory.index import FILE_NAME
from kasal_jupyter.memory.recall import Recall
from kasal_jupyter.memory.record import Record
from kasal_jupyter.schemas.spec import RunEmbedder
from tests.memory.conftest import records
from tests.memory.retrieval import ASKED, KNOWN


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A recall over the whole set."""
    folder = tmp_path_factory.mktemp("known")
    build_index(folder, records(*KNOWN), "r", None, seconds=1)
    recall = Recall(folder, RunEmbedder())
    yield recall
    recall.close()


@pytest.mark.parametrize(("question", "place"), ASKED, ids=range(len(ASKED)))
def test_a_question_in_other_forms_finds_its_answer_first(known, question, place):
    assert known.search(question).hits[0].record.content == KNOWN[place]


@pytest.mark.parametrize(
    "question",
    [
        "Bake a cake for a birthday party",
        "Fix the segmentation fault in the parser",
        "Traduce el poema al latín",
    ],
)
def test_what_nothing_is_near_to_finds_nothing(known, question):
    assert known.search(question).hits == []


def test_the_context_counts_less_than_the_task(found):
    known = records("Batteries became cheaper", "Translations take three days")
    hits = found(known, "Write about batteries", "Translations, translations: how many days?").hits
    assert hits[0].record.content == "Batteries became cheaper"
    hits = found(known, "Write the article", "Batteries became cheaper in March").hits
    assert [hit.record.content for hit in hits] == ["Batteries became cheaper"]


def test_scores_are_between_0_and_1_and_fall(known):
    for question, _ in ASKED:
        scores = [hit.score for hit in known.search(question).hits]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score <= 1 for score in scores)


def test_memories_come_before_knowledge_each_with_its_own_limit(found):
    known = [
        *(Record(f"s{n}", "short_term", f"Solar run number {n}", None, "t") for n in range(9)),
        *(Record(f"k{n}", "knowledge", f"Solar chapter {n} of the book", "book.md", "t") for n in range(9)),
    ]
    kinds = [hit.record.kind for hit in found(known, "solar", limit=3).hits]
    assert kinds == ["short_term"] * 3 + ["knowledge"] * 3
    assert {hit.record.kind for hit in found(known, "solar", kinds=("knowledge",)).hits} == {"knowledge"}


def test_what_says_the_same_is_recalled_once_and_the_newest(found):
    known = records(*["The printer on the second floor is broken"] * 4, "The printer is new")
    ids = [hit.record.id for hit in found(known, "printer broken").hits]
    assert ids == ["3", "4"]


def test_a_source_s_name_is_searched_as_well(found):
    known = records("It costs 40 euros a month", kind="knowledge", category="fibre-contract.md")
    assert len(found(known, "What does the fibre contract say?").hits) == 1


@pytest.mark.parametrize("text", ["", " ", "the of and", "?!", "\0", "💥" * 50, "x" * 100_000, "\ud800"])
def test_any_text_may_be_asked(known, text):
    found = known.search(text, text)
    assert found.remark == ""


def test_a_crew_without_a_file_finds_nothing(tmp_path, open_recall):
    found = open_recall(tmp_path / "none").search("anything")
    assert (found.hits, found.remark) == ([], "")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"something else",
        lambda data: data[: len(data) // 2],
        lambda data: data[:8] + b"\xff\xff\xff\x7f" + data[12:],
        lambda data: data[:20] + b"}" + data[21:],
        lambda data: data + b"more",
    ],
)
def test_a_file_that_is_none_is_told_of_and_made_again(tmp_path, open_recall, spoil):
    build_index(tmp_path, records(*KNOWN), "r", None, seconds=1)
    file = tmp_path / FILE_NAME
    file.write_bytes(spoil(file.read_bytes()))
    found = open_recall(tmp_path).search("customer Meyer")
    assert found.hits == []
    assert "cannot be searched" in found.remark
    build_index(tmp_path, records(*KNOWN), "r", None, seconds=1)
    assert open_recall(tmp_path).search("customer Meyer").hits


def test_a_run_goes_on_with_the_index_it_began_with(tmp_path, open_recall):
    build_index(tmp_path, records(*KNOWN), "r", None, seconds=1)
    begun = open_recall(tmp_path)
    build_index(tmp_path, records("Nothing of that"), "r2", None, seconds=1)
    assert begun.search("customer Meyer email").hits[0].record.content == KNOWN[0]
    assert open_recall(tmp_path).search("customer Meyer email").hits == []
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
