"""Both ends of a link between nodes: the handshake, then frames in one direction, callbacks only.

Behind the handshake each frame has a head. In version 2 the head is length, number and tag; in
version 1, for nodes of the first version, only the length (`protocol.frame_tags`). A frame that
fails the check is counted and closes its link; no other part of the node sees it (S-NET-3, T-2).

A connection without a proof yet is a *stranger*. It may send only the bytes of a hello, within
`HANDSHAKE_S_MAX`. Strangers are counted separately, so they never take the place of a peer (T-4).
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_bytes
from typing import Protocol, cast

from dynamo_core.errors import BadFrame
from dynamo_core.protocol.frame_tags import Opener, PlainOpener, PlainSealer, Sealer
from dynamo_node.budget import holder
from dynamo_node.certificates import Certificates
from dynamo_node.clock import now_s
from dynamo_node.handshake import (
    ACCEPTOR,
    DIALER,
    NONCE_BYTES,
    VERSION,
    VERSION_OLDEST,
    Handshake,
    Hello,
    TalkedDown,
)
from dynamo_node.keyring import Keyring
from dynamo_node.link_bytes import (
    ARRIVING_BYTES_MAX,
    READ_BYTES_MAX,
    WAITING_BYTES_MAX,
    Arriving,
    Waiting,
)
from dynamo_node.tls import TlsLayer, names_of

HANDSHAKE_S_MAX = 3.0
STALL_S_MAX = 10.0
"""The link is closed if the other kernel has not acknowledged sent bytes for this time."""
FRAME_S_MAX = 30.0
"""The link is closed if a frame is still incomplete this long after its first byte."""


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """The settings of links."""

    version_min: int = VERSION_OLDEST
    """Links of an older version are neither accepted nor dialled (C17)."""
    arriving_bytes_max: int = ARRIVING_BYTES_MAX
    waiting_bytes_max: int = WAITING_BYTES_MAX


class LinkEnds:
    """What the links of one node share: the node's hello, the books of bytes, the callbacks."""

    def __init__(
        self,
        name: str,
        node_id: int,
        cluster: str,
        address: str,
        keyring: Keyring,
        limits: LinkLimits = LinkLimits(),
    ) -> None:
        self.keyring = keyring
        self.limits = limits
        self.counters: Counter[str] = Counter()
        self.on_frame: Callable[[bytes | bytearray], None] = lambda frame: None
        self.on_lost: Callable[[str], None] = lambda address: None
        self.arriving = Arriving(limits.arriving_bytes_max)
        self.waiting = Waiting(limits.waiting_bytes_max)
        self.read = memoryview(bytearray(READ_BYTES_MAX))
        """The buffer for the bytes of every link; they are used before the next read."""
        self._who = (name, node_id, cluster, address)
        self.tls = "off"
        """`allow`: accept TLS and plain links, and dial in TLS first; `require`: only TLS."""
        self.certificates: Certificates | None = None

    def secure(self, how: str, certificates: Certificates | None) -> None:
        """TLS for links, as the setting `peer_tls` says."""
        self.tls, self.certificates = how, certificates

    @property
    def ways(self) -> list[tuple[bool, int]]:
        """The ways to dial a peer, the best first: whether in TLS, and in which version. A link
        without numbers and tags has no TLS either."""
        found = [(True, VERSION)] if self.tls != "off" else []
        if self.tls != "require":
            versions = range(VERSION, max(self.limits.version_min, VERSION_OLDEST) - 1, -1)
            found += [(False, version) for version in versions]
        return found

    def accepted(self, link: Incoming) -> asyncio.BufferedProtocol:
        """The protocol of an accepted connection."""
        if self.certificates is None or self.tls == "off":
            return link
        both = self.tls == "allow"
        link.layer = TlsLayer(link, self.certificates.peers, True, both, self.counters)
        return link.layer

    def dialled(self, link: Outgoing, in_tls: bool) -> asyncio.BufferedProtocol:
        """The protocol of a dialled connection."""
        if self.certificates is None or not in_tls:
            return link
        link.layer = TlsLayer(link, self.certificates.dialer, False, counters=self.counters)
        return link.layer

    def handshake(self, role: str, version: int = VERSION) -> Handshake:
        """A new handshake with a new nonce."""
        hello = Hello(role, *self._who, token_bytes(NONCE_BYTES), VERSION, self.tls != "off")
        return Handshake(hello, self.keyring.now.peers, version, self.limits.version_min)


