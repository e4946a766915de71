"""What parsers stumble over is a fault of the request, at every operation: never a failure of the server."""

import json
import random
import socket
from contextlib import suppress
from urllib.parse import quote, urlsplit

import httpx
import pytest

from kasal_jupyter.api.components import examples_of
from kasal_jupyter.api.openapi import endpoints
from kasal_jupyter.api.routes import RESOURCES
from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.bundle import files_of_mapping, files_of_zip
from kasal_jupyter.formats.conversion import import_crew
from tests.api import nasty
from tests.sample_crews import crew_body, new_crew
from tests.server import start_server
from tests.thorough import some_or_all

SEED = 20_240_115
EACH = some_or_all(1, 3)
"""How many of the nasty values each place gets; all of them, with other seeds, take minutes."""

ENDPOINTS = [
    endpoint
    for endpoint in endpoints(RESOURCES)
    # After these, no other would be served.
    if endpoint.path not in {"/maintenance", "/auth/logout"}
]

AGENTS = "a:\n  role: r\n  goal: g\n"
TASKS = "t:\n  description: d\n  expected_output: e\n  agent: a\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = start_server(
        tmp_path_factory.mktemp("nasty"), "--KasalApp.warm=use", "--KasalApp.default_model=sandbox"
    )
    yield started
    started.close()


@pytest.fixture(scope="module")
def there(server):
    """The ids of a crew that there is, by their names in paths and examples."""
    with server.client() as api:
        crew_id = new_crew(api, crew_body())
        whole = api.get(f"/crews/{crew_id}").json()
    ids = {"crew_id": crew_id, "agent_id": whole["agents"][0]["id"], "task_id": whole["tasks"][0]["id"]}
    examples = {"crew_abc123": crew_id, "agent_001": ids["agent_id"], "task_001": ids["task_id"]}
    return ids, examples


@pytest.fixture
def ask(server):
    """Send requests, and give those that have failed; a client refuses some to send at all."""
    failed = []

    def send(method, path, **given):
        try:
            answer = client.request(method, path, **given)
        except (httpx.InvalidURL, httpx.LocalProtocolError):
            return
        # 502: of a model; 503: full, or asks for something that there is not.
        if answer.status_code >= 500 and answer.status_code not in {502, 503}:
            failed.append(f"{answer.status_code} {method} {path[:200]} {given!r}"[:1_000])

    with server.client() as client:
        yield send
    assert not failed, "\n".join(failed)


def example_of(endpoint, examples):
    """Give an endpoint's example of a body, about things that there are."""
    written = json.dumps((examples_of(endpoint.operation.body) or [{}])[0])
    for name, value in {**examples, "gpt-4": "sandbox"}.items():
        written = written.replace(name, value)
    return json.loads(written)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.id)
def test_no_request_makes_the_server_fail(ask, there, endpoint):
    ids, examples = there
    chosen = random.Random(f"{SEED} {endpoint.id}")
    method = endpoint.method
    path = nasty.path_of(endpoint, **({} if method == "DELETE" else ids))
    for text in chosen.sample([text for text in nasty.TEXTS if len(text) < 6_000], EACH):
        for name in nasty.ID_EXAMPLES:
            if f"{{{name}}}" in endpoint.path:
                ask(method, nasty.path_of(endpoint, **{**ids, name: quote(text, safe="")}))
        for name, field in endpoint.operation.query.model_fields.items():
            ask(method, path, params={field.alias or name: text})
        ask(method, path, headers={chosen.choice(nasty.HEADERS): text.encode()})
    ask(method, f"{path}?%ff=%ff&token=%ff")
    if endpoint.operation.body is None:
        return
    for content in chosen.sample(nasty.BODIES, EACH):
        ask(method, path, content=content)
    body = example_of(endpoint, examples)
    for value in chosen.sample([*nasty.VALUES, *nasty.TEXTS], 3 * EACH):
        changed = [
            *nasty.bodies_of(body, value),
            *({**body, f: value} for f in endpoint.operation.body.model_fields),
        ]
        for each in chosen.sample(changed, min(EACH, len(changed))):
            ask(method, path, content=nasty.encoded(each))


@pytest.mark.parametrize("path", ["/crews", "/auth/login", "/crews/import", "/users"])
@pytest.mark.parametrize("content", nasty.BODIES)
def test_what_is_no_body(ask, path, content):
    ask("POST", path, content=content)


