"""A node that lost its disk comes back under its name: the members' side of it (S-MEM-4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamo_core.founding import Admission, is_candidate, next_life
from dynamo_core.frames import Frame
from dynamo_core.ring_messages import Admit, Admitted, Reach, Reached

if TYPE_CHECKING:
    from dynamo_core.node import Node


class Admissions:
    """Who may take whose place."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.replaceable: set[str] = set()
        """Names that an administrator has said may be replaced."""
        self._admitting: set[str] = set()

    def admit(self, frame: Frame, route: str, message: Admit) -> None:
        """An empty node knocks: its name's next life, when nobody hears the old one."""
        node = self.node
        ring = node.ring_or_none
        if ring is None or node.membership.gone:
            return
        if not node.detector.fresh(frame):
            # Perhaps a late knock of a disk that is gone: the next one echoes this beat (S-NET-1).
            node.membership.gossip_to(route)
            return
        line = ring.members.get(frame.name)
        refusal = is_candidate(ring, frame.name, frame.node_id)
        if line is not None and line.id == frame.node_id:
            node.say(route, self._admission(message.id))
            return
        if not refusal and not message.asks and frame.name not in self.replaceable:
            refusal = "waits for dynamoctl replace"
        if refusal or line is None:
            node.say(route, Admitted(message.id, None, refusal))
            return
        if frame.name in self._admitting:
            return
        self._admitting.add(frame.name)
        life = next_life(line, frame.node_id, frame.address, message.client)

        def decided(really_gone: bool) -> None:
            self._admitting.discard(frame.name)
            now_ring = node.ring
            if not really_gone or now_ring.members[frame.name] != line:
                node.say(route, Admitted(message.id, None, "its old life still answers"))
                return
            if why := node.membership.take(now_ring.with_member(life)):
                node.say(route, Admitted(message.id, None, why))
                return
            node.counters["lost_node_admitted"] += 1
            admitted = self._admission(message.id)
            node.journal.then(None, lambda ok: node.say(route, admitted) if ok else None)

        node.spawn(Admission(node, line, decided))

    def _admission(self, number: int) -> Admitted:
        rows = self.node.replica.numbers.rows()
        return Admitted(number, self.node.ring.parts_differing(()), "", rows)

    def reach(self, frame: Frame, route: str, message: Reach) -> None:
        """Whether this node hears that id."""
        detector = self.node.detector
        peer = detector.peers.get(message.name)
        up = peer is not None and peer.node_id == message.node_id and detector.up(message.name)
        self.node.say(route, Reached(message.id, up))
