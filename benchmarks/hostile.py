"""What hostile input costs everybody else: `python benchmarks/hostile.py`.

Several users send a real server the worst that its parsers take, all at the same time: each parser at its
allowed maximum, in shapes that are known to be bad and in ones that a seeded generator makes. Another user
asks `/v1/health` and starts executions meanwhile. Printed are what each input took (and its answer's status),
the longest that either of the other user's requests took, beside the same without any input, and which inputs
were under way when a request took longer than it may.

Everybody is a process of its own, and what they send is made before: no one waits for another's interpreter.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import itertools
import multiprocessing
import queue
import random
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.accounts import log_in
from tests.server import LiveServer, start_server

MOST = 1_900_000
"""Bytes of an input, the body around it aside: a little less than a body may have."""

HEALTH_MS, POST_MS = 100, 500
"""What the other user's requests may take at the longest."""

AGENT = {"role": "Clerk", "goal": "Work", "model": "sandbox"}
TASK = {"description": "Say something", "expected_output": "Something", "agent": "Clerk"}

_YAML_BITS = (
    *(
        "? ",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "a",
        "b: ",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "'",
        '"',
        "\n",
        "\n  ",
    ),
    *(
        "|\n  ",
        ">\n  ",
        "# c",
        "---\n",
        "1",
        "0x",
        "2024-02-30",
        "1:60",
        "\t",
        "\\x",
        "%",
        "agents:\n  ",
        "tasks:\n",
    ),
)
_TEXT_BITS = (
    "#",
    "# a",
    "\n",
    '"',
    "'",
    "`",
    "~~~",
    "```\n",
    ",",
    ";",
    "\t",
    "|",
    ". ",
    "a",
    " ",
    "*",
    "_",
    "<b>",
    "\\",
)


@dataclass(frozen=True, slots=True)
class Input:
    """One request."""

    name: str
    path: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Took:
    """What one request took."""

    name: str
    began: float
    ended: float
    status: int

    @property
    def ms(self) -> float:
        """Milliseconds until the answer."""
        return 1_000 * (self.ended - self.began)


HEALTH, POST = "/v1/health", "POST /v1/executions"

ROWS = {
    HEALTH: "three users send the worst that parsers take (`hostile.py`): "
    "a fourth's longest `GET /v1/health`",
    POST: "their longest `POST /v1/executions`",
}
"""What the README says of them."""


def pdf(objects: int) -> bytes:
    """Give a small PDF whose pages are all one page, which draws a form in a form many times over."""
    forms = "".join(
        f"{number} 0 obj<</Type/XObject/Subtype/Form/BBox[0 0 9 9]"
        f"/Resources<</XObject<</F {number + 1} 0 R>>>>"
        f"/Length 35>>stream\n{'/F Do ' * 5:<35}\nendstream endobj\n"
        for number in range(10, 10 + objects)
    )
    kids = "3 0 R " * 150
    return (
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        f"2 0 obj<</Type/Pages/Count 150/Kids[{kids}]>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R"
        "/Resources<</XObject<</F 10 0 R>>>>>>endobj\n"
        f"4 0 obj<</Length 5>>stream\n/F Do\nendstream endobj\n{forms}"
        f"{10 + objects} 0 obj<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Length 0>>"
        "stream\n\nendstream endobj\n"
        "trailer<</Root 1 0 R>>\n%%EOF"
    ).encode()


