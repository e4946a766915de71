import asyncio

import pytest

from kasal_jupyter.api import fanout
from kasal_jupyter.api.fanout import Fanouts, frame
from kasal_jupyter.executions.feed import Feed
from kasal_jupyter.executions.journal import Journal


class Client:
    """Takes what a socket would write."""

    def __init__(self):
        self.got = []

    def push(self, frames):
        self.got.append(frames)

    def done(self, job_id):
        self.got.append(job_id)


def event(number):
    return b'{"time":"2024-01-15T14:00:05.000000Z","type":"llm_chunk","text":"%d"}' % number


async def sent_to(clients, tmp_path, events):
    """Have clients follow a run, in which events happen at once; give them as they stand in its journal."""
    feed = Feed(Journal.create(tmp_path / "job_1.jsonl"))
    fanouts = Fanouts()
    for client in clients:
        fanouts.of(feed, feed.journal.seq).join(client)
    feed.append(events)
    await asyncio.sleep(2 * fanout.TICK_SECONDS)
    return feed.journal.read()


def test_an_event_is_framed_once_for_however_many_clients(tmp_path, monkeypatch):
    framed = []
    monkeypatch.setattr(fanout, "frame", lambda text: framed.append(text) or frame(text))
    clients = [Client() for _ in range(500)]
    lines = asyncio.run(sent_to(clients, tmp_path, [event(1), event(2)]))
    assert framed == lines
    # Both in one piece, and not a copy for anybody.
    [sent] = clients[0].got
    assert sent == b"".join(map(frame, lines))
    assert all(len(client.got) == 1 and client.got[0] is sent for client in clients)


@pytest.mark.parametrize(
    ("size", "head"),
    [(5, b"\x81\x05"), (126, b"\x81\x7e\x00\x7e"), (1 << 16, b"\x81\x7f" + (1 << 16).to_bytes(8))],
)
def test_a_frame_says_how_long_it_is(size, head):
    assert frame(b"x" * size) == head + b"x" * size
