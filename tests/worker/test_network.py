"""Runs where the network's variables are set wrong, or lead through a proxy: real processes of the engine."""

import json
import os
import subprocess
import sys

import pytest

from tests.servers.openai_server import OpenAIServer, Reply
from tests.servers.proxy_server import Proxy
from tests.shared_zygote import WARM
from tests.test_outward import HOSTILE
from tests.thorough import some_or_all

_TRIED = """
import json, os, sys
from pathlib import Path

from kasal_jupyter.outward import settle
from kasal_jupyter.worker.process.setup import import_crewai

folder, proxied, *rest = sys.argv[1:]
hostile = json.loads(rest[0])
import_crewai(Path(folder))
from kasal_jupyter.worker.process import warm
from kasal_jupyter.worker.process.warm import loopback_model

plain = dict(os.environ)

def end(url, environ):
    os.environ.clear()
    os.environ.update({**plain, **environ})
    settle(os.environ)
    spec = warm.warming(folder, "openai", url, "native", "sequential")
    said = json.loads(warm.events_of(spec)[-1])
    return said["status"], (said.get("error") or {}).get("message")

with loopback_model() as url:
    told = {name: end(url, environ) for name, environ in hostile.items()}
for name, url, environ in json.loads(proxied):
    told[name] = end(url, environ)
asked = []

def half(spec):
    asked.append(*spec.models)
    return [b'{"status": "failed"}' if "openai" in spec.models else b'{"status":"completed"}']

os.environ.clear()
os.environ.update(plain)
warm.events_of = half
warm.warm_up()
told["warmed"] = asked[:]
warm.events_of = lambda spec: [b'{"status": "failed"}']
try:
    warm.warm_up()
except RuntimeError as error:
    told["cold"] = str(error)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """How a crew of an OpenAI-compatible model ended, by what was set."""
    with OpenAIServer(*[Reply(text="done")] * 8) as model, Proxy(int(model.root.rsplit(":", 1)[1])) as proxy:
        proxied = [
            ("through http", "http://models.test/v1", {"http_proxy": proxy.url()}),
            ("through socks", "http://models.test/v1", {"ALL_PROXY": proxy.url("socks")}),
            ("bad file", "https://models.test/v1", {"SSL_CERT_FILE": "/nowhere.pem"}),
            ("bad proxy", "https://models.test/v1", {"https_proxy": "ftp://nowhere"}),
            ("tunnel", "https://models.test/v1", {"https_proxy": proxy.url()}),
        ]
        folder = tmp_path_factory.mktemp("network")
        done = subprocess.run(
            [sys.executable, "-c", _TRIED, str(folder), json.dumps(proxied), json.dumps(HOSTILE)],
            env=os.environ | {WARM: "import_crewai"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3_000:]
        told = json.loads(done.stdout.splitlines()[-1])
        told["asked"] = list(proxy.asked)
    return told


@pytest.mark.parametrize("name", HOSTILE)
def test_a_model_on_this_machine_is_asked_whatever_is_set(ends, name):
    assert ends[name] == ["completed", None]


def test_a_model_elsewhere_is_asked_through_the_proxy(ends):
    assert ends["through http"] == ends["through socks"] == ["completed", None]
    assert "POST http://models.test/v1/chat/completions" in ends["asked"]
    assert "SOCKS models.test:80" in ends["asked"]
    assert "CONNECT models.test:443" in ends["asked"]


def test_a_way_that_stays_cold_keeps_no_other_from_being_warmed(ends):
    assert ends["warmed"] == ["sandbox", "sandbox", "openai"]
    assert "The warm-up crews failed" in ends["cold"]


def test_what_keeps_a_model_from_being_asked_is_named(ends):
    assert ends["bad file"][0] == ends["bad proxy"][0] == ends["tunnel"][0] == "failed"
    assert "SSL_CERT_FILE is '/nowhere.pem'" in ends["bad file"][1]
    assert "https_proxy names no proxy" in ends["bad proxy"][1]
    assert "through the proxy http://127.0.0.1:" in ends["tunnel"][1]
    assert "s3cret" not in str(ends)


FILES = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]


@pytest.mark.parametrize(
    "which",
    some_or_all(
        [["http_proxy", *FILES, "no proxy at all"]],
        [["http_proxy", "ALL_PROXY socks", *FILES], ["no proxy at all"]],
    ),
)
def test_the_demo_runs_whole(tmp_path, which):
    environ = {name: value for each in which for name, value in HOSTILE[each].items()}
    done = subprocess.run(
        [sys.executable, "-m", "kasal_jupyter.cli", "demo"],
        env={**os.environ, **environ, "KASAL_DATA_DIR": str(tmp_path), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    assert "[sandbox]" in done.stdout
