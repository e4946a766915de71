"""`%kasal doctor`: everything that can be wrong between a notebook and a run, and what to do about it."""

from __future__ import annotations

import platform
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from kasal_jupyter.errors import KasalError
from kasal_jupyter.kernel.magics.command_line import Parser
from kasal_jupyter.kernel.session import Session
from kasal_jupyter.kernel.views import html_parts as parts
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.figures import counted, duration_text
from kasal_jupyter.version import __version__

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client

RUN_SECONDS = 60.0
"""How long the run that tries the engine may take; the first after an install is the slowest."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look gave.

    Attributes
    ----------
    good
        Whether it is as it should be; None where it is only worth knowing.
    what
        What was looked at.
    said
        What was found.
    remedy
        What to do about it.
    """

    good: bool | None
    what: str
    said: str
    remedy: str = ""

    @property
    def mark(self) -> str:
        """Its sign."""
        return {True: "✔", False: "✖", None: "·"}[self.good]


class Findings:
    """All that was found, as a list to read."""

    def __init__(self, found: list[Finding]) -> None:
        self.found = found

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return all(each.good is not False for each in self.found)

    def __repr__(self) -> str:
        width = max(len(each.what) for each in self.found)
        lines = []
        for each in self.found:
            lines.append(f"{each.mark} {each.what:<{width}}  {clean(each.said)}")
            if each.remedy:
                lines.append(f"  {'':<{width}}  → {clean(each.remedy)}")
        return "\n".join([*lines, self._conclusion()])

    def _repr_html_(self) -> str:
        colours = {True: parts.STATUS_COLOURS["completed"], False: parts.RED, None: parts.GREY}
        rows = "".join(
            f'<div style="position:relative;padding-left:190px"><span style="position:absolute;left:0">'
            f'<span style="color:{colours[each.good]};font-weight:600">{each.mark}</span> {escape(each.what)}'
            f"</span>{parts.separator(': ')}{escape(clean(each.said))}"
            + (f'<div style="{parts.MUTED}">→ {escape(clean(each.remedy))}</div>' if each.remedy else "")
            + "</div>"
            for each in self.found
        )
        end = f'<div style="font-weight:600;margin-top:6px">{escape(self._conclusion())}</div>'
        return f'<div style="{parts.CARD}">{rows}{end}</div>'

    def _conclusion(self) -> str:
        wrong = sum(each.good is False for each in self.found)
        return f"{counted(wrong, 'thing')} to see to" if wrong else "All is well"


