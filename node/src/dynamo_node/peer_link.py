"""Frames between nodes over TCP: one connection per direction per pair, callbacks only.

A node dials every address that it has a frame for, and sends only on the connections that it
dialled; on accepted connections it only receives. Both ends are in `link_ends`: a handshake, then
frames with numbers and tags. Links are not reliable, and need not be: a frame that cannot be sent
now is dropped, the driver gets a `link_lost`, and the core decides.

DNS may be stale for minutes after a node has moved, so an authenticated peer is dialled back at the
address from which it connected, and a link on which another node answers is closed.

A node of the first version closes a link with a greeting of the second, and a node without TLS
closes a link that begins with TLS. So the node dials that address again at once in the next way
that the settings allow, and keeps the waiting frames (C17).
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from math import inf
from random import random

from dynamo_core.protocol.frames import MESSAGE_BYTES_MAX
from dynamo_node.clock import now_s
from dynamo_node.link_ends import HANDSHAKE_S_MAX, Incoming, LinkEnds, Outgoing
from dynamo_node.listeners import BACKLOG_MAX
from dynamo_node.strangers import STRANGERS_MAX, Strangers

SEND_BUFFER_BYTES_MAX = 64 * 1024 * 1024
"""Bytes that wait in one link; above it, a frame is dropped if other frames wait before it."""
DIALING_BYTES_MAX = 4 * 1024 * 1024
"""Bytes that are kept for a link while it is being dialled."""
LINKS_MAX = 2048
"""Links in one direction; fewer if the limit of descriptors is low (T-7)."""
ACCEPTS_A_TURN = 8
"""Connections that are accepted in one turn of the loop. Higher: peers wait less behind strangers,
and a flood of strangers makes each turn longer."""
IDLE_S_MAX = 60.0
RETRY_S_MIN, RETRY_S_MAX = 0.05, 1.0


class Route:
    """The way to one address: idle, dialling, open, or waiting before it dials again."""

    __slots__ = (
        "_dialing",
        "_dialled_from",
        "_dials_back",
        "_ended",
        "_ends",
        "_host",
        "_kept",
        "_kept_bytes",
        "_link",
        "_port",
        "_retry_s",
        "_tried",
        "_way",
        "address",
        "counted",
        "retry_at",
        "used_at",
        "why",
    )  # fmt: skip

    def __init__(self, ends: LinkEnds, address: str) -> None:
        self.address = address
        self.why = "not dialled yet"
        """The node at this address, or why the last dial failed; for people."""
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
        self._dialled_from = ""
        """The host from which the node at this address has dialled us."""
        self._dials_back = False
        """Whether the next dial goes to that host; host and written address take turns."""
        self._way = 0
        """The index of the next way to dial: the last one that was answered."""
        self._tried = 0
        """How many other ways were tried since a dial was not answered."""
        self._ended = False
        self.counted = 0

    @property
    def open(self) -> bool:
        """Whether frames are sent immediately."""
        return self._link is not None

    @property
    def version(self) -> int:
        """The protocol's version on an open link, else 0."""
        return self._link.version if self._link is not None else 0

    def waiting(self) -> int:
        """Bytes of frames that have not been sent."""
        if self._link is None or self._link.transport is None:
            return self._kept_bytes
        return self._link.transport.get_write_buffer_size()

    def send(self, frame: bytes) -> bool:
        """Sends the frame, now or when the link is open; False if it was dropped."""
        self.used_at = now_s()
        if len(frame) > MESSAGE_BYTES_MAX:
            self._ends.counters["frames_too_large"] += 1
            return False
        link, size = self._link, len(frame)
        if link is not None:
            assert link.transport is not None
            waiting = link.transport.get_write_buffer_size()
            if waiting and waiting + size > SEND_BUFFER_BYTES_MAX:
                return self._full()
            if not self._ends.waiting.take(self, waiting, size):
                return self._full()
            link.send(frame)
            return True
        if self._dialing is None:
            if self.used_at < self.retry_at:
                self._ends.counters["frames_dropped_down"] += 1
                return False
            self._dialing = asyncio.get_running_loop().create_task(self._dial())
        if self._kept_bytes + size > DIALING_BYTES_MAX and self._kept:
            return self._full()
        if not self._ends.waiting.take(self, self._kept_bytes, size):
            return self._full()
        self._kept.append(frame)
        self._kept_bytes += size
        return True

    def _full(self) -> bool:
        self._ends.counters["frames_dropped_full"] += 1
        return False

    async def _dial(self) -> None:
        """Connects; then the deadline of the handshake begins."""
        loop, ends = asyncio.get_running_loop(), self._ends
        in_tls, version = ends.ways[self._way]
        host = self._dialled_from if self._dials_back and self._dialled_from else self._host
        self._dials_back = not self._dials_back  # set back when this dial succeeds
        try:
            async with asyncio.timeout(HANDSHAKE_S_MAX):
                await loop.create_connection(
                    lambda: ends.dialled(Outgoing(ends, self, version), in_tls), host, self._port
                )
        except (OSError, TimeoutError, UnicodeError, OverflowError) as error:
            words = getattr(error, "strerror", None) or str(error) or "no answer"
            self.why = f"{words} ({host}:{self._port})"
            self._fail()

    def opened(self, link: Outgoing) -> None:
        """The handshake is done: send the waiting frames."""
        if self._astray(link):
            return link.abort()
        self._link, self._dialing, self._tried = link, None, 0
        if link.peer is not None:
            self.why = f"{link.peer.name} answers at this address"
        self._dials_back = not self._dials_back
        self._retry_s = RETRY_S_MIN
        kept, self._kept, self._kept_bytes = self._kept, [], 0
        for frame in kept:
            self.send(frame)
        return None

    def _astray(self, link: Outgoing) -> bool:
        """Whether another node answers at this address than the one that dialled us."""
        return (
            bool(self._dialled_from) and link.peer is not None and link.peer.address != self.address
        )

    def dialled_from(self, host: str) -> None:
        """The node at this address is up and has just dialled us from this host: dial again now."""
        self._dialled_from, self._dials_back = host, True
        self.retry_at = 0.0
        if self._link is not None and self._astray(self._link):
            self._link.abort()

    def closed(self, link: Outgoing) -> None:
        """The connection is gone, or its handshake failed."""
        if self._link not in (link, None):
            return
        if link.peer is None:
            self.why = "closed at the handshake: another secret, certificate, cluster or protocol"
        if link.heard or self._link is not None or not self._turn():
            self._fail()

    def _turn(self) -> bool:
        """Dials the same place again in another way, each way once; False if all were tried."""
        ways = len(self._ends.ways)
        if self._ended or self._tried >= ways - 1:
            return False
        self._tried, self._dials_back = self._tried + 1, not self._dials_back
        self._way = (self._way + 1) % ways
        self._dialing = asyncio.get_running_loop().create_task(self._dial())
        return True

    def _fail(self) -> None:
        if self._ended:
            return
        if self._tried or self._link is None:
            self._way = 0
        self._link, self._dialing, self._tried = None, None, 0
        self._kept, self._kept_bytes = [], 0
        self._ends.waiting.leave(self)
        self.retry_at = now_s() + self._retry_s * (0.5 + random())
        self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)
        self._ends.counters["links_lost"] += 1
        self._ends.on_lost(self.address)

    def close(self) -> None:
        """Sends what is buffered, then closes; it calls no callback."""
        self._ended = True
        self._ends.waiting.leave(self)
        if self._dialing is not None:
            self._dialing.cancel()
        if self._link is not None and self._link.transport is not None:
            self._link.transport.close()


