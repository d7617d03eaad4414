"""Heartbeats, failure detection and the spreading of the ring (S-RING-3, S-MEM-2, S-NET-1).

Every frame carries the sender's beat (its monotonic clock in ms within its boot) and echoes the
latest beat of the receiver that the sender had seen. So an echo proves that both directions of a
link worked at a known time. A peer is up while its last echo is young. A frame with an old echo was
held back by a frozen process or a stalled connection, and is refused. At each heartbeat a node
sends gossip to every member: digests of the ring's four parts (parts that differ follow), and the
sequence numbers by which a node learns that its disk was rolled back (S-DISK-2).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.route import At, Route
from dynamo_core.settings import Settings

BEATS_MS_MAX = 60_000
"""If beats are this far behind the last one, the last one was wrong; if this node echoed it for
ever, the peer would refuse every frame. One frame alone may be so late: if this node echoed its
beat, the peer would refuse this node's next calls, so two frames in a row must say so (S-IN-2). It
is safe to echo an older beat than the last one heard: the frame that carries it only counts as
older."""

LIVES_MAX = 8
"""The sequence numbers of this many lives of one peer are remembered; the highest ones stay."""


class Peer(msgspec.Struct):
    """What this node knows of one other node. It is forgotten when that node's id changes."""

    node_id: int
    address: str = ""
    boot: int = 0
    beat: int = 0
    behind: bool = False
    """The last frame was too far behind `beat` to be of use."""
    knows: int = 0
    """Which messages this life of the peer knows: those up to this number of `SINCE` (C17)."""
    echo_ms: int = -1
    lost_ms: int = -1
    misses: int = 0
    heard_ms: int = -1
    """When its last frame came, by the clock of this node."""
    sequences: dict[int, int] = {}
    """The highest durable sequence number of each of its lives, of LIVES_MAX lives."""
    was_up: bool = False
    up_until_ms: int = -1
    """By the clock of this node; -1 while the peer is down."""
    awaited: bool = True
    """This node waits for the first echo since the peer or this node started, or the link broke."""
    other_life: bool = False
    """The peer has started again since its last echo."""
    stalled: bool = False
    """The peer has said that its fsyncs stall (S-RW-8)."""
    admin: str = ""
    """The address for administrators that this life of the peer has told; "" if not known."""

    def falls_behind(self, beat: int) -> None:
        """A frame has a beat that is far behind: the second one in a row corrects `beat`."""
        if self.behind:
            self.beat = beat
        self.behind = not self.behind

    def told(self, boot: int, sequence: int) -> None:
        """The life `boot` of the peer has told up to which sequence number it is durable."""
        sequences = self.sequences
        sequences[boot] = max(sequences.get(boot, 0), sequence)
        if len(sequences) > LIVES_MAX:
            del sequences[min(sequences, key=sequences.__getitem__)]

    def remembered(self) -> int:
        """The highest sequence number that the peer's other lives have told (S-DISK-2). A late
        frame may show an earlier life for a moment; the number of the present life still counts as
        its own."""
        others = [sequence for boot, sequence in self.sequences.items() if boot != self.boot]
        return max(others) if others else 0


