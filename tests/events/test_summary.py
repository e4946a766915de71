import pytest

from kasal_jupyter.events.summary import RunSummary, summarise
from kasal_jupyter.events.trace import build_trace
from kasal_jupyter.schemas.usage import Usage
from tests.events.samples import FAILED, answer, queued, span, status, usage


def test_progress_never_goes_back_and_is_100_only_at_completion():
    summary = RunSummary()
    seen = []
    for event in [
        queued("one", "two", "three"),
        status("running"),
        span("task_start", 1),
        span("task_complete", 1, result="r"),
        # Done once more, as a retry does it.
        span("task_start", 2),
        span("task_complete", 2, result="r"),
        span("task_complete", 3, task="two", result="r"),
        span("task_complete", 4, task="three", result="r"),
        status("completed", result="r"),
    ]:
        summary.feed(event)
        seen.append(summary.progress)
    assert seen == sorted(seen)
    assert seen[-2:] == [99, 100]
    assert seen.count(100) == 1


def test_a_run_that_fails_does_not_reach_100():
    summary = summarise(
        [queued("one"), status("running"), span("task_complete", 1), status("failed", error=FAILED)]
    )
    assert summary.progress == 99
    assert summary.error.code == "RATE_LIMIT"


def test_a_run_that_was_ended_before_its_time_keeps_what_it_has():
    over = {"code": "BUDGET_EXCEEDED", "message": "The next call would cost more than $0.50"}
    summary = summarise(
        [
            queued("one", "two"),
            status("running"),
            span("task_complete", 1),
            status("failed", result="r", error=over),
        ]
    )
    assert summary.fields()["result"] == "r"
    assert summary.fields()["error"] == {**over, "task": None}


def test_a_run_without_tasks_has_no_progress():
    assert summarise([queued()]).progress == 0


def test_the_error_event_says_more_than_the_end_does():
    error = {"type": "error", "time": queued()["time"], "task_id": "one", **FAILED}
    summary = summarise([queued("one"), error, status("failed", error={"code": "X", "message": "less"})])
    assert summary.fields()["error"] == {**FAILED, "task": "one"}


def test_what_ran_when_the_run_was_stopped_is_stopped():
    summary = summarise(
        [queued("one", "two"), status("running"), span("task_start", 1), status("stopped", 5)]
    )
    assert summary.task_states == {"one": "stopped", "two": "created"}
    assert summary.fields()["current_task"] is None
    assert summary.duration == 4


def test_times_are_told_in_whole_seconds():
    fields = summarise([queued("one"), status("running", 1.75), status("completed", 3.25)]).fields()
    assert fields["started_at"] == "2024-01-15T10:30:01Z"
    assert fields["ended_at"] == "2024-01-15T10:30:03Z"
    assert fields["duration"] == 1.5


def test_tokens_and_calls_are_summed_and_unknown_ones_are_not_guessed():
    summary = summarise(
        [
            queued("one"),
            span("llm_call", 1, model="m"),
            answer(1, None, usage(10, 2)),
            span("llm_call", 2, model="m"),
            answer(2, None, None),
            span("tool_call", 3, tool="t"),
            span("llm_call", 4, model="m"),
            answer(4, None, usage(5, 1)),
        ]
    )
    assert summary.usage().model_dump() == {
        **usage(15, 3),
        "llm_calls": 3,
        "tool_calls": 1,
        "cost": None,
        "cost_at_least": 0.0,
        "unknown_costs": 3,
    }


def test_costs_add_up_and_one_unknown_makes_the_sum_unknown():
    summary = summarise([queued("one")])
    assert summary.usage().cost == 0.0
    costs = []
    # The last one was written by a version that did not count costs.
    for number, known in enumerate([{"cost": 0.1}, {"cost": 0.2}, {"cost": None}, {"cost": 0.4}, {}]):
        summary.feed(answer(number, None, usage(1, 1), **known))
        costs.append(summary.usage().cost)
    assert costs == [0.1, 0.3, None, None, None]
    # What is known is still worth telling: it is at least that.
    assert (summary.usage().cost_at_least, summary.usage().unknown_costs) == (0.7, 2)


