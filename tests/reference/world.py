"""The world in which the reference's examples are true: a server, a user, theirs, and what is outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import websocket

from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.memory.memories import Memories
from kasal_jupyter.store.store import Store
from tests.reference.examples import TOKEN, Example, Names
from tests.remembering import remember_long, remember_short
from tests.sample_crews import new_crew, wait_for
from tests.server import LiveServer, start_server
from tests.servers.openai_server import OpenAIServer, Reply
from tests.servers.search_server import search_server

EMAIL, PASSWORD = "user@example.com", "secure_password"

SANDBOX_TOKEN = "token-of-the-sandbox"


@dataclass
class World:
    """Everything that the examples take for granted.

    Attributes
    ----------
    server
        A standalone server.
    gpt4
        What answers for *gpt-4*, on loopback.
    client
        Sends requests to the base URL that the reference calls *Local*, with the user's newest token.
    names
        What the reference's ids and tokens stand for.
    """

    server: LiveServer
    gpt4: OpenAIServer
    client: httpx.Client
    names: Names = field(default_factory=Names)

    def play(self, example: Example) -> tuple[httpx.Response, list[str]]:
        """Send an example's request; give the answer, and where it is not like the example's."""
        if prepare := _BEFORE.get(example.operation):
            prepare(self)
        answer = self.client.request(
            example.method, self.names.path(example.path).lstrip("/"), json=self.names.fill(example.request)
        )
        if answer.status_code != example.status:
            return answer, [f"{answer.status_code} instead of {example.status}: {answer.text}"]
        if example.response is None:
            return answer, [answer.text] if answer.text else []
        body = answer.json()
        if "access_token" in body:
            self.use(body)
        return answer, self.names.differences(example.response, body, example.free)

    def use(self, tokens: dict[str, Any]) -> None:
        """Send an access token from now on; a refresh token is what the reference's stands for."""
        self.client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        self.names.known[TOKEN] = tokens["refresh_token"]

    def log_in(self) -> None:
        self.use(self.client.post("auth/login", json={"email": EMAIL, "password": PASSWORD}).json())

    def socket(self) -> websocket.WebSocket:
        """Open a WebSocket as a browser does whose user has logged in to Jupyter: by its cookie."""
        page = self.server.url.partition("/a%40b")[0]
        with httpx.Client() as browser:
            browser.get(f"{self.server.url}/v1/crews", params={"token": self.server.token})
            cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        return websocket.create_connection(
            f"{self.server.url.replace('http', 'ws', 1)}/v1/ws", origin=page, cookie=cookies, timeout=60
        )

    # -- what must be so before an example -------------------------------------------------------------

    def found(self) -> None:
        """Make the user and fifteen crews."""
        with self.server.client() as owner:
            user = {"email": EMAIL, "password": PASSWORD, "tier": "pro"}
            assert owner.post("/users", json=user).status_code == 201
        self.log_in()
        agent = {"role": "Clerk", "goal": "Help", "model": "sandbox"}
        for number in range(14):
            new_crew(self.client, {"name": f"Crew {number}", "agents": [agent]})
        # Its research is done by a real model, as far as this server can tell; the next task takes forever.
        self.gpt4.replies.clear()
        self.gpt4.replies += [Reply(calls=(("web_search", {"query": "Q4"}),)), Reply("Analysis complete")]
        slow = {"model": "sandbox", "sandbox": {"latency": 600}}
        research = {
            "role": "Research Agent",
            "goal": "Find",
            "model": "gpt-4",
            "tools": ["web_search"],
            "settings": {"stream": False},
        }
        new_crew(
            self.client,
            {
                "name": "Customer Support Crew",
                "agents": [research, {**agent, **slow, "role": "Analyst"}, agent],
                "tasks": [
                    {
                        "description": "Generate report",
                        "expected_output": "A report",
                        "agent": "Research Agent",
                    },
                    {"description": "Analyzing data", "expected_output": "Findings", "agent": "Analyst"},
                ],
            },
        )

    def dismiss_analyst(self) -> None:
        """Take the agent away whose model has no key here: its crew could not run."""
        assert self.client.delete(self.names.path("agents/agent_002")).status_code == 204

    def await_analysis(self) -> None:
        """Wait until the second task is under way."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            state = self.client.get(self.names.path("executions/job_qwerty123")).json()
            if state.get("current_task") == "Analyzing data":
                return
            time.sleep(0.02)
        raise AssertionError(state)

    def remember(self) -> None:
        """Have the crew remember: in a store of another process on the same folder."""
        crew_id = self.names.fill("crew_abc123")
        store = Store.open(self.server.folder, SCHEMAS)
        memories = Memories(store)

        async def write() -> None:
            await remember_short(memories, crew_id, "Customer prefers email communication")
            await remember_long(memories, crew_id, "preferences", "Weekly reports")
            await remember_long(memories, crew_id, "preferences", "Email preferred")

        anyio.run(write)
        store.close()

    def fail_by_rate_limit(self) -> str:
        """Run a crew whose model's provider refuses to answer; give its job_id."""
        self.gpt4.replies.clear()
        soon = {"retry-after-ms": "1"}
        self.gpt4.replies.append(Reply("Rate limit exceeded", status=429, headers=soon))
        body = {
            "name": "Unlucky",
            "agents": [{"role": "Research Agent", "goal": "Find", "model": "gpt-4"}],
            "tasks": [{"description": "Find", "expected_output": "Facts", "agent": "Research Agent"}],
        }
        job_id = self.client.post("executions", json={"crew_id": new_crew(self.client, body)}).json()[
            "job_id"
        ]
        wait_for(self.client, job_id, "failed")
        return str(job_id)


_BEFORE = {
    "POST /auth/login": World.found,
    # The login before it was logged out.
    "GET /crews": World.log_in,
    "POST /executions": World.dismiss_analyst,
    "GET /executions/{job_id}": World.await_analysis,
    "GET /memory/{crew_id}": World.remember,
}


@contextmanager
def a_world(room: Path) -> Iterator[World]:
    """Make the world."""
    with OpenAIServer(Reply("Nothing")) as gpt4, search_server() as search:
        server = start_server(
            room,
            "--KasalApp.allowed_hosts=127.0.0.1",
            environ={
                "OPENAI_API_KEY": "sk-of-the-tests",
                "OPENAI_BASE_URL": gpt4.url,
                "KASAL_SANDBOX_TOKEN": SANDBOX_TOKEN,
                "SEARXNG_URL": search.url,
            },
            standalone=True,
        )
        try:
            with httpx.Client(base_url=f"{server.url}/api/v1/", timeout=60) as client:
                yield World(server, gpt4, client)
        finally:
            server.close()