def zipped(entries: Iterator[tuple[str, bytes]]) -> str:
    """Pack files, and give the archive in base64."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return base64.b64encode(stream.getvalue()).decode()


def drawn(bits: tuple[str, ...], most: int, seed: int) -> str:
    """Give a text of a few of some bits, many times over."""
    chance = random.Random(seed)
    few = chance.sample(bits, chance.randint(2, 6))
    repeated = chance.random() < 0.5
    unit = "".join(chance.choices(few, k=chance.randint(1, 8) if repeated else 2_000))
    return (unit * (most // max(1, len(unit)) + 1))[:most]


def inputs(crew: str, large: str, most: int, seeds: int) -> list[Input]:
    """Give all that is sent.

    Parameters
    ----------
    crew
        A crew of the user's.
    large
        Another, with as much as one may have.
    most
        Bytes of an input, at the most.
    seeds
        Texts that are drawn by chance, for each parser.
    """
    return [
        *(imported(f"YAML, {name}", text, format="yaml") for name, text in yaml(most, seeds)),
        *(
            Input(f"knowledge, {file}", f"/crews/{crew}/knowledge", {"name": file, "text": text})
            for file, text in knowledge(most, seeds)
        ),
        *(
            Input(
                "knowledge, a PDF of 2 kB",
                f"/crews/{crew}/knowledge",
                {"name": f"{n}.pdf", "content": base64.b64encode(pdf(9 if most == MOST else 2)).decode()},
            )
            for n in range(6 if most == MOST else 1)
        ),
        *exchanged(most),
        *bodies(crew, most),
        *checks(large, most),
    ]


def imported(name: str, text: str, **more: Any) -> Input:
    """Give a request that has a text read as a crew."""
    return Input(name, "/crews/import", {"text": text, "save": False, **more})


def yaml(most: int, seeds: int) -> Iterator[tuple[str, str]]:
    """Give YAML."""
    yield "45 keys in keys", "? " * 45
    yield "mappings as keys", "{" * 40 + "a: 1" + "}: 1" * 39 + "}"
    yield "brackets", "[" * most
    yield "keys", "".join(f"k{n}: v\n" for n in range(most // 12))
    yield "merges", "a: &a {x: 1}\n" + "".join(f"b{n}:\n  <<: *a\n" for n in range(most // 20))
    yield "aliases", f"a: &a [{'b, ' * 99}b]\n" + "".join(f"c{n}: [{'*a, ' * 99}*a]\n" for n in range(99))
    yield "agents", "name: a\nagents:\n" + "".join(f"  a{n}: {{role: r}}\n" for n in range(most // 22))
    for seed in range(seeds):
        yield f"drawn {seed}", drawn(_YAML_BITS, most // 8, seed)


def knowledge(most: int, seeds: int) -> Iterator[tuple[str, str]]:
    """Give files that a crew is to know."""
    yield "headings.md", "# a" + "#" * (most - 10) + "b"
    yield "sections.md", f"# {'t' * (most // 2)}\n" + "## a\nb\n" * (most // 20)
    yield "short-sentences.txt", "a. " * (most // 3)
    yield "one-word.txt", "a" * most
    yield "quotes.csv", '\n"' * (most // 4)
    yield "a-wide-head.csv", "a" * 100_000 + ",b\n" + "1,2\n" * (most // 8)
    yield "commas.csv", "a,b\n" + "," * (most - 5)
    yield "brackets.json", "[" * most
    yield "objects.json", "[" + "{}," * (most // 3 - 1) + "{}]"
    yield "tags.html", "<b>" * (most // 3)
    yield "tables.html", "<table><tr><td>" * (most // 15)
    for seed in range(seeds):
        for ending in ("md", "csv", "json", "html", "txt"):
            yield f"drawn-{seed}.{ending}", "a" + drawn(_TEXT_BITS, most // 2, seed)


def exchanged(most: int) -> Iterator[Input]:
    """Give crews in other formats."""
    names = ",".join(f'"n{n}": {{"role": "r"}}' for n in range(most // 32))
    yield imported("crew.jsonc, names", f'{{"agents": {{{names}}}, "tasks": []}}')
    fields = ",".join(f'"field{n}": 1' for n in range(most // 24))
    yield imported("crew.jsonc, fields", f'{{"agents": {{"a": {{"role": "r", {fields}}}}}, "tasks": []}}')
    yield imported("crew.jsonc, comments", "{" + "/*" * (most // 2 - 9), format="jsonc")
    nodes = [{"id": f"n{n}", "type": "agentNode", "data": {"label": "a"}} for n in range(most // 80)]
    yield imported("canvas, nodes of one name", json({"nodes": nodes, "edges": []}))
    project = {"agents.yaml": "a: {}", "tasks.yaml": "t: {}"}
    for what, file, text in (
        ("calls", "crew.py", "a" + "()" * (most // 4)),
        ("brackets", "crew.py", "(" * (most // 4)),
        ("TOML", "pyproject.toml", f"[{'a.' * (most // 4)}a]"),
        ("TOML at its maximum", "pyproject.toml", f"[{'a.' * 24_000}a]"),
    ):
        yield Input(f"a project, {what}", "/crews/import", {"files": {**project, file: text}})
    bombs = zipped((f"{n}.yaml", bytes(999_999)) for n in range(300))
    yield Input("a zip, bombs", "/crews/import", {"archive": bombs})
    entries = zipped((f"{n}.yaml", b"") for n in range(most // 150))
    yield Input("a zip, entries", "/crews/import", {"archive": entries})


def bodies(crew: str, most: int) -> Iterator[Input]:
    """Give bodies that are large in one way."""
    properties = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(most // 32)}}
    for what, schema in (
        ("properties", properties),
        ("levels", nested(90)),
        ("references", laughing()),
        ("at its maximum", at_most()),
    ):
        yield Input(f"a tool's schema, {what}", "/tools/custom", tool(schema))
    yield Input(
        "unknown tools", "/crews", {"name": "many", "agents": many(200), "tasks": many(1_000, "Clerk")}
    )
    yield Input("unknown fields", "/crews", {f"f{n}": 1 for n in range(min(150_000, most // 13))})
    yield Input("empty agents", "/crews", {"name": "a", "agents": [{}] * min(180_000, most // 3)})
    yield Input("empty names", "/crews", {"name": "a", "agents": [{"tools": [""] * 64}] * 200})
    given = {f"i{n}": n for n in range(min(150_000, most // 16))}
    yield Input("inputs", "/executions", {"crew_id": crew, "inputs": given})


def checks(crew: str, most: int) -> Iterator[Input]:
    """Give what has a large crew checked, and put together."""
    yield Input("a large crew", "/crews", large_crew(most))
    yield Input("a large crew checked", f"/crews/{crew}/check", {"inputs": {"topic": "tea"}})
    given = {f"topik{n}": n for n in range(min(45_000, most // 20))}
    yield Input("a large crew checked with inputs", f"/crews/{crew}/check", {"inputs": given})
    tables = [
        {"name": f"t{n}", "description": "Of the table " * 300, "for_all": True}
        for n in range(min(64, most // 5_000))
    ]
    few = {f"i{n}": n for n in range(min(20_000, most // 40))}
    yield Input("inputs and tools", f"/crews/{crew}/check", {"inputs": few, "tools": tables})


def large_crew(most: int) -> dict[str, Any]:
    """Give a crew with as many agents, tasks and placeholders as one may have."""
    agents = [{**AGENT, "role": f"Clerk {n}", "backstory": "b" * (most // 1_500)} for n in range(200)]
    text = " ".join(f"{{p{n}}}" for n in range(100))
    tasks = [
        {**TASK, "name": f"t{n}", "agent": f"Clerk {n % 200}", "description": f"{{topic{n}}} {text}"}
        for n in range(min(1_000, most // 1_000))
    ]
    return {"name": "Large", "agents": agents, "tasks": tasks}


def json(value: Any) -> str:
    """Write a value as JSON."""
    import orjson

    return orjson.dumps(value).decode()


def tool(parameters: dict[str, Any]) -> dict[str, Any]:
    """Give a custom tool with a schema."""
    about = {
        "name": f"tool_{random.randrange(10**9)}",
        "description": "A tool",
        "endpoint": "https://example.com/",
    }
    return {**about, "parameters": parameters}


def nested(levels: int) -> dict[str, Any]:
    """Give a schema in a schema."""
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels // 2):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def laughing() -> dict[str, Any]:
    """Give a schema whose references stand for a billion others."""
    levels = {
        f"l{level}": {"properties": {f"p{n}": {"$ref": f"#/$defs/l{level + 1}"} for n in range(10)}}
        for level in range(9)
    }
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/l0"}}, "$defs": {**levels, "l9": {}}}


def at_most() -> dict[str, Any]:
    """Give the largest schema that is taken, nearly."""
    choice = {"anyOf": [{"type": "string", "pattern": "(a+)+$"}, {"$ref": "#"}]}
    return {"type": "object", "properties": {f"p{number}": choice for number in range(600)}}


def many(count: int, agent: str | None = None) -> list[dict[str, Any]]:
    """Give members with as many unknown tools as they may have."""
    return [
        {
            **(AGENT if agent is None else {**TASK, "agent": agent}),
            "name": f"m{number}",
            "tools": [f"{chr(97 + number % 26)}{place}" for place in range(64)],
        }
        for number in range(count)
    ] + ([AGENT] if agent is None and count < 200 else [])


def attack(
    server: str, user: dict[str, str], *, most: int, seeds: int, order: int, ready: Any, told: Any
) -> None:
    """Send everything, in an order of one's own, and tell what each took."""
    with httpx.Client(base_url=server, headers=user, timeout=600) as api:
        large = new_crew(api, large_crew(most))
        sent = [
            (each.name, each.path, json(each.body).encode())
            for each in inputs(new_crew(api), large, most, seeds)
        ]
        random.Random(order).shuffle(sent)
        ready.wait()
        told.put([request(api, name, path, body) for name, path, body in sent])


