"""In what two runs differ: by real journals' shape, and texts side by side."""

import pytest

from kasal_jupyter.events.difference import Told, difference_of
from kasal_jupyter.events.side_by_side import MOST_CELL, MOST_ROWS, side_by_side


def story(job_id, calls, *, tasks=("Add", "Write"), status="completed", result="Done", inputs=None):
    """Give the events of a run of calls: task, kind, what is asked, what is answered."""
    lines = [
        {
            "type": "execution_status",
            "status": "queued",
            "crew_name": "Tea",
            "crew_id": "crew_1",
            "crew_version": 1,
            "tasks": [{"id": each, "title": each, "agent": "Ada", "context": []} for each in tasks],
            "inputs": inputs or {},
        },
        {"type": "execution_status", "status": "running"},
    ]
    for number, (task, kind, asked, answered) in enumerate(calls, 1):
        span = {"span_id": number, "parent_id": None, "task_id": task, "task": task, "agent": "Ada"}
        used = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
        if kind == "model":
            messages = [
                {"role": "system", "content": f"You run {job_id}"},
                {"role": "user", "content": asked},
            ]
            call = {"type": "llm_call", "model": "m", "messages": messages, "tools": []}
            end = {"type": "llm_response", "model": "m", "text": answered, "tool_calls": [], "usage": used}
            end |= {"cost": 0.1, "finish_reason": "stop"}
        else:
            call = {"type": "tool_call", "tool": kind, "arguments": {"at": asked}}
            end = {"type": "tool_result", "tool": kind, "result": answered}
        lines += [{**call, **span}, {**end, **span}]
    lines.append({"type": "execution_status", "status": status, "result": result})
    stamp = {"job_id": job_id, "time": "2026-11-30T10:00:00.000000Z"}
    return [{"seq": seq, **stamp, **line} for seq, line in enumerate(lines, 1)]


def told(*args, **more):
    events = story(*args, **more)
    run = Told(lambda seq: events[seq - 1])
    for event in events:
        run.feed(event)
    return run


def compared(ours, theirs, one=None, other=None):
    return difference_of(told("job_a", ours, **(one or {})), told("job_b", theirs, **(other or {})))


BASE = [
    ("Add", "model", "Add it", "I look"),
    ("Add", "look", "tea", "Green"),
    ("Add", "model", "Green?", "Green it is"),
    ("Write", "model", "Write it", "Written"),
]


def changed(at, place, text):
    calls = [list(each) for each in BASE]
    calls[at][place] = text
    return [tuple(each) for each in calls]


def test_runs_that_do_not_differ():
    found = compared(BASE, BASE)
    assert found.same
    assert found.words == "job_a and job_b do not differ: 4 calls, each asked and answered alike."
    assert (found.first, found.texts, found.result, found.inputs) == (None, [], None, [])
    assert [each.differs for each in found.steps] == ["same"] * 4


@pytest.mark.parametrize(
    ("theirs", "differs", "step", "words", "labels"),
    [
        (changed(1, 3, "Black"), "answer", 2, "calls look the same, and is given another result", ["result"]),
        (changed(0, 3, "I think"), "answer", 1, "asks m the same, and is answered otherwise", ["answer"]),
        (
            changed(2, 2, "Black?"),
            "question",
            3,
            "asks something else there: message 2",
            ["message 2 (user)"],
        ),
        (changed(1, 2, "soda"), "question", 2, "asks something else there: arguments", ["arguments"]),
        (
            BASE[:3],
            "only_a",
            4,
            "asks m, which job_b does not and job_a does",
            ["model", "message 1 (system)"],
        ),
    ],
)
def test_the_first_call_in_which_they_part(theirs, differs, step, words, labels):
    found = compared(BASE, theirs)
    assert not found.same
    assert (found.first.differs, found.first.a.span) == (differs, step)
    assert words in found.words
    assert [text.label for text in found.texts][: len(labels)] == labels
    # Seen from the other side, it is the same call.
    back = difference_of(told("job_b", theirs), told("job_a", BASE))
    assert (back.first.b.span, back.first.task) == (step, found.first.task)


def test_what_was_called_at_once_may_come_in_any_order():
    both = [("Add", "look", "tea", "Green"), ("Add", "look", "milk", "White")]
    assert compared([BASE[0], *both], [BASE[0], *both[::-1]]).same


def test_tasks_that_went_on_side_by_side_may_come_in_any_order():
    assert compared(BASE, [BASE[3], *BASE[:3]]).same


def test_crews_that_differ_are_laid_side_by_side_by_their_places():
    renamed = [("Sum" if each[0] == "Add" else each[0], *each[1:]) for each in BASE]
    found = compared(BASE, renamed, other={"tasks": ("Sum", "Write")})
    assert [each.differs for each in found.steps] == ["same"] * 4
    more = [*renamed, ("Last", "model", "Bye", "Bye")]
    found = compared(BASE, more, other={"tasks": ("Sum", "Write", "Last")})
    assert (found.first.differs, found.first.task) == ("only_b", "Last")


def test_the_ends_and_the_inputs_count_as_well():
    found = compared(BASE, BASE, other={"status": "failed", "result": None})
    assert not found.same
    assert "All 4 calls were asked and answered alike; job_a is completed, job_b is failed" in found.words
    found = compared(BASE, BASE, {"inputs": {"topic": "tea", "n": 1}}, {"inputs": {"topic": "soda", "n": 1}})
    assert [(each.label, each.rows[0].a, each.rows[0].b) for each in found.inputs] == [
        ("topic", "tea", "soda")
    ]


def test_long_texts_are_shown_where_they_differ():
    long = [f"Line {at} of many." for at in range(5_000)]
    other = [*long[:3_000], "Another line.", *long[3_001:]]
    text = side_by_side("answer", "\n".join(long), "\n".join(other))
    shown = [(row.a, row.b) if not row.skipped else row.skipped for row in text.rows]
    assert shown == [
        2_998,
        ("Line 2998 of many.",) * 2,
        ("Line 2999 of many.",) * 2,
        ("Line 3000 of many.", "Another line."),
        ("Line 3001 of many.",) * 2,
        ("Line 3002 of many.",) * 2,
        1_997,
    ]
    # A paragraph is one line: it is parted at its sentences, and cut around what differs.
    text = side_by_side("answer", " ".join(long), " ".join(other))
    assert ("Line 3000 of many.", "Another line.") in [(row.a, row.b) for row in text.rows]
    text = side_by_side("answer", "a" * 90_000 + "b", "a" * 90_000 + "c" * 90_000)
    (row,) = text.rows
    assert (row.a[-1], row.b[0], max(len(row.a), len(row.b)) <= MOST_CELL + 2) == ("b", "…", True)
    # Whatever there is, it is so much at the most, and takes no time.
    one, other = (
        "\n".join(f"{name} {at * step % 911}" for at in range(50_000)) for name, step in (("a", 7), ("b", 3))
    )
    text = side_by_side("answer", one, other)
    assert (len(text.rows) <= MOST_ROWS, text.cut) == (True, True)
    assert side_by_side("answer", None, "x").rows[0].a is None