def test_the_same_is_told_apart_by_task_agent_model_and_day():
    """Each call counts on the day it was answered: its price was that day's."""
    late = {"time": "2024-01-15T23:59:59.000000Z"}
    two = {"task_id": "two", "task": "Two"}
    next_day = {"time": "2024-01-16T00:00:01.000000Z"}
    summary = summarise(
        [
            queued("one", "two"),
            span("llm_call", 1, model="m") | late,
            answer(1, None, usage(10, 2), cost=0.25) | late,
            span("tool_call", 2, tool="t") | late,
            span("llm_call", 3, task="two", model="n") | {"agent": "Bob"} | next_day,
            answer(3, None, usage(5, 1)) | {"agent": "Bob", "model": "n"} | two | next_day,
        ]
    )
    by = summary.usage_by()
    assert [(each.key, each.name, each.total_tokens, each.cost) for each in by.tasks] == [
        ("one", "One", 12, 0.25),
        ("two", "Two", 6, None),
    ]
    assert [(each.key, each.llm_calls, each.tool_calls) for each in by.agents] == [
        ("Ada", 1, 1),
        ("Bob", 1, 0),
    ]
    assert [(each.key, each.cost_at_least, each.unknown_costs) for each in by.models] == [
        ("m", 0.25, 0),
        ("n", 0.0, 1),
    ]
    assert [(day, used.whole.total_tokens) for day, used in summary.days.items()] == [
        ("2024-01-15", 12),
        ("2024-01-16", 6),
    ]
    assert sum(used.whole.total_tokens for used in summary.days.values()) == summary.total_tokens


def test_a_call_that_failed_costs_nothing():
    summary = summarise(
        [
            queued("one"),
            span("llm_call", 1, model="m"),
            span("llm_failed", 1, model="m", error=FAILED),
            span("llm_call", 2, model="m"),
            answer(2, None, usage(1, 1), cost=0.25),
        ]
    )
    assert (summary.usage().llm_calls, summary.usage().cost) == (2, 0.25)


def test_what_calls_cost_in_a_summary_from_before_costs_is_unknown():
    counted = {**usage(10, 2), "llm_calls": 3, "tool_calls": 1}
    assert Usage.model_validate(counted).cost is None
    assert Usage.model_validate({**counted, "llm_calls": 0}).cost == 0.0
    assert Usage.model_validate({**counted, "cost": 0.5}).cost == 0.5
    assert Usage.model_validate({**counted, "cost": 0.5}).cost_at_least == 0.5
    assert Usage.model_validate(counted).unknown_costs == 3


def test_nonsense_that_an_old_journal_has_for_counts_is_unknown_and_never_lowers_a_sum():
    good = answer(3, 2, usage(10, 2), cost=0.5)
    for odd in (-5, 1e30, "12", True, None, [1], {"n": 1}, 1.5):
        summary = summarise([queued("one"), status("running"), good])
        summary.feed(
            answer(4, 2, {"prompt_tokens": odd, "completion_tokens": 1, "total_tokens": odd}, cost=odd)
        )
        assert (summary.total_tokens, summary.tally.cost_at_least, summary.cost) in (
            (12, 0.5, None),
            (12, 2.0, 2.0),  # 1.5 dollars are a price, 1.5 tokens are none.
        )
        assert summary.days["2024-01-15"].whole.figures() == summary.tally.figures()
    summary = summarise([queued("one"), answer(3, 2, "many"), answer(4, 2, {}), answer(5, 2, [])])
    assert (summary.total_tokens, summary.llm_calls, summary.tally.unknown_costs) == (0, 0, 3)