def request(api: httpx.Client, name: str, path: str, body: bytes | None = None) -> Took:
    """Send one request; its status is 0 where no answer came."""
    began = time.monotonic()
    try:
        answer = api.request(
            "GET" if body is None else "POST",
            path,
            content=body,
            headers={"Content-Type": "application/json"},
        )
    except httpx.HTTPError:
        return Took(name, began, time.monotonic(), 0)
    return Took(name, began, time.monotonic(), answer.status_code)


def stand_by(api: httpx.Client, crew: str, until: Callable[[], bool], pause: float) -> list[Took]:
    """Ask and start, over and over, as another user does."""
    times: list[Took] = []
    start = json({"crew_id": crew}).encode()
    for number in itertools.count():
        if until():
            return times
        times.append(request(api, HEALTH, "/health"))
        assert times[-1].status == 200, times[-1]
        if number % 5 == 0:
            times.append(request(api, POST, "/executions", start))
            assert times[-1].status in {202, 503}, times[-1]
        time.sleep(pause)
    raise AssertionError


def new_crew(api: httpx.Client, body: dict[str, Any] | None = None) -> str:
    """Store a crew, one that runs in a moment where no other is given; give its id."""
    answer = api.post("/crews", json=body or {"name": "One task", "agents": [AGENT], "tasks": [TASK]})
    answer.raise_for_status()
    return str(answer.json()["id"])


