"""The books: each run once, whatever happens to it, and read without looking at a single execution."""

import asyncio

import pytest

from kasal_jupyter.events.summary import summarise
from kasal_jupyter.executions.ledger import book_past_runs, settle
from kasal_jupyter.executions.recovery import recover
from kasal_jupyter.executions.usage_report import Span, booked, usage_list
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.schemas.executions import Execution
from kasal_jupyter.schemas.usage import LedgerEntry, Usage, UsageBreakdown, UsageQuery, UsageShare
from kasal_jupyter.store import layout as codec
from kasal_jupyter.store import table
from kasal_jupyter.store.store import Store
from tests.events.samples import answer, queued, span, status, usage


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path, SCHEMAS) as opened:
        yield opened


def execution(number, *, owner="ada", crew="crew_1", day="2024-01-15", **fields):
    return Execution(
        id=f"job_{number:06}",
        crew_id=crew,
        crew_name=f"The {crew}",
        owner=owner,
        server="server_gone",
        progress=0,
        inputs={},
        created_at=f"{day}T10:30:00Z",
        **{"status": "running", **fields},
    )


def run_events(*costs, day="2024-01-15", model="m"):
    """A run that asks a model once for each cost."""
    events = [queued("one"), status("running")]
    for number, cost in enumerate(costs):
        events += [
            span("llm_call", number, model=model),
            answer(number, None, usage(10, 5), cost=cost) | {"model": model},
        ]
    events.append(status("completed", result="r"))
    return [event | {"time": day + event["time"][10:]} for event in events]


def test_nonsense_that_older_versions_have_booked_counts_for_nothing(store):
    nonsense = {"prompt_tokens": -7, "total_tokens": -(2**40), "cost": -1.0, "unknown_costs": -3}
    share = UsageShare.model_construct(key="m", name="m", **Usage.model_construct(**nonsense).model_dump())

    def book():
        store.ledger.insert(
            LedgerEntry.model_construct(
                id="2024-01-15/ada/crew_1",
                day="2024-01-15",
                owner="ada",
                crew_id="crew_1",
                crew_name="The crew_1",
                runs=1,
                usage=Usage.model_construct(**nonsense),
                by=UsageBreakdown.model_construct(tasks=[], agents=[], models=[share]),
            )
        )

    asyncio.run(store.change(book))
    end(store, execution(1), 0.5)
    query = UsageQuery(since="2024-01-15", until="2024-01-15", group_by="model")
    span = Span.of(query)
    told = usage_list(query, span, booked(store, span, {}), str, store.stored_by("ada"))
    assert (told.whole.prompt_tokens, told.whole.total_tokens, told.whole.unknown_costs) == (10, 15, 0)
    assert [group.total_tokens for group in told.groups] == [15]


def end(store, run, *costs, **fields):
    """End a run, as the server does it."""
    summary = summarise(run_events(*costs, day=run.created_at[:10], **fields))

    def change():
        known = store.executions.get(run.id)
        if known is None:
            store.executions.insert(run)
            known = run
        settle(store, known, summary, summary.fields())

    store.change_now(change)


def report(store, scope=None, **query):
    asked = UsageQuery(**{"since": "2024-01-01", "until": "2024-01-31", **query})
    days = Span.of(asked)
    return usage_list(
        asked, days, booked(store, days, scope or {}), lambda owner: owner.title(), store.stored_by("ada")
    )


def test_runs_are_summed_by_day_crew_user_model_agent_and_task(store):
    end(store, execution(1), 0.1, 0.2)
    end(store, execution(2, crew="crew_2", day="2024-01-16"), 0.4, model="n")
    end(store, execution(3, owner="bob", day="2024-01-16"), 0.8)
    whole = report(store).whole
    assert (whole.runs, whole.llm_calls, whole.total_tokens, whole.cost) == (3, 4, 60, 1.5)

    def sums(group_by):
        groups = report(store, group_by=group_by).groups
        return {group.key: (group.name, group.runs, group.llm_calls, group.cost) for group in groups}

    assert sums("day") == {
        "2024-01-15": ("2024-01-15", 1, 2, 0.3),
        "2024-01-16": ("2024-01-16", 2, 2, 1.2),
    }
    assert sums("crew") == {"crew_1": ("The crew_1", 2, 3, 1.1), "crew_2": ("The crew_2", 1, 1, 0.4)}
    assert sums("user") == {"ada": ("Ada", 2, 3, 0.7), "bob": ("Bob", 1, 1, 0.8)}
    assert sums("model") == {"m": ("m", None, 3, 1.1), "n": ("n", None, 1, 0.4)}
    assert sums("agent") == {"crew_1/Ada": ("Ada", None, 3, 1.1), "crew_2/Ada": ("Ada", None, 1, 0.4)}
    assert sums("task") == {"one": ("One", None, 4, 1.5)}
    assert [group.crew_name for group in report(store, group_by="agent").groups] == [
        "The crew_1",
        "The crew_2",
    ]


def test_one_unknown_cost_makes_a_sum_unknown_and_tells_how_much_it_is_at_least(store):
    end(store, execution(1), 0.25, None)
    end(store, execution(2), 0.5)
    (day,) = report(store).groups
    assert (day.cost, day.cost_at_least, day.unknown_costs) == (None, 0.75, 1)


