"""A real JupyterHub with its proxy, on loopback: two users, each with a server of their own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import websocket

from tests.processes import end
from tests.server import LAB
from tests.shared_zygote import VARIABLE

USERS = ("alice", "bob")
PASSWORD = "everybody's"
ADMIN = "the-tests-own-token-for-the-hub-and-its-users"
PROXY_TOKEN = "the-tests-own-token-for-the-proxy"
WELCOME = "The page a user lands on"

LOCAL_PROXY = Path(__file__).parents[2] / ".ci" / "node_modules" / ".bin" / "configurable-http-proxy"

CONFIG = """
import json
import os
import sys
from pathlib import Path

room = Path(os.environ["HUB_ROOM"])
hub, public, proxy = json.loads(os.environ["HUB_PORTS"])

c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{hub}"
c.JupyterHub.bind_url = f"http://127.0.0.1:{public}"
c.JupyterHub.db_url = f"sqlite:///{room}/hub.sqlite"
c.JupyterHub.cookie_secret_file = str(room / "cookie_secret")
c.ConfigurableHTTPProxy.command = [os.environ["HUB_PROXY"]]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{proxy}"
c.ConfigurableHTTPProxy.pid_file = str(room / "proxy.pid")

c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = os.environ["HUB_PASSWORD"]
c.Authenticator.allow_all = True
# A request for a server is answered at once, so that both start together.
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.JupyterHub.services = [{"name": "tests", "api_token": os.environ["HUB_ADMIN"]}]
c.JupyterHub.load_roles = [
    {"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:servers", "tokens"]}
]

# It needs no users of the system, and no sudo.
c.JupyterHub.spawner_class = "jupyterhub.spawner.SimpleLocalProcessSpawner"
c.SimpleLocalProcessSpawner.home_dir_template = str(room / "{username}")
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
extensions = {"kasal_jupyter": True} | dict.fromkeys(json.loads(os.environ["HUB_LAB"]), False)
c.Spawner.args = ["--allow-root", f"--ServerApp.jpserver_extensions={extensions}"]
c.Spawner.ip = "127.0.0.1"
# There may be no JupyterLab; any page will do that sends who is not known to the hub.
c.Spawner.default_url = "/files/welcome.txt"
c.Spawner.environment = {
    "JUPYTERHUB_SINGLEUSER_APP": "jupyter-server",
    "KASAL_DATA_DIR": lambda spawner: f"{room}/{spawner.user.name}/kasal",
    "KASAL_TESTS_ZYGOTE": os.environ.get("KASAL_TESTS_ZYGOTE", ""),
}
"""


def find_proxy() -> str | None:
    """Give the program of the hub's proxy: the clone's own, else the system's."""
    return str(LOCAL_PROXY) if LOCAL_PROXY.exists() else shutil.which("configurable-http-proxy")


@dataclass(slots=True)
class UserServer:
    """A user's server, as it is reached through the hub's proxy.

    Attributes
    ----------
    name
        The user's.
    url
        The server's base URL, without a slash at its end.
    token
        The user's own token of the hub's API.
    folder
        The data folder.
    """

    name: str
    url: str
    token: str
    folder: Path

    def client(self, token: str | None = None) -> httpx.Client:
        """Give a client of the API with the user's token, or with another."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.Client(base_url=f"{self.url}/v1", headers=headers, timeout=60)

    def socket(self, path: str = "/v1/ws", **options: Any) -> websocket.WebSocket:
        """Open a WebSocket, with the user's token where nothing else is said."""
        options.setdefault("header", [f"Authorization: Bearer {self.token}"])
        return websocket.create_connection(self.url.replace("http", "ws", 1) + path, timeout=60, **options)


@dataclass(slots=True)
class Hub:
    """A running hub: ``url`` is where its proxy listens, ``log`` what it and the servers printed."""

    url: str
    room: Path
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    servers: dict[str, UserServer] = field(default_factory=dict)

    def admin(self) -> httpx.Client:
        """Give a client of the hub's own API that may do anything with users and servers."""
        headers = {"Authorization": f"token {ADMIN}"}
        return httpx.Client(base_url=f"{self.url}/hub/api", headers=headers, timeout=60)

    @contextmanager
    def browser(self, user: str) -> Iterator[httpx.Client]:
        """Log a user in through the hub's form, and go on to the user's server, as a browser does.

        Paths begin below the API; the session holds the cookies of the hub and of the server.
        """
        base = f"{self.url}/user/{user}"
        with httpx.Client(base_url=f"{base}/v1", follow_redirects=True, timeout=60) as session:
            form = session.get(base)
            assert form.url.path == "/hub/login", form.text
            sent = {"username": user, "password": PASSWORD, "_xsrf": cookie(session, "_xsrf", "/hub/")}
            page = session.post(form.url, data=sent)
            assert page.text == WELCOME, page.text
            yield session

    def close(self) -> None:
        """End the hub, which ends its proxy and the servers, and see that nothing of them is left."""
        end(self.process, self.log)


def cookie(session: httpx.Client, name: str, path: str) -> str:
    """Give a cookie's value by its path: hub and servers each have their own of the same name."""
    [value] = [each.value for each in session.cookies.jar if (each.name, each.path) == (name, path)]
    assert value
    return value


def start_hub(room: Path, proxy: str) -> Hub:
    """Start a hub with its proxy and a server for each user; give it when all of them answer."""
    log = room / "hub.log"
    config = room / "jupyterhub_config.py"
    config.write_text(CONFIG)
    ports = _free_ports(3)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "KASAL"))}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "--config", str(config)],
            cwd=room,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={
                **environ,
                "HUB_LAB": json.dumps(LAB),
                VARIABLE: os.environ.get(VARIABLE, ""),
                "HUB_ROOM": str(room),
                "HUB_PORTS": json.dumps(ports),
                "HUB_PROXY": proxy,
                "HUB_PASSWORD": PASSWORD,
                "HUB_ADMIN": ADMIN,
                "CONFIGPROXY_AUTH_TOKEN": PROXY_TOKEN,
            },
        )
    hub = Hub(f"http://127.0.0.1:{ports[1]}", room, log, process)
    try:
        _start_servers(hub)
    except BaseException:
        hub.close()
        raise
    return hub


def _start_servers(hub: Hub) -> None:
    with hub.admin() as api:
        _wait(hub, "the hub", lambda: _status(api, "/") == 200)
        assert api.post("/users", json={"usernames": USERS}).status_code == 201
        for name in USERS:
            (hub.room / name).mkdir()
            (hub.room / name / "welcome.txt").write_text(WELCOME)
            assert api.post(f"/users/{name}/server").status_code == 202
        for name in USERS:
            _wait(hub, f"{name}'s server", lambda name=name: api.get(f"/users/{name}").json()["server"])
            token = api.post(f"/users/{name}/tokens", json={"note": "tests"}).json()["token"]
            url = f"{hub.url}/user/{name}"
            hub.servers[name] = UserServer(name, url, token, hub.room / name / "kasal")


def _wait(hub: Hub, what: str, ready: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert hub.process.poll() is None, f"the hub ended at once:\n{hub.log.read_text()}"
        if ready():
            return
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come up:\n{hub.log.read_text()}")


def _status(api: httpx.Client, path: str) -> int:
    try:
        return api.get(path).status_code
    except httpx.TransportError:
        return 0


def _free_ports(count: int) -> list[int]:
    """Give ports below those that systems give away: until the hub has them, nobody gets one by chance."""
    free = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise AssertionError("no port is free")
