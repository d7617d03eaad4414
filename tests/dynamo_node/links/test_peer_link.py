"""Links between nodes over real sockets: what arrives, and what bad bytes cannot do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from math import inf

import pytest

from dynamo_core.protocol.frame_tags import HEAD_BYTES
from dynamo_core.protocol.frames import MESSAGE_BYTES_MAX, Frame, encode_frame
from dynamo_core.protocol.messages import Fetched
from dynamo_core.secret_keys import keys_of
from dynamo_node import peer_link
from dynamo_node.handshake import GREETING, Handshake
from dynamo_node.keyring import Keyring
from dynamo_node.peer_link import SEND_BUFFER_BYTES_MAX, Route
from tests.dynamo_node.links.station import (
    FRAME,
    SECRET,
    Station,
    closed,
    dial,
    flipped,
    hello,
    run,
    still_works,
    with_stations,
)
from tests.dynamo_node.waiting import until

# ---------------------------------------------------------------- links


def test_frames_arrive_whole_and_in_order() -> None:
    frames = [
        encode_frame(Frame(1, "c", "a", 1, "a:1", 1, 2, 3, 4, [Fetched(1, b"c" * size, 0)]))
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
        _, writer, sealer = await dial(there)
        for byte in sealer.head(FRAME) + FRAME + sealer.head(FRAME) + FRAME:
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


def test_a_link_to_another_node_at_an_old_address_is_closed() -> None:
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


def test_frames_of_a_moved_node_never_go_to_another_node_at_its_name() -> None:
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


def test_the_host_of_a_node_is_forgotten_when_it_does_not_answer() -> None:
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

    with_stations(body, keyring=Keyring((b"something else",)))


def test_a_frame_that_outgrows_the_buffer_passes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that several sides of a cut have written may be as long."""
    monkeypatch.setattr(peer_link, "SEND_BUFFER_BYTES_MAX", 1 << 20)

    async def body(here: Station, there: Station) -> None:
        here.links.send(there.address, FRAME)
        await until(lambda: bool(there.frames))
        filler = b"c" * (peer_link.SEND_BUFFER_BYTES_MAX + 1)
        large = encode_frame(Frame(1, "c", "a", 1, "a:1", 1, 2, 3, 4, [Fetched(1, filler, 0)]))
        await until(lambda: here.links.send(there.address, large))
        await until(lambda: there.frames[1:] == [large])

    with_stations(body)


def test_a_link_that_is_not_read_drops_frames_and_keeps_memory_bounded() -> None:
    async def body(here: Station, there: Station) -> None:
        here.links.send(there.address, FRAME)
        await until(lambda: bool(there.frames))
        for link in there.links.incoming:
            assert link.transport is not None
            link.transport.pause_reading()
        large = encode_frame(
            Frame(1, "c", "a", 1, "a:1", 1, 2, 3, 4, [Fetched(1, b"c" * 20_000_000, 0)])
        )
        await until(lambda: not here.links.send(there.address, large))
        link = here.links.routes[there.address]._link
        assert link is not None and link.transport is not None
        assert link.transport.get_write_buffer_size() <= SEND_BUFFER_BYTES_MAX
        assert here.ends.counters["frames_dropped_full"] == 1
        assert here.links.redial_s(there.address) == inf, "nothing waits for a link that is full"

    with_stations(body)


# ---------------------------------------------------------------- bytes that are not ours


BEFORE = {
    "garbage": b"\x00\xff" * 5000,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "version 0": GREETING + b"\0" * 100,
    "version 3": GREETING + b"\x03" + b"\0" * 100,
    "endless hello": GREETING + b"\x02\xff\xff" + b"x" * 100,
    "hello of zeros": GREETING + b"\x02\x00\x10" + b"\0" * 16,
    "empty hello": GREETING + b"\x02\x00\x00",
    "wrong secret": Handshake(hello(), keys_of((b"no",)).peers).begin() + b"p" * 32,
}
Seal = Callable[[bytes], bytes]
BEHIND: dict[str, Callable[[Seal], bytes]] = {
    "endless frame": lambda seal: b"\xff" * HEAD_BYTES,
    "a byte too long": lambda seal: (MESSAGE_BYTES_MAX + HEAD_BYTES).to_bytes(4, "big") * 6,
    "empty frame": lambda seal: seal(b""),
    "flipped bit": lambda seal: seal(FRAME)[: -len(FRAME)] + flipped(FRAME),
    "cut msgpack": lambda seal: seal(FRAME[:-1]),
    "deep nesting": lambda seal: seal(b"\x91" * 100_000),
    "other version": lambda seal: seal(encode_frame(Frame(9, "c", "a", 1, "a:1", 1, 2, 3, 4, []))),
}


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


@pytest.mark.parametrize("speaks", [1, 2])
@pytest.mark.parametrize("raw", BEHIND.values(), ids=BEHIND)
def test_bad_frames_close_their_link_only(raw: Callable[[Seal], bytes], speaks: int) -> None:
    async def body(here: Station, there: Station) -> None:
        reader, writer, sealer = await dial(there, speaks=speaks)
        writer.write(raw(lambda frame: sealer.head(frame) + frame))
        assert await closed(reader)
        writer.close()
        assert there.ends.counters["link_bad_frames"] == 1
        await still_works(here, there)

    with_stations(body)


def test_a_half_handshake_and_a_cut_frame_leave_nothing_behind() -> None:
    async def body(here: Station, there: Station) -> None:
        _, half = await asyncio.open_connection("127.0.0.1", there.port)
        half.write(Handshake(hello(), SECRET).begin()[:9])
        _, cut, sealer = await dial(there)
        cut.write(sealer.head(FRAME) + FRAME[:-1])
        await until(lambda: bool(there.ends.arriving.used))
        assert (len(there.links.incoming), len(there.links.strangers)) == (1, 1)
        half.close()
        cut.close()
        await until(lambda: not there.links.incoming and not there.links.strangers)
        assert there.ends.arriving.used == 0
        assert there.frames == []
        await still_works(here, there)

    with_stations(body)


def test_a_handshake_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamo_node.link_ends.HANDSHAKE_S_MAX", 0.05)

    async def body(here: Station, there: Station) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        assert await closed(reader)
        writer.close()
        assert there.ends.counters["link_handshakes_late"] == 1

    with_stations(body)


# ---------------------------------------------------------------- the tests themselves


def test_a_clean_up_that_cannot_end_says_so_after_the_test_was_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The deadline of a test cancels it once; what its clean-up awaits then has no other bound."""
    monkeypatch.setattr("tests.dynamo_node.waiting.WAIT_S", 0.01)
    monkeypatch.setattr("tests.dynamo_node.links.station.DEADLINE_S", 0.01)

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await until(lambda: False)

    with pytest.raises(AssertionError, match=r"was not so in 0\.01 s"):
        run(hangs())