def measure(
    server: LiveServer, owners: int, most: int, seeds: int, *, quiet: float, pause: float
) -> tuple[list[Took], ...]:
    """Give what the other user's requests took alone, beside the others, and what the inputs took."""
    spawn = multiprocessing.get_context("spawn")
    ready, told = spawn.Barrier(owners + 1), spawn.Queue()
    with contextlib.ExitStack() as users:
        bystander, *attackers = (users.enter_context(log_in(server)) for _ in range(owners + 1))
        own = new_crew(bystander)
        # The first run waits for the engine to load.
        first = bystander.post("/executions", json={"crew_id": own}).json()["job_id"]
        while bystander.get(f"/executions/{first}").json()["status"] not in {"completed", "failed"}:
            time.sleep(0.1)
        processes = [
            spawn.Process(
                target=attack,
                args=(str(api.base_url), dict(api.headers)),
                kwargs={"most": most, "seeds": seeds, "order": order, "ready": ready, "told": told},
            )
            for order, api in enumerate(attackers)
        ]
        for process in processes:
            process.start()
        while ready.n_waiting < owners:
            time.sleep(0.1)
        quiet_until = time.monotonic() + quiet
        alone = stand_by(bystander, own, lambda: time.monotonic() > quiet_until, pause)
        ready.wait()
        took: list[Took] = []

        def all_told() -> bool:
            with contextlib.suppress(queue.Empty):
                while True:
                    took.extend(told.get_nowait())
                    processes.pop()
            return not processes

        beside = stand_by(bystander, own, all_told, pause)
    return alone, beside, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owners", type=int, default=3, help="users who send it all at the same time")
    parser.add_argument("--seeds", type=int, default=4, help="texts drawn by chance for each parser")
    parser.add_argument("--tiny", action="store_true", help="one user, small inputs: a few seconds")
    arguments = parser.parse_args()
    owners, most, seeds = (1, 5_000, 0) if arguments.tiny else (arguments.owners, MOST, arguments.seeds)
    quiet, pause = (0.1, 0.5) if arguments.tiny else (5.0, 0.05)
    with tempfile.TemporaryDirectory() as folder:
        server = start_server(Path(folder))
        try:
            alone, beside, took = measure(server, owners, most, seeds, quiet=quiet, pause=pause)
        finally:
            server.close()
    for name, each in sorted(by_name(took).items(), key=lambda item: -max(one.ms for one in item[1])):
        statuses = ", ".join(str(status) for status in sorted({one.status for one in each}))
        print(f"{name:<50} {max(one.ms for one in each):10.0f} ms   {statuses}")
    print()
    quiet, loud = by_name(alone), by_name(beside)
    for name, target in ((HEALTH, HEALTH_MS), (POST, POST_MS)):
        slow = sorted(loud[name], key=lambda one: -one.ms)
        print(
            f"{name}, longest of {len(slow)}, ms (target {target}): {slow[0].ms:.0f}; "
            f"99.9 % within {slow[len(slow) // 1_000].ms:.0f}; alone {max(one.ms for one in quiet[name]):.0f}"
        )
        told = f"{slow[0].ms:.0f} ms of {len(slow):,}, 99.9 % within {slow[len(slow) // 1_000].ms:.0f} ms"
        print(f"| {ROWS[name]} | {told} |")
        for one in slow[:10]:
            if one.ms > target:
                beside_it = [each.name for each in took if each.began < one.ended and each.ended > one.began]
                print(f"    {one.ms:.0f} ms beside {'; '.join(sorted(beside_it))}")


def by_name(took: list[Took]) -> dict[str, list[Took]]:
    """Give what was taken, by what was asked."""
    names: dict[str, list[Took]] = {}
    for one in took:
        names.setdefault(one.name, []).append(one)
    return names


if __name__ == "__main__":
    main()