class FailureDetector:
    """Local failure detection from echoes, lost links and requests that timed out."""

    def __init__(self, boot: int, settings: Settings) -> None:
        self.boot = boot
        self.peers: dict[Route, Peer] = {}
        self._suspect_ms = int(settings.suspect_s * 1000)
        self._age_max_ms = settings.frame_age_max_s * 1000
        self._misses_max = settings.misses_max
        self.now_ms = 0
        self.admins_told = 0
        """Grows by one when a peer tells another admin address."""
        self.returned: list[tuple[Route, bool]] = []
        """Peers whose awaited echo has come, each with whether it is still the same process. Calls
        that were dropped meanwhile may be sent again (S-NET-2)."""

    def tick(self, now: float) -> None:
        """Time has moved, in monotonic seconds."""
        self.now_ms = int(now * 1000)

    def peer(self, name: Route, node_id: int) -> Peer:
        """What is known of the peer; a new `Peer` when the name has a new id."""
        found = self.peers.get(name)
        if found is None or found.node_id != node_id:
            found = self.peers[name] = Peer(node_id)
        return found

    def heard(self, frame: Frame, name: Route) -> bool:
        """Takes the head of a frame from `name`, an address for an id that is no member. False
        when its echo is missing or too old (S-NET-1)."""
        mine, echo, now_ms = frame.echo_boot == self.boot, frame.echo, self.now_ms
        if mine and echo > now_ms:
            # The echo of a beat that this node has not sent yet would stay young for ever (S-IN-2).
            return False
        peer = self.peers.get(name)
        if peer is None or peer.node_id != frame.node_id:
            peer = self.peer(name, frame.node_id)
        peer.address = frame.address
        peer.heard_ms = now_ms
        if frame.boot != peer.boot:
            newer = mine and echo > peer.echo_ms
            if not newer and self.up(name):
                # A late frame of an earlier life: with an echo of that boot, the present life would
                # refuse every frame.
                return False
            peer.awaited, peer.other_life = True, peer.other_life or peer.boot != 0
            peer.boot, peer.beat, peer.stalled = frame.boot, frame.beat, False
            peer.behind = False
            peer.knows = frame.knows
            self.admin_told(peer, "")
        elif frame.beat > peer.beat:
            peer.beat, peer.behind = frame.beat, False
        elif peer.beat - frame.beat > BEATS_MS_MAX:
            peer.falls_behind(frame.beat)
        if not mine:
            return False
        if echo > peer.echo_ms:
            peer.echo_ms = echo
            if echo > peer.lost_ms:
                peer.lost_ms = -1
                peer.misses = 0
                if peer.awaited:
                    self.returned.append((name, not peer.other_life))
                    peer.awaited = peer.other_life = False
            self._judge(peer)
        return self.fresh(frame)

    def take_returned(self) -> list[tuple[Route, bool]]:
        """Those of `returned`, each told once."""
        returned, self.returned = self.returned, []
        return returned

    def forget(self, name: Route) -> None:
        """Operations should not wait for that peer any more."""
        self.peers.pop(name, None)

    def fresh(self, frame: Frame) -> bool:
        """Whether the sender has heard this process, and recently enough (S-NET-1)."""
        return frame.echo_boot == self.boot and self.now_ms - frame.echo <= self._age_max_ms

    def up(self, name: Route) -> bool:
        """Whether requests to the peer are likely to be answered."""
        peer = self.peers.get(name)
        return peer is not None and self.now_ms <= peer.up_until_ms

    def _judge(self, peer: Peer) -> None:
        """Compute the answer of `up` again. Every request asks for it, so it is kept ready."""
        well = peer.echo_ms >= 0 and peer.lost_ms < 0 and peer.misses < self._misses_max
        peer.up_until_ms = peer.echo_ms + self._suspect_ms if well else -1

    def lost(self, name: Route) -> None:
        """The link to the peer broke: down until an echo of a later beat comes."""
        peer = self.peers.get(name)
        if peer is not None:
            peer.lost_ms = self.now_ms
            peer.awaited = True
            self._judge(peer)

    def admin_told(self, peer: Peer, address: str) -> None:
        """The peer has said where administrators dial it."""
        if peer.admin != address:
            peer.admin = address
            self.admins_told += 1

    def admin_of(self, name: str, node_id: int) -> str | None:
        """Where administrators dial that id, None while this node does not know it."""
        peer = self.peers.get(name)
        return (peer.admin or None) if peer is not None and peer.node_id == node_id else None

    def knows(self, name: Route) -> int:
        """Which messages the peer knows: those up to this number of `SINCE`; 0 while this node has
        not heard it."""
        peer = self.peers.get(name)
        return peer.knows if peer is not None else 0

    def stalls(self, name: Route) -> bool:
        """Whether the peer's last word was that its fsyncs stall."""
        peer = self.peers.get(name)
        return peer is not None and peer.stalled

    def missed(self, name: Route) -> None:
        """A request to the peer timed out."""
        peer = self.peers.get(name)
        if peer is not None:
            peer.misses += 1
            self._judge(peer)

    def answered(self, name: Route) -> None:
        """A request to the peer was answered."""
        peer = self.peers.get(name)
        if peer is not None and peer.misses:
            peer.misses = 0
            self._judge(peer)

    def echo_for(self, route: Route) -> tuple[int, int]:
        """Boot and beat to echo to a peer, or to the sender at an address."""
        peer = self.peers.get(route)
        if peer is None and type(route) is At:
            peer = next((p for p in self.peers.values() if p.address == route.address), None)
        return (peer.boot, peer.beat) if peer is not None else (0, 0)

    def changes(self, names: list[str]) -> list[tuple[str, bool]]:
        """Peers that went up or down since the last call, with the new state."""
        changed = []
        for name in names:
            peer = self.peers.get(name)
            if peer is not None and peer.was_up != (up := self.up(name)):
                peer.was_up = up
                changed.append((name, up))
        return changed

    def boots(self, names: Iterable[str]) -> list[int]:
        """The boot of each peer's process, 0 for a peer that was never heard."""
        return [peer.boot if (peer := self.peers.get(name)) else 0 for name in names]
