"""Frames between nodes over TCP: one connection per direction per pair, callbacks only.

A node dials every address it has a frame for and uses that connection to send; on connections that
it accepted it only receives. Behind the handshake a frame is four bytes of length and its bytes.
Nothing here is reliable, and need not be: a frame that cannot be sent now is dropped, the driver is
told that the link is lost, and the core decides. Bytes that are not ours close their connection and
are counted; they reach nobody else.

A name may lead astray for minutes after its node has moved. So who dials us and has proven itself
is dialled back where it came from, and a link that the old name has led to somebody else is closed.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import random
from secrets import token_bytes
from typing import cast

from dynamo_core.errors import BadFrame
from dynamo_core.frames import MESSAGE_BYTES_MAX
from dynamo_node.clock import now_s
from dynamo_node.handshake import ACCEPTOR, DIALER, NONCE_BYTES, Handshake, Hello

SEND_BUFFER_BYTES_MAX = 64 * 1024 * 1024
"""Waiting in one link; beyond it frames are dropped, but for one that nothing waits before."""
DIALING_BYTES_MAX = 4 * 1024 * 1024
"""Kept for a link that is being dialled."""
LINKS_MAX = 2048
"""Links in one direction; fewer where the limit of descriptors wants it (T-7)."""
HANDSHAKE_S_MAX = 3.0
STALL_S_MAX = 10.0
"""Sent and not acknowledged by the other kernel for so long: the link is given up."""
IDLE_S_MAX = 60.0
RETRY_S_MIN, RETRY_S_MAX = 0.05, 1.0
LENGTH_BYTES = 4


class LinkEnds:
    """What the links of one node share: who it is, and whom they tell."""

    def __init__(self, name: str, node_id: int, cluster: str, address: str, secret: bytes) -> None:
        self.secret = secret
        self.counters: Counter[str] = Counter()
        self.on_frame: Callable[[bytes], None] = lambda frame: None
        self.on_lost: Callable[[str], None] = lambda address: None
        self._who = (name, node_id, cluster, address)

    def handshake(self, role: str) -> Handshake:
        """A new one, with a nonce of its own."""
        return Handshake(Hello(role, *self._who, token_bytes(NONCE_BYTES)), self.secret)


class _Link(asyncio.Protocol):
    """A connection until its handshake is done; then `opened` is called once."""

    def __init__(self, ends: LinkEnds, role: str) -> None:
        self.ends = ends
        self.transport: asyncio.Transport | None = None
        self.peer: Hello | None = None
        self._handshake: Handshake | None = ends.handshake(role)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        tune(transport.get_extra_info("socket"))
        self._deadline = asyncio.get_running_loop().call_later(HANDSHAKE_S_MAX, self._late)
        assert self._handshake is not None
        if begin := self._handshake.begin():
            self.transport.write(begin)

    def data_received(self, data: bytes) -> None:
        if self.transport is None:
            return
        try:
            if self._handshake is None:
                self.receive(data)
            else:
                self._shake(self._handshake, data)
        except BadFrame:
            self.ends.counters["link_bad_frames"] += 1
            self.abort()

    def _shake(self, handshake: Handshake, data: bytes) -> None:
        assert self.transport is not None
        try:
            answer = handshake.receive(data)
        except BadFrame:
            self.ends.counters["link_handshakes_refused"] += 1
            self.abort()
            return
        if answer:
            self.transport.write(answer)
        if handshake.peer is None:
            return
        self._handshake, self.peer = None, handshake.peer
        self._end_deadline()
        self.opened(handshake.peer)
        if handshake.rest:
            self.receive(handshake.rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._end_deadline()
        self.closed()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _late(self) -> None:
        self.ends.counters["link_handshakes_late"] += 1
        self.abort()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def opened(self, peer: Hello) -> None:
        """The other side has proven itself."""

    def closed(self) -> None:
        """The connection is gone, at whatever stage."""

    def receive(self, data: bytes) -> None:
        """Bytes behind the handshake. Raises BadFrame."""


class Incoming(_Link):
    """An accepted connection: frames come in, nothing goes out."""

    def __init__(self, ends: LinkEnds, links: Links) -> None:
        super().__init__(ends, ACCEPTOR)
        self._links = links
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._links.incoming.add(self)
        if len(self._links.incoming) > self._links.links_max:
            self.ends.counters["links_refused"] += 1
            self.abort()

    def opened(self, peer: Hello) -> None:
        assert self.transport is not None
        self._links.found(peer.address, self.transport.get_extra_info("peername")[0])

    def closed(self) -> None:
        self._links.incoming.discard(self)

    def receive(self, data: bytes) -> None:
        """Hands on whole frames; keeps the beginning of one. Each byte is copied at most twice."""
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < LENGTH_BYTES or len(buffer) < LENGTH_BYTES + _length(buffer, 0):
                return
            data = bytes(buffer)
            buffer.clear()
        position, end = 0, len(data)
        on_frame = self.ends.on_frame
        while end - position >= LENGTH_BYTES:
            start = position + LENGTH_BYTES
            length = _length(data, position)
            if end - start < length:
                break
            position = start + length
            on_frame(data[start:position])
        if position < end:
            buffer += memoryview(data)[position:]


def _length(data: bytes | bytearray, position: int) -> int:
    length = int.from_bytes(data[position : position + LENGTH_BYTES], "big")
    if length > MESSAGE_BYTES_MAX:
        raise BadFrame(f"a frame of {length} bytes, at most {MESSAGE_BYTES_MAX}")
    return length


class Outgoing(_Link):
    """A dialled connection: frames go out; after the handshake any byte that comes in is wrong."""

    def __init__(self, ends: LinkEnds, route: Route) -> None:
        super().__init__(ends, DIALER)
        self._route = route

    def opened(self, peer: Hello) -> None:
        self._route.opened(self)

    def closed(self) -> None:
        self._route.closed(self)

    def receive(self, data: bytes) -> None:
        raise BadFrame("a dialled link only sends")


class Route:
    """The way to one address: idle, dialling, open, or waiting before it dials again."""

    __slots__ = ("_dialing", "_ended", "_ends", "_host", "_kept", "_kept_bytes", "_link",
                 "_port", "_retry_s", "_seen_at", "_to_seen", "address", "retry_at",
                 "used_at", "why")  # fmt: skip

    def __init__(self, ends: LinkEnds, address: str) -> None:
        self.address = address
        self.why = "not dialled yet"
        """Who is there, or why the last try to dial it failed; for people."""
        self.used_at = now_s()
        self.retry_at = 0.0
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port) if port.isdecimal() else 0
        self._ends = ends
        self._link: Outgoing | None = None
        self._dialing: asyncio.Task[None] | None = None
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._retry_s = RETRY_S_MIN
        self._seen_at = ""
        """The host from which the node there has dialled us."""
        self._to_seen = False
        """Whether we dial there next, and not the address as it is written; in turns."""
        self._ended = False

    @property
    def open(self) -> bool:
        """Whether frames go straight out."""
        return self._link is not None

    def send(self, frame: bytes) -> bool:
        """Sends the frame, now or when the link is up; False when it was dropped."""
        self.used_at = now_s()
        if len(frame) > MESSAGE_BYTES_MAX:
            self._ends.counters["frames_too_large"] += 1
            return False
        if self._link is not None:
            transport = self._link.transport
            assert transport is not None
            waiting = transport.get_write_buffer_size()
            if waiting and waiting + len(frame) > SEND_BUFFER_BYTES_MAX:
                self._ends.counters["frames_dropped_full"] += 1
                return False
            transport.writelines((len(frame).to_bytes(LENGTH_BYTES, "big"), frame))
            return True
        if self._dialing is None:
            if self.used_at < self.retry_at:
                self._ends.counters["frames_dropped_down"] += 1
                return False
            self._dialing = asyncio.get_running_loop().create_task(self._dial())
        if self._kept_bytes + len(frame) > DIALING_BYTES_MAX and self._kept:
            self._ends.counters["frames_dropped_full"] += 1
            return False
        self._kept.append(frame)
        self._kept_bytes += len(frame)
        return True

    async def _dial(self) -> None:
        """Connects; the handshake's own deadline takes over from there."""
        loop = asyncio.get_running_loop()
        host = self._seen_at if self._to_seen and self._seen_at else self._host
        self._to_seen = not self._to_seen  # unless this way leads there
        try:
            async with asyncio.timeout(HANDSHAKE_S_MAX):
                await loop.create_connection(lambda: Outgoing(self._ends, self), host, self._port)
        except (OSError, TimeoutError, UnicodeError, OverflowError) as error:
            words = getattr(error, "strerror", None) or str(error) or "no answer"
            self.why = f"{words} ({host}:{self._port})"
            self._fail()

    def opened(self, link: Outgoing) -> None:
        """The handshake is done: what was kept goes out."""
        if self._astray(link):
            return link.abort()
        self._link, self._dialing = link, None
        if link.peer is not None:
            self.why = f"{link.peer.name} answers there"
        self._to_seen = not self._to_seen
        self._retry_s = RETRY_S_MIN
        kept, self._kept, self._kept_bytes = self._kept, [], 0
        for frame in kept:
            self.send(frame)
        return None

    def _astray(self, link: Outgoing) -> bool:
        """Whether somebody else is there than who has dialled us under this address."""
        return bool(self._seen_at) and link.peer is not None and link.peer.address != self.address

    def found(self, host: str) -> None:
        """The node there is up and has just dialled us from this host: no more waiting."""
        self._seen_at, self._to_seen = host, True
        self.retry_at = 0.0
        if self._link is not None and self._astray(self._link):
            self._link.abort()

    def closed(self, link: Outgoing) -> None:
        """The connection is gone, or its handshake failed."""
        if self._link in (link, None):
            if link.peer is None:
                self.why = "closed at the handshake: another secret, cluster or protocol"
            self._fail()

    def _fail(self) -> None:
        if self._ended:
            return
        self._link, self._dialing = None, None
        self._kept, self._kept_bytes = [], 0
        self.retry_at = now_s() + self._retry_s * (0.5 + random())
        self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)
        self._ends.counters["links_lost"] += 1
        self._ends.on_lost(self.address)

    def close(self) -> None:
        """Sends what is buffered, then closes; nobody is told."""
        self._ended = True
        if self._dialing is not None:
            self._dialing.cancel()
        if self._link is not None and self._link.transport is not None:
            self._link.transport.close()


