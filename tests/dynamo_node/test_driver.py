"""Three drivers in one loop over real sockets, and a store that fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from secrets import randbits
from typing import NoReturn

import msgspec
import pytest
import uvloop

from dynamo_core.errors import Corrupt, StoreFailed, StoreFull, SyncFailed
from dynamo_core.keys import DATA, META
from dynamo_core.membership.stored_ring import RING_KEY
from dynamo_core.node import Node, NodeIdentity
from dynamo_core.protocol.operations import Get, Operation, Outcome, Put
from dynamo_core.replica.store import ENDLESS, Change
from dynamo_core.settings import Settings
from dynamo_node.driver import Driver, LastResort
from dynamo_node.keyring import Keyring
from dynamo_node.link_ends import LinkEnds
from dynamo_node.memory_store import MemoryStore
from dynamo_node.peer_link import Links
from tests.dynamo_node.waiting import until

DEADLINE_S = 20.0
QUICK = Settings(heartbeat_s=0.05, suspect_s=0.5, exchange_s=0.2, hint_scan_s=0.2, confirm_s=0.05)


class FaultyStore(MemoryStore):
    """The memory twin; its faults are switched on by a test."""

    def __init__(self) -> None:
        super().__init__()
        self.full = self.bad_sync = self.bad_read = False
        self.reopened = 0

    def write(self, batch: list[Change]) -> int:  # type: ignore[override]
        if self.full:
            raise StoreFull("no space left")
        return super().write(batch)

    def sync(self) -> int:
        if self.bad_sync:
            raise SyncFailed("input/output error")
        return super().sync()

    def scan(
        self, family: int, start: bytes, end: bytes | None, limit: int, bytes_max: int = ENDLESS
    ) -> list[tuple[bytes, bytes]]:
        if self.bad_read and family == DATA:
            raise Corrupt(family, start)
        return super().scan(family, start, end, limit, bytes_max)

    def reopen(self) -> None:
        if self.full:
            raise StoreFull("still no space left")
        self.reopened += 1


class Ended(BaseException):
    """What `die` raises here."""


class Process:
    """What `dynamo-node` puts together, without HTTP."""

    def __init__(self, name: str, before: Process | None = None) -> None:
        """`before`: its earlier life, whose disk, id and address it has."""
        port = int(before.address.rpartition(":")[2]) if before is not None else 0
        self.listener = socket.create_server(("127.0.0.1", port))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.store = before.store if before is not None else FaultyStore()
        self.died: list[str] = []
        self.marked = 0
        node_id = before.driver.node.identity.node_id if before is not None else randbits(64)
        identity = NodeIdentity(name, node_id, self.address)
        node = Node(identity, self.store, QUICK, partial(randbits, 64))
        links = Links(LinkEnds(name, identity.node_id, "", self.address, Keyring((b"s",))))
        self.driver = Driver(node, self.store, links, LastResort(self.die, self.mark))

    def die(self, line: str) -> NoReturn:
        self.died.append(line)
        raise Ended

    def mark(self) -> None:
        self.marked += 1

    async def ask(self, operation: Operation) -> Outcome:
        answered: asyncio.Future[Outcome] = asyncio.Future()
        self.driver.submit(operation, answered.set_result)
        return await answered


async def create_ring(nodes: list[Process]) -> None:
    members = [{"name": p.driver.node.name, "address": p.address} for p in nodes]
    body = {"cluster_id": "c", "partitions": 16, "n": 3, "members": members}
    answered: asyncio.Future[int] = asyncio.Future()
    nodes[0].driver.enter()
    nodes[0].driver.node.admin.create_ring(body, lambda status, _: answered.set_result(status))
    assert await answered == 201
    await until(lambda: all(p.driver.node.ready for p in nodes))
    names = [p.driver.node.name for p in nodes]
    await until(lambda: all(p.driver.node.up(n) for p in nodes for n in names))


def with_ring(test: Callable[[list[Process]], Awaitable[None]]) -> None:
    async def body() -> None:
        nodes = [Process(name) for name in "abc"]
        for process in nodes:
            await process.driver.links.listen(process.listener)
            process.driver.start(True)
        try:
            await create_ring(nodes)
            await test(nodes)
        finally:
            for process in nodes:
                if not process.driver.stopped:
                    process.driver.stop()
            await asyncio.sleep(0.01)

    uvloop.run(asyncio.wait_for(body(), DEADLINE_S))


def test_what_is_put_at_one_node_is_got_at_another() -> None:
    async def body(nodes: list[Process]) -> None:
        a, b, c = nodes
        put = await a.ask(Put(key=b"k", value=b"v", w=3, dw=3, timeout_s=5))
        assert put.status == 204 and put.acks is not None
        assert msgspec.structs.astuple(put.acks) == (3, 3, 0, 3)
        for process in nodes:
            got = await process.ask(Get(key=b"k", r=2))
            assert (got.status, [s.value for s in got.values]) == (200, [b"v"])
        outcomes = await asyncio.gather(
            *(nodes[n % 3].ask(Put(key=b"%d" % n, value=b"x" * 1000)) for n in range(300))
        )
        assert {o.status for o in outcomes} == {204}
        assert b.driver.requests.counts["put", 204] == 100
        assert sum(b.driver.requests.seconds["get"].counts) == 1
        assert c.driver.node.admission_control.in_flight == 0

    with_ring(body)


def test_a_node_that_is_gone_is_noticed_at_once_and_writes_go_on() -> None:
    async def body(nodes: list[Process]) -> None:
        a, b, c = nodes
        await until(lambda: a.driver.peer_changes["c"] == 1)
        c.driver.stop()
        await until(lambda: not a.driver.node.up("c") and not b.driver.node.up("c"))
        put = await a.ask(Put(key=b"k", value=b"v", w=2))
        assert put.status == 204
        assert (await b.ask(Get(key=b"k", r=2))).status == 200
        await until(lambda: a.driver.peer_changes["c"] == 2)

    with_ring(body)


def test_a_full_store_reads_on_and_is_opened_again() -> None:
    async def body(nodes: list[Process]) -> None:
        a = nodes[0]
        assert (await a.ask(Put(key=b"k", value=b"v", w=3))).status == 204
        a.store.full = True
        outcomes = [await a.ask(Put(key=b"%d" % n, value=b"v", timeout_s=0.2)) for n in range(4)]
        assert {o.status for o in outcomes} <= {204, 503}
        await until(lambda: not a.driver.node.writable)
        assert not a.driver.node.ready
        assert (await a.ask(Get(key=b"k"))).status == 200
        a.store.full = False
        await until(lambda: a.driver.node.ready)
        assert a.store.reopened == 1
        assert (await a.ask(Put(key=b"k2", value=b"v", w=3, timeout_s=5))).status == 204
        assert a.died == []

    with_ring(body)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failed_fsync_is_the_end_and_nothing_is_acknowledged() -> None:
    async def body(nodes: list[Process]) -> None:
        a = nodes[0]
        a.store.bad_sync = True
        answers: list[Outcome] = []
        a.driver.submit(Put(key=b"k", value=b"v", w=3, dw=3, timeout_s=0.3), answers.append)
        await until(lambda: bool(a.died))
        assert a.died == ["fsync failed, nothing after it can be trusted: input/output error"]
        assert [o.status for o in answers if o.status == 204] == []

    with_ring(body)


@pytest.mark.parametrize(
    ("error", "said", "marked"),
    [
        (Corrupt(DATA, b"k", "bad block"), "the store is damaged", 1),
        (StoreFailed("gone"), "the store failed: gone", 0),
        (KeyError("k"), "an internal error", 0),
    ],
    ids=["damage that stays", "no store", "a fault of ours"],
)
def test_what_cannot_be_lived_with_ends_the_process(
    error: Exception, said: str, marked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(nodes: list[Process]) -> None:
        a = nodes[0]

        def flush() -> NoReturn:
            monkeypatch.undo()  # once: a process that really ends has no next turn
            raise error

        monkeypatch.setattr(a.driver.node, "flush", flush)
        a.driver.enter()
        await until(lambda: bool(a.died))
        assert a.died[0].startswith(said) and a.marked == marked

    with_ring(body)


def test_a_frame_that_causes_an_error_of_our_own_costs_only_its_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def body(nodes: list[Process]) -> None:
        a, b, _ = nodes

        def receive(data: bytes) -> NoReturn:
            raise LookupError(data)

        with monkeypatch.context() as patch:
            patch.setattr(a.driver.node, "receive", receive)
            await until(lambda: a.driver.node.counters["frame_faults"] > 0)
        while (await b.ask(Put(key=b"k", value=b"v", w=3))).status != 204:
            await asyncio.sleep(0.01)
        assert a.died == []

    with_ring(body)


def test_an_answer_that_fails_costs_no_other_client() -> None:
    async def body(nodes: list[Process]) -> None:
        a = nodes[0]

        def gone(outcome: Outcome) -> None:
            raise RuntimeError("the client is gone")

        a.driver.submit(Put(key=b"k", value=b"v"), gone)
        assert (await a.ask(Put(key=b"l", value=b"v"))).status == 204
        await until(lambda: a.driver.node.counters["answer_faults"] == 1)
        assert a.driver.node.admission_control.in_flight == 0

    with_ring(body)


def test_operations_under_way_are_finished_before_the_end() -> None:
    async def body(nodes: list[Process]) -> None:
        a = nodes[0]
        asked = [asyncio.ensure_future(a.ask(Put(key=b"%d" % n, value=b"v"))) for n in range(50)]
        await asyncio.sleep(0)
        await a.driver.drain(5.0)
        assert {(await one).status for one in asked} == {204}
        assert (await a.ask(Get(key=b"1"))).problem == "draining"
        assert not a.driver.node.ready
        a.driver.stop()

    with_ring(body)


def test_an_unjoined_node_learns_the_addresses_behind_its_seeds() -> None:
    async def body() -> None:
        process = Process("a")
        driver = process.driver
        driver.start(True)
        mine = "localhost:" + process.address.rpartition(":")[2]
        task = asyncio.create_task(driver.follow_seeds([mine, "localhost:1", "no.such.name.:2"]))
        await until(lambda: bool(driver.node.identity.seeds))
        seeds = set(driver.node.identity.seeds)
        assert "127.0.0.1:1" in seeds and process.address not in seeds
        task.cancel()
        driver.stop()
        process.listener.close()

    uvloop.run(asyncio.wait_for(body(), DEADLINE_S))


def test_a_disk_whose_ring_makes_no_sense_says_so_and_takes_its_peers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def body(nodes: list[Process]) -> None:
        a, b, _ = nodes
        assert (await a.ask(Put(key=b"k", value=b"v", w=3, timeout_s=5))).status == 204
        b.driver.stop()
        MemoryStore.reopen(b.store)
        b.store.write([(META, RING_KEY, b"\xc1")])
        again = Process("b", b)
        nodes[1] = again
        await again.driver.links.listen(again.listener)
        again.driver.start(True, ["seed:1"])
        assert again.driver.node.ring_state.lost_ring
        await until(lambda: again.driver.node.ready)
        assert [s.value for s in (await again.ask(Get(key=b"k", r=2))).values] == [b"v"]

    with_ring(body)
    said = [line for line in capsys.readouterr().out.splitlines() if "makes no sense" in line]
    assert len(said) == 1 and "asks seed:1" in said[0]
