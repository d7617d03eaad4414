"""The links of one node alone, and raw connections to them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import uvloop

from dynamo_core.protocol.frame_tags import PlainSealer, Sealer
from dynamo_core.protocol.frames import Frame, decode_frame, encode_frame
from dynamo_core.secret_keys import PeerKeys
from dynamo_node.handshake import DIALER, GREETING, PROOF_BYTES, Handshake, Hello
from dynamo_node.keyring import Keyring
from dynamo_node.link_ends import LinkEnds, LinkLimits
from dynamo_node.peer_link import Links
from tests.dynamo_node.waiting import WAIT_S, until

DEADLINE_S = 2 * WAIT_S
"""Of one test: later than the bound of one wait, which says what it waited for."""
KEYRING = Keyring((b"between us",))
SECRET = KEYRING.now.peers
LIMITS = LinkLimits()
OLD_BEGIN = bytes.fromhex(
    "64796e616d6f2d72696e6701002296a66469616c6572a16e07a0a3683a31c4106e6e6e6e6e6e6e6e6e6e6e6e"
    "6e6e6e6e"
)
"""What a node of the first version greets with: `hello(speaks=1)` without that field."""
FRAME = encode_frame(Frame(1, "c", "a", 1, "a:1", 1, 2, 3, 4, []))


def run(test: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(test, DEADLINE_S))


class Station:
    """The links of one node, and what it was handed and told."""

    def __init__(
        self,
        name: str,
        keyring: Keyring = KEYRING,
        cluster: str = "",
        address: str = "",
        limits: LinkLimits = LIMITS,
    ) -> None:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.address = address or f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.ends = LinkEnds(name, 1, cluster, self.address, keyring, limits)
        self.frames: list[bytes] = []
        self.lost: list[str] = []
        self.ends.on_frame = self.take
        self.ends.on_lost = self.lost.append
        self.links = Links(self.ends)

    def take(self, frame: bytes | bytearray) -> None:
        decode_frame(frame)
        self.frames.append(bytes(frame))

    async def open(self) -> Station:
        await self.links.listen(self.listener)
        return self

    async def close(self) -> None:
        self.links.close()
        self.listener.close()
        await until(lambda: not self.links.incoming and not self.links.strangers)

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


def hello(address: str = "h:1", speaks: int = 2) -> Hello:
    return Hello(DIALER, "n", 7, "", address, b"n" * 16, speaks)


def packed(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "big") + frame


async def dial(
    to: Station, secret: tuple[PeerKeys, ...] = SECRET, speaks: int = 2
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Sealer | PlainSealer]:
    """A raw connection behind a good handshake, and what puts heads before its frames."""
    reader, writer = await asyncio.open_connection("127.0.0.1", to.port)
    handshake = Handshake(hello(speaks=speaks), secret)
    writer.write(handshake.begin())
    while handshake.peer is None:
        writer.write(handshake.receive(await reader.readexactly(1)))
    return reader, writer, Sealer(handshake.frame_key()) if speaks > 1 else PlainSealer()


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


async def still_works(here: Station, there: Station) -> None:
    here.links.send(there.address, FRAME)
    await until(lambda: there.frames == [FRAME])


class Between:
    """Relays links to a port; `change` says what becomes of each frame, its head included."""

    def __init__(self, port: int, change: Callable[[int, bytes], list[bytes]]) -> None:
        self.port, self.change = port, change
        self.ends: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for writer in self.ends:
            writer.transport.abort()
        await until(lambda: not self.ends)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection("127.0.0.1", self.port)
        ends = {writer, far}
        self.ends |= ends
        backwards = asyncio.create_task(self._back(far_reader, writer))
        try:
            said = await reader.readexactly(len(GREETING) + 3)
            far.write(said + await reader.readexactly(int.from_bytes(said[-2:], "big")))
            far.write(await reader.readexactly(PROOF_BYTES))
            number = 0
            while True:
                head = await reader.readexactly(4)
                body = await reader.readexactly(int.from_bytes(head, "big"))
                for piece in self.change(number, head + body):
                    far.write(piece)
                number += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for end in ends:
                end.transport.abort()
            await asyncio.wait_for(backwards, WAIT_S)
            self.ends -= ends

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(4096):
                writer.write(piece)
        except ConnectionError:
            pass
        writer.transport.abort()
