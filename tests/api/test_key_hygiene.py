"""No key gets anywhere but to its provider: not into a trace, a log, an error, a notebook or the journal.

The servers of models are as bad as they can be: they answer with the key that they were sent, whole, in
pieces and in their errors; and a tool prints all that it finds in its environment.
"""

import base64
import json
import time
from contextlib import contextmanager
from itertools import islice
from urllib.parse import quote

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.accounts import log_in
from tests.forms import encodings, traces
from tests.kernels import kernel_of
from tests.sample_crews import new_crew, start, wait_for
from tests.server import start_server
from tests.servers.endpoint_server import endpoint_server, reply
from tests.servers.mcp_server import http_mcp_server, stdio

ENVIRONMENTS = "sk-of-the-environment-0123456789abcdef"
USERS = "sk-of-the-user-fedcba9876543210abcd"
SERVERS = "sk-of-the-server-5f4dcc3b5aa765d61d83"
UNUSED = "sk-of-nobodys-run-d41d8cd98f00b204e980"
SEARCHS = "tvly-of-the-search-e99a18c428cb38d5f260"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
ENCODED = "sk-of/the+encoders=0c8a&49'f6\"d73b51"
TOOLS = "of-a-tool/6fb2+1e7c=90 4d'a8&"
BASICS = "of-basic:5d41402abc4b2a76"
MCPS = "of-the-mcp-server-b9719d911017c592"
PROXYS = "of-the-proxy-e2fc714c4727ee93"
PLAINS = "of-the-plain-proxy/8c9b+f2'6"
PROGRAMS = "of-the-program-6d0007e52f7afb7d"
TOLD = "of-what-a-crew-knows-9e107d9d372b"
KEYS = (
    ENVIRONMENTS,
    USERS,
    SERVERS,
    UNUSED,
    SEARCHS,
    AWS_SECRET,
    ENCODED,
    TOOLS,
    BASICS,
    MCPS,
    PROXYS,
    PLAINS,
    PROGRAMS,
)

PRINTS = (
    "import os\n"
    "print(dict(os.environ))\n"
    "for process in ('self', os.getppid()):\n"
    "    print(open(f'/proc/{process}/environ', 'rb').read())\n"
    "    print(open(f'/proc/{process}/cmdline', 'rb').read())\n"
)
"""What a curious agent runs: all that it, and the run that started it, were given."""


def call(name, **arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"call_{name}", "type": "function", "function": function}],
    }


def completion(message, finish_reason="stop"):
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }


def echo_in_pieces(handler, asked):
    """Stream the key back, a piece at a time, so that no event has it whole."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Connection", "close")
    handler.end_headers()
    said = f"You sent {asked.headers['authorization']}, thank you"
    for at in range(0, len(said), 9):
        chunk = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "delta": {"content": said[at : at + 9]}, "finish_reason": None}],
        }
        handler.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        handler.wfile.flush()
        # Each piece comes in an event of its own.
        time.sleep(0.07)
    chunk["choices"] = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    handler.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n")


def look_then_echo(handler, asked):
    """Have the environment printed and the key written down, then answer with what came of it and the key."""
    key = asked.headers["authorization"]
    given = [message["content"] for message in asked.json()["messages"] if message["role"] == "tool"]
    if not given:
        body = completion(call("python", code=PRINTS), "tool_calls")
    elif len(given) == 1:
        body = completion(call("file_writer", path="notes.txt", content=f"Mind {key}"), "tool_calls")
    else:
        body = completion({"role": "assistant", "content": f"{key}: {given}"})
    reply(json.dumps(body), content_type="application/json")(handler, asked)


def refuse_with_the_key(handler, asked):
    """Refuse as providers do, and say which key it was."""
    key = asked.headers["authorization"]
    error = {"message": f"Incorrect API key provided: {key}", "type": key, "code": "invalid_api_key"}
    reply(json.dumps({"error": error}), 401, "application/json", **{"x-your-key": key})(handler, asked)


def fail_with_the_key(handler, asked):
    """Break down in an unusual way, with the key in the words."""
    error = {"message": f"No route for {asked.headers['authorization']}", "type": "x", "code": "y"}
    reply(json.dumps({"error": error}), 418, "application/json")(handler, asked)


def encoded(key):
    """Write a key in many ways; all of them would be more than a model takes."""
    return "\n".join(f"{name}: {form}" for name, form in islice(encodings(key), 30))


def key_of(asked):
    """Give what a request was authorised by."""
    scheme, _, key = asked.headers["authorization"].partition(" ")
    return base64.b64decode(key).decode().partition(":")[2] if scheme == "Basic" else key


def encode_the_key(handler, asked):
    """Repeat the key in all ways; as an error, where the address says so."""
    status = 401 if asked.path == "/broken" else 200
    said = f"{asked.headers['authorization']}\n{encoded(key_of(asked))}"
    reply(said, status, **{"x-key": asked.headers["authorization"]})(handler, asked)


def use_tools_then_encode(handler, asked):
    """Have the tools used and the key written down, and answer with all of it."""
    given = [message["content"] for message in asked.json()["messages"] if message["role"] == "tool"]
    key = key_of(asked)
    calls = [
        call("with_bearer", input="x"),
        call("with_basic", input=key),
        call("file_writer", path="notes.txt", content=encoded(key)),
    ]
    if len(given) < len(calls):
        body = completion(calls[len(given)], "tool_calls")
    else:
        content = "\n".join([encoded(key), *given])
        body = completion({"role": "assistant", "content": content})
    reply(json.dumps(body), content_type="application/json")(handler, asked)


def use_mcp_then_tell(handler, asked):
    """Have MCP servers' tools used, and answer with what they have said."""
    messages = asked.json()["messages"]
    given = [message["content"] for message in messages if message["role"] == "tool"]
    calls = [call("program_environment"), call("web_headers")]
    if len(given) < len(calls):
        body = completion(calls[len(given)], "tool_calls")
    else:
        body = completion({"role": "assistant", "content": "\n".join([TOLD, *given])})
    reply(json.dumps(body), content_type="application/json")(handler, asked)


def refuse_with_the_proxys_password(handler, asked):
    """Refuse as a proxy, and say which password it was, in many ways."""
    basic = asked.headers["proxy-authorization"]
    password = base64.b64decode(basic.partition(" ")[2]).decode().partition(":")[2]
    assert password == PLAINS
    reply(f"Not with {basic}\n{encoded(password)}", 407, **{"proxy-authenticate": basic})(handler, asked)


@pytest.fixture(scope="module")
def models():
    with endpoint_server() as server:
        server.replies["/streams/chat/completions"] = echo_in_pieces
        server.replies["/looks/chat/completions"] = look_then_echo
        server.replies["/refuses/chat/completions"] = refuse_with_the_key
        server.replies["/fails/chat/completions"] = fail_with_the_key
        server.replies["/encodes/chat/completions"] = use_tools_then_encode
        server.replies["/tool"] = server.replies["/basic"] = encode_the_key
        server.replies["/broken"] = encode_the_key
        server.replies["/serves/chat/completions"] = use_mcp_then_tell
        # As a proxy, for a host that is nowhere.
        server.replies["/far/chat/completions"] = server.replies["/far/models"] = (
            refuse_with_the_proxys_password
        )
        server.replies["/streams/embeddings"] = fail_with_the_key
        server.replies["/streams/models"] = fail_with_the_key
        server.replies["/looks/models"] = refuse_with_the_key
        yield server


@pytest.fixture(scope="module")
def keyed(models, tmp_path_factory):
    server = start_server(
        tmp_path_factory.mktemp("keyed"),
        "--KasalApp.python_tool=True",
        "--KasalApp.allowed_hosts=127.0.0.1",
        "--KasalApp.embedder=openai/embed",
        "--ServerApp.log_level=DEBUG",
        environ={
            "OPENAI_API_KEY": ENVIRONMENTS,
            "OPENAI_BASE_URL": f"{models.url}/streams",
            "GROQ_API_KEY": UNUSED,
            "TAVILY_API_KEY": SEARCHS,
            "https_proxy": f"http://ada:{PROXYS}@127.0.0.1:9",
            "http_proxy": f"http://ada:{quote(PLAINS, safe='')}@127.0.0.1:{models.port}",
            "no_proxy": "127.0.0.1,localhost",
        },
    )
    yield server
    server.close()


