"""A server's connection to a Dask cluster: made again whenever it is lost, and never waited for for ever."""

from __future__ import annotations

import asyncio
import importlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kasal_jupyter.errors import Unavailable, WorkerLost
from kasal_jupyter.places import Chores
from kasal_jupyter.version import __version__

CONNECT_SECONDS = 5.0
"""How long one attempt to connect may take."""

AGAIN_SECONDS = 0.5
"""After which another attempt is made."""

ASK_SECONDS = 5.0
"""How long a worker may take to answer."""

LOOK_SECONDS = 1.0
"""How often workers are asked how the runs there stand."""

LOST_SECONDS = 8.0
"""After how long without an answer a worker, or the whole cluster, is taken for lost."""

RESOURCE = "kasal"
"""The Dask resource that a run takes one of, and the name by which a worker is asked about its runs."""

HOSTS = "kasal-hosts"
"""The topic on which workers tell all servers how many slots they have free."""

INSTALL = 'pip install "kasal-jupyter[dask]"'

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster is meant.

    Attributes
    ----------
    scheduler
        A scheduler's address; empty where the cluster is given by name.
    cluster
        ``gateway:<name>`` (dask-gateway), ``kubernetes:<name>`` (dask-kubernetes), or ``jobqueue:<kind>``
        (dask-jobqueue: slurm, pbs, lsf, sge, moab, oar, htcondor).
    """

    scheduler: str = ""
    cluster: str = ""

    def __str__(self) -> str:
        return self.scheduler or self.cluster


@dataclass(slots=True)
class Host:
    """A worker that takes runs.

    Attributes
    ----------
    free
        How many runs more it would take, as it has said last.
    heard
        When it was last heard of, by the loop's clock.
    """

    address: str
    slots: int
    free: int
    warm: bool
    fault: str
    heard: float


class Told(Protocol):
    """Who is told what happens on the cluster; on the event loop."""

    def frame(self, message: dict[str, Any]) -> None:
        """Hear what one of the own runs has said."""
        ...

    def runs_of(self, address: str, runs: dict[str, dict[str, Any]]) -> None:
        """Hear which of the folder's runs a worker has."""
        ...

    def host_lost(self, address: str) -> None:
        """Hear that a worker is gone, or does not answer any more."""
        ...

    def changed(self) -> None:
        """Hear that there may be other slots."""
        ...