def test_a_run_over_midnight_counts_its_calls_on_both_days_and_itself_once(store):
    summary = summarise(
        run_events(0.1)[:-1]
        + [event | {"time": "2024-01-16" + event["time"][10:]} for event in run_events(0.4)[2:]]
    )

    def change():
        store.executions.insert(execution(1))
        settle(store, execution(1), summary, summary.fields())

    store.change_now(change)
    assert [(day.key, day.runs, day.cost) for day in report(store).groups] == [
        ("2024-01-15", 1, 0.1),
        ("2024-01-16", 0, 0.4),
    ]


def test_a_run_is_booked_once_and_stays_booked_when_it_is_deleted(store):
    for _ in range(3):
        end(store, execution(1), 0.25)
    assert report(store).whole.cost == 0.25
    store.change_now(lambda: store.executions.delete("job_000001"))
    assert (report(store).whole.runs, report(store).whole.cost) == (1, 0.25)


def test_a_run_whose_server_died_is_booked_once_however_many_find_it(store, tmp_path):
    path = write_journal(tmp_path, 1, run_events(0.25)[:-1])
    store.change_now(lambda: store.executions.insert(execution(1)))
    for _ in range(3):
        store.change_now(lambda: recover(store, path, "job_000001"))
    assert store.executions.get("job_000001").status == "interrupted"
    assert (report(store).whole.runs, report(store).whole.cost) == (1, 0.25)


def test_the_run_of_a_journal_that_is_gone_is_booked_as_a_run(store, tmp_path):
    store.change_now(lambda: store.executions.insert(execution(1)))
    store.change_now(lambda: recover(store, tmp_path / "job_000001.jsonl", "job_000001"))
    assert (report(store).whole.runs, report(store).whole.cost) == (1, 0.0)


def test_runs_from_before_there_were_books_are_booked_from_their_journals(store, tmp_path):
    for number in range(3):
        write_journal(tmp_path, number, run_events(0.25))
        old = execution(number, status="completed")
        store.change_now(lambda old=old: store.executions.insert(old))
    for _ in range(2):
        asyncio.run(book_past_runs(store, tmp_path))
    assert (report(store).whole.runs, report(store).whole.cost) == (3, 0.75)
    assert store.executions.get("job_000001").usage_by.models[0].key == "m"


def test_what_is_renamed_is_called_as_it_was_last(store):
    end(store, execution(1), 0.1)
    end(store, execution(2, day="2024-01-16").model_copy(update={"crew_name": "Renamed"}), 0.1)
    (crew,) = report(store, group_by="crew").groups
    assert (crew.name, crew.runs) == ("Renamed", 2)


def test_groups_are_sorted_searched_and_paged_and_the_whole_stays_whole(store):
    for number, cost in enumerate((0.1, 0.4, 0.2)):
        end(store, execution(number, crew=f"crew_{number}"), cost)
    found = report(store, group_by="crew", sort="-cost", per_page=2)
    assert [group.key for group in found.groups] == ["crew_1", "crew_2"]
    assert (found.total, found.whole.runs) == (3, 3)
    (group,) = report(store, group_by="crew", search="CREW_2").groups
    assert group.key == "crew_2"


def test_ten_thousand_runs_are_as_many_entries_as_days_crews_and_owners(store, monkeypatch):
    """A question reads the entries of its days, and no execution."""

    def book():
        for number in range(600):
            day = f"2024-01-{number % 30 + 1:02}"
            run = execution(number, owner=f"user_{number % 2}", day=day)
            summary = summarise(run_events(0.001, day=day))
            store.executions.insert(run)
            settle(store, run, summary, summary.fields())

    store.change_now(book)
    assert store.ledger.count() == 30
    decoded = []
    monkeypatch.setattr(table, "decode", lambda body: decoded.append(body) or codec.decode(body))
    whole = report(store, since="2024-01-01", until="2024-01-03")
    assert whole.whole.runs == 60
    # Entries are read as they are stored, without the store's decoding; executions would need it.
    assert decoded == []
    monkeypatch.undo()
    days = Span("2024-01-01", "2024-01-03")
    assert len(booked(store, days, {})) == 3
    assert len(booked(store, days, {"owner": "user_1"})) == 1


def write_journal(folder, number, events):
    import orjson

    path = folder / f"job_{number:06}.jsonl"
    path.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))
    return path


def test_what_a_run_leaves_is_remembered_once_whoever_ends_it(store, tmp_path):
    stored = {
        "type": "memory_stored",
        "memories": [{"id": "memory_1", "type": "long_term", "content": "Be brief", "category": "style"}],
    }
    day = "2024-01-15T10:30:00Z"
    crew = Crew(id="crew_1", owner="ada", name="Writers", created_at=day, updated_at=day)
    told = {**stored, "time": "2024-01-15T10:30:09.000000Z"}
    path = write_journal(tmp_path, 1, [*run_events(0.25)[:-1], told])
    store.change_now(lambda: [store.crews.insert(crew), store.executions.insert(execution(1))])
    # Its server died after the event, and before it stored the end.
    for _ in range(3):
        store.change_now(lambda: recover(store, path, "job_000001"))
    (memory,) = store.memories.find(shelf="crew_1/long_term")
    assert (memory.id, memory.content, memory.job_id) == ("memory_1", "Be brief", "job_000001")
    # What was cleared since does not come back.
    store.change_now(lambda: store.memories.delete("memory_1"))
    store.change_now(lambda: recover(store, path, "job_000001"))
    assert store.memories.count() == 0