class Links:
    """All links of one node."""

    def __init__(
        self, ends: LinkEnds, links_max: int = LINKS_MAX, strangers_max: int = STRANGERS_MAX
    ) -> None:
        self.ends = ends
        self.links_max = links_max
        self.routes: dict[str, Route] = {}
        self.incoming: set[Incoming] = set()
        """Links from proven peers; all other links are strangers."""
        self.strangers = Strangers(strangers_max)
        self._servers: list[asyncio.Server] = []

    async def listen(self, listener: socket.socket) -> None:
        """Accepts links on a bound socket. uvloop accepts one connection of a socket in a turn of
        the loop, so the same listener is given to it several times: a peer must not wait in the
        kernel behind strangers that come faster than one in a turn (T-4)."""
        loop = asyncio.get_running_loop()
        for sock in (listener, *(listener.dup() for _ in range(ACCEPTS_A_TURN - 1))):
            server = await loop.create_server(
                lambda: self.ends.accepted(Incoming(self.ends, self)),
                sock=sock,
                backlog=BACKLOG_MAX,
            )
            self._servers.append(server)

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

    def came(self, link: Incoming) -> None:
        """A stranger has connected and may take the place of another stranger."""
        if (out := self.strangers.add(link, link.host)) is not None:
            self.ends.counters["strangers_refused"] += 1
            out.abort()

    def proven(self, link: Incoming) -> None:
        """A stranger is a peer."""
        assert link.peer is not None
        self.strangers.discard(link, link.host)
        if len(self.incoming) >= self.links_max:
            self.ends.counters["links_refused"] += 1
            return link.abort()
        self.incoming.add(link)
        self.dialled_from(link.peer.address, link.host)
        return None

    def gone(self, link: Incoming) -> None:
        """An accepted link is closed."""
        self.strangers.discard(link, link.host)
        self.incoming.discard(link)

    def by_version(self) -> Counter[tuple[str, int]]:
        """How many links are open, by direction and version of the protocol."""
        open_ = Counter(("in", link.version) for link in self.incoming)
        open_.update(("out", route.version) for route in self.routes.values() if route.open)
        return open_

    def redial_s(self, address: str) -> float:
        """Seconds until the address may be dialled again; 0 means now (S-NET-2). Infinite if the
        link is open: then it is full, and more frames would keep it full for longer."""
        route = self.routes.get(address)
        if route is not None and route.open:
            return inf
        return max(0.0, route.retry_at - now_s()) if route is not None else 0.0

    def dialled_from(self, address: str, host: str) -> None:
        """The node at the address has just dialled us from this host."""
        route = self.routes.get(address)
        if route is not None:
            route.dialled_from(host)

    def purge(self) -> None:
        """Closes links that were unused for a long time, and links whose frame stays incomplete."""
        now = now_s()
        for link in [link for link in self.incoming if link.overdue(now)]:
            self.ends.counters["link_frames_late"] += 1
            link.abort()
        limit = now - IDLE_S_MAX
        for address, route in list(self.routes.items()):
            if route.used_at < limit:
                route.close()
                del self.routes[address]

    def close(self) -> None:
        """Sends what is buffered, then closes everything."""
        for server in self._servers:
            server.close()
        for route in self.routes.values():
            route.close()
        for link in [*self.incoming, *self.strangers]:
            link.abort()
