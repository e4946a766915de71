from kasal_jupyter.events.trace import Check, build_trace
from tests.events.samples import FAILED, answer, queued, span, status, usage

BEGIN = [
    queued("one"),
    status("running"),
    span("task_start", 1, second=2),
    span("agent_start", 2, 1, second=2),
    span("llm_call", 3, 2, second=3, model="gpt-4"),
    answer(3, 2, usage(10, 2), second=4),
    span("tool_call", 4, 2, second=5, tool="calculator"),
]


def test_spans_are_a_tree_in_the_order_they_began():
    trace = build_trace(BEGIN)
    assert [(depth, one.kind, one.name) for depth, one in trace.walk()] == [
        (0, "task", "One"),
        (1, "agent", "Ada"),
        (2, "llm", "gpt-4"),
        (2, "tool", "calculator"),
    ]


def test_tokens_sum_up_the_parents():
    trace = build_trace([*BEGIN, span("llm_call", 5, 2, model="m"), answer(5, 2, usage(1, 1))])
    assert [trace.spans[number].total_tokens for number in (1, 2, 3, 4, 5)] == [14, 14, 12, 0, 2]


def test_costs_sum_up_the_parents_and_one_unknown_call_makes_those_above_it_unknown():
    two = [*BEGIN[:5], answer(3, 2, usage(10, 2), cost=0.1), span("llm_call", 5, 2, model="m")]
    trace = build_trace(two)
    assert [trace.spans[number].cost for number in (1, 2, 3, 5)] == [0.1, 0.1, 0.1, 0.0]
    trace.feed(answer(5, 2, usage(1, 1), cost=0.2))
    assert [trace.spans[number].cost for number in (1, 2, 3, 5)] == [0.3, 0.3, 0.1, 0.2]
    for event in (span("llm_call", 6, 2, model="m"), answer(6, 2, None, cost=None)):
        trace.feed(event)
    assert [trace.spans[number].cost for number in (1, 2, 3, 5, 6)] == [None, None, 0.1, 0.2, None]


def test_times_count_from_the_acceptance():
    llm = build_trace(BEGIN).spans[3]
    assert (llm.start, llm.end, llm.duration) == (3, 4, 1)


def test_what_is_open_when_the_run_ends_is_stopped():
    trace = build_trace([*BEGIN, status("stopped", 9)])
    states = {number: one.state for number, one in trace.spans.items()}
    assert states == {1: "stopped", 2: "stopped", 3: "completed", 4: "stopped"}
    assert trace.spans[4].duration == 4


def test_a_failed_span_says_why():
    tool = build_trace([*BEGIN, span("tool_failed", 4, 2, tool="calculator", error=FAILED)]).spans[4]
    assert (tool.state, tool.error) == ("failed", "Rate limit exceeded")


def test_pieces_of_an_answer_gather():
    pieces = [span("llm_chunk", 3, 2, text=text) for text in ("a", "b", "c")]
    assert build_trace([*BEGIN[:5], *pieces]).spans[3].text == "abc"


def test_a_piece_of_an_unknown_span_is_passed_over():
    trace = build_trace([queued("one"), span("llm_chunk", 77, None, text="x"), answer(78, None, usage(1, 1))])
    assert trace.spans == {}


def test_a_skipped_task_is_a_span_that_took_no_time():
    skipped = span("task_skipped", 1, second=4, reason="the result lacks it")
    trace = build_trace([queued("one"), status("running"), skipped, status("completed", 5, result="x")])
    (root,) = trace.roots
    assert (root.kind, root.name, root.state, root.duration) == ("task", "One", "skipped", 0.0)
    assert trace.summary.tasks_done == 1
    assert trace.summary.task_states == {"one": "skipped"}


def test_what_a_guardrail_says_is_kept_with_its_task_and_a_plan_with_the_run():
    checked = {"feedback": "Too long.", "attempt": 1}
    trace = build_trace(
        [
            queued("one"),
            {"type": "plan", "time": queued()["time"], "steps": [{"task_id": "one", "plan": "Read."}]},
            span("task_start", 1),
            span("guardrail", 1, accepted=False, **checked),
            span("guardrail", 1, accepted=True, feedback="", attempt=2),
        ]
    )
    assert trace.roots[0].checks == [Check(False, "Too long.", 1), Check(True, "", 2)]
    assert trace.plans == {"one": "Read."}