class Links:
    """All links of one node."""

    def __init__(self, ends: LinkEnds, links_max: int = LINKS_MAX) -> None:
        self.ends = ends
        self.links_max = links_max
        self.routes: dict[str, Route] = {}
        self.incoming: set[Incoming] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, listener: socket.socket) -> None:
        """Accepts links on a bound socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Incoming(self.ends, self), sock=listener)

    def send(self, address: str, frame: bytes) -> bool:
        """One frame to an address; False when it was dropped."""
        route = self.routes.get(address)
        if route is None:
            if len(self.routes) >= self.links_max:
                self.purge()
            if len(self.routes) >= self.links_max:
                self.ends.counters["links_refused"] += 1
                return False
            route = self.routes[address] = Route(self.ends, address)
        return route.send(frame)

    def found(self, address: str, host: str) -> None:
        """The node at the address has just dialled us from this host."""
        route = self.routes.get(address)
        if route is not None:
            route.found(host)

    def purge(self) -> None:
        """Closes links that nobody has used for long."""
        limit = now_s() - IDLE_S_MAX
        for address, route in list(self.routes.items()):
            if route.used_at < limit:
                route.close()
                del self.routes[address]

    def close(self) -> None:
        """Closes everything, outgoing bytes first."""
        if self._server is not None:
            self._server.close()
        for route in self.routes.values():
            route.close()
        for link in list(self.incoming):
            link.abort()


def tune(sock: socket.socket | None) -> None:
    """No waiting for more bytes; a silent other side ends the link (Linux)."""
    if sock is None:
        return
    with suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_NODELAY, 1),
            (socket.TCP_USER_TIMEOUT, int(STALL_S_MAX * 1000)),
            (socket.TCP_KEEPIDLE, int(3 * STALL_S_MAX)),
            (socket.TCP_KEEPINTVL, int(STALL_S_MAX / 2)),
        ):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
