"""Several processes on one folder, and what is left of one that is killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from kasal_jupyter.store.store import Store
from kasal_jupyter.store.table import Database

ROUNDS = 50
WRITERS = 2

# On "start", forks a process that writes pairs for ever, and says so once they are durable.
WRITE_PAIRS = """
import os, sys
from kasal_jupyter.store.table import Database

def write(path, name):
    database = Database(path)
    notes = database.table("notes")
    n = 0
    while True:
        n += 1
        with database.storage.engine.transaction():
            ids = notes.insert_multiple({"by": name, "n": n, "text": "x" * 1_000} for half in range(2))
            if n > 3:
                notes.update({"text": "y" * 1_000}, doc_ids=[ids[0] - 1])
        os.write(1, f"durable {name} {n} {ids[0]} {ids[1]}\\n".encode())

for line in sys.stdin:
    command, path, name, pid = line.split()
    if command == "reap":
        os.waitpid(int(pid), 0)
    elif (pid := os.fork()) == 0:
        write(path, name)
    os.write(1, f"{command} {name} {pid}\\n".encode())
"""

# Counts up a number that others count up, too, in changes that wait for each other.
COUNT_UP = """
import asyncio, sys
from pathlib import Path
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.store.store import Store

folder, name, times = sys.argv[1:]
store = Store.open(Path(folder))

def work():
    counter = store.crews.get("crew_counter")
    store.crews.update(counter.id, {"version": counter.version + 1})
    now = utc_now()
    store.crews.insert(Crew(id=new_id("crew"), owner=name, name="C", created_at=now, updated_at=now))

async def main():
    sys.stdin.readline()
    for _ in range(int(times) // 4):
        await asyncio.gather(*(store.change(work) for _ in range(4)))

print("ready", flush=True)
asyncio.run(main())
print(store.crews.get("crew_counter").version, flush=True)
store.close()
"""


def start(program, *args):
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process):
    process.stdin.close()
    process.stdout.close()
    return process.wait()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="writers are forked, to start 100 of them quickly")
def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path):
    path = tmp_path / "notes.db"
    dice = random.Random(20240115)
    acknowledged = {}
    forks = start(WRITE_PAIRS)

    def command(word, name, pid=0):
        forks.stdin.write(f"{word} {path} {name} {pid}\n")
        forks.stdin.flush()

    def read_until(*answer):
        """Note what was acknowledged, up to a line that begins so; give the line's last word."""
        while True:
            word, name, *rest = forks.stdout.readline().split()
            if word == "durable":
                n, first, second = map(int, rest)
                acknowledged.update({first: (name, n), second: (name, n)})
            if (word, name) == answer:
                return int(rest[-1])

    for kill in range(ROUNDS):
        pids = {}
        for name in (f"{kill}.{writer}" for writer in range(WRITERS)):
            command("start", name)
            pids[name] = read_until("start", name)
        read_until("durable", name)
        time.sleep(dice.uniform(0, 0.03))
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        for name, pid in pids.items():
            command("reap", name, pid)
            read_until("reap", name)

        with Database(path) as db:
            stored = {note.doc_id: (note["by"], note["n"]) for note in db.table("notes")}
        assert acknowledged.items() <= stored.items()
        # A transaction is there whole or not at all: never one of a pair.
        assert set(Counter(stored.values()).values()) == {2}
    assert finish(forks) == 0
    assert len(acknowledged) >= ROUNDS * 2


def test_processes_writing_at_once_lose_nothing_and_see_each_other(tmp_path, new_crew):
    times = 100
    with Store.open(tmp_path) as store:
        store.change_now(lambda: store.crews.insert(new_crew(id="crew_counter", owner="nobody")))
        writers = {name: start(COUNT_UP, tmp_path, name, times) for name in ("ada", "bob", "eve")}
        for writer in writers.values():
            assert writer.stdout.readline() == "ready\n"
        for writer in writers.values():
            writer.stdin.write("go\n")
            writer.stdin.flush()
        counts = [int(writer.stdout.readline()) for writer in writers.values()]

        assert [finish(writer) for writer in writers.values()] == [0, 0, 0]
        assert max(counts) == store.crews.get("crew_counter").version == 1 + 3 * times
        assert {name: store.crews.count(owner=name) for name in writers} == dict.fromkeys(writers, times)
        assert len(store.db.table("crews")) == 1 + 3 * times


# Opens and closes a new file at once when it is told its name, as another process like it is.
OPEN_AT_ONCE = """
import sys
from pathlib import Path
from kasal_jupyter.store.table import Database

print("ready", flush=True)
for name in sys.stdin:
    Database(Path(sys.argv[1]) / name.strip()).close()
    print("made", flush=True)
"""


def test_processes_that_make_a_file_at_once_take_each_others(tmp_path):
    makers = [start(OPEN_AT_ONCE, tmp_path) for _ in range(2)]
    for maker in makers:
        assert maker.stdout.readline() == "ready\n"
    for number in range(100):
        for maker in makers:
            maker.stdin.write(f"{number}.db\n")
            maker.stdin.flush()
        assert [maker.stdout.readline() for maker in makers] == ["made\n", "made\n"]
    assert [finish(maker) for maker in makers] == [0, 0]