@contextmanager
def entrusted(keyed, models):
    """Entrust a user's key and one for everybody; give the user's client and the admin's."""
    with keyed.client() as admin, log_in(keyed) as user:
        for api, name, body in (
            (user, "lab", {"base_url": f"{models.url}/looks", "api_key": USERS}),
            (admin, "den", {"base_url": f"{models.url}/refuses", "api_key": SERVERS, "scope": "server"}),
            (admin, "pit", {"base_url": f"{models.url}/fails", "api_key": SERVERS, "scope": "server"}),
            (
                user,
                "bedrock",
                {
                    "options": {
                        "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
                        "aws_secret_access_key": AWS_SECRET,
                        "aws_region_name": "eu-central-1",
                    }
                },
            ),
        ):
            answer = api.put(f"/providers/{name}", json=body)
            assert answer.status_code == 200, answer.text
        yield user, admin


def one_agent(model, *, stream, tools=()):
    agent = {"role": "Echo", "goal": "Say what you were told", "model": model, "tools": list(tools)}
    task = {"name": "t", "description": "Say it", "expected_output": "It", "agent": "Echo"}
    return {
        "name": f"Crew on {model}",
        "memory": True,
        "agents": [{**agent, "settings": {"stream": stream}}],
        "tasks": [{**task, "output_file": "said.txt"}],
    }


def revealed(text):
    """Say which keys stand in a text, plainly or in a form that anybody reads back."""
    data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    return {key for key in KEYS for form in traces(key) if form in data}


def answers_of(api, jobs, crews):
    """Give everything that the API says to a caller."""
    paths = ["/providers", "/providers/openai", "/models?per_page=500", "/crews", "/executions", "/tools"]
    paths += [f"{what}/{crew}" for crew in crews for what in ("/crews", "/memory")]
    for job in jobs:
        paths += [f"/executions/{job}{part}" for part in ("", "/traces", "/events", "/result", "/artifacts")]
        paths += [f"/executions/{job}/artifacts/said.txt", "/usage"]
    for path in paths:
        answer = api.get(path)
        yield path, answer.text + repr(dict(answer.headers))


def test_no_key_is_found_anywhere(keyed, models, tmp_path):
    with entrusted(keyed, models) as (user, admin):
        runs = {}
        for api, name, body in (
            (user, "echoes", one_agent("gpt-of-the-environment", stream=True)),
            (user, "looks", one_agent("lab/m", stream=False, tools=["python", "file_writer"])),
            (user, "refused", one_agent("den/m", stream=False)),
            (user, "fails", one_agent("pit/m", stream=True)),
        ):
            crew = new_crew(api, body)
            runs[name] = crew, wait_for(api, start(api, crew, {}))
        ended = {name: (execution["status"], execution["error"]) for name, (_, execution) in runs.items()}
        assert ended["echoes"][0] == ended["looks"][0] == "completed", ended
        assert ended["refused"][1]["code"] == "MODEL_AUTH"
        assert ended["fails"][0] == "failed"
        # The keys were there to be found: the servers were sent them.
        sent = {asked.headers["authorization"] for asked in models.asked if "authorization" in asked.headers}
        assert {f"Bearer {key}" for key in (ENVIRONMENTS, USERS, SERVERS)} == sent

        jobs = [execution["job_id"] for _, execution in runs.values()]
        crews = [crew for crew, _ in runs.values()]
        for api in (user, admin):
            for path, text in answers_of(api, jobs, crews):
                assert not revealed(text), path
        looked = user.get(f"/executions/{runs['looks'][1]['job_id']}/result").text
        assert "PATH" in looked, "the environment was printed"
        notes = user.get(f"/executions/{runs['looks'][1]['job_id']}/artifacts/notes.txt")
        assert notes.text == "Mind Bearer [secret]"

    # What is streamed must not have it in pieces, either: whoever puts them together has the key.
    for execution in (execution for _, execution in runs.values()):
        with keyed.client() as admin:
            events = admin.get(f"/executions/{execution['job_id']}/events", params={"limit": 500}).json()
        assert not revealed("".join(event.get("text") or "" for event in events["events"]))

    with kernel_of(keyed, tmp_path) as kernel:
        cells = [
            kernel.run(code)
            for code in (
                f"result = %kasal run {crews[0]}",
                f"%kasal run {crews[2]}",
                f"%kasal trace {jobs[1]}",
                "%kasal models",
                "%kasal doctor --quick",
            )
        ]
    saved = tmp_path / "saved.ipynb"
    nbformat.write(new_notebook(cells=[_code_cell(cell) for cell in cells]), saved)
    assert cells[0].shown
    assert cells[1].error
    assert not revealed(saved.read_text())

    found = {
        str(file): keys
        for folder in (keyed.folder, keyed.log.parent)
        for file in folder.rglob("*")
        if file.is_file() and (keys := revealed(file.read_bytes()))
    }
    assert found == {}