class Cluster:
    """The workers of a cluster that take runs, as a server knows them.

    Parameters
    ----------
    where
        Which cluster.
    home
        The data folder's public key: by it the folder's runs are known.
    settings
        Gives how workers host runs, for those that do not yet.
    told
        Who is told what happens.
    """

    def __init__(self, where: Where, home: bytes, settings: Callable[[], Any], told: Told) -> None:
        self.where = where
        self.home = home
        self.topic = f"kasal-{secrets.token_hex(8)}"
        """Where the own runs say what they have to say."""
        self.hosts: dict[str, Host] = {}
        self.lacking: dict[str, str] = {}
        """Workers that cannot take runs, and what they lack."""
        self.client: Any = None
        self.fault = "It was not connected yet"
        """Why there is no connection, where there is none."""
        self._settings = settings
        self._told = told
        self._made: Any = None
        self._chores = Chores()
        self._minding: asyncio.Task[None] | None = None
        self._there = asyncio.Event()
        self._wake = asyncio.Event()
        self._asking: set[str] = set()
        self._closed = False

    # -- the connection ------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the scheduler is there."""
        return self.client is not None and self.client.status == "running" and self._there.is_set()

    @property
    def alive(self) -> bool:
        """Whether it is connected, or will be again."""
        return not self._closed

    def begin(self) -> None:
        """Connect, and stay connected."""
        if self._minding is None and not self._closed:
            self._minding = asyncio.get_running_loop().create_task(self._mind())

    async def ready(self, seconds: float) -> None:
        """Wait until the cluster is there.

        Raises
        ------
        Unavailable
            It is not, within that time.
        """
        self.begin()
        try:
            async with asyncio.timeout(seconds):
                await self._there.wait()
        except TimeoutError:
            raise Unavailable(f"The Dask cluster {self.where} cannot be reached: {self.fault}") from None

    async def close(self) -> None:
        """Let go of the cluster; what goes on there goes on."""
        self._closed = True
        if self._minding is not None:
            self._minding.cancel()
            await asyncio.wait([self._minding])
        await self._let_go()
        await self._chores.finish(1.0)
        if self._made is not None:
            made, self._made = self._made, None
            if self.where.cluster.startswith("jobqueue:"):
                # The scheduler is a part of this process.
                await _within(made.close(), CONNECT_SECONDS)

    async def _mind(self) -> None:
        loop = asyncio.get_running_loop()
        seen = loop.time()
        while True:
            self._wake.clear()
            try:
                if self.client is None:
                    await self._connect()
                elif self.client.status != "running":
                    # A new one is made sooner than Dask's own gives up, and takes nothing over.
                    await self._let_go()
                    continue
            except Exception as error:  # noqa: BLE001 - a border: whatever a cluster's library raises
                if self.fault != (fault := str(error) or type(error).__name__):
                    log.warning("the Dask cluster %s cannot be reached: %s", self.where, fault)
                self.fault = fault
                await self._let_go()
            if self.connected:
                seen = loop.time()
                for address in list(self.hosts):
                    self._look(address)
            self._miss(seen)
            pause = LOOK_SECONDS if self.client is not None else AGAIN_SECONDS
            await _until(self._wake, pause)

    def _miss(self, seen: float) -> None:
        """Give up whoever was not heard of for too long."""
        now = asyncio.get_running_loop().time()
        for host in list(self.hosts.values()):
            if now - max(host.heard, 0.0) > LOST_SECONDS or now - seen > LOST_SECONDS:
                self._lose(host.address)

    async def _connect(self) -> None:
        distributed = await asyncio.to_thread(_distributed)
        arguments = await self._address()
        client = distributed.Client(
            **arguments, asynchronous=True, set_as_default=False, timeout=CONNECT_SECONDS, name="kasal"
        )
        self.client = client
        await asyncio.wait_for(client, CONNECT_SECONDS + 1.0)
        # First to listen, and then to ask what there is: nothing comes in between.
        client.subscribe_topic(HOSTS, self._on_host)
        client.subscribe_topic(self.topic, self._on_frame)
        client.subscribe_topic("all", self._on_all)
        plugin = hosting(self._settings())
        await asyncio.wait_for(client.register_plugin(plugin), 2 * CONNECT_SECONDS)
        found = client.scheduler.broadcast(
            msg={"op": RESOURCE, "ask": "state", "home": self.home}, on_error="ignore"
        )
        for state in (await asyncio.wait_for(found, ASK_SECONDS)).values():
            self._take_state(state)
        self.fault = ""
        self._there.set()
        self._told.changed()
        log.info("the Dask cluster %s is there, with %d workers", self.where, len(self.hosts))

    async def _address(self) -> dict[str, Any]:
        """Give what Dask's client is made with."""
        if self.where.scheduler:
            return {"address": self.where.scheduler}
        if self._made is None:
            self._made = await named_cluster(self.where.cluster)
        return {"address": self._made}

    async def _let_go(self) -> None:
        client, self.client = self.client, None
        self._there.clear()
        if client is not None:
            await _within(client.close(), 2.0)

    # -- its workers ---------------------------------------------------------------------------------

    async def ask(self, address: str, ask: str, *, seconds: float = ASK_SECONDS, **asked: Any) -> Any:
        """Ask a worker something.

        Raises
        ------
        WorkerLost
            It cannot be reached, or does not know the run any more.
        """
        client = self.client
        if client is None or client.status != "running":
            raise WorkerLost(f"The Dask cluster {self.where} cannot be reached.")
        message = {"op": RESOURCE, "ask": ask, **asked}
        try:
            answer = await asyncio.wait_for(client.scheduler.proxy(msg=message, worker=address), seconds)
        except Exception as error:
            # A border: a comm's own errors, and what Dask makes of those on the other side.
            reason = str(error) or type(error).__name__
            raise WorkerLost(f"The worker {address} did not answer: {reason}") from error
        if not isinstance(answer, dict) or "error" in answer:
            raise Refused(answer if isinstance(answer, dict) else {})
        if address in self.hosts:
            self.hosts[address].heard = asyncio.get_running_loop().time()
        return answer

    async def workers(self) -> list[str]:
        """Give the addresses of all workers, those included that take no runs."""
        about = await asyncio.wait_for(self.client.scheduler.identity(), ASK_SECONDS)
        return sorted(about["workers"])

    def _look(self, address: str) -> None:
        if address not in self._asking:
            self._asking.add(address)
            self._chores.begin(self._ask_state(address))

    async def _ask_state(self, address: str) -> None:
        try:
            self._take_state(await self.ask(address, "state", home=self.home))
        except WorkerLost as error:
            log.debug("%s", error)
        finally:
            self._asking.discard(address)

    def _take_state(self, state: Any) -> None:
        if isinstance(state, dict) and "host" in state:
            self._on_host((0.0, state))
            self._told.runs_of(state["host"], state["runs"])

    def _on_host(self, event: tuple[float, dict[str, Any]]) -> None:
        said = event[1]
        if "lacks" in said:
            self.lacking[said["worker"]] = said["lacks"]
        if self._closed or "host" not in said:
            return
        known = self.hosts.get(said["host"])
        host = Host(said["host"], said["slots"], said["free"], said["warm"], said["fault"], 0.0)
        host.heard = asyncio.get_running_loop().time()
        self.hosts[host.address] = host
        if known is None:
            self._look(host.address)
        self._told.changed()

    def _on_frame(self, event: tuple[float, dict[str, Any]]) -> None:
        self._told.frame(event[1])

    def _on_all(self, event: tuple[float, dict[str, Any]]) -> None:
        said = event[1]
        if isinstance(said, dict) and said.get("action") == "remove-worker":
            self._lose(said["worker"])

    def _lose(self, address: str) -> None:
        if self.hosts.pop(address, None) is not None:
            log.warning("the worker %s of the Dask cluster is lost", address)
        self._told.host_lost(address)
        self._told.changed()


