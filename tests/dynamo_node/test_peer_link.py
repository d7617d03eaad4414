"""Links between nodes over real sockets: what arrives, and what bad bytes cannot do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from waiting import until

from dynamo_core.frames import MESSAGE_BYTES_MAX, Frame, decode_frame, encode_frame
from dynamo_node.handshake import DIALER, GREETING, Handshake, Hello
from dynamo_node.peer_link import SEND_BUFFER_BYTES_MAX, LinkEnds, Links, Route

DEADLINE_S = 10.0
SECRET = b"between us"
FRAME = encode_frame(Frame(1, "c", "a", 1, "a:1", 1, 2, 3, 4, []))


def run(test: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(test, DEADLINE_S))


class Station:
    """The links of one node, and what it was handed and told."""

    def __init__(
        self, name: str, secret: bytes = SECRET, cluster: str = "", address: str = ""
    ) -> None:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.address = address or f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.ends = LinkEnds(name, 1, cluster, self.address, secret)
        self.frames: list[bytes] = []
        self.lost: list[str] = []
        self.ends.on_frame = self.take
        self.ends.on_lost = self.lost.append
        self.links = Links(self.ends)

    def take(self, frame: bytes) -> None:
        decode_frame(frame)
        self.frames.append(frame)

    async def open(self) -> Station:
        await self.links.listen(self.listener)
        return self

    async def close(self) -> None:
        self.links.close()
        self.listener.close()
        await until(lambda: not self.links.incoming)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


def with_stations(test: Callable[[Station, Station], Awaitable[None]], **second: Any) -> None:
    async def body() -> None:
        here, there = Station("here"), Station("there", **second)
        await here.open()
        await there.open()
        try:
            await test(here, there)
        finally:
            await here.close()
            await there.close()
            await asyncio.sleep(0)

    run(body())


def hello(address: str = "h:1") -> Hello:
    return Hello(DIALER, "n", 7, "", address, b"n" * 16)


# ---------------------------------------------------------------- links


def test_frames_arrive_whole_and_in_order() -> None:
    frames = [
        encode_frame(Frame(1, "c" * size, "a", 1, "a:1", 1, 2, 3, 4, []))
        for size in (0, 1, 70_000, 3, 3_000_000, 5)
    ]

    async def body(here: Station, there: Station) -> None:
        for frame in frames:
            assert here.links.send(there.address, frame)
        await until(lambda: len(there.frames) == len(frames))
        assert there.frames == frames
        assert (here.frames, here.lost, there.lost) == ([], [], [])
        assert not there.links.routes, "an accepted link is not used to send"

    with_stations(body)


def test_a_frame_in_single_bytes_is_one_frame() -> None:
    async def body(here: Station, there: Station) -> None:
        _, writer = await dial(there, SECRET)
        for byte in packed(FRAME) + packed(FRAME):
            writer.write(bytes([byte]))
            await writer.drain()
        await until(lambda: len(there.frames) == 2)
        assert there.frames == [FRAME, FRAME]
        writer.close()

    with_stations(body)


def test_a_refused_or_broken_link_is_told_and_dialled_again() -> None:
    async def body(here: Station, there: Station) -> None:
        address = there.address
        await there.close()
        assert here.links.send(address, FRAME)
        await until(lambda: here.lost == [address])
        assert not here.links.send(address, FRAME), "in back-off"
        back = Station("back")
        back.listener.close()
        back.listener = socket.create_server(("127.0.0.1", there.port))
        await back.open()
        await until(lambda: here.links.send(address, FRAME) and bool(back.frames))
        await back.close()
        await until(lambda: here.lost.count(address) >= 2)

    with_stations(body)


def test_an_incoming_link_ends_the_back_off() -> None:
    async def body(here: Station, there: Station) -> None:
        route = here.links.routes[there.address] = Route(here.ends, there.address)
        route.retry_at = float("inf")
        assert not here.links.send(there.address, FRAME)
        there.links.send(here.address, FRAME)
        await until(lambda: len(here.frames) == 1)
        await still_works(here, there)

    with_stations(body)


async def dials_in(to: Station, host: str, address: str) -> asyncio.StreamWriter:
    """A node from that host says that it accepts links at the address."""
    reader, writer = await asyncio.open_connection("127.0.0.1", to.port, local_addr=(host, 0))
    handshake = Handshake(hello(address), SECRET)
    writer.write(handshake.begin())
    while handshake.peer is None:
        writer.write(handshake.receive(await reader.read(4096)))
    return writer


async def moved(address: str) -> Station:
    """A node whose name still leads to 127.0.0.1."""
    station = Station("moved", address=address)
    station.listener.close()
    station.listener = socket.create_server(("127.0.0.2", station.port))
    return await station.open()


def test_a_node_is_dialled_back_where_it_came_from_while_its_name_leads_nowhere() -> None:
    async def body(here: Station, there: Station) -> None:
        address = f"localhost:{there.port}"
        await there.close()
        station = await moved(address)
        here.links.send(address, FRAME)
        await until(lambda: here.lost == [address])
        writer = await dials_in(here, "127.0.0.2", address)
        await until(lambda: here.links.send(address, FRAME) and bool(station.frames))
        writer.close()
        await station.close()
        await until(lambda: here.lost.count(address) >= 2)

    with_stations(body)


def test_a_link_to_whoever_has_the_old_address_of_a_node_is_closed() -> None:
    async def body(here: Station, there: Station) -> None:
        address = f"localhost:{there.port}"
        here.links.send(address, FRAME)
        await until(lambda: len(there.frames) == 1)
        station = await moved(address)
        writer = await dials_in(here, "127.0.0.2", address)
        await until(lambda: here.lost == [address])
        await until(lambda: here.links.send(address, FRAME) and bool(station.frames))
        assert len(there.frames) == 1
        writer.close()
        await station.close()

    with_stations(body)


def test_frames_of_a_node_that_was_seen_elsewhere_never_go_to_whoever_its_name_leads_to() -> None:
    async def body(here: Station, there: Station) -> None:
        address = f"localhost:{there.port}"
        route = here.links.routes[address] = Route(here.ends, address)
        route.retry_at = float("inf")
        writer = await dials_in(here, "127.0.0.2", address)
        await until(lambda: route.retry_at == 0.0)
        await until(lambda: not here.links.send(address, FRAME) and len(here.lost) >= 3)
        assert there.frames == []
        writer.close()

    with_stations(body)


def test_where_a_node_came_from_is_forgotten_when_nobody_is_there() -> None:
    async def body(here: Station, there: Station) -> None:
        address = there.address
        route = here.links.routes[address] = Route(here.ends, address)
        route.retry_at = float("inf")
        writer = await dials_in(here, "127.0.0.2", address)
        await until(lambda: route.retry_at == 0.0)
        await until(lambda: here.links.send(address, FRAME) and bool(there.frames))
        writer.close()

    with_stations(body)


def test_two_secrets_never_exchange_a_frame() -> None:
    async def body(here: Station, there: Station) -> None:
        here.links.send(there.address, FRAME)
        await until(lambda: here.lost == [there.address])
        assert there.frames == []
        assert here.ends.counters["link_handshakes_refused"] == 1

    with_stations(body, secret=b"something else")


def test_a_frame_that_outgrows_the_buffer_passes_alone() -> None:
    """A record that several sides of a cut have written may be as long."""

    async def body(here: Station, there: Station) -> None:
        here.links.send(there.address, FRAME)
        await until(lambda: bool(there.frames))
        filler = "c" * (SEND_BUFFER_BYTES_MAX + 1)
        large = encode_frame(Frame(1, filler, "a", 1, "a:1", 1, 2, 3, 4, []))
        await until(lambda: here.links.send(there.address, large))
        await until(lambda: there.frames[1:] == [large])

    with_stations(body)


def test_a_link_that_nobody_reads_drops_frames_and_keeps_memory_bounded() -> None:
    async def body(here: Station, there: Station) -> None:
        here.links.send(there.address, FRAME)
        await until(lambda: bool(there.frames))
        for link in there.links.incoming:
            assert link.transport is not None
            link.transport.pause_reading()
        large = encode_frame(Frame(1, "c" * 20_000_000, "a", 1, "a:1", 1, 2, 3, 4, []))
        await until(lambda: not here.links.send(there.address, large))
        link = here.links.routes[there.address]._link
        assert link is not None and link.transport is not None
        assert link.transport.get_write_buffer_size() <= SEND_BUFFER_BYTES_MAX
        assert here.ends.counters["frames_dropped_full"] == 1

    with_stations(body)


# ---------------------------------------------------------------- bytes that are not ours


def packed(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "big") + frame


async def dial(to: Station, secret: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw connection behind a good handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", to.port)
    handshake = Handshake(hello(), secret)
    writer.write(handshake.begin())
    while handshake.peer is None:
        writer.write(handshake.receive(await reader.read(4096)))
    return reader, writer


async def closed(reader: asyncio.StreamReader) -> bool:
    try:
        while await reader.read(4096):
            continue
    except ConnectionResetError:
        return True
    return True


def flipped(frame: bytes) -> bytes:
    bad = bytearray(frame)
    bad[0] ^= 0x40
    return bytes(bad)


BEFORE = {
    "garbage": b"\x00\xff" * 5000,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "other version": GREETING[:-1] + b"\x02" + b"\0" * 100,
    "endless hello": GREETING + b"\xff\xff" + b"x" * 100,
    "hello of zeros": GREETING + b"\x00\x10" + b"\0" * 16,
    "empty hello": GREETING + b"\x00\x00",
    "wrong secret": Handshake(hello(), b"no").begin() + b"p" * 32,
}
BEHIND = {
    "endless frame": b"\xff\xff\xff\xff",
    "a byte too long": (MESSAGE_BYTES_MAX + 1).to_bytes(4, "big"),
    "empty frame": packed(b""),
    "flipped bit": packed(flipped(FRAME)),
    "cut msgpack": packed(FRAME[:-1]),
    "deep nesting": packed(b"\x91" * 100_000),
    "other version": packed(encode_frame(Frame(9, "c", "a", 1, "a:1", 1, 2, 3, 4, []))),
}


async def still_works(here: Station, there: Station) -> None:
    here.links.send(there.address, FRAME)
    await until(lambda: there.frames == [FRAME])


@pytest.mark.parametrize("raw", BEFORE.values(), ids=BEFORE)
def test_bad_handshakes_close_their_link_only(raw: bytes) -> None:
    async def body(here: Station, there: Station) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        writer.write(raw)
        assert await closed(reader)
        writer.close()
        assert there.ends.counters["link_handshakes_refused"] == 1
        await still_works(here, there)

    with_stations(body)


@pytest.mark.parametrize("raw", BEHIND.values(), ids=BEHIND)
def test_bad_frames_close_their_link_only(raw: bytes) -> None:
    async def body(here: Station, there: Station) -> None:
        reader, writer = await dial(there, SECRET)
        writer.write(raw)
        assert await closed(reader)
        writer.close()
        assert there.ends.counters["link_bad_frames"] == 1
        await still_works(here, there)

    with_stations(body)


def test_a_half_handshake_and_a_cut_frame_leave_nothing_behind() -> None:
    async def body(here: Station, there: Station) -> None:
        _, half = await asyncio.open_connection("127.0.0.1", there.port)
        half.write(Handshake(hello(), SECRET).begin()[:9])
        _, cut = await dial(there, SECRET)
        cut.write(packed(FRAME)[:-1])
        await until(lambda: len(there.links.incoming) == 2)
        half.close()
        cut.close()
        await until(lambda: not there.links.incoming)
        assert there.frames == []
        await still_works(here, there)

    with_stations(body)


def test_a_handshake_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamo_node.peer_link.HANDSHAKE_S_MAX", 0.05)

    async def body(here: Station, there: Station) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        assert await closed(reader)
        writer.close()
        assert there.ends.counters["link_handshakes_late"] == 1

    with_stations(body)
