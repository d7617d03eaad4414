"""The admin listener's application, in front of a node that is alone in its ring."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from secrets import randbits
from typing import Any, NoReturn

import httpx
import uvloop

from dynamo_core.node import Node, NodeIdentity
from dynamo_core.protocol.operations import Outcome, Put
from dynamo_core.settings import Settings
from dynamo_node.admin_api import admin_app
from dynamo_node.budget import Books
from dynamo_node.driver import Driver, LastResort
from dynamo_node.http_limits import Limits
from dynamo_node.keyring import Keyring
from dynamo_node.link_ends import LinkEnds
from dynamo_node.memory_store import MemoryStore
from dynamo_node.peer_link import Links

DEADLINE_S = 20.0
QUICK = Settings(heartbeat_s=0.05, suspect_s=0.5)
CREATE = {"cluster_id": "c", "partitions": 16, "n": 1, "members": [{"name": "a", "address": "h:1"}]}


def die(line: str) -> NoReturn:
    raise AssertionError(line)


class Admin(httpx.AsyncClient):
    """A client of one node's admin application."""

    driver: Driver

    async def problem(self, method: str, path: str, **more: Any) -> tuple[int, str]:
        """Status and slug of a refusal that is a problem in every part."""
        response = await self.request(method, path, **more)
        assert response.headers["content-type"] == "application/problem+json"
        body = response.json()
        assert body["status"] == response.status_code and body["detail"]
        return response.status_code, body["type"].rpartition("/")[2]

    async def put(self, key: bytes) -> None:  # type: ignore[override]
        answered: asyncio.Future[Outcome] = asyncio.Future()
        self.driver.submit(Put(key=key, value=b"v"), answered.set_result)
        assert (await answered).status == 204


OPEN = Keyring()


def with_node(
    test: Callable[[Admin], Awaitable[None]], keyring: Keyring = OPEN, founded: bool = True
) -> None:
    async def body() -> None:
        store = MemoryStore()
        node = Node(NodeIdentity("a", 7, "h:1"), store, QUICK, partial(randbits, 64))
        links = Links(LinkEnds("a", 7, "", "h:1", keyring))
        driver = Driver(node, store, links, LastResort(die, lambda: None))
        driver.start(True)
        books = Books(1 << 20, 1 << 20, 8 << 20, 8, asyncio.get_running_loop())
        app = admin_app(driver, keyring, "1.2.3", books, Limits(1 << 20))
        transport = httpx.ASGITransport(app)
        async with Admin(transport=transport, base_url="http://node") as admin:
            admin.driver = driver
            if founded:
                assert (await admin.post("/v1/ring", json=CREATE)).status_code == 201
            await test(admin)
        driver.stop()

    uvloop.run(asyncio.wait_for(body(), DEADLINE_S))