def test_what_comes_after_the_end_costs_and_changes_nothing_else():
    ended = [queued("one"), status("running"), status("completed", 5, result="Done")]
    summary = summarise(ended)
    before = summary.fields()
    memory = {"id": "memory_1", "type": "short_term", "content": "It was done."}
    for event in (
        answer(3, None, usage(10, 2), 6, task="", cost=0.5),
        {"type": "error", "time": "2024-01-15T10:30:07.000000Z", **FAILED},
        status("failed", 8, error=FAILED, result="Else"),
        {"type": "memory_stored", "time": "2024-01-15T10:30:09.000000Z", "memories": [memory]},
    ):
        summary.feed(event)
    after = summary.fields()
    assert (summary.total_tokens, summary.cost, summary.remembered) == (12, 0.5, [memory])
    assert {name for name in before if before[name] != after[name]} == {"usage", "usage_by"}


def test_a_clock_that_is_set_back_takes_no_time():
    before = [queued("one", second=30), status("running", 31), span("task_start", 1, second=32)]
    after = [span("task_complete", 1, second=2, result="r"), status("completed", 4)]
    for event in after:
        event["time"] = event["time"].replace("T10:", "T08:")
    events = [*before, *after]
    assert summarise(events).duration == 3
    trace = build_trace(events)
    assert [(one.start, one.end) for one in trace.roots] == [(2, 2)]
    assert trace.last_time == 4


def test_a_failed_call_is_booked_as_what_it_took():
    told = [queued("one"), status("running"), span("task_start", 1)]
    told += [span("llm_call", 2, 1, model="m"), span("llm_failed", 2, 1, model="m", error=FAILED, cost=0.0)]
    assert summarise(told).cost == 0.0
    empty = {"usage": usage(20, 5), "cost": 0.25}
    told += [span("llm_call", 3, 1, model="m"), span("llm_failed", 3, 1, model="m", error=FAILED, **empty)]
    summary = summarise(told)
    assert (summary.cost, summary.total_tokens, summary.errors) == (0.25, 25, 2)
    lost = {"usage": None, "cost": None}
    told += [span("llm_call", 4, 1, model="m"), span("llm_failed", 4, 1, model="m", error=FAILED, **lost)]
    summary = summarise(told)
    assert (summary.cost, summary.tally.cost_at_least, summary.tally.unknown_costs) == (None, 0.25, 1)
    # Journals of earlier versions say nothing of it.
    old = [span("llm_call", 5, 1, model="m"), span("llm_failed", 5, 1, model="m", error=FAILED)]
    assert summarise([*told[:3], *old]).cost == 0.0


def test_a_call_that_a_runs_end_cuts_off_is_booked_as_unknown_where_it_costs():
    begun = [queued("one"), status("running"), span("task_start", 1)]
    asked = span("llm_call", 2, 1, model="m")
    assert summarise([*begun, asked]).cost == 0.0
    stopped = summarise([*begun, asked, status("stopped", 5)])
    assert (stopped.cost, stopped.tally.unknown_costs, stopped.errors) == (None, 1, 0)
    assert [share.unknown_costs for share in stopped.usage_by().agents] == [1]
    free = {**asked, "free": True}
    assert summarise([*begun, free, status("stopped", 5)]).cost == 0.0


@pytest.mark.parametrize("end", ["stopped", "failed", "interrupted"])
def test_what_there_is_of_a_run_that_ended_early_is_what_its_last_task_gave(end):
    summary = RunSummary()
    seen = []
    for event in [
        queued("one", "two", "three"),
        status("running"),
        span("task_start", 1),
        span("task_complete", 1, result="first"),
        span("task_start", 2, task="two"),
        span("task_complete", 2, task="two", result="second"),
        span("task_start", 3, task="three"),
        status(end, second=9),
    ]:
        summary.feed(event)
        seen.append(summary.fields()["partial_result"])
    assert seen == [None] * 7 + ["second"]
    assert (summary.result, summary.latest_done) == (None, ("Two", "second"))
    whole = summarise(
        [queued("one"), span("task_complete", 1, result="all"), status("completed", result="all")]
    )
    assert (whole.result, whole.partial_result) == ("all", None)
