"""The address where others dial this member: its line in the ring follows it (S-MEM-5).

Theory of operation. A disk may come back at another address: a new IP of its machine, another
container, a laptop elsewhere. The others dial the old address in the member's line, so their frames
do not arrive. But the moved node knows its ring, and dials the others or its seeds. So a member
writes its address and client address into its own line only, and sends the line to each member that
it does not hear. Gossip spreads it. A life whose line is LEFT, or belongs to a later life, writes
nothing (S-MEM-3).

The node acts only on a change. The disk keeps the last pair of addresses: the node's and its
line's. If the pair is the same as before, the node trusts it, because an administrator may have
written another address that leads here too. If the pair has changed, the node first dials the
address of its line.

    its own frame comes back      the line leads here, and stays
    another life of its id        that one keeps the line: two processes have the same id (a cloned
      answers, freshly            disk). This one serves no client until the other is silent
    nothing for `LOOKS_S`         the line is written, one version later

So two lives of one id never take the line from each other while one hears the other. If a network
cut separates them, each waits twice as long before each further line. An administrator's node that
has not heard of the move may write a line with the old address. That line wins, because versions of
administrators go in larger steps (`CHANGED`). The moved node takes it and writes its address into
it again.
"""

from __future__ import annotations

import msgspec

from dynamo_core.keys import META
from dynamo_core.membership.ring_news import RingNews
from dynamo_core.membership.ring_state import RingState
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.ring_messages import Gossip, Parts
from dynamo_core.protocol.route import At, Route
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.ring.document import LEFT, Member, RingParts
from dynamo_core.runtime.failure_detector import FailureDetector
from dynamo_core.runtime.host import Host

WHERE_KEY = b"where"
LOOKS_S = 3.0
"""How long a moved member dials the address of its line before it writes its new one."""
LOOKS_S_MAX = 600.0
ALONE_S = 5.0
"""A member that has heard no other member for this time, counted in heartbeats, reports it."""
SEEDS_BEATS = 10
"""A member asks its seeds at each heartbeat while it hears no other member, and at every tenth
heartbeat while it hears only some."""


