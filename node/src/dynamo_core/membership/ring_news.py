"""What this node says of its ring unasked: digests with every heartbeat, single entries at once,
and the newer entry to a peer that refused for an older one.
"""

from __future__ import annotations

from typing import Protocol

from dynamo_core.errors import BadFrame, RingRefused
from dynamo_core.membership.ring_state import RingState
from dynamo_core.protocol.messages import Refused
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.protocol.ring_messages import Announce, Entries, Gossip, Parts
from dynamo_core.protocol.route import Route
from dynamo_core.ring.document import merge_parts
from dynamo_core.ring.gate import knows_all
from dynamo_core.runtime.failure_detector import FailureDetector
from dynamo_core.runtime.host import Host


class Numbered(Host, Protocol):
    """A host that says how much of its store is durable (S-DISK-2)."""

    @property
    def durable_sequence(self) -> int:
        """The highest sequence number of its store that is fsynced."""

    @property
    def start_sequence(self) -> int:
        """The highest one that its store had at the start."""


class RingNews:
    """The messages about the ring that a node sends without being asked."""

    def __init__(self, node: Numbered, rings: RingState, detector: FailureDetector) -> None:
        self.node = node
        self.rings = rings
        self.detector = detector

    def gossip_to(self, route: Route, reply: bool = False) -> None:
        """Digests and numbers to one node."""
        node, ring = self.node, self.rings.ring_or_none
        peer = self.detector.peers.get(route)
        digests = ring.digests() if ring is not None else ()
        remembered = peer.remembered() if peer is not None else 0
        sequence, stalled, admin = node.durable_sequence, node.stalled, node.identity.admin
        node.send(route, Gossip(0, digests, sequence, remembered, reply, stalled, admin))

    def take(self, peer: str, route: Route, message: Parts | Announce, partial: bool) -> bool:
        """Merge the ring parts of a message into the ring of this node, which has one. `partial`:
        the parts may name members that this node has not heard of, which is no fault of the peer.
        Then nothing is taken and this node asks for what it lacks. False where nothing is taken."""
        node = self.node
        try:
            changed = merge_parts(node.ring, message.parts)
            if partial and not knows_all(changed):
                self.gossip_to(route)
                return False
            why = self.rings.take(changed)
        except BadFrame as error:
            why = str(error)
        except RingRefused:
            node.counters["wrong_cluster_frames"] += 1
            return False
        if why:
            node.refuse(peer, message, why)
        return not why

    def tell(self, partition: int, names: tuple[str, ...]) -> None:
        """Say the entry to these nodes now, without waiting for gossip."""
        node, ring = self.node, self.rings.ring
        for name in ring.live(names):
            if name != node.name:
                node.send(name, Entries(0, [(partition, ring.entries[partition])]))

    def learn(self, name: Route, refusal: Refused) -> None:
        """S-RING-4: a peer refused. The node with the older entry of the partition takes the newer
        one first."""
        ring, partition = self.node.ring, refusal.partition
        if refusal.reason is Refusal.STALE:
            self.node.heard(name, partition, refusal.seen, refusal.floor)
        if refusal.entry is None:
            return
        mine, theirs = ring.entries[partition], refusal.entry
        # No node takes an entry from an id that is gone: what only that id has is void (S-MOVE-4).
        behind = mine != theirs and (self.rings.gone or mine.later(theirs) is not mine)
        if behind and not ring.knows(theirs):
            self.gossip_to(name)
        elif behind:
            self.rings.take(ring.with_entries({partition: theirs}))
        elif mine != theirs:
            self.node.send(name, Entries(0, [(partition, mine)]))
