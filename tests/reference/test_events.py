"""The reference's WebSocket: its messages, word for word."""

import json

from tests.reference.examples import Names, messages

MESSAGES = messages()


def events_of(world, names):
    """Connect, and subscribe as the reference does; give everything up to the execution's end."""
    socket = world.socket()
    socket.send(json.dumps(names.fill(MESSAGES["subscribe"].sent)))
    events = []
    while not events or events[-1].get("status") not in {"stopped", "failed"}:
        events.append(json.loads(socket.recv()))
    socket.close()
    return events


def differences(names, name, events):
    """Say how the nearest event of a message's type differs from it."""
    example = MESSAGES[name]
    of_type = [event for event in events if event["type"] == example.received["type"]]
    found = [names.differences(example.received, event, example.free) for event in of_type]
    return min(found, key=len, default=["there is none"])


def test_a_task_is_told_of_when_it_starts_and_when_it_is_complete(world):
    events = events_of(world, world.names)
    assert differences(world.names, "Task started", events) == []
    assert differences(world.names, "Task completed", events) == []
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_an_execution_that_fails_says_why(world):
    names = Names({"job_qwerty123": world.fail_by_rate_limit()})
    assert differences(names, "Error", events_of(world, names)) == []