class Whereabouts:
    """The address of this member, the address in its line, and another process with its id."""

    def __init__(
        self,
        node: Host,
        rings: RingState,
        news: RingNews,
        detector: FailureDetector,
        write_batch: WriteBatch,
    ) -> None:
        self.node = node
        self.rings = rings
        self.news = news
        self.detector = detector
        self.write_batch = write_batch
        self.yields = False
        """Another life of this id is at the address in the ring: this one acknowledges nothing."""
        self._told = b""
        self._since = -1.0
        self._looks_s = LOOKS_S
        self._left = ""
        """The address that this life has left; no process with this id is there."""
        self._moved = False
        self._changes = 0
        """The number of changes of the line when this life wrote its address into it."""
        self._twin = ("", -1.0)
        self._beats = self._alone = 0
        """Heartbeats, and heartbeats since another member was heard."""

    def load(self) -> None:
        """What was told the last time, from the disk."""
        self._told = self.write_batch.get(META, WHERE_KEY) or b""

    def adopted(self, asked_by: str, asked_at: str) -> None:
        """This life has got its first ring. `asked_by` is the cluster that asked it to be a
        founder or to join, `asked_at` the address that the question went to ("" from an older
        node). If both fit the line, the node trusts the line; else the administrator may have given
        another address before or since."""
        line = self._line()
        here = line is not None and asked_at in ("", line.address)
        if line is not None and here and self.node.ring.identity.cluster_id == asked_by:
            self._agreed(line)

    def _line(self) -> Member | None:
        """This life's line; None if it has none, or may not change it (S-MEM-3)."""
        node = self.node
        ring = node.ring_or_none
        line = ring.members.get(node.identity.name) if ring is not None else None
        own = line is not None and line.id == node.identity.node_id and line.state != LEFT
        return line if own and not self.rings.gone else None

    def _words(self, line: Member) -> bytes:
        return msgspec.msgpack.encode((self.node.identity.address, line.address))

    # ------------------------------------------------------------ heartbeats

    def beat(self) -> None:
        """Once a heartbeat, before gossip: check the line, write it, and send it to the members
        that this node does not hear."""
        line = self._line()
        if line is None:
            return
        self._judge(line)
        node = self.node
        silent = [name for name in node.preference.names if not node.up(name)]
        self._beats += 1
        self._alone = self._alone + 1 if len(silent) == len(node.preference.names) - 1 else 0
        for name in silent:
            self._introduce(name)
        if silent and (self._alone or self._beats % SEEDS_BEATS == 0):
            self._ask_seeds(silent)

    def _ask_seeds(self, silent: list[str]) -> None:
        """Ask the seeds: all members may have moved at once, so that no line has their address."""
        node = self.node
        known = {node.addresses[name] for name in node.preference.names if name not in silent}
        for seed in node.identity.seeds:
            if seed not in known:
                self._introduce(At(seed))
                self.news.gossip_to(At(seed))

    def _introduce(self, route: Route) -> None:
        """Send this node's new line before the gossip, so that the answer goes to its address."""
        line = self._line()
        if self._moved and line is not None and route != self.node.name:
            self.node.send(route, Parts(0, RingParts(members={line.name: line}), ()))

    def _judge(self, line: Member) -> None:
        me = self.node.identity
        if line.address != me.address and self._words(line) != self._told:
            self._look(line)
        elif line.client != me.client:
            self._write(line, line.address)
        else:
            self._agreed(line)

    def _agreed(self, line: Member) -> None:
        self._since, self.yields = -1.0, False
        words = self._words(line)
        if words != self._told:
            self._told = words
            self.write_batch.put(META, WHERE_KEY, words)

    def _look(self, line: Member) -> None:
        """Find out which process is at the address of this node's line."""
        node = self.node
        if self._since < 0:
            self._since = node.now
            node.counters["lines_found_elsewhere"] += 1
        self.yields = self._twin_lives()
        if self.yields:
            self._since = node.now
        if node.now - self._since < self._looks_s:
            self.news.gossip_to(At(line.address))
            return
        self._left = line.address
        self._looks_s = min(2 * self._looks_s, LOOKS_S_MAX)
        self._write(line, node.identity.address)

    def _write(self, line: Member, address: str) -> None:
        """Write this node's own line, one version later; it may write no other line."""
        node = self.node
        node.counters["moved_lines_written"] += 1
        self._moved = True
        self._changes = line.changes
        later = line.at(address, node.identity.client)
        self._agreed(later)
        self.rings.take(node.ring.with_member(later))
        for name in node.preference.names:
            self._introduce(name)

    def learned(self) -> None:
        """After each new document: an administrator's node that had not heard of the move may have
        kept the old address in this node's line. (Another life of this id only writes its address;
        that does not count as a change.)"""
        line = self._line() if self._left else None
        if line and line.address == self._left and line.changes > self._changes:
            self.node.counters["moved_lines_written_again"] += 1
            self._write(line, self.node.identity.address)

    # ------------------------------------------------------------ frames

    def met_itself(self, frame: Frame) -> None:
        """A frame with this node's name and id came: its own frame, or one from another life of
        this id."""
        node = self.node
        line = self._line()
        if frame.boot == node.boot:
            if line is not None:
                self._agreed(line)
            return
        route = At(frame.address)
        fresh = self.detector.heard(frame, route)
        if any(isinstance(m, Gossip) and not m.reply for m in frame.messages):
            self.news.gossip_to(route, reply=True)
        if fresh:
            if not self._twin_lives():
                node.counters["twins_met"] += 1
            self._twin = (frame.address, node.now)
            self.yields = line is not None and line.address == frame.address

    def _twin_lives(self) -> bool:
        return self._twin[1] >= 0 and self.node.now - self._twin[1] <= self.node.settings.suspect_s

    def back(self, frame: Frame, route: Route) -> Route:
        """Where to answer about the ring: at the frame's address, unless this life of the member is
        heard at the address of its line."""
        node = self.node
        if isinstance(route, At) or node.addresses.get(route) in (None, frame.address):
            return route
        peer = self.detector.peers.get(route)
        heard = peer is not None and peer.boot == frame.boot and node.up(route)
        return route if heard else At(frame.address)

    # ------------------------------------------------------------ words for people

    @property
    def seeks(self) -> bool:
        """Whether the node needs its seeds: it has no ring, or does not hear some member."""
        node = self.node
        if node.ring_or_none is None:
            return True
        return not all(map(node.up, node.preference.names))

    def unheard(self) -> list[tuple[str, str]]:
        """The members that this node does not hear, each with the address where it dials them."""
        node = self.node
        if self._line() is None:
            return []
        return [(n, node.addresses[n]) for n in node.preference.names if not node.up(n)]

    def trouble(self) -> str:
        """What is wrong with this member's address, and what to do, in one line; or ""."""
        node = self.node
        line = self._line()
        if line is None:
            return ""
        me = node.identity
        if self.yields:
            return (
                f"another process with this node's id is at {line.address}, where the ring has it:"
                " this one serves no client; stop one of them, its disk is a copy"
            )
        if self._twin_lives():
            return (
                f"another process with this node's id is at {self._twin[0]} and takes this node's"
                " place once this one is silent; stop it, its disk is a copy"
            )
        if self._since >= 0:
            return f"the ring has this node at {line.address}, it is at {me.address}: looking there"
        silent = self.unheard()
        if silent and self._alone * node.settings.heartbeat_s >= ALONE_S:
            where = ", ".join(f"{name} at {address}" for name, address in silent)
            asked = f"nor at the seeds {', '.join(me.seeds)}" if me.seeds else "and no seeds given"
            return (
                f"no other member answers: {where}, {asked}; if they have moved, start this node"
                " with --seeds naming one of them where it is now"
            )
        return ""
