"""`dynamo-node`: puts the parts together, in one process, one event loop, one data directory.

Every way that a start can fail ends with one line and exit code 1 (2 for settings). SIGTERM: not
ready at once, what is under way is finished, the store is closed clean, exit code 0.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from secrets import randbits
from shutil import disk_usage
from typing import Any, NoReturn

import msgspec
import structlog
import uvicorn
import uvloop

from dynamo_core.errors import DynamoError
from dynamo_core.node import Node, NodeIdentity
from dynamo_node import log as logs
from dynamo_node.admin_api import admin_app
from dynamo_node.client_api import ClientApi
from dynamo_node.data_dir import open_store
from dynamo_node.descriptors import Shares, TooFew, raise_limit, shares
from dynamo_node.driver import Disk, Driver, LastResort, settle_memory
from dynamo_node.edge import AdminEdge, Edge, Limits
from dynamo_node.guarded_protocol import GuardedProtocol
from dynamo_node.kv_asgi import KvApp
from dynamo_node.kv_protocol import KvProtocol
from dynamo_node.link_ends import LinkEnds
from dynamo_node.memory import told
from dynamo_node.memory_store import MemoryStore
from dynamo_node.peer_link import Links
from dynamo_node.reload import Reload
from dynamo_node.settings import (
    BadSettings,
    NodeSettings,
    is_loopback,
    load,
    refuse,
    split_address,
    unknown_variables,
)
from dynamo_node.side_file import mark_damaged

DRAIN_S_MAX = 5.0
GRACE_S_MAX = 2
"""For answers on their way out once no operation is left."""
BACKLOG_MAX = 4096
ANY_HOST = ("0.0.0.0", "::")
log = structlog.get_logger()

NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""What a machine says that has no IPv6."""


class CannotStart(Exception):
    """One line for people."""


@dataclass(slots=True)
class Listeners:
    """They listen before the store is opened: a port that is taken is known at once."""

    client: socket.socket
    admin: socket.socket
    peer: socket.socket

    def address(self, which: str) -> str:
        """host:port as it is, also where port 0 was asked for."""
        host, port = getattr(self, which).getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to `run`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing is captured."""
        yield


def bind(field: str, address: str) -> socket.socket:
    """A listening socket; who connects early waits. Without a host it takes both families, or IPv4
    alone where the machine has no IPv6. Raises CannotStart."""
    host, port = split_address(address)
    try:
        try:
            return _listening(host or "::", port)
        except OSError as error:
            if host or error.errno not in NO_IPV6:
                raise
            return _listening("0.0.0.0", port)
    except OSError as error:
        raise CannotStart(f"{field}: cannot listen on {address}: {error.strerror}") from None


def _listening(host: str, port: int) -> socket.socket:
    """`::` takes IPv4 as well, whatever the default of the system is (RFC 3493, 5.3)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(BACKLOG_MAX)
    except OSError:
        listener.close()
        raise
    return listener


def advertised(settings: NodeSettings, listeners: Listeners) -> tuple[str, str, str]:
    """Where peers, clients and administrators dial this node; the last is "" where the admin
    listener is for this machine alone. Raises CannotStart where the first cannot be guessed."""
    peer = settings.advertise or listeners.address("peer")
    host = split_address(peer)[0]
    if settings.advertise is None and host in ANY_HOST:
        raise CannotStart(f"advertise: needed, as nobody can dial {peer}")
    host = f"[{host}]" if ":" in host else host
    client, admin = listeners.address("client"), listeners.address("admin")
    clients = settings.client_advertise or f"{host}:{split_address(client)[1]}"
    admin_host, admin_port = split_address(admin)
    if admin_host in ANY_HOST:
        admin = f"{host}:{admin_port}"
    elif is_loopback(admin) and not is_loopback(peer):
        admin = ""  # dialled elsewhere it would be another node
    return peer, clients, settings.admin_advertise or admin


def open_disk(settings: NodeSettings) -> tuple[Disk, int, bool]:
    """The store, the node's id, and whether the store may be believed. Raises CannotStart."""
    if settings.engine == "memory":
        log.warning("nothing is kept over a restart: puts answer durable=0, whatever dw is")
        return MemoryStore(), randbits(64) or 1, True
    try:
        opened = open_store(
            settings.data_dir, settings.name, settings.cluster, settings.memtable_bytes
        )
    except DynamoError as error:
        raise CannotStart(f"data_dir: {error}") from None
    log.info("the store is open", trusted=opened.trust, why=opened.reason)
    return opened.store, opened.identity.node_id, opened.trust


def free_bytes(directory: Path) -> int:
    """What the disk has room for; 0, which means that nobody knows, when it does not say."""
    try:
        return disk_usage(directory).free
    except OSError:
        return 0


def die(line: str) -> NoReturn:
    """At once, from any thread, whatever is under way: nothing more may be acknowledged."""
    log.error(line)
    sys.stderr.flush()
    os._exit(1)


def limits_of(settings: NodeSettings) -> tuple[Limits, Shares]:
    """The limits of the listeners, lowered to what there are descriptors for (T-7), and how these
    are shared. Raises CannotStart."""
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
        connections_max=share.clients - refusals, refusals_max=refusals,
        admin_connections_max=share.admin,
    )  # fmt: skip
    if limits != wanted:
        log.warning(
            "the limit of open files is low: fewer connections are taken",
            open_files_max=limit, connections_max=limits.connections_max,
            admin_connections_max=share.admin, links_max=share.links, store_files_max=share.store,
        )  # fmt: skip
    return limits, share


