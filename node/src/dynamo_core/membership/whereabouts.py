"""Where this member is dialled: its line of the ring follows its address (S-MEM-5).

Theory of operation. A disk may come back at another address: a new IP of its machine, another
container, a laptop elsewhere. The others dial what the member's line says, so nothing of theirs
arrives; but the moved node knows its ring and dials them, or its seeds. So a member writes address
and client into its line, and into no other, and sends the line to each member that it does not
hear; gossip carries it on. A life whose line is LEFT, or belongs to a later life, writes nothing
(S-MEM-3).

What counts is a change: the disk keeps the last pair of addresses, the node's and its line's. The
node believes a pair that stays as it was, as an administrator may have given it an address that is
written otherwise and leads here too. Where the pair has changed, the node first knocks at the
address of its line.

    its own frame comes back      the line leads here, and stays
    another life of its id        that one keeps the line: two processes have one disk's id (a
      answers, freshly            cloned disk). This one serves no client until the other is silent
    nothing for `LOOKS_S`         the line is written, one version later

So two lives of one id never take the line from each other while one hears the other; where a cut
parts them each waits twice as long before each further line. An administrator who has not heard of
the move writes a line with the old address. It stands, as administrators' versions go in larger
steps (`CHANGED`): the node takes it and writes its address into it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dynamo_core.keys import META
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.ring_messages import Gossip, Parts
from dynamo_core.ring.document import LEFT, Member, RingParts

if TYPE_CHECKING:
    from dynamo_core.node import Node

WHERE_KEY = b"where"
LOOKS_S = 3.0
"""How long a moved member knocks at the address of its line before it writes its own."""
LOOKS_S_MAX = 600.0
ALONE_S = 5.0
"""A member that has heard no other for this time, counted in heartbeats, says so."""
SEEDS_BEATS = 10
"""A member asks its seeds at each heartbeat while it hears no other; at every tenth while it hears
some and not all."""


class Whereabouts:
    """The address of this member: as it is, as its line has it, and who else claims its id."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.yields = False
        """Another life of this id is where the ring has it: nothing is to be acknowledged here."""
        self._told = b""
        self._since = -1.0
        self._looks_s = LOOKS_S
        self._left = ""
        """The address from which this life has moved; no process with this id is there."""
        self._moved = False
        self._changes = 0
        """How often the line had been changed when this life wrote its address into it."""
        self._twin = ("", -1.0)
        self._beats = self._alone = 0
        """Heartbeats, and those since somebody was heard."""

    def load(self) -> None:
        """What was told the last time, from the disk."""
        self._told = self.node.write_batch.get(META, WHERE_KEY) or b""

    def adopted(self, asked_by: str, asked_at: str) -> None:
        """A first ring. In the cluster that has asked this life to be its founder, or to join, the
        line is believed if the question came to the address that it has: the administrator may
        have given another one since, or before ("": an older node does not say where it asks)."""
        line = self._line()
        here = line is not None and asked_at in ("", line.address)
        if line is not None and here and self.node.ring.identity.cluster_id == asked_by:
            self._agreed(line)

    def _line(self) -> Member | None:
        """This life's own line; None where it has none, or may not change it (S-MEM-3)."""
        node = self.node
        ring = node.ring_or_none
        line = ring.members.get(node.identity.name) if ring is not None else None
        own = line is not None and line.id == node.identity.node_id and line.state != LEFT
        return line if own and not node.membership.gone else None

    def _words(self, line: Member) -> bytes:
        return msgspec.msgpack.encode((self.node.identity.address, line.address))

    # ------------------------------------------------------------ heartbeats

    def beat(self) -> None:
        """Once a heartbeat, before gossip: look, write, and tell those who do not hear us."""
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
        """Some may be where no line has them: all may have moved at once."""
        node = self.node
        known = {node.addresses[name] for name in node.preference.names if name not in silent}
        for seed in node.identity.seeds:
            if seed not in known:
                self._introduce("@" + seed)
                node.membership.gossip_to("@" + seed)

    def _introduce(self, route: str) -> None:
        """Our new line, ahead of the gossip to which it says where to answer."""
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
            self.node.write_batch.put(META, WHERE_KEY, words)

    def _look(self, line: Member) -> None:
        """Who is where the ring has us?"""
        node = self.node
        if self._since < 0:
            self._since = node.now
            node.counters["lines_found_elsewhere"] += 1
        self.yields = self._twin_lives()
        if self.yields:
            self._since = node.now
        if node.now - self._since < self._looks_s:
            node.membership.gossip_to("@" + line.address)
            return
        self._left = line.address
        self._looks_s = min(2 * self._looks_s, LOOKS_S_MAX)
        self._write(line, node.identity.address)

    def _write(self, line: Member, address: str) -> None:
        """The one line that this node may write: its own, one version later."""
        node = self.node
        node.counters["moved_lines_written"] += 1
        self._moved = True
        self._changes = line.changes
        later = line.at(address, node.identity.client)
        self._agreed(later)
        node.membership.take(node.ring.with_member(later))
        for name in node.preference.names:
            self._introduce(name)

    def learned(self) -> None:
        """After each new document: an administrator who had not heard of the move has kept the old
        address in our line. (Another life of this id would not have changed it otherwise.)"""
        line = self._line() if self._left else None
        if line and line.address == self._left and line.changes > self._changes:
            self.node.counters["moved_lines_written_again"] += 1
            self._write(line, self.node.identity.address)

    # ------------------------------------------------------------ frames

    def met_itself(self, frame: Frame) -> None:
        """A frame that bears our own name and id: our knock, or another life of this id."""
        node = self.node
        line = self._line()
        if frame.boot == node.boot:
            if line is not None:
                self._agreed(line)
            return
        route = "@" + frame.address
        fresh = node.detector.heard(frame, route)
        if any(isinstance(m, Gossip) and not m.reply for m in frame.messages):
            node.membership.gossip_to(route, reply=True)
        if fresh:
            if not self._twin_lives():
                node.counters["twins_met"] += 1
            self._twin = (frame.address, node.now)
            self.yields = line is not None and line.address == frame.address

    def _twin_lives(self) -> bool:
        return self._twin[1] >= 0 and self.node.now - self._twin[1] <= self.node.settings.suspect_s

    def back(self, frame: Frame, route: str) -> str:
        """Where to answer about the ring: at the frame's address, while this life of the member is
        not the one that is heard at the address of its line."""
        node = self.node
        address = node.addresses.get(route)
        if address is None or address == frame.address:
            return route
        peer = node.detector.peers.get(route)
        heard = peer is not None and peer.boot == frame.boot and node.up(route)
        return route if heard else "@" + frame.address

    # ------------------------------------------------------------ words for people

    @property
    def seeks(self) -> bool:
        """Whether seeds are of use: the node has no ring, or does not hear some member."""
        node = self.node
        if node.ring_or_none is None:
            return True
        return not all(map(node.up, node.preference.names))

    def unheard(self) -> list[tuple[str, str]]:
        """Members that are not heard, each with the address at which it is dialled."""
        node = self.node
        if self._line() is None:
            return []
        return [(n, node.addresses[n]) for n in node.preference.names if not node.up(n)]

    def trouble(self) -> str:
        """What is wrong with this member's address, in one line that says what to do; or ""."""
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
