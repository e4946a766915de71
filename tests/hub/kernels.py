"""Code in a kernel of a user's server, over Jupyter's own API."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.hub.hub import UserServer


@contextmanager
def running_kernel(server: UserServer) -> Iterator[str]:
    """Start a kernel on a user's server and give its id; it is gone afterwards."""
    headers = {"Authorization": f"token {server.token}"}
    with httpx.Client(base_url=f"{server.url}/api", headers=headers, timeout=60) as api:
        started = api.post("/kernels", json={})
        assert started.status_code == 201, started.text
        kernel_id = started.json()["id"]
        try:
            yield kernel_id
        finally:
            assert api.delete(f"/kernels/{kernel_id}").status_code == 204


def execute(server: UserServer, kernel_id: str, code: str) -> str:
    """Run code in a kernel and give what it printed."""
    asked = uuid.uuid4().hex
    header = {
        "msg_id": asked,
        "msg_type": "execute_request",
        "session": asked,
        "username": "",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    message = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
    channels = server.socket(f"/api/kernels/{kernel_id}/channels?session_id={asked}")
    try:
        channels.send(json.dumps(message))
        printed = ""
        while True:
            heard = json.loads(channels.recv())
            if heard["parent_header"].get("msg_id") != asked:
                continue
            match heard["msg_type"]:
                case "stream":
                    printed += heard["content"]["text"]
                case "error":
                    raise AssertionError("\n".join(heard["content"]["traceback"]))
                case "status" if heard["content"]["execution_state"] == "idle":
                    return printed
    finally:
        channels.close()
