import pytest
from pydantic import ValidationError

from kasal_jupyter.errors import Conflict, NotFound, StoreError
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.store import repository as repository_module


@pytest.fixture
def add(store):
    """Insert documents into their collections."""

    def insert(*documents):
        def work():
            for document in documents:
                name = {"Crew": "crews", "Agent": "agents", "Execution": "executions"}[
                    type(document).__name__
                ]
                getattr(store, name).insert(document)

        store.change_now(work)
        return documents

    return insert


def test_what_was_inserted_is_got_by_its_id(store, add, new_crew):
    (crew,) = add(new_crew(name="Writers"))
    assert store.crews.get(crew.id) == crew
    assert store.crews.get("crew_nobody") is None


def test_an_id_is_there_once(store, add, new_crew):
    (crew,) = add(new_crew())
    with pytest.raises(Conflict, match=crew.id):
        add(new_crew(id=crew.id))
    assert store.crews.count() == 1


def test_documents_are_found_by_indexed_values(store, add, new_execution):
    add(
        new_execution(id="job_1", owner="ada", status="queued"),
        new_execution(id="job_2", owner="ada", status="running", crew_id="crew_2"),
        new_execution(id="job_3", owner="bob", status="running", server="s2"),
    )

    def ids(**criteria):
        return [execution.id for execution in store.executions.find(**criteria)]

    assert ids() == ["job_1", "job_2", "job_3"]
    assert ids(owner="ada") == ["job_1", "job_2"]
    assert ids(owner="ada", status="running") == ["job_2"]
    assert ids(crew_id="crew_2", server="s2") == []
    assert ids(order="newest") == ["job_3", "job_2", "job_1"]
    assert store.executions.count(status="running") == 2
    with pytest.raises(LookupError, match="no index on 'progress'"):
        ids(progress="0")


def test_agents_come_in_their_crew_s_order(store, add, new_agent):
    add(*(new_agent("crew_1", position, id=f"agent_{position}") for position in (2, 0, 1)))
    assert [agent.position for agent in store.agents.find(crew_id="crew_1")] == [0, 1, 2]
    assert [agent.position for agent in store.agents.find(crew_id="crew_1", order="created")] == [2, 0, 1]
    page = store.agents.page(crew_id="crew_1", offset=1, limit=1)
    assert ([agent.position for agent in page.documents], page.total) == ([1], 3)


def test_a_page_reads_its_own_documents_only(store, add, new_crew, monkeypatch):
    add(*(new_crew(name=f"C{n}", owner="ada" if n % 2 else "bob") for n in range(200)))
    decode, bodies = repository_module.decode, []
    monkeypatch.setattr(repository_module, "decode", lambda body: bodies.append(body) or decode(body))

    page = store.crews.page(owner="ada", order="newest", offset=10, limit=5)
    assert [crew.name for crew in page.documents] == ["C179", "C177", "C175", "C173", "C171"]
    assert page.total == 100
    assert store.crews.count(owner="bob") == 100
    assert store.crews.get(page.documents[0].id) == page.documents[0]
    assert len(bodies) == 5 + 1


def test_fields_are_updated(store, add, new_crew, new_agent):
    crew, agent = add(new_crew(), new_agent("crew_1"))
    changed = store.change_now(lambda: store.crews.update(crew.id, {"name": "  Editors ", "version": 2}))
    assert changed == crew.model_copy(update={"name": "Editors", "version": 2}) == store.crews.get(crew.id)

    store.change_now(lambda: store.agents.update(agent.id, {"settings": ModelSettings(temperature=0.5)}))
    assert store.agents.get(agent.id).settings.temperature == 0.5


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"nmae": "Editors"}, TypeError),
        ({"id": "crew_2"}, TypeError),
        ({"name": ""}, ValidationError),
        ({"version": "two"}, ValidationError),
    ],
)
def test_an_update_that_does_not_fit_changes_nothing(store, add, new_crew, fields, error):
    (crew,) = add(new_crew())
    with pytest.raises(error):
        store.change_now(lambda: store.crews.update(crew.id, {"description": "new", **fields}))
    assert store.crews.get(crew.id) == crew


def test_documents_are_replaced(store, add, new_crew):
    (crew,) = add(new_crew(description="long"))
    shorter = new_crew(id=crew.id)
    store.change_now(lambda: store.crews.replace(shorter))
    assert store.crews.get(crew.id) == shorter


def test_what_is_not_there_is_not_changed(store, new_crew):
    with pytest.raises(NotFound, match="crew_nobody"):
        store.change_now(lambda: store.crews.update("crew_nobody", {"name": "x"}))
    with pytest.raises(NotFound, match="crew_nobody"):
        store.change_now(lambda: store.crews.replace(new_crew(id="crew_nobody")))
    assert store.change_now(lambda: store.crews.delete("crew_nobody")) is False


def test_documents_are_deleted(store, add, new_crew, new_agent):
    crew, *_ = add(new_crew(), new_agent("crew_1"), new_agent("crew_1"), new_agent("crew_2"))
    assert store.change_now(lambda: store.crews.delete(crew.id)) is True
    assert store.change_now(lambda: store.agents.delete_where(crew_id="crew_1")) == 2
    assert (store.crews.count(), store.agents.count()) == (0, 1)
    with pytest.raises(TypeError, match="needs a criterion"):
        store.change_now(store.agents.delete_where)
    assert store.agents.count() == 1


def test_what_another_version_stores_beside_the_fields_is_passed_over_and_kept(store, add, new_crew):
    (crew,) = add(new_crew())
    store.db.table("crews").update({"colour": "red"})
    assert store.crews.get(crew.id) == crew
    store.change_now(lambda: store.crews.update(crew.id, {"name": "Editors"}))
    store.change_now(lambda: store.crews.replace(crew))
    assert store.db.table("crews").all()[0]["colour"] == "red"


def test_a_stored_document_that_does_not_fit_is_named(store, add, new_crew):
    (crew,) = add(new_crew())
    store.db.table("crews").update({"version": "many"})
    with pytest.raises(StoreError, match=rf"'{crew.id}' in crews .*version: "):
        store.crews.get(crew.id)


def test_documents_are_changed_within_a_change(store, new_crew):
    for change in (
        lambda: store.crews.insert(new_crew()),
        lambda: store.crews.update("crew_1", {}),
        lambda: store.crews.replace(new_crew()),
        lambda: store.crews.delete("crew_1"),
        lambda: store.crews.delete_where(owner="ada"),
    ):
        with pytest.raises(RuntimeError, match=r"Store\.change"):
            change()


def test_documents_read_share_nothing(store, add, new_execution):
    (execution,) = add(new_execution(inputs={"list": [1]}))
    store.executions.get(execution.id).inputs["list"].append(2)
    store.executions.find(owner="ada")[0].inputs["list"].append(2)
    assert store.executions.get(execution.id).inputs == {"list": [1]}