class Refused(WorkerLost):
    """A worker has answered that it will not, or that it does not know the run."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer.get("message") or "The worker does not know the run.")
        self.kind: str = answer.get("error", "unknown")


def _distributed() -> Any:
    """Load Dask, which takes a second.

    Raises
    ------
    Unavailable
        It is not installed.
    """
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise Unavailable(f"Dask is not installed for the server ({error}): {INSTALL}") from error


async def named_cluster(name: str) -> Any:
    """Find a cluster by its name, or have dask-jobqueue begin one.

    Raises
    ------
    Unavailable
        The library is not installed, or knows no such cluster.
    """
    kind, _, which = name.partition(":")
    try:
        match kind:
            case "gateway":
                gateway = importlib.import_module("dask_gateway").Gateway(asynchronous=True)
                return await gateway.connect(which, shutdown_on_close=False)
            case "kubernetes":
                made = importlib.import_module("dask_kubernetes.operator").KubeCluster
                return await made.from_name(which, asynchronous=True, shutdown_on_close=False)
            case "jobqueue":
                jobs = importlib.import_module("dask_jobqueue")
                found = [each for each in dir(jobs) if each.lower() == f"{which}cluster".lower()]
                if found:
                    return await getattr(jobs, found[0])(asynchronous=True)
            case _:
                pass
    except ImportError as error:
        raise Unavailable(f"A cluster of dask-{kind} needs `pip install dask-{kind}`: {error}") from error
    raise Unavailable(f"There is no cluster {name!r}: say gateway:NAME, kubernetes:NAME or jobqueue:KIND")


def hosting(settings: Any) -> Any:
    """Make what has each worker of a cluster host runs, those that come later too.

    It is sent as it is, so that a worker without Kasal says so, and is none the worse for it.
    """
    from distributed.diagnostics.plugin import WorkerPlugin

    fields = (settings.slots, settings.max_memory, tuple(settings.passed))
    topic = HOSTS

    class Hosting(WorkerPlugin):
        name = f"kasal-{__version__}"
        idempotent = True

        async def setup(self, worker: Any) -> None:
            try:
                from kasal_jupyter.executions.backends.dask_host import HostSettings, settle
            except ImportError as error:
                worker.log_event(topic, {"lacks": str(error), "worker": worker.address})
                return
            await settle(worker, HostSettings(*fields))

        async def teardown(self, worker: Any) -> None:
            from kasal_jupyter.executions.backends.dask_host import unsettle

            await unsettle(worker)

    return Hosting()


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def _within(work: Any, seconds: float) -> None:
    """Do something that may not hold anybody up."""
    try:
        await asyncio.wait_for(work, seconds)
    except Exception as error:  # noqa: BLE001 - a border: it is let go of in any case
        log.debug("the cluster was not let go of in order: %s", error)
