"""`dynamo-node`: puts the parts together, in one process, one event loop, one data directory.

Every failed start ends with one line and exit code 1 (2 for settings). SIGTERM: the node is not
ready at once, finishes the operations under way, closes the store cleanly and exits with 0.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from secrets import randbits
from shutil import disk_usage
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import structlog
import uvicorn
import uvloop

from dynamo_archive.sealing import PLAIN as UNSEALED
from dynamo_archive.sealing import Sealing
from dynamo_core.errors import DynamoError
from dynamo_core.membership.copied import parse
from dynamo_core.node import Node, NodeIdentity
from dynamo_node import log as logs
from dynamo_node.access import unasked
from dynamo_node.admin_api import admin_app
from dynamo_node.archivist import Archivist
from dynamo_node.certificates import Certificates
from dynamo_node.client_api import ClientApi
from dynamo_node.data_dir import open_store
from dynamo_node.descriptors import Shares, TooFew, raise_limit, shares
from dynamo_node.driver import Disk, Driver, LastResort, freeze_memory
from dynamo_node.guarded_protocol import GuardedProtocol
from dynamo_node.handshake import VERSION
from dynamo_node.http_limits import AdminEdge, Edge, Limits
from dynamo_node.keyring import Keyring
from dynamo_node.kv_asgi import KvApp
from dynamo_node.kv_protocol import KvProtocol
from dynamo_node.link_ends import LinkEnds
from dynamo_node.listeners import BACKLOG_MAX, CannotStart, Listeners, advertised
from dynamo_node.memory import told
from dynamo_node.memory_store import MemoryStore
from dynamo_node.peer_link import Links
from dynamo_node.reload import Reload
from dynamo_node.settings import (
    BadSettings,
    NodeSettings,
    load,
    refuse,
    unknown_variables,
)
from dynamo_node.side_file import mark_damaged
from dynamo_node.tls import PLAIN, Within

if TYPE_CHECKING:  # from an optional extra
    from dynamo_node.spans import NodeSpans

DRAIN_S_MAX = 5.0
DATE_S = 1.0
"""The Date header of an answer is at most so old."""
GRACE_S_MAX = 2
"""Time for answers to leave after the last operation has ended."""
log = structlog.get_logger()


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to `run`, and sleeps until it is told to end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures no signal."""
        yield

    def end(self) -> None:
        """Close the listener and the connections, then return from `serve`."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        """Renews the Date header once a second. uvicorn's loop also looks for its end ten times a
        second; those of two listeners were half of the wake-ups of an idle node."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(DATE_S):
                    await self._ended.wait()


def open_disk(settings: NodeSettings) -> tuple[Disk, int, bool]:
    """The store, the node's id, and whether the store may be believed. Raises CannotStart."""
    if settings.engine == "memory":
        log.warning("a restart loses all data: puts answer durable=0 for every dw")
        return MemoryStore(), randbits(64) or 1, True
    try:
        opened = open_store(
            settings.data_dir,
            settings.name,
            settings.cluster,
            settings.memtable_bytes,
            copy=parse(settings.copy_of, settings.advertise or f"{settings.name}.invalid:1"),
        )
    except DynamoError as error:
        raise CannotStart(f"data_dir: {error}") from None
    log.info("the store is open", trusted=opened.trust, why=opened.reason)
    return opened.store, opened.identity.node_id, opened.trust


def free_bytes(directory: Path) -> int:
    """The free bytes of the disk; 0 means unknown."""
    try:
        return disk_usage(directory).free
    except OSError:
        return 0


def die(line: str) -> NoReturn:
    """Ends the process at once, from any thread, so that nothing more is acknowledged."""
    log.error(line)
    sys.stderr.flush()
    os._exit(1)


