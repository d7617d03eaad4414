"""Connections without a proof keep no peer out, also if they come from its own address (T-4)."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import ExitStack

from benchmarks.processes import until as until_so

from dynamo_node.handshake import Handshake
from dynamo_node.peer_link import ACCEPTS_A_TURN
from dynamo_node.strangers import STRANGERS_MAX, Strangers
from tests.dynamo_node.links.station import FRAME, SECRET, Station, closed, hello, with_stations
from tests.dynamo_node.test_app import Process, Start, create_ring, start
from tests.dynamo_node.waiting import WAIT_S, until

__all__ = ["start"]
MIB = 1 << 20
MANY = 1000
"""More than the places, and far more than one turn of a loop accepts."""


class Link:
    """A stranger without a network."""

    def __init__(self) -> None:
        self.heard = False


def test_the_oldest_silent_stranger_of_the_host_with_most_goes_first() -> None:
    strangers, links = Strangers(4), [Link() for _ in range(8)]
    first, second, third, fourth, fifth, sixth, seventh, eighth = links
    for link, host in ((first, "a"), (second, "b"), (third, "b"), (fourth, "b")):
        assert strangers.add(link, host) is None  # type: ignore[arg-type]
    assert strangers.add(fifth, "b") is second  # type: ignore[arg-type]
    third.heard = True
    assert strangers.add(sixth, "c") is fourth  # type: ignore[arg-type]
    strangers.discard(first, "a")  # type: ignore[arg-type]
    strangers.discard(first, "a")  # type: ignore[arg-type]
    assert strangers.add(seventh, "b") is None  # type: ignore[arg-type]
    fifth.heard = True
    assert strangers.add(eighth, "b") is third, "the newer half is not searched"  # type: ignore[arg-type]
    assert list(strangers) == [fifth, seventh, eighth, sixth]
    assert len(strangers) == 4


def test_strangers_never_keep_a_peer_out() -> None:
    """Silent connections without the secret: more than there are places, opened again and again."""

    async def body(here: Station, there: Station) -> None:
        silent = [
            await asyncio.open_connection("127.0.0.1", there.port)
            for _ in range(STRANGERS_MAX + 50)
        ]
        await until(lambda: there.ends.counters["strangers_refused"] >= 50)
        assert len(there.links.strangers) <= STRANGERS_MAX
        here.links.send(there.address, FRAME)
        await until(lambda: there.frames == [FRAME])
        assert len(there.links.incoming) == 1
        for _, writer in silent:
            writer.transport.abort()
        await until(lambda: not there.links.strangers)
        assert there.links.by_version() == {("in", 2): 1}

    with_stations(body)


def silent(port: int, stack: ExitStack, count: int = MANY) -> None:
    """Connections of this address that send nothing. The kernel accepts each of them, also while
    the node does not come to it."""
    for _ in range(count):
        stack.enter_context(socket.create_connection(("127.0.0.1", port), WAIT_S))


def test_a_peer_does_not_wait_long_behind_silent_strangers() -> None:
    """All come in one turn of the loop, so the kernel keeps them until the node accepts them."""

    async def body(here: Station, there: Station) -> None:
        loop, turns = asyncio.get_running_loop(), 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            if not there.frames:
                loop.call_soon(turn)

        with ExitStack() as stack:
            silent(there.port, stack)
            here.links.send(there.address, FRAME)
            turn()
            await until(lambda: there.frames == [FRAME])
            assert turns < MANY / ACCEPTS_A_TURN * 2
            assert there.ends.counters["strangers_refused"] >= MANY - STRANGERS_MAX
            assert len(there.links.strangers) <= STRANGERS_MAX

    with_stations(body)


def test_silent_strangers_do_not_take_the_place_of_a_peer_between_its_hello_and_its_proof() -> None:
    async def body(here: Station, there: Station) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        handshake = Handshake(hello(), SECRET)
        writer.write(handshake.begin())
        proof = b""
        while handshake.peer is None:
            proof = handshake.receive(await reader.readexactly(1))
        with ExitStack() as stack:
            silent(there.port, stack)
            refused = MANY + 1 - STRANGERS_MAX
            await until(lambda: there.ends.counters["strangers_refused"] == refused)
            writer.write(proof)
            await until(lambda: len(there.links.incoming) == 1)
            writer.close()

    with_stations(body)


def test_a_stranger_is_held_to_the_bytes_of_a_hello() -> None:
    async def body(here: Station, there: Station) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        begin = Handshake(hello(), SECRET).begin()
        writer.write(begin[:-1])
        await until(lambda: len(there.links.strangers) == 1)
        writer.write(begin[-1:] + b"x" * MIB)
        assert await closed(reader)
        assert there.ends.counters["link_handshakes_refused"] == 1
        writer.close()

    with_stations(body)


def port_of(process: Process) -> int:
    return int(process.ports["peer"].rpartition(":")[2])


def test_a_node_reaches_another_one_that_strangers_of_its_address_besiege(start: Start) -> None:
    """The node is stopped while the strangers connect, so they all wait in its kernel; then its
    peer starts anew and must dial it."""
    nodes = [start(name).started() for name in "ab"]
    create_ring(nodes)
    besieged, peer = nodes
    assert peer.stop() == 0
    with ExitStack() as stack:
        besieged.child.send_signal(signal.SIGSTOP)
        try:
            silent(port_of(besieged), stack, STRANGERS_MAX + 100)
            again = start("b", f"--peer-listen={peer.ports['peer']}").started()
            silent(port_of(besieged), stack, STRANGERS_MAX + 100)
        finally:
            besieged.child.send_signal(signal.SIGCONT)
        until_so(
            lambda: besieged.get("/v1/status").json()["peers"] == {"b": "up"}, "it is not heard"
        )
        assert 'event="strangers_refused"' in besieged.get("/metrics").text
        assert again.ready()
