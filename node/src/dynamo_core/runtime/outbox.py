"""What a node sends, and from which nodes it takes frames: routes, addresses, the frames' heads."""

from __future__ import annotations

from collections import defaultdict

from dynamo_core.protocol.frames import FRAME_BYTES_MAX, FRAME_VERSION, Frame, encode_frame
from dynamo_core.protocol.messages import Message, Store
from dynamo_core.protocol.registry import KNOWS, SINCE
from dynamo_core.protocol.route import At, Route
from dynamo_core.runtime.failure_detector import FailureDetector
from dynamo_core.runtime.host import Traced


class Outbox:
    """The outgoing messages of one tick, by route."""

    def __init__(self, node: Traced, detector: FailureDetector) -> None:
        self.node = node
        self.detector = detector
        self.frame_bytes_max = FRAME_BYTES_MAX
        """The largest frame for a link; a simulated link may take less."""
        self.knows = KNOWS
        """What frames say of the messages that this node knows; a simulated older one says less."""
        self.outbox: defaultdict[Route, list[Message]] = defaultdict(list)
        """Messages of this tick by route."""

    def send(self, route: Route, message: Message) -> None:
        """Put the message into the next frame on that route. C17: a late answer goes to no life of
        the peer that would drop the whole frame for it."""
        if type(message) in SINCE and SINCE[type(message)] > self.detector.knows(route):
            self.node.counters["calls_not_known_there"] += 1
            return
        self.outbox[route].append(message)

    def frames(self) -> list[tuple[str, bytes]]:
        """One frame per route with its address, or more if one frame would be too large. Two lives
        of one name may have the same address. Messages to a node without a known address are
        dropped, as a broken link would do."""
        if not self.outbox:
            return []
        node = self.node
        frames: list[tuple[str, bytes]] = []
        outbox, self.outbox = self.outbox, defaultdict(list)
        for route, messages in outbox.items():
            address = route.address if isinstance(route, At) else node.addresses.get(route)
            if address and address != node.identity.address:
                if node.spans is not None:
                    node.spans.calling(route, messages)
                frame = self.frame_of(route, messages)
                if len(frame) <= self.frame_bytes_max:
                    frames.append((address, frame))
                else:
                    frames += [(address, part) for part in self._cut(route, messages, frame)]
        return frames

    def _cut(self, route: Route, messages: list[Message], frame: bytes) -> list[bytes]:
        """The frame of these messages, in several if it is too large for a link."""
        half = len(messages) // 2
        if len(frame) <= self.frame_bytes_max or not half:
            return [frame]
        halves = (messages[:half], messages[half:])
        return [p for h in halves for p in self._cut(route, h, self.frame_of(route, h))]

    def frame_of(self, route: Route, messages: list[Message]) -> bytes:
        """One frame with these messages and the present state of this node in its head."""
        ring, me, detector = self.node.ring_or_none, self.node.identity, self.detector
        peer = detector.peers.get(route)
        boot, beat = (peer.boot, peer.beat) if peer is not None else detector.echo_for(route)
        return encode_frame(
            Frame(
                FRAME_VERSION,
                ring.identity.cluster_id if ring is not None else "",
                me.name,
                me.node_id,
                me.address,
                detector.boot,
                detector.now_ms,
                boot,
                beat,
                messages,
                self.knows,
            )
        )

    def route_of(self, frame: Frame) -> Route:
        """Where to answer: a member's name, the address of another node, "" for a sender that
        this node refuses."""
        node = self.node
        ring = node.ring_or_none
        if ring is None:
            return At(frame.address)
        name, cluster_id = frame.name, frame.cluster_id
        if cluster_id not in (ring.identity.cluster_id, ""):
            node.counters["wrong_cluster_frames"] += 1
            return ""
        if name in ring.members and not ring.is_gone(name, frame.node_id):
            return name
        if cluster_id == "":
            return At(frame.address)
        node.counters["frames_of_gone_nodes"] += 1
        return ""

    def is_offer(self, frame: Frame, message: Message) -> bool:
        """S-MEM-3: a replaced node may still hand over what it holds, record by record."""
        node = self.node
        return (
            node.member
            and isinstance(message, Store)
            and message.cause == "hint"
            and frame.cluster_id == node.ring.identity.cluster_id
            and self.detector.fresh(frame)
        )
