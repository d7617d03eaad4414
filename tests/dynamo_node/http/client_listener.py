"""A node that is alone in its ring, behind a real listener; and raw bytes to say to it."""

from __future__ import annotations

import asyncio
import socket
import threading
from functools import partial
from secrets import randbits
from typing import Any, NoReturn

import httpx
import uvloop

from dynamo_core.node import Node, NodeIdentity
from dynamo_core.settings import Settings
from dynamo_node.access import Access
from dynamo_node.app import Server, admin_config, client_config
from dynamo_node.driver import Driver, LastResort
from dynamo_node.http_limits import Limits
from dynamo_node.keyring import Keyring
from dynamo_node.link_ends import LinkEnds
from dynamo_node.memory_store import MemoryStore
from dynamo_node.peer_link import Links
from dynamo_node.rights import Rights
from dynamo_node.service_accounts import ServiceAccounts
from dynamo_node.tls import PLAIN, Within

DEADLINE_S = 20.0
KEYRING = Keyring((b"between us",))
TOKEN = KEYRING.now.tokens[0].encode()
SHORT = Limits(
    value_bytes_max=100_000,
    batch_bytes_max=200_000,
    head_s_max=0.4,
    body_s_max=0.6,
    idle_s_max=0.8,
    linger_s_max=0.5,
    sweep_s=0.05,
)
"""Limits that a test of limits reaches at once."""


def die(line: str) -> NoReturn:
    raise AssertionError(line)


class Listener:
    """Runs in a separate thread until `stop`; the front `admin` is the admin listener."""

    def __init__(
        self,
        front: str,
        limits: Limits,
        founded: bool = True,
        tls: Within = PLAIN,
        rights: Rights | None = None,
        accounts: ServiceAccounts | None = None,
        **settings: Any,
    ) -> None:
        self.limits = limits
        self._tls = tls
        self._access = None if rights is None else (rights, accounts)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = self._socket.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self._settings = Settings(**settings)
        self._front = front
        self._founded = founded
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._in_thread)
        self._thread.start()
        assert self._up.wait(DEADLINE_S) and self._thread.is_alive()

    def _in_thread(self) -> None:
        try:
            uvloop.run(self._run())
        finally:
            self._up.set()
            self._socket.close()

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.faults: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda loop, context: self.faults.append(context))
        me = NodeIdentity("a", 7, "h:1")
        store = MemoryStore()
        self.node = Node(me, store, self._settings, partial(randbits, 64))
        links = Links(LinkEnds("a", 7, "", "h:1", KEYRING))
        self.driver = Driver(self.node, store, links, LastResort(die, lambda: None))
        self.driver.start(True)
        if self._founded:
            created: asyncio.Future[int] = self.loop.create_future()
            members = [{"name": "a", "address": "h:1"}]
            body = {"cluster_id": "c", "partitions": 16, "n": 1, "members": members}
            self.driver.enter()
            self.node.admin.create_ring(body, lambda status, _: created.set_result(status))
            assert await created == 201
        if self._access is not None:
            self.driver.access = Access(*self._access, self.driver.audit)
        if self._front == "admin":
            config = admin_config(self.driver, KEYRING, self.limits, self._tls)
        else:
            config = client_config(self.driver, self._front, KEYRING, self.limits, self._tls)
        made: Any = config.http
        self.edge = (made if self._tls.how == "off" else made.args[-1]).args[-1]
        self.server = Server(config)
        serving = self.loop.create_task(self.server.serve([self._socket]))
        self.loop.call_soon(self._up.set)
        await serving
        self.driver.stop()

    def call(self, what: Any) -> Any:
        """Runs in the listener's loop and returns what it returned."""

        async def run() -> Any:
            return what()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(DEADLINE_S)

    def stop(self) -> None:
        self.call(lambda: setattr(self.server, "should_exit", True))
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        assert self.faults == []

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=DEADLINE_S)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=DEADLINE_S)

    def say(self, *pieces: bytes) -> bytes:
        """All bytes that come back until the listener closes."""
        with self.connect() as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return everything(connection)


def everything(connection: socket.socket) -> bytes:
    """Until the other end closes."""
    said = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return said
        if not piece:
            return said
        said += piece


def statuses(said: bytes) -> list[int]:
    """The status of each answer in a stream of answers with lengths."""
    found = []
    while said:
        head, _, rest = said.partition(b"\r\n\r\n")
        found.append(int(head.split(b" ", 2)[1]))
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        said = rest[length:]
    return found