@pytest.mark.parametrize("length", ["9" * 5_000, "-1", "abc", "²", "1, 2", "1,1", "0x10", "", "+1", "1.5"])
def test_a_length_that_is_none(server, length):
    # Not by a client, which would know better.
    url = urlsplit(server.url)
    with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
        head = f"POST {url.path}/v1/auth/login HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        connection.sendall(f"{head}Content-Length: {length}\r\n\r\nx".encode())
        assert connection.recv(12) == b"HTTP/1.1 400"


def test_files_that_are_not_what_they_say(ask, there):
    crew_id = there[0]["crew_id"]
    chosen = random.Random(SEED)
    files = list(nasty.files())
    # Each is read in a process of its own; the damaged archives are all read further down, in this one.
    for file in some_or_all([*files[:4], *files[-7:], *chosen.sample(files[4:-7], 8)], files):
        ask("POST", "/crews/import", json={"archive": file, "save": False})
        name = chosen.choice(["a.pdf", "a.txt", "a.csv", "a.html", "a.json", "a.md"])
        ask("POST", f"/crews/{crew_id}/knowledge", json={"name": name, "file": file})


def imported(files):
    """Import files; whatever is wrong with them is told."""
    # Whatever else is raised fails the test.
    with suppress(InvalidRequest):
        import_crew(files_of_mapping(files), tools=["calculator"])


@pytest.mark.parametrize("data", list(nasty.zips()), ids=lambda data: f"{len(data)} bytes")
def test_a_zip_file_that_is_damaged_is_refused_or_read(data):
    with suppress(InvalidRequest):
        files_of_zip(data)


NUMBERS = [f"0x{'f' * 5_000}", f"-0x{'f' * 5_000}", "[[a]]", "{a: {b: c}}", "2024-99-99", ".inf", "1e999"]
CODE = [
    "a" + "()" * 700,
    "a" + "[0]" * 700,
    "a" + ".b" * 950,
    "-" * 500 + "1",
    "[" * 90 + "]" * 90,
    *NUMBERS[:2],
]


@pytest.mark.parametrize(
    "field", ["name", "role", "llm", "max_iter", "tools", "agent", "type", "context", "condition"]
)
@pytest.mark.parametrize(
    "value", [*NUMBERS, *nasty.TEXTS[::9]], ids=range(len(NUMBERS) + len(nasty.TEXTS[::9]))
)
def test_a_field_of_a_project_is_anything(field, value):
    line = f"  {field}: {value}\n"
    imported({"agents.yaml": AGENTS + line, "tasks.yaml": TASKS})
    imported({"agents.yaml": AGENTS, "tasks.yaml": TASKS.replace("  agent: a\n", "") + line})
    imported({"agents.yaml": AGENTS.replace("a:", f"{value}:"), "tasks.yaml": TASKS})
    imported({"crew.jsonc": f'{{"name": "C", "agents": [{{"name": "a", "{field}": {value}}}], "tasks": []}}'})
    imported({"agents.yaml": AGENTS, "tasks.yaml": TASKS, "pyproject.toml": f"[project]\nname = {value}\n"})


@pytest.mark.parametrize("value", CODE, ids=range(len(CODE)))
def test_a_crew_py_nests_as_deep_as_it_likes(value):
    code = (
        f"class C:\n  @agent\n  def a(self):\n    return Agent(config=self.agents_config['a'], llm={value})\n"
    )
    called = f"class C:\n  @crew\n  def crew(self):\n    return {value}(process=x)\n"
    for text in (code, called, f"x = {value}"):
        imported({"agents.yaml": AGENTS, "tasks.yaml": TASKS, "crew.py": text})


@pytest.mark.parametrize("depth", [50, 200, 900, 5_000])
@pytest.mark.parametrize("level", ['{"properties": {"a": %}}', '{"allOf": [%]}', '{"not": %}', '{"a": [%]}'])
def test_a_schema_nests_as_deep_as_it_likes(depth, level):
    before, after = level.split("%")
    schema = f'{{"type": "object", "$defs": {{"a": {before * depth}{{}}{after * depth}}}}}'
    imported({"agents.yaml": AGENTS, "tasks.yaml": TASKS, "t.schema.json": schema})