def doctor_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal doctor``."""
    parser.add_argument("--quick", action="store_true", help="leave out the run that tries the engine")


def doctor_command(session: Session, words: Namespace, cell: str | None) -> Findings:
    """Look at everything, in the order in which it depends on each other."""
    del cell
    return Findings(list(examine(session, quick=words.quick)))


def examine(session: Session, *, quick: bool = False) -> Iterator[Finding]:
    """Give the findings one after the other.

    Parameters
    ----------
    session
        The notebook's.
    quick
        Whether to leave out the run that tries the engine.
    """
    yield _versions()
    yield _widgets()
    try:
        client = session.client
    except KasalError as error:
        remedy = "%kasal connect URL --token TOKEN, or KASAL_URL and KASAL_TOKEN before the kernel starts"
        yield Finding(False, "server", error.message, remedy)
        return
    yield Finding(True, "server", f"{client.url} ({client.connection.origin})")
    answers = _answers(client)
    yield answers
    if not answers.good:
        return
    let_in = _let_in(client)
    yield let_in
    if not let_in.good:
        return
    yield _socket(client)
    yield _guarded("models", lambda: _models(client), "update Kasal on the server's side")
    yield from _providers(client)
    yield from _cluster(client)
    yield _notebook_tools()
    if quick:
        yield Finding(None, "engine", "not tried: --quick")
    else:
        yield _guarded("engine", lambda: _engine(client), "the Jupyter server's log says more")


def _versions() -> Finding:
    installed = [f"kasal_jupyter {__version__}", f"Python {platform.python_version()}"]
    for package in ("crewai", "ipykernel", "jupyter-server"):
        try:
            installed.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            # The server may have another environment than the kernel.
            installed.append(f"no {package} here")
    return Finding(True, "versions", " · ".join(installed))


def _widgets() -> Finding:
    try:
        return Finding(True, "ipywidgets", f"{version('ipywidgets')}, for %kasal edit")
    except PackageNotFoundError:
        remedy = f"{sys.executable} -m pip install ipywidgets"
        return Finding(False, "ipywidgets", "not installed for this kernel: no %kasal edit", remedy)


def _answers(client: Client) -> Finding:
    begin = time.monotonic()
    try:
        health = client.health()
    except KasalError as error:
        remedy = (
            "start the Jupyter server again if Kasal was installed since; `jupyter server extension list` "
            "shows whether it is enabled there"
        )
        return Finding(False, "answers", error.message, remedy)
    took = duration_text(time.monotonic() - begin)
    if health.get("status") == "maintenance":
        remedy = "whoever runs the server ends it"
        return Finding(False, "answers", f"in {took}: it is in maintenance", remedy)
    theirs = str(health.get("version"))
    if theirs != __version__:
        remedy = "start the Jupyter server and the kernel again, so that both are of one version"
        return Finding(False, "answers", f"in {took}, as version {theirs}", remedy)
    return Finding(True, "answers", f"in {took}, version {theirs}")


def _let_in(client: Client) -> Finding:
    try:
        me = client.me()
    except KasalError as error:
        remedy = "%kasal connect URL --token TOKEN; `jupyter server list` shows the tokens of your servers"
        return Finding(False, "lets us in", error.message, remedy)
    # Whom Jupyter itself lets in has no account; a token alone gets a new made-up name at each request.
    who = me.name if me.id is not None else "by Jupyter's own token"
    if me.role == "viewer":
        remedy = "an administrator can change the role: `jupyter kasal user --help`"
        return Finding(None, "lets us in", f"{who}, to look only: runs need the role editor", remedy)
    return Finding(True, "lets us in", f"{who}, as {me.role}")


def _socket(client: Client) -> Finding:
    from kasal_jupyter.client.stream import open_socket

    try:
        socket = open_socket(client.connection)
    except (KasalError, OSError) as error:
        remedy = "a proxy on the way must pass WebSockets on (Upgrade and Connection headers)"
        return Finding(False, "WebSocket", str(error), remedy)
    socket.close(timeout=1)
    socket.shutdown()  # type: ignore[no-untyped-call]
    return Finding(True, "WebSocket", "opens: traces are live")


def _models(client: Client) -> Finding:
    models = client.models()
    ready = [each.name for each in models if each.available]
    real = [name for name in ready if name != "sandbox"]
    if not real:
        remedy = (
            "in a terminal, `jupyter kasal provider set openai` (or another provider) asks for a key; or set "
            "OPENAI_API_KEY where the Jupyter server is started. %kasal providers lists what there is"
        )
        return Finding(None, "models", "the sandbox model only: no key is set", remedy)
    more = f" and {len(ready) - 5} more" if len(ready) > 5 else ""
    return Finding(True, "models", f"{', '.join(ready[:5])}{more} can run")


def _providers(client: Client) -> Iterator[Finding]:
    """Tell of providers that somebody has set, and that cannot be used all the same."""
    try:
        providers = client.providers()
        models = client.models()
    except KasalError:
        # The models have told why already.
        return
    for each in providers:
        if each.source is not None and not each.ready:
            yield Finding(
                False, each.name, f"it is set, and cannot be used: {each.reason}", each.install or ""
            )
        if each.remark:
            yield Finding(False, each.name, each.remark, "use a longer one, or `none` where any will do")
    for model in models:
        # A server of models that was asked what it serves, and did not say.
        if model.name.endswith("/<model>") and not model.available and model.reason:
            named = next((each for each in providers if f"{each.name}/<model>" == model.name), None)
            if named is not None and named.ready and named.source is not None:
                yield Finding(False, named.name, model.reason, "start it, or look at its address and key")


def _cluster(client: Client) -> Iterator[Finding]:
    """Tell of the cluster that runs are executed on, and in what it is not as this notebook's environment."""
    try:
        report = client.backend()
    except KasalError as error:
        yield Finding(False, "cluster", error.message, "update Kasal on the server's side")
        return
    if report.backend == "local":
        return
    if not report.connected:
        remedy = "whoever runs the server: KasalApp.dask_scheduler or dask_cluster, and is it there?"
        yield Finding(False, "cluster", report.fault or "it cannot be reached", remedy)
        return
    slots, free = sum(each.slots for each in report.workers), sum(each.free for each in report.workers)
    workers = counted(len(report.workers), "worker")
    yield Finding(slots > 0, "cluster", f"{report.address}: {workers}, {free} of {slots} slots free")
    for each in report.workers:
        if each.fault:
            remedy = 'pip install "kasal-jupyter[dask]" there, of the version that the server has'
            yield Finding(False, "worker", f"{each.address}: {each.fault}", remedy)
        elif others := _others_there(each.packages):
            remedy = "one environment for the notebook, the server and the workers spares surprises"
            yield Finding(None, "worker", f"{each.address} has {', '.join(others)}", remedy)


def _others_there(packages: dict[str, str]) -> list[str]:
    """Give what is of another version on a worker than for this notebook."""
    found = []
    for name, theirs in packages.items():
        try:
            ours = platform.python_version() if name == "python" else version(name)
        except PackageNotFoundError:
            continue
        if ours != theirs:
            found.append(f"{name} {theirs} (here {ours})")
    return found


def _notebook_tools() -> Finding:
    from kasal_jupyter.kernel.functions.notebook_tools import registered

    names = ", ".join(registered())
    return Finding(None, "notebook's tools", names or "none; @kasal.tool above a function makes one")


def _engine(client: Client) -> Finding:
    """Run the smallest crew there is, and leave nothing of it behind."""
    from kasal_jupyter.schemas.agents import CrewAgent
    from kasal_jupyter.schemas.crews import CrewCreate
    from kasal_jupyter.schemas.executions import ENDED
    from kasal_jupyter.schemas.tasks import CrewTask

    agent = CrewAgent(name="nurse", role="Nurse", goal="Say that all is well", model="sandbox")
    task = CrewTask(name="look", description="Say a word", expected_output="A word", agent="nurse")
    body = CrewCreate(name="Kasal doctor", description="Tries the engine.", agents=[agent], tasks=[task])
    begin = time.monotonic()
    crew_id = client.create_crew(body).id
    try:
        job_id = client.start(crew_id).job_id
        state = client.execution(job_id)
        while state.status not in ENDED and time.monotonic() - begin < RUN_SECONDS:
            time.sleep(0.05)
            state = client.execution(job_id)
        took = duration_text(time.monotonic() - begin)
        if state.status not in ENDED:
            client.stop(job_id)
        client.delete_execution(job_id)
    finally:
        client.delete_crew(crew_id)
    if state.status != "completed":
        said = state.error.message if state.error else f"a run was {state.status} after {took}"
        return Finding(False, "engine", said, "the Jupyter server's log says more")
    return Finding(True, "engine", f"CrewAI ran a crew on the sandbox model in {took}")


def _guarded(what: str, look: Callable[[], Finding], remedy: str) -> Finding:
    try:
        return look()
    except KasalError as error:
        return Finding(False, what, error.message, remedy)
