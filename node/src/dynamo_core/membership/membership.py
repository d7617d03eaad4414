"""This node as a member of the ring: founding, gossip, admission, and what it does once replaced.

Gossip (S-RING-3): each heartbeat carries digests. A receiver with other digests answers with the
parts that differ, and both sides answer each other until they are equal. A node never takes ring
parts from an id that is LEFT or replaced. A node that learns that its own id is replaced stops
serving at once. It offers all its records to the owners as hints, then empties its disk (S-MEM-3).
The gate checks a document before this node takes it, as a whole or not at all (S-IN-2).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from dynamo_core.errors import BadFrame, BadRequest
from dynamo_core.membership.bootstrap import STANDS, Founding, Verdict, parse_creation
from dynamo_core.membership.replacement import Replacements
from dynamo_core.membership.retirement import Retirement
from dynamo_core.membership.ring_news import Numbered, RingNews
from dynamo_core.membership.ring_state import RingState, Taken
from dynamo_core.membership.whereabouts import Whereabouts
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.registry import MEMBERSHIP
from dynamo_core.protocol.ring_messages import (
    Admit,
    Admitted,
    Entries,
    FirstRing,
    Founded,
    Gossip,
    Parts,
    Prepare,
    Prepared,
    Reach,
)
from dynamo_core.protocol.route import At, Route
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.failure_detector import FailureDetector

RESERVED_S = 15.0


class Comparing(Protocol):
    """What a node does with its copies until their numbers are compared (S-DEL-3)."""

    def begin(self) -> None:
        """This node has got a ring."""

    def ask(self, name: str) -> None:
        """Ask the member for its numbers, unless nothing is to be compared."""


class Membership:
    """The part of a node that changes the members of the ring."""

    def __init__(
        self,
        node: Numbered,
        rings: RingState,
        news: RingNews,
        detector: FailureDetector,
        replica: Replica,
        *,
        replacements: Replacements,
        whereabouts: Whereabouts,
        retirement: Retirement,
        quarantine: Comparing,
    ) -> None:
        self.node = node
        self.rings = rings
        self.news = news
        self.detector = detector
        self.replica = replica
        self.whereabouts = whereabouts
        self.retirement = retirement
        self.quarantine = quarantine
        self._reserved = ("", 0.0, "")
        """The cluster that this empty node is reserved for, until when, and where it was asked."""
        self._founding: Founding | None = None
        """The last create command that this node got."""
        self.kinds = {
            Gossip: self._gossip,
            Parts: self._parts,
            Prepare: lambda _, route, message: node.send(route, self.prepared(message)),
            FirstRing: lambda frame, route, message: self.founded(
                message, partial(node.send, route), frame.name
            ),
            Admit: replacements.admit,
            Reach: replacements.reach,
            Entries: self._entries,
        }
        self.replying = {
            Prepare: lambda message, reply: reply(self.prepared(message)),
            FirstRing: self.founded,
        }
        """Calls that this node makes of itself."""

    def answers(self, message: Message) -> bool:
        """Whether the message is about membership; such messages need no fresh echo."""
        return type(message) in MEMBERSHIP

    def answer(self, frame: Frame, route: Route, message: Message) -> None:
        """Serve one such message from `route`, "" for an id that this node does not know."""
        handler = self.kinds.get(type(message))
        if not route and not isinstance(message, Admit | Prepare | FirstRing):
            self._answer_unknown(frame, message)
        elif handler is not None:
            route = self.whereabouts.back(frame, route or At(frame.address))
            handler(frame, route, message)  # type: ignore[operator]

    def _answer_unknown(self, frame: Frame, message: Message) -> None:
        """The sender's id is not in this ring: a replaced node learns that it is replaced, a later
        life brings its line (S-MEM-3, S-MEM-4)."""
        ring = self.node.ring_or_none
        route = At(frame.address)
        if ring is None or frame.cluster_id != ring.identity.cluster_id:
            return
        if isinstance(message, Gossip):
            self.node.send(route, Parts(0, ring.parts_differing(message.digests), ring.digests()))
        elif isinstance(message, Parts):
            line = (message.parts.members or {}).get(frame.name)
            mine = ring.members.get(frame.name)
            if line is None or line.id != frame.node_id:
                return
            if mine is None or line.later(mine) is line:
                self._parts(frame, route, message)

    # ------------------------------------------------------------ the document

    def learned(self, taken: Taken) -> None:
        """The ring is taken, and this life is judged."""
        if taken.first:
            cluster_id, _, address = self._reserved
            self.whereabouts.adopted(cluster_id, address)
        else:
            self.whereabouts.learned()

    # ------------------------------------------------------------ gossip

    def heartbeat(self) -> None:
        """Gossip to every member; a node without a ring asks its seeds and those that answer."""
        node = self.node
        if self.rings.emptied and node.ring_or_none is None:
            return
        if node.ring_or_none is None:
            # A seed may be reached by another address than it advertises, as pods are by theirs;
            # who answers is known by the advertised one, and only there is its beat echoed.
            heard = (peer.address for peer in self.detector.peers.values() if peer.address)
            for seed in dict.fromkeys((*node.identity.seeds, *heard, *self.rings.remembered)):
                self.news.gossip_to(At(seed))
                self.knock(At(seed))
            return
        self.whereabouts.beat()
        for name in node.preference.names:
            if name != node.name:
                self.news.gossip_to(name)

    def knock(self, route: Route) -> None:
        """Ask a seed to let this empty node take its name's place (S-MEM-4)."""
        node = self.node
        if not self.replica.write_batch.holds_data() and not self.rings.lost_ring:
            me = node.identity
            node.send(route, Admit(0, me.client, me.zone, me.weight, node.settings.replace_lost))

    def _gossip(self, frame: Frame, route: Route, message: Gossip) -> None:
        node = self.node
        ring = node.ring_or_none
        if ring is None:
            if frame.cluster_id and not message.reply:
                self.news.gossip_to(route, reply=True)
            return
        if frame.cluster_id == ring.identity.cluster_id:
            self._compare_sequences(frame, message)
        if message.digests != ring.digests():
            node.send(route, Parts(0, ring.parts_differing(message.digests), ring.digests()))
        elif not message.reply and not self.detector.up(frame.name):
            self.news.gossip_to(route, reply=True)

    def _compare_sequences(self, frame: Frame, message: Gossip) -> None:
        """S-DISK-2: if a peer remembers a higher sequence number than this disk had at the
        start, the disk has lost writes that the peer saw."""
        node = self.node
        peer = self.detector.peer(frame.name, frame.node_id)
        peer.told(frame.boot, message.sequence)
        peer.stalled = message.stalled
        if peer.admin != message.admin:
            self.detector.admin_told(peer, message.admin)
        if frame.echo_boot != node.boot or frame.name in self.replica.compared:
            return
        if message.remembered > node.start_sequence and not self.replica.distrusted:
            node.counters["rolled_back_disk_found"] += 1
            self.replica.distrust()
        self.replica.compared.add(frame.name)
        self.replica.refresh()
        self.quarantine.ask(frame.name)

    def _parts(self, frame: Frame, route: Route, message: Parts) -> None:
        node = self.node
        if node.ring_or_none is None:
            return self._adopt_whole(frame, message)
        # Without members it may be a late answer to what was asked before this disk was put back.
        if not self.news.take(frame.name, route, message, message.parts.members is None):
            return None
        if self.rings.gone and message.digests[1:2] == node.ring.digests()[1:2]:
            self.retirement.confirmed()
        if message.digests and node.ring.digests() != message.digests:
            node.send(route, Parts(0, node.ring.parts_differing(message.digests), ()))
        return None

    def _entries(self, frame: Frame, route: Route, message: Entries) -> None:
        ring = self.node.ring_or_none
        if ring is None or frame.cluster_id != ring.identity.cluster_id:
            return
        for partition, entry in message.entries:
            if not ring.knows(entry):
                self.news.gossip_to(route)
            elif 0 <= partition < len(ring.entries):
                ring = ring.with_entry(partition, entry)
        if why := self.rings.take(ring):
            self.node.refuse(frame.name, message, why)

    def _adopt_whole(self, frame: Frame, message: Parts | Admitted) -> None:
        """A node without a ring takes only a ring that has its id."""
        node = self.node
        if message.parts is None:
            return
        try:
            ring = message.parts.ring()
        except BadFrame:
            return
        line = ring.members.get(node.identity.name)
        if line is None or line.id != node.identity.node_id:
            return
        if why := self.rings.take(ring):
            node.refuse(frame.name, message, why)
            return
        if isinstance(message, Admitted):
            self.replica.numbers.take(message.numbers)
        self.quarantine.begin()

    # ------------------------------------------------------------ founding

    def create(self, body: dict[str, Any], done: Verdict) -> None:
        """The create command (S-RING-5); `done(status, problem, detail)`. Raises BadRequest."""
        node = self.node
        cluster_id = str(body.get("cluster_id") or f"{node.draw():016x}")
        ring = node.ring_or_none
        if ring is not None:
            mine = ring.identity.cluster_id
            if body.get("cluster_id") == mine:
                return done(200, "", "")
            return done(409, "wrong-cluster", f"cluster_id: this node is in {mine}")
        identity, members, ring_target = parse_creation(body, cluster_id)
        if node.identity.name not in {m.name for m in members}:
            raise BadRequest(f"members: {node.identity.name}, which got the command, is missing")
        self.rings.dial(members)
        founding = Founding(node, identity, members, ring_target, done)
        if self._founding is not None:
            self._founding.give_way(founding)
        self._founding = founding
        return node.spawn(founding)

    def prepared(self, message: Prepare) -> Prepared:
        """The answer whether this node will be a founder of that cluster."""
        node = self.node
        identity = node.identity
        refusal = ""
        ring = node.ring_or_none
        if message.name != identity.name:
            refusal = f"at this address is {identity.name}"
        elif ring is not None and ring.identity.cluster_id != message.cluster_id:
            refusal = f"it is in cluster {ring.identity.cluster_id}"
        elif ring is not None:
            refusal = STANDS
        elif self.rings.lost_ring:
            refusal = self.rings.lost_ring
        elif self.rings.gone:
            refusal = "it has left a ring under this id; started again it gets a new one"
        elif self.replica.write_batch.holds_data():
            refusal = "its disk is not empty"
        elif self._reserved[0] not in ("", message.cluster_id) and self._reserved[1] > node.now:
            refusal = f"it is founding cluster {self._reserved[0]}"
        else:
            self._reserved = (message.cluster_id, node.now + RESERVED_S, message.address)
        free = node.free_bytes()
        return Prepared(message.id, identity.node_id, identity.client, refusal, free)

    def founded(self, message: FirstRing, reply: Any, peer: str = "") -> None:
        """Take the document with its complete marks in one batch (S-RING-6)."""
        node = self.node
        refusal = ""
        try:
            ring = message.parts.ring()
        except BadFrame as error:
            node.refuse(peer, message, str(error))
            return
        if self.rings.lost_ring:
            refusal = self.rings.lost_ring
        elif node.ring_or_none is None:
            line = ring.members.get(node.identity.name)
            if line is None or line.id != node.identity.node_id:
                refusal = "it names another life of this node"
            elif refusal := self.rings.take(ring, founding=True):
                node.refuse(peer, message, refusal)
        elif node.ring_or_none.identity.cluster_id != ring.identity.cluster_id:
            refusal = f"it is in cluster {node.ring_or_none.identity.cluster_id}"

        def synced(durable: bool) -> None:
            # Wait for the fsync: the other founders rely on it, also after a power cut.
            reply(Founded(message.id, refusal if durable else "its disk cannot be written"))

        self.replica.write_batch.then(None, synced)

    def greet(self, route: Route) -> None:
        """A node has not heard this process yet: it is told of it (S-NET-1)."""
        self.news.gossip_to(route)

    def admitted(self, frame: Frame, message: Admitted) -> None:
        """The answer to this node's request for admission."""
        if self.node.ring_or_none is None:
            self._adopt_whole(frame, message)