def test_no_key_is_found_in_another_form(keyed, models):
    """Endpoints, models and MCP servers repeat what they are sent as addresses, base64, hex and so on."""
    with log_in(keyed) as user:
        for name, fields in (
            ("with_bearer", {"endpoint": f"{models.url}/tool", "auth_type": "bearer", "secret": TOOLS}),
            (
                "with_basic",
                {
                    "endpoint": f"{models.url}/basic",
                    "auth_type": "basic",
                    "username": "ada",
                    "secret": BASICS,
                },
            ),
        ):
            answer = user.post("/tools/custom", json={"name": name, "description": "It tells", **fields})
            assert answer.status_code == 201, answer.text
        assert user.put(
            "/providers/codes", json={"base_url": f"{models.url}/encodes", "api_key": ENCODED}
        ).is_success
        broken = user.post(
            "/tools/mcp",
            json={
                "name": "broken",
                "transport": "http",
                "url": f"{models.url}/broken",
                "headers": {"Authorization": f"Bearer {MCPS}"},
            },
        )
        assert broken.status_code == 400
        assert not revealed(broken.text)

        body = one_agent("codes/m", stream=False, tools=["with_bearer", "with_basic", "file_writer"])
        del models.asked[:]
        crew = new_crew(user, {**body, "webhook": {"url": f"{models.url}/hook"}})
        execution = wait_for(user, start(user, crew, {}))
        assert execution["status"] == "completed", execution["error"]
        sent = {asked.path: key_of(asked) for asked in models.asked if "authorization" in asked.headers}
        # What a crew before remembers of its run may still be read.
        sent.pop("/streams/embeddings", None)
        assert sent == {"/encodes/chat/completions": ENCODED, "/tool": TOOLS, "/basic": BASICS}

        job = execution["job_id"]
        result = user.get(f"/executions/{job}/result").text
        assert result.count("[secret]") >= 90
        assert "hex: [secret]" in result
        for path, text in answers_of(user, [job], [crew]):
            assert not revealed(text), path
        for path in ("/tools/custom", "/tools/mcp", f"/executions/{job}/artifacts/notes.txt"):
            answer = user.get(path)
            assert answer.is_success, path
            assert not revealed(answer.text), path

        def delivered():
            return [asked.body for asked in models.asked if asked.path == "/hook"]

        end = time.monotonic() + 60
        while not any(b"completed" in body for body in delivered()) and time.monotonic() < end:
            time.sleep(0.02)
        assert delivered()
    assert not any(revealed(body) for body in delivered())
    found = {
        str(file): keys
        for folder in (keyed.folder, keyed.log.parent)
        for file in folder.rglob("*")
        if file.is_file() and (keys := revealed(file.read_bytes()))
    }
    assert found == {}


