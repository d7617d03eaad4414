"""A node that lost its disk comes back under its name: the members' side of it (S-MEM-4).

If the ring is set to wait for a person, the person approves the replacement at one member, for one
empty disk (S-MEM-6). That member keeps the approval in memory. After a restart of the member it is
forgotten, and the person must approve again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dynamo_core.membership.bootstrap import Admission, is_candidate, next_life
from dynamo_core.membership.ring_news import RingNews
from dynamo_core.membership.ring_state import RingState
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.ring_messages import Admit, Admitted, Reach, Reached
from dynamo_core.protocol.route import Route
from dynamo_core.replica.replica import Replica
from dynamo_core.ring.document import LEFT, Member
from dynamo_core.runtime.failure_detector import FailureDetector
from dynamo_core.runtime.host import Host


class Approval(NamedTuple):
    """A person allows one empty disk to take the place of this life of a name (S-MEM-6)."""

    lost: int
    """The id of the lost life; the approval is for no other life."""
    until: float
    """By the monotonic clock of the node."""


class Replacements:
    """Decides which empty nodes may take the place of which members."""

    def __init__(
        self,
        node: Host,
        rings: RingState,
        news: RingNews,
        detector: FailureDetector,
        replica: Replica,
    ) -> None:
        self.node = node
        self.rings = rings
        self.news = news
        self.detector = detector
        self.replica = replica
        self._approvals: dict[str, Approval] = {}
        self._admitting: set[str] = set()

    def admit(self, frame: Frame, route: Route, message: Admit) -> None:
        """An empty node asks for admission. It becomes the next life of its name if no member hears
        the old life."""
        node = self.node
        ring = node.ring_or_none
        if ring is None or self.rings.gone:
            return
        if not self.detector.fresh(frame):
            # Perhaps a late knock of a disk that is gone: the next one echoes this beat (S-NET-1).
            self.news.gossip_to(route)
            return
        line = ring.members.get(frame.name)
        refusal = is_candidate(ring, frame.name, frame.node_id)
        if line is not None and line.id == frame.node_id:
            node.send(route, self._admission(message.id))
            return
        if not refusal and line and not message.asks and not self.approved(line):
            refusal = "waits for dynamoctl replace"
        if refusal or line is None:
            node.send(route, Admitted(message.id, None, refusal))
            return
        if frame.name in self._admitting:
            return
        self._admitting.add(frame.name)
        life = next_life(line, frame.node_id, frame.address, message.client)

        def decided(really_gone: bool) -> None:
            self._admitting.discard(frame.name)
            now_ring = node.ring
            if not really_gone or now_ring.members[frame.name] != line:
                node.send(route, Admitted(message.id, None, "its old life still answers"))
                return
            if why := self.rings.take(now_ring.with_member(life)):
                node.send(route, Admitted(message.id, None, why))
                return
            node.counters["lost_node_admitted"] += 1
            self._approvals.pop(frame.name, None)
            admitted = self._admission(message.id)
            self.replica.write_batch.then(
                None, lambda ok: node.send(route, admitted) if ok else None
            )

        node.spawn(Admission(node, line, decided))

    def approve(self, name: str, done: Callable[[str], None]) -> None:
        """A person allows an empty disk to take the member's place. `done` gets the reason of a
        refusal, or "". The member must be silent to all members that could hear it (S-MEM-6)."""
        node = self.node
        line = node.ring.members[name]
        if line.state == LEFT:
            done("it has left; a new node may join with that name")
            return

        def decided(really_gone: bool) -> None:
            if not really_gone or node.ring.members[name] != line:
                node.counters["replacements_refused"] += 1
                done("it answers a member, or a member that may hear it is silent")
                return
            node.counters["replacements_approved"] += 1
            self._approvals[name] = Approval(line.id, node.now + node.settings.approval_s)
            done("")

        node.spawn(Admission(node, line, decided))

    def approved(self, line: Member) -> bool:
        """Whether a person's approval for this life holds now."""
        approval = self._approvals.get(line.name)
        if approval is None or approval.lost != line.id:
            return False
        if self.node.now < approval.until:
            return True
        del self._approvals[line.name]
        self.node.counters["replacements_lapsed"] += 1
        return False

    def waiting(self) -> dict[str, Any]:
        """The names with an unused approval on this node, with the seconds that are left
        (docs/http-api.md)."""
        now, ring = self.node.now, self.node.ring_or_none
        members = ring.members if ring is not None else {}
        return {
            name: {"lapses_s": round(approval.until - now, 3)}
            for name, approval in self._approvals.items()
            if now < approval.until and name in members and members[name].id == approval.lost
        }

    def _admission(self, call_id: int) -> Admitted:
        rows = self.replica.numbers.rows()
        return Admitted(call_id, self.node.ring.parts_differing(()), "", rows)

    def reach(self, frame: Frame, route: Route, message: Reach) -> None:
        """Whether this node hears that id."""
        detector = self.detector
        peer = detector.peers.get(message.name)
        up = peer is not None and peer.node_id == message.node_id and detector.up(message.name)
        self.node.send(route, Reached(message.id, up))