def limits_of(settings: NodeSettings) -> tuple[Limits, Shares]:
    """The limits of the listeners, lowered to the number of descriptors (T-7), and the descriptors
    that each part may hold. Raises CannotStart."""
    wanted = Limits(settings.value_bytes_max)
    limit = raise_limit()
    try:
        share = shares(
            limit, wanted.admin_connections_max, wanted.connections_max + wanted.refusals_max
        )
    except TooFew as error:
        raise CannotStart(str(error)) from None
    refusals = min(wanted.refusals_max, share.clients // 8)
    limits = wanted._replace(
        connections_max=share.clients - refusals,
        refusals_max=refusals,
        admin_connections_max=share.admin,
    )
    if limits != wanted:
        log.warning(
            "the limit of open files is low: the node accepts fewer connections",
            open_files_max=limit,
            connections_max=limits.connections_max,
            admin_connections_max=share.admin,
            links_max=share.links,
            store_files_max=share.store,
        )
    return limits, share


async def run(settings: NodeSettings, secrets: Sequence[bytes], arguments: Sequence[str]) -> None:
    """A node from start to end; SIGHUP reads `arguments` again. Raises CannotStart, BadSettings."""
    spans = spans_of(settings)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    loop.set_exception_handler(_loop_fault)
    listeners = Listeners.of(settings)
    limits, share = limits_of(settings)
    peer_address, client_address, admin_address = advertised(settings, listeners)
    store, node_id, trusted = open_disk(settings)
    identity = NodeIdentity(
        settings.name,
        node_id,
        peer_address,
        client_address,
        settings.zone,
        settings.weight,
        admin=admin_address,
    )
    node = Node(identity, store, settings.of_core(), partial(randbits, 64))
    if settings.engine != "memory":
        node.attach(free_bytes=partial(free_bytes, settings.data_dir))
    node.attach(spans=spans)
    keyring = Keyring(secrets, former=settings.peer_protocol_min < VERSION)
    ends = LinkEnds(
        settings.name, node_id, settings.cluster, peer_address, keyring, settings.of_links()
    )
    certificates = settings.certificates()
    ends.secure(settings.of_peer_tls, certificates)
    last = LastResort(die, partial(mark_damaged, settings.data_dir))
    driver = Driver(node, store, Links(ends, share.links, share.strangers), last)
    driver.memory_bound_bytes = told(
        node.settings,
        limits,
        settings.memtable_bytes,
        settings.of_links(),
        tls=certificates is not None,
    )
    driver.access = settings.access(driver.audit)
    reload = Reload(arguments, settings, keyring, driver, certificates)
    loop.add_signal_handler(signal.SIGHUP, reload.again)
    Archivist(driver, settings.backup_targets, settings.sealing())
    driver.start(trusted, settings.seeds)
    seeds = loop.create_task(driver.follow_seeds(list(settings.seeds)))
    reload.watch()
    servers = servers_of(settings, driver, limits, certificates, spans)
    await driver.links.listen(listeners.peer)
    serving = await started(servers, listeners)
    freeze_memory()
    announce(settings, listeners)
    for doubt in unasked(bool(secrets), driver.access):
        log.warning(doubt)
    await stopping.wait()
    log.info("stopping", in_flight=node.admission_control.in_flight)
    seeds.cancel()
    reload.watch_no_more()
    await driver.drain(DRAIN_S_MAX)
    for server in servers.values():
        server.end()
    await asyncio.wait(serving, timeout=2 * GRACE_S_MAX)
    driver.stop()
    if spans is not None:
        await asyncio.to_thread(spans.close)
    log.info("stopped clean")


async def started(servers: dict[str, Server], listeners: Listeners) -> list[asyncio.Task[None]]:
    """The servers at work, each on its listener. Raises what a server raises."""
    serving = [
        asyncio.get_running_loop().create_task(server.serve([getattr(listeners, which)]))
        for which, server in servers.items()
    ]
    while not all(server.started for server in servers.values()):
        for task in serving:
            if task.done():
                task.result()
        await asyncio.sleep(0.005)
    return serving


def spans_of(settings: NodeSettings) -> NodeSpans | None:
    """The exporter of spans, or None if the settings want none. Raises BadSettings if the extra is
    not installed."""
    if not settings.otel_endpoint:
        return None
    try:
        from dynamo_node.spans import NodeSpans
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dynamo_"):
            raise
        raise BadSettings(
            f"otel_endpoint: needs the package's extra [otel] ({error.name} is not installed):"
            " pip install 'dynamo-ring[node,otel]'"
        ) from None
    return NodeSpans(settings.otel_endpoint, settings.name, version("dynamo-ring"))


def servers_of(
    settings: NodeSettings,
    driver: Driver,
    limits: Limits,
    certificates: Certificates | None,
    spans: NodeSpans | None,
) -> dict[str, Server]:
    """Both HTTP listeners, by name."""
    ends = driver.links.ends
    tls = partial(Within, certificates=certificates, counters=ends.counters)
    front, clients = settings.http_front, tls(settings.of_client_tls)
    admins = tls(settings.of_admin_tls)
    return {
        "client": Server(client_config(driver, front, ends.keyring, limits, clients, spans)),
        "admin": Server(admin_config(driver, ends.keyring, limits, admins, settings.sealing())),
    }


def _config(app: Any, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        backlog=BACKLOG_MAX,
        timeout_graceful_shutdown=GRACE_S_MAX,
        **more,
    )


def admin_config(
    driver: Driver, keyring: Keyring, limits: Limits, tls: Within = PLAIN,
    sealing: Sealing = UNSEALED,
) -> uvicorn.Config:  # fmt: skip
    """The admin listener, behind the same guard as the client listener."""
    edge = AdminEdge(limits, asyncio.get_running_loop())
    app = admin_app(driver, keyring, version("dynamo-ring"), edge.books, limits, sealing)
    edge.audit, edge.endpoint_of = driver.audit, app.endpoint_of
    return _config(app, http=tls.around(partial(GuardedProtocol, edge)))


def client_config(
    driver: Driver,
    front: str,
    keyring: Keyring,
    limits: Limits,
    tls: Within = PLAIN,
    spans: NodeSpans | None = None,
) -> uvicorn.Config:
    """The client listener, with the front that the settings choose."""
    edge = Edge(limits, asyncio.get_running_loop())
    driver.books = edge.books
    api = ClientApi(driver, keyring, limits, edge.books)
    api.access, api.spans = driver.access, spans
    edge.access, edge.audit = driver.access, driver.audit
    if front == "asgi":
        return _config(KvApp(api), http=tls.around(partial(GuardedProtocol, edge)))
    return _config(KvApp(api), http=tls.around(partial(KvProtocol, api, edge)))


def announce(settings: NodeSettings, listeners: Listeners) -> None:
    """Writes the real ports to the log and to the file `ports` in the data directory."""
    ports = {which: listeners.address(which) for which in ("client", "admin", "peer")}
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        new = settings.data_dir / "ports.new"
        new.write_bytes(msgspec.json.encode(ports))
        new.rename(settings.data_dir / "ports")
    except OSError as error:  # a node with a full disk still answers reads
        log.warning("the file of ports cannot be written", why=error.strerror)
    log.info("listening", **ports)


def _loop_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback raised: the loop closes its connection, and the node goes on."""
    log.error(context.get("message", "an error in a callback"), exc_info=context.get("exception"))


def main(arguments: list[str] | None = None) -> None:
    """The command `dynamo-node`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--version" in arguments:
        print(version("dynamo-ring"))
        return
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until `run` installs its handler
    os.umask(0o077)  # only the node's user may read values, id and log (T-7)
    settings = load(arguments)
    logs.configure(settings.log_level, settings.name)
    try:
        secrets = settings.secrets()
        settings.check_exposure(secrets)
        settings.certificates()
        settings.rights()
    except BadSettings as error:
        refuse(str(error))
    for doubt in settings.doubts():
        log.warning(doubt)
    for name in unknown_variables(os.environ):
        log.warning("unknown setting", variable=name)
    try:
        uvloop.run(run(settings, secrets, arguments))
    except BadSettings as error:
        refuse(str(error))
    except CannotStart as error:
        log.error(f"cannot start: {error}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
