"""This node as a member of the ring: founding, gossip, admission, and what it does once replaced.

Gossip (S-RING-3): each heartbeat carries digests. A receiver with other digests answers with the
parts that differ, and both sides answer each other until they are equal. A node never takes ring
parts from an id that is LEFT or replaced. A node that learns that its own id is replaced stops
serving at once. It offers all its records to the owners as hints, then empties its disk (S-MEM-3).
The gate checks a document before this node takes it, as a whole or not at all (S-IN-2).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from dynamo_core.errors import BadFrame, BadRequest, Refused
from dynamo_core.keys import META
from dynamo_core.membership import stored_ring
from dynamo_core.membership.bootstrap import STANDS, Answer, Founding, parse_creation
from dynamo_core.membership.retirement import GONE_KEY
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.registry import MEMBERSHIP
from dynamo_core.protocol.ring_messages import (
    Admit,
    Admitted,
    Entries,
    Found,
    Founded,
    Gossip,
    Parts,
    Prepare,
    Prepared,
    Reach,
)
from dynamo_core.ring.document import LEFT, Entry, Ring, merge_parts
from dynamo_core.ring.gate import knows_all, ring_fault, step_fault
from dynamo_core.ring.holdings import Holdings
from dynamo_core.ring.preference import Preference

if TYPE_CHECKING:
    from dynamo_core.node import Node

RING_KEY = b"ring"
RESERVED_S = 15.0


class Membership:
    """The part of a node that changes the members of the ring."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.gone = False
        self.emptied = False
        self.lost_ring = ""
        """Why the document of this disk was refused at the start, until a peer's is taken."""
        self.remembered: tuple[str, ...] = ()
        """Addresses that are asked for the ring, beside the seeds."""
        self._reserved = ("", 0.0, "")
        """The cluster that this empty node is reserved for, until when, and where it was asked."""
        self._founding: Founding | None = None
        """The last create command that this node got."""
        self.kinds = {
            Gossip: self._gossip,
            Parts: self._parts,
            Prepare: lambda _, route, message: node.send(route, self.prepared(message)),
            Found: lambda frame, route, message: self.founded(
                message, partial(node.send, route), frame.name
            ),
            Admit: node.replacements.admit,
            Reach: node.replacements.reach,
            Entries: self._entries,
        }

    def answers(self, message: Message) -> bool:
        """Whether the message is about membership; such messages need no fresh echo."""
        return type(message) in MEMBERSHIP

    def answer(self, frame: Frame, route: str, message: Message) -> None:
        """Serve one such message from `route`, "" for an id that this node does not know."""
        handler = self.kinds.get(type(message))
        if not route and not isinstance(message, Admit | Prepare | Found):
            self._answer_unknown(frame, message)
        elif handler is not None:
            route = self.node.whereabouts.back(frame, route or "@" + frame.address)
            handler(frame, route, message)  # type: ignore[operator]

    def _answer_unknown(self, frame: Frame, message: Message) -> None:
        """The sender's id is not in this ring: a replaced node learns that it is replaced, a later
        life brings its line (S-MEM-3, S-MEM-4)."""
        ring = self.node.ring_or_none
        route = "@" + frame.address
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

    def load(self) -> None:
        """Load the ring from the disk."""
        self.emptied = self.node.write_batch.get(META, GONE_KEY) is not None
        if self.emptied:
            self._become_gone()
        if (data := self.node.write_batch.get(META, RING_KEY)) is not None:
            ring, why = stored_ring.decoded(data)
            if ring is not None:
                why = self.take(ring, stored=True)
            if why:
                self._lose_ring(data, why)
        self.node.whereabouts.load()

    def _lose_ring(self, data: bytes, why: str) -> None:
        """The ring on the disk makes no sense: drop it and ask peers for theirs (S-IN-2)."""
        node = self.node
        self.lost_ring = stored_ring.lost(why)
        self.remembered = stored_ring.remembered(node.write_batch, data, node.identity.address)
        node.counters["ring_of_the_disk_refused"] += 1
        node.distrusted = True
        node.replica.distrust()

    def take(self, ring: Ring, founding: bool = False, stored: bool = False) -> str:
        """Make `ring` this node's document, durably, and update all that follows from it. A ring
        that makes no sense is not taken, in no part: the return value says why (S-IN-2)."""
        node = self.node
        before = node.ring_or_none
        if before is not None and not self.gone:
            ring = node.moves.admissible(before, node.promises.admissible(before, ring))
        if ring is before or (before is not None and ring.digests() == before.digests()):
            return ""
        if why := ring_fault(ring) if before is None else step_fault(before, ring):
            node.counters["rings_refused"] += 1
            return why
        # All steps that can fail come first: up to here the node is unchanged.
        row, addresses = ring.encode(), stored_ring.addresses_row(ring, node.identity.name)
        preference, held = Preference(ring, node.bits), Holdings(ring, node.replica.name)
        node.ring_or_none, node.preference, node.lww = ring, preference, held.lww
        self.lost_ring = ""
        for member in ring.members.values():
            node.addresses[member.name] = member.address
            old = before.members.get(member.name) if before is not None else None
            if member.state == LEFT:
                node.detector.peers.pop(member.name, None)  # no operation must wait for it
            if old is not None and old.id != member.id:
                node.repairs.forget_peer(member.name)
                node.replica.compared.discard(member.name)
        if not stored:
            node.write_batch.put(META, RING_KEY, row)
            if before is None or before.members is not ring.members:
                node.write_batch.put(META, stored_ring.ADDRESSES_KEY, addresses)
        node.replica.adopt(held, founding)
        if before is None and not stored:
            node.replica.rebuild_tree()
        node.promises.learned(ring)
        node.moves.learned(ring)
        node.settling.learned(ring)
        node.quarantine.learned(ring)
        if ring.is_gone(node.identity.name, node.identity.node_id):
            self._become_gone()
        elif before is None and not stored:
            cluster_id, _, address = self._reserved
            node.whereabouts.adopted(cluster_id, address)
        else:
            node.whereabouts.learned()
        return ""

    def write(self, partition: int, entry: Entry) -> None:
        """Change one entry; gossip spreads it from here."""
        self.take(self.node.ring.with_entry(partition, entry))

    def tell(self, partition: int, names: tuple[str, ...]) -> None:
        """Send the entry to these nodes now, before the next gossip."""
        node = self.node
        for name in node.ring.live(names):
            if name != node.name:
                node.send(name, Entries(0, [(partition, node.ring.entries[partition])]))

    def keep(self) -> None:
        """Add the document to this tick's batch. Also called after the store refused a batch."""
        ring = self.node.ring_or_none
        if ring is not None:
            self.node.write_batch.put(META, RING_KEY, ring.encode())

    def _become_gone(self) -> None:
        if not self.gone:
            self.gone, self.node.member = True, False
            self.node.counters["learnt_it_is_replaced"] += 1
            self.node.name = "~" + self.node.identity.name
            self.node.replica.name = self.node.name
            self.node.replica.quarantined.clear()

    # ------------------------------------------------------------ gossip

    def gossip_to(self, route: str, reply: bool = False) -> None:
        """Send digests and numbers to one node."""
        node = self.node
        ring = node.ring_or_none
        peer = node.detector.peers.get(route)
        digests = ring.digests() if ring is not None else ()
        remembered = peer.remembered() if peer is not None else 0
        number, stalled, admin = node.durable_number, node.stalled, node.identity.admin
        node.send(route, Gossip(0, digests, number, remembered, reply, stalled, admin))

    def heartbeat(self) -> None:
        """Gossip to every member; a node without a ring asks its seeds and those that answer."""
        node = self.node
        if self.emptied and node.ring_or_none is None:
            return
        if node.ring_or_none is None:
            # A seed, such as a pod, may be reached at another address than it advertises. This node
            # knows a peer by its advertised address, and echoes its beat only there.
            heard = (peer.address for peer in node.detector.peers.values() if peer.address)
            for seed in dict.fromkeys((*node.identity.seeds, *heard, *self.remembered)):
                self.gossip_to("@" + seed)
                self.knock("@" + seed)
            return
        node.whereabouts.beat()
        for name in node.preference.names:
            if name != node.name:
                self.gossip_to(name)

    def knock(self, route: str) -> None:
        """Ask a seed to let this empty node take its name's place (S-MEM-4)."""
        node = self.node
        if not node.holds_data() and not self.lost_ring:
            me = node.identity
            node.send(route, Admit(0, me.client, me.zone, me.weight, node.settings.replace_lost))

    def _gossip(self, frame: Frame, route: str, message: Gossip) -> None:
        node = self.node
        ring = node.ring_or_none
        if ring is None:
            if frame.cluster_id and not message.reply:
                self.gossip_to(route, reply=True)
            return
        if frame.cluster_id == ring.identity.cluster_id:
            self._compare_numbers(frame, message)
        if message.digests != ring.digests():
            node.send(route, Parts(0, ring.parts_differing(message.digests), ring.digests()))
        elif not message.reply and not node.detector.up(frame.name):
            self.gossip_to(route, reply=True)

    def _compare_numbers(self, frame: Frame, message: Gossip) -> None:
        """S-DISK-2: if a peer remembers a higher number than this disk had at the start, the disk
        has lost writes that the peer saw."""
        node = self.node
        peer = node.detector.peer(frame.name, frame.node_id)
        peer.told(frame.boot, message.number)
        peer.stalled = message.stalled
        node.detector.admin_told(peer, message.admin)
        if frame.echo_boot != node.boot or frame.name in node.replica.compared:
            return
        if message.remembered > node.start_number and not node.distrusted:
            node.distrusted = True
            node.counters["rolled_back_disk_found"] += 1
            node.replica.distrust()
        node.replica.compared.add(frame.name)
        node.replica.refresh()
        node.quarantine.ask(frame.name)

    def _parts(self, frame: Frame, route: str, message: Parts) -> None:
        node = self.node
        ring = node.ring_or_none
        if ring is None:
            return self._adopt_whole(frame, message)
        try:
            changed = merge_parts(ring, message.parts)
            if message.parts.members is None and not knows_all(changed):
                # A late answer, asked for before this disk was put back: some members are missing.
                return self.gossip_to(route)
            why = self.take(changed)
        except BadFrame as error:
            why = str(error)
        except Refused:
            node.counters["wrong_cluster_frames"] += 1
            return None
        if why:
            return node.refuse(frame.name, message, why)
        if self.gone:
            told = node.retirement.told
            node.retirement.told = told or message.digests[1:2] == node.ring.digests()[1:2]
        if message.digests and node.ring.digests() != message.digests:
            node.send(route, Parts(0, node.ring.parts_differing(message.digests), ()))
        return None

    def _entries(self, frame: Frame, route: str, message: Entries) -> None:
        ring = self.node.ring_or_none
        if ring is None or frame.cluster_id != ring.identity.cluster_id:
            return
        for partition, entry in message.entries:
            if not ring.knows(entry):
                self.gossip_to(route)
            elif 0 <= partition < len(ring.entries):
                ring = ring.with_entry(partition, entry)
        if why := self.take(ring):
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
        if why := self.take(ring):
            node.refuse(frame.name, message, why)
            return
        if isinstance(message, Admitted):
            node.replica.numbers.take(message.numbers)
        node.quarantine.begin()

    # ------------------------------------------------------------ founding

    def create(self, body: dict[str, Any], done: Answer) -> None:
        """The create command (S-RING-5); `done(status, problem, detail)`. Raises BadRequest."""
        node = self.node
        cluster_id = str(body.get("cluster_id") or f"{node.draw():016x}")
        ring = node.ring_or_none
        if ring is not None:
            mine = ring.identity.cluster_id
            if body.get("cluster_id") == mine:
                return done(200, "", "")
            return done(409, "wrong-cluster", f"cluster_id: this node is in {mine}")
        identity, members, target = parse_creation(body, cluster_id)
        if node.identity.name not in {m.name for m in members}:
            raise BadRequest(f"members: {node.identity.name} is missing; it got the command")
        for member in members:
            node.addresses[member.name] = member.address
        founding = Founding(node, identity, members, target, done)
        if self._founding is not None:
            self._founding.give_way(founding)
        self._founding = founding
        return node.spawn(founding)

    def prepared(self, message: Prepare) -> Prepared:
        """The answer whether this node will found that cluster."""
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
        elif self.lost_ring:
            refusal = self.lost_ring
        elif self.gone:
            refusal = "it has left a ring under this id; restart it to get a new id"
        elif node.holds_data():
            refusal = "its disk is not empty"
        elif self._reserved[0] not in ("", message.cluster_id) and self._reserved[1] > node.now:
            refusal = f"it is founding cluster {self._reserved[0]}"
        else:
            self._reserved = (message.cluster_id, node.now + RESERVED_S, message.address)
        free = node.free_bytes()
        return Prepared(message.id, identity.node_id, identity.client, refusal, free)

    def founded(self, message: Found, reply: Any, peer: str = "") -> None:
        """Take the document with its complete marks in one batch (S-RING-6)."""
        node = self.node
        refusal = ""
        try:
            ring = message.parts.ring()
        except BadFrame as error:
            node.refuse(peer, message, str(error))
            return
        if self.lost_ring:
            refusal = self.lost_ring
        elif node.ring_or_none is None:
            line = ring.members.get(node.identity.name)
            if line is None or line.id != node.identity.node_id:
                refusal = "it names another life of this node"
            elif refusal := self.take(ring, founding=True):
                node.refuse(peer, message, refusal)
        elif node.ring_or_none.identity.cluster_id != ring.identity.cluster_id:
            refusal = f"it is in cluster {node.ring_or_none.identity.cluster_id}"

        def written(stored: bool) -> None:
            # Wait for the fsync: the other founders rely on it, also after a power cut.
            reply(Founded(message.id, refusal if stored else "its disk cannot be written"))

        node.write_batch.then(None, written)

    def admitted(self, frame: Frame, message: Admitted) -> None:
        """The answer to this node's request for admission."""
        if self.node.ring_or_none is None:
            self._adopt_whole(frame, message)
