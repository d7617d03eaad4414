"""Links between two versions of the protocol (C17): old nodes get the old version, and no attacker
in between can force it on two new nodes (S-NET-3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from dynamo_core.protocol.frame_tags import HEAD_BYTES
from dynamo_node.handshake import ACCEPTOR, GREETING, Handshake, Hello
from dynamo_node.link_ends import LinkLimits
from dynamo_node.peer_link import Route
from tests.dynamo_node.links.station import (
    FRAME,
    OLD_BEGIN,
    SECRET,
    Between,
    Station,
    closed,
    dial,
    hello,
    still_works,
    with_stations,
)
from tests.dynamo_node.waiting import until

ONLY_2 = LinkLimits(version_min=2)


class OldNode:
    """Accepts links as the first version does: closes every other greeting without an answer;
    behind the handshake come lengths and frames."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.greeted: list[int] = []
        self.speaks = 1
        self.ends: set[asyncio.StreamWriter] = set()

    async def open(self, port: int = 0) -> OldNode:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self.server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ends.add(writer)
        try:
            said = await reader.readexactly(len(GREETING) + 1)
            self.greeted.append(said[-1])
            if said[-1] != 1:
                return
            handshake = Handshake(
                Hello(ACCEPTOR, "old", 5, "", self.address, b"o" * 16, self.speaks), SECRET
            )
            writer.write(handshake.receive(said))
            while handshake.peer is None:
                if not (piece := await reader.read(1)):
                    return
                writer.write(handshake.receive(piece))
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                self.frames.append(await reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()
            self.ends.discard(writer)

    async def close(self) -> None:
        self.server.close()
        for writer in self.ends:
            writer.transport.abort()
        await until(lambda: not self.ends)


def test_a_node_of_the_first_version_gets_what_waited_for_it() -> None:
    async def body(here: Station, there: Station) -> None:
        old = await OldNode().open()
        assert here.links.send(old.address, FRAME)
        assert here.links.send(old.address, FRAME)
        await until(lambda: len(old.frames) == 2)
        assert (old.frames, old.greeted, here.lost) == ([FRAME, FRAME], [2, 1], [])
        assert here.links.by_version() == {("out", 1): 1}
        await old.close()

    with_stations(body)


def test_a_node_that_was_updated_is_spoken_to_in_its_version() -> None:
    async def body(here: Station, there: Station) -> None:
        here.links.routes[there.address] = route = Route(here.ends, there.address)
        route._way = 1
        assert here.links.send(there.address, FRAME)
        await until(lambda: here.lost == [there.address])
        assert here.ends.counters["links_talked_down"] == 1
        await until(lambda: here.links.send(there.address, FRAME) and bool(there.frames))
        assert route.version == 2

    with_stations(body)


def test_an_old_node_dials_in() -> None:
    async def body(here: Station, there: Station) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        writer.write(OLD_BEGIN)
        old = Handshake(hello(speaks=1), SECRET)
        old._mine = OLD_BEGIN
        while old.peer is None:
            writer.write(old.receive(await reader.readexactly(1)))
        assert old.peer.speaks == 2, "an old node does not look at it"
        writer.write(len(FRAME).to_bytes(4, "big") + FRAME)
        await until(lambda: there.frames == [FRAME])
        assert there.links.by_version() == {("in", 1): 1}
        writer.close()

    with_stations(body)


def test_at_a_minimum_of_2_no_link_of_1_is_taken_or_made() -> None:
    async def body(here: Station, there: Station) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        writer.write(OLD_BEGIN)
        assert await closed(reader)
        writer.close()
        old = await OldNode().open()
        there.links.send(old.address, FRAME)
        await until(lambda: there.lost == [old.address])
        assert (old.greeted, there.links.by_version()) == ([2], {})
        await still_works(here, there)
        assert there.links.by_version() == {("in", 2): 1}
        await old.close()

    with_stations(body, limits=ONLY_2)


def test_who_closes_links_of_version_2_on_the_way_gets_none_of_1() -> None:
    """As an old node would, and then it passes the handshake on to a node that speaks 2."""

    async def body(here: Station, there: Station) -> None:
        between = OldNode()
        between.speaks = 2
        await between.open()
        here.links.send(between.address, FRAME)
        await until(lambda: here.lost == [between.address])
        assert here.ends.counters["links_talked_down"] == 1
        assert (between.greeted, between.frames) == ([2, 1], [])
        await between.close()

    with_stations(body)


# ---------------------------------------------------------------- a link that somebody changes


def flip(number: int, sealed: bytes) -> list[bytes]:
    return [sealed[:-1] + bytes([sealed[-1] ^ 1]) if number == 1 else sealed]


def drop(number: int, sealed: bytes) -> list[bytes]:
    return [] if number == 1 else [sealed]


def repeat(number: int, sealed: bytes) -> list[bytes]:
    return [sealed, sealed] if number == 0 else [sealed]


def insert(number: int, sealed: bytes) -> list[bytes]:
    made = (len(FRAME) + HEAD_BYTES - 4).to_bytes(4, "big")
    return [sealed, made + (len(FRAME) + HEAD_BYTES - 4 ^ 1).to_bytes(4, "big") + bytes(16) + FRAME]


def test_swapped_frames_do_not_pass() -> None:
    kept: list[bytes] = []

    def swap(number: int, sealed: bytes) -> list[bytes]:
        if number == 1:
            kept.append(sealed)
            return []
        return [sealed, *kept] if number == 2 else [sealed]

    changed_on_the_way(swap)


@pytest.mark.parametrize("change", [flip, drop, repeat, insert])
def test_a_link_whose_bytes_are_changed_is_closed_and_nothing_else(
    change: Callable[[int, bytes], list[bytes]],
) -> None:
    changed_on_the_way(change)


def changed_on_the_way(change: Callable[[int, bytes], list[bytes]]) -> None:
    """Three frames, of which the first arrives; the link is closed, its sender told, and another
    link to the same node goes on."""

    async def body(here: Station, there: Station) -> None:
        _, writer, sealer = await dial(there)
        writer.write(sealer.head(FRAME) + FRAME)
        await until(lambda: len(there.frames) == 1)
        async with Between(there.port, change) as address:
            for _ in range(3):
                here.links.send(address, FRAME)
            await until(lambda: here.lost == [address])
            assert there.ends.counters["link_bad_frames"] == 1
            assert there.frames == [FRAME, FRAME]
            writer.write(sealer.head(FRAME) + FRAME)
            await until(lambda: len(there.frames) == 3)
            await until(lambda: here.links.send(address, FRAME) and len(there.frames) > 3)
        writer.close()

    with_stations(body)