async def run(settings: NodeSettings, secret: bytes, arguments: Sequence[str]) -> None:
    """A node from its start to its end. SIGHUP: `arguments` are read again. Raises CannotStart."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.set_exception_handler(_loop_fault)
    listeners = Listeners(
        bind("client_listen", settings.client_listen),
        bind("admin_listen", settings.admin_listen),
        bind("peer_listen", settings.peer_listen),
    )
    limits, share = limits_of(settings)
    peer_address, client_address, admin_address = advertised(settings, listeners)
    store, node_id, trusted = open_disk(settings)
    identity = NodeIdentity(
        settings.name, node_id, peer_address, client_address, settings.zone, settings.weight,
        admin=admin_address,
    )  # fmt: skip
    node = Node(identity, store, settings.of_core(), partial(randbits, 64))
    if settings.engine != "memory":
        node.free_bytes = partial(free_bytes, settings.data_dir)
    ends = LinkEnds(
        settings.name, node_id, settings.cluster, peer_address, secret, settings.of_links()
    )
    last = LastResort(die, partial(mark_damaged, settings.data_dir))
    driver = Driver(node, store, Links(ends, share.links), last)
    driver.memory_bound_bytes = told(
        node.settings, limits, settings.memtable_bytes, settings.of_links()
    )
    loop.add_signal_handler(signal.SIGHUP, Reload(arguments, settings, secret, driver).again)
    driver.start(trusted, settings.seeds)
    seeds = loop.create_task(driver.follow_seeds(list(settings.seeds)))
    servers = {
        "client": Server(client_config(driver, settings.http_front, secret, limits)),
        "admin": Server(admin_config(driver, secret, limits)),
    }
    await driver.links.listen(listeners.peer)
    serving = [
        loop.create_task(server.serve([getattr(listeners, which)]))
        for which, server in servers.items()
    ]
    while not all(server.started for server in servers.values()):
        for task in serving:
            if task.done():
                task.result()
        await asyncio.sleep(0.005)
    settle_memory()
    announce(settings, listeners)
    if not secret:
        log.warning("no cluster secret: peers and administrators are not asked who they are")
    await stopping.wait()
    log.info("stopping", in_flight=node.clients.in_flight)
    seeds.cancel()
    await driver.drain(DRAIN_S_MAX)
    for server in servers.values():
        server.should_exit = True
    await asyncio.wait(serving, timeout=2 * GRACE_S_MAX)
    driver.stop()
    log.info("stopped clean")


def _config(app: Any, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app, loop="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        proxy_headers=False, ws="none", backlog=BACKLOG_MAX,
        timeout_graceful_shutdown=GRACE_S_MAX, **more,
    )  # fmt: skip


def admin_config(driver: Driver, secret: bytes, limits: Limits) -> uvicorn.Config:
    """The admin listener, behind the same guard as the client listener."""
    edge = AdminEdge(limits, asyncio.get_running_loop())
    app = admin_app(driver, secret, version("dynamo-ring"), edge.books, limits)
    return _config(app, http=partial(GuardedProtocol, edge))


def client_config(driver: Driver, front: str, secret: bytes, limits: Limits) -> uvicorn.Config:
    """The client listener, in the front that the settings choose."""
    edge = Edge(limits, asyncio.get_running_loop())
    driver.books = edge.books
    api = ClientApi(driver, secret, limits, edge.books)
    if front == "asgi":
        return _config(KvApp(api), http=partial(GuardedProtocol, edge))
    return _config(KvApp(api), http=partial(KvProtocol, api, edge))


def announce(settings: NodeSettings, listeners: Listeners) -> None:
    """The ports as they are: a line in the log and the file `ports` in the data directory."""
    ports = {which: listeners.address(which) for which in ("client", "admin", "peer")}
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        new = settings.data_dir / "ports.new"
        new.write_bytes(msgspec.json.encode(ports))
        new.rename(settings.data_dir / "ports")
    except OSError as error:  # a full disk may still be read
        log.warning("the file of ports cannot be written", why=error.strerror)
    log.info("listening", **ports)


def _loop_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback that raised: its connection is closed by the loop, the node lives on."""
    log.error(context.get("message", "a fault in a callback"), exc_info=context.get("exception"))


def main(arguments: list[str] | None = None) -> None:
    """The command `dynamo-node`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--version" in arguments:
        print(version("dynamo-ring"))
        return
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until `run` reads settings again for it
    os.umask(0o077)  # values, the id and the log of a node are for its own user alone (T-7)
    settings = load(arguments)
    logs.configure(settings.log_level, settings.name)
    try:
        secret = settings.secret()
        settings.check_exposure(secret)
    except BadSettings as error:
        refuse(str(error))
    for doubt in settings.doubts_of_secret(secret):
        log.warning(doubt)
    for name in unknown_variables(os.environ):
        log.warning("unknown setting", variable=name)
    try:
        uvloop.run(run(settings, secret, arguments))
    except CannotStart as error:
        log.error(f"cannot start: {error}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