def test_no_key_is_found_in_what_succeeds(keyed, models, tmp_path):
    """MCP servers' lists and results, tools' schemas, what a crew knows, and what goes through a proxy."""
    notes = tmp_path / "notes"
    schema = {
        "type": "object",
        "properties": {"key": {"type": "string", "default": PROGRAMS, "enum": [PROGRAMS, "x"]}},
        "description": encoded(PROGRAMS),
    }
    # A description is cut after 4,000 characters.
    tool = {"name": "told", "description": f"Send {PROGRAMS}; {'x' * 3_960}{PROGRAMS}", "inputSchema": schema}
    notes.with_suffix(".extra").write_text(json.dumps([tool]))
    with keyed.client() as admin, http_mcp_server(tmp_path / "web") as web:
        servers = []
        for body in (
            {"name": "program", **stdio(notes), "env": {"SERVICE_TOKEN": PROGRAMS}},
            {
                "name": "web",
                "transport": "http",
                "url": web.url,
                "headers": {"Authorization": f"Bearer {MCPS}"},
                "tools": ["headers"],
            },
        ):
            answer = admin.post("/tools/mcp", json=body)
            assert answer.status_code == 201, answer.text
            servers.append(f"/tools/mcp/{answer.json()['server_id']}")
        for name in ("serves", "far"):
            url = f"{models.url}/serves" if name == "serves" else "http://models.invalid/far"
            given = {"base_url": url, "api_key": TOLD, "scope": "server"}
            assert admin.put(f"/providers/{name}", json=given).is_success

        told = admin.get("/tools/program_told").json()
        assert told["parameters"]["properties"]["key"]["default"] == "[secret]"
        assert told["description"].startswith("Send [secret]; xxx")
        # Of what was cut off, no beginning is left.
        assert PROGRAMS[:8] not in told["description"]
        assert "[secret]" in told["parameters"]["description"]

        crew = new_crew(
            admin, one_agent("serves/m", stream=False, tools=["program_environment", "web_headers"])
        )
        text = f"Whoever has to say it must know that the key is {TOLD}."
        source = admin.post(f"/crews/{crew}/knowledge", json={"name": "keys", "text": text})
        assert source.status_code == 201, source.text
        found = admin.get(f"/memory/{crew}/search", params={"query": "Which key is it?"})
        assert "embed" in found.json()["remark"]
        assert not revealed(source.text + found.text)

        execution = wait_for(admin, start(admin, crew, {}))
        assert execution["status"] == "completed", execution["error"]
        job = execution["job_id"]
        result = admin.get(f"/executions/{job}/result").json()["result"]
        assert "SERVICE_TOKEN=[secret]" in result
        assert "authorization: [secret]" in result
        assert "PATH=" in result, "the whole environment was given"

        far = new_crew(admin, one_agent("far/m", stream=False))
        refused = wait_for(admin, start(admin, far, {}))
        assert refused["status"] == "failed"
        assert "[secret]" in refused["error"]["message"], "the proxy was asked, and what it said is told"

        jobs = [job, refused["job_id"]]
        for path, text in answers_of(admin, jobs, [crew, far]):
            assert not revealed(text), path
        for path in ("/tools/mcp", *servers, "/tools?per_page=500", "/tools/program_told"):
            answer = admin.get(path)
            assert answer.is_success, path
            assert not revealed(answer.text), path
        answer = admin.post(f"{servers[0]}/refresh")
        assert answer.is_success
        assert not revealed(answer.text)
        # What the crew was given to know is its own, and stays as it is; its runs do not say it.
        events = admin.get(f"/executions/{job}/events", params={"limit": 500}).text
        assert "memory_recalled" in events
        assert TOLD not in events + result
        for path in servers:
            assert admin.delete(f"{path}?force=true").is_success
    found = {
        str(file): keys
        for folder in (keyed.folder, keyed.log.parent)
        for file in folder.rglob("*")
        if file.is_file() and (keys := revealed(file.read_bytes()))
    }
    assert found == {}


def _code_cell(cell):
    data = [*cell.shown, *cell.updates]
    outputs = [new_output("display_data", data=each) for each in data]
    outputs.append(new_output("stream", name="stdout", text=cell.text))
    outputs.append(new_output("stream", name="stderr", text=cell.error))
    return new_code_cell("", outputs=outputs)