class _End(asyncio.BufferedProtocol):
    """A connection until its handshake is done; then `opened` is called once."""

    def __init__(self, ends: LinkEnds, handshake: Handshake) -> None:
        self.ends = ends
        self.transport: asyncio.Transport | None = None
        self.peer: Hello | None = None
        self.version = 0
        """Of the protocol, when the handshake is done."""
        self.layer: TlsLayer | None = None
        self._handshake: Handshake | None = handshake
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def heard(self) -> bool:
        """Whether the other side has sent anything."""
        in_tls = self.layer is not None and self.layer.heard
        return in_tls or self._handshake is None or self._handshake.heard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        tune(transport.get_extra_info("socket"))
        self._deadline = asyncio.get_running_loop().call_later(HANDSHAKE_S_MAX, self._late)
        assert self._handshake is not None
        if begin := self._handshake.begin():
            self.transport.write(begin)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.ends.read

    def buffer_updated(self, nbytes: int) -> None:
        if self.transport is None:
            return
        data = self.ends.read[:nbytes]
        try:
            if self._handshake is None:
                self.receive(data)
            else:
                self._shake(self._handshake, bytes(data))
        except BadFrame:
            self.ends.counters["link_bad_frames"] += 1
            self.abort()

    def _shake(self, handshake: Handshake, data: bytes) -> None:
        assert self.transport is not None
        try:
            answer = handshake.receive(data)
        except BadFrame as error:
            self.ends.counters["link_handshakes_refused"] += 1
            if isinstance(error, TalkedDown):
                self.ends.counters["links_talked_down"] += 1
            self.abort()
            return
        if handshake.peer is not None and not self._trusted(handshake.peer):
            self.ends.counters["link_handshakes_refused"] += 1
            self.abort()
            return
        if answer:
            self.transport.write(answer)
        if handshake.peer is None:
            return
        self.peer, self.version = handshake.peer, handshake.version
        self._end_deadline()
        self.opened(handshake)
        self._handshake = None
        if handshake.rest:
            self.receive(memoryview(handshake.rest))

    def _trusted(self, peer: Hello) -> bool:
        """The peer knows the secret. Check that its certificate has its name, and that no attacker
        in between has kept two nodes with TLS from using TLS."""
        assert self.transport is not None
        if self.transport.get_extra_info("ssl_object") is not None:
            named = peer.name in names_of(self.transport)
            self.ends.counters["link_names_refused"] += not named
            return named
        down = peer.tls and self.ends.tls != "off"
        self.ends.counters["links_talked_down"] += down
        return not down

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._end_deadline()
        self.closed()
        self.layer = None  # it refers to this end

    def abort(self) -> None:
        """Closes the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def _late(self) -> None:
        self.ends.counters["link_handshakes_late"] += 1
        self.abort()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def opened(self, handshake: Handshake) -> None:
        """The other side has proven itself."""

    def closed(self) -> None:
        """The connection is gone, at any stage."""

    def receive(self, data: memoryview) -> None:
        """Bytes behind the handshake. Raises BadFrame."""


class IncomingHost(Protocol):
    """The callbacks of accepted links."""

    def came(self, link: Incoming) -> None:
        """A stranger has connected."""

    def proven(self, link: Incoming) -> None:
        """The stranger is a peer."""

    def gone(self, link: Incoming) -> None:
        """The connection is gone, at any stage."""


class Incoming(_End):
    """An accepted connection: this node receives frames and sends none."""

    def __init__(self, ends: LinkEnds, host: IncomingHost) -> None:
        super().__init__(ends, ends.handshake(ACCEPTOR))
        self.counted = 0
        self.host = ""
        self._host = host
        self._opener: Opener | PlainOpener = PlainOpener()
        self._held = bytearray()
        """The beginning of a frame, and the length at which it is looked at again."""
        self._due = 0
        self._due_at = float("inf")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.host = holder(str((transport.get_extra_info("peername") or ("",))[0]))
        self._host.came(self)

    def opened(self, handshake: Handshake) -> None:
        if self.version > 1:
            self._opener = Opener(handshake.frame_key())
        self._host.proven(self)

    def closed(self) -> None:
        self._held = bytearray()
        self.ends.arriving.hold(self, 0)
        self._host.gone(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        read, arriving = self.ends.read, self.ends.arriving
        if arriving.used + READ_BYTES_MAX <= arriving.bytes_max:
            return read
        return read[: arriving.room(self)]

    def receive(self, data: memoryview) -> None:
        """Hands on complete frames; keeps the beginning of one."""
        if self._held:
            self._held += data
            if len(self._held) < self._due:
                return self.ends.arriving.hold(self, len(self._held))
            data = self._whole()
        position, end = 0, len(data)
        opener, on_frame = self._opener, self.ends.on_frame
        head_bytes = due = opener.head_bytes
        while end - position >= head_bytes:
            due = opener.size(data, position)
            if end - position < due:
                break
            start, position = position, position + due
            due = head_bytes
            frame = bytes(data[start + head_bytes : position])
            opener.check(data, start, frame)
            on_frame(frame)
        if position < end:
            self._held += data[position:]
            self._due, self._due_at = due, now_s() + FRAME_S_MAX
            self.ends.arriving.hold(self, end - position)
        return None

    def _whole(self) -> memoryview:
        """The awaited bytes are here: a frame, which is handed on without a copy, or its head.
        Returns the bytes that are still to be processed."""
        held, opener = self._held, self._opener
        self._held, self._due_at = bytearray(), float("inf")
        size = opener.size(held, 0)
        if len(held) < size:
            self.ends.arriving.hold(self, 0)
            return memoryview(held)
        with memoryview(held) as view:
            opener.check(view, 0, view[opener.head_bytes : size])
            rest = memoryview(bytes(view[size:]))
        del held[size:]
        del held[: opener.head_bytes]
        self.ends.arriving.hold(self, 0)
        self.ends.on_frame(held)
        return rest

    def overdue(self, now: float) -> bool:
        """Whether a frame has begun to arrive, its link was read, and it is still not complete."""
        return now >= self._due_at

    def pause(self) -> None:
        """There is no room for more of its frame."""
        self._due_at = float("inf")
        if self.transport is not None:
            self.transport.pause_reading()

    def resume(self) -> None:
        """There is room again."""
        self._due_at = now_s() + FRAME_S_MAX
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()


class Way(Protocol):
    """The callbacks of a dialled link."""

    def opened(self, link: Outgoing) -> None:
        """The handshake is done."""

    def closed(self, link: Outgoing) -> None:
        """The connection is gone, or its handshake failed."""


class Outgoing(_End):
    """A dialled connection: this node sends frames; after the handshake it must receive nothing."""

    def __init__(self, ends: LinkEnds, way: Way, version: int) -> None:
        super().__init__(ends, ends.handshake(DIALER, version))
        self._way = way
        self._sealer: Sealer | PlainSealer = PlainSealer()

    def send(self, frame: bytes) -> None:
        """One frame, behind its head."""
        assert self.transport is not None
        self.transport.writelines((self._sealer.head(frame), frame))

    def opened(self, handshake: Handshake) -> None:
        if self.version > 1:
            self._sealer = Sealer(handshake.frame_key())
        self._way.opened(self)

    def closed(self) -> None:
        self._way.closed(self)

    def receive(self, data: memoryview) -> None:
        raise BadFrame("the peer sent bytes on a link that this node dialled")


def tune(sock: socket.socket | None) -> None:
    """Send small writes at once; end the link if the other side is silent (Linux)."""
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
