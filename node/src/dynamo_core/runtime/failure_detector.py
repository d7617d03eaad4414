"""Heartbeats, failure detection and the spreading of the ring (S-RING-3, S-MEM-2, S-NET-1).

Every frame carries the sender's beat (its monotonic clock in ms within its boot) and echoes the
latest beat of the receiver that the sender had seen. So an echo proves both directions of a link
at a known time: a peer is up while its last echo is young, and a frame whose echo is too old, held
back by a frozen process or a stalled connection, is refused. Gossip goes to every member at each
heartbeat: digests of the ring's four parts, parts that differ follow; and the numbers by which a
node learns that its disk was rolled back (S-DISK-2).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dynamo_core.protocol.frames import Frame
from dynamo_core.settings import Settings

BEATS_MS_MAX = 60_000
"""A beat that lies so far behind the last one is no late frame of the same clock: the one before
was none of its own, and echoed for ever it would silence the peer. To echo an older beat than was
heard is safe, as the frame that carries it counts as older."""

LIVES_MAX = 8
"""Of one peer, whose numbers are remembered; the highest ones stay."""


class Peer(msgspec.Struct):
    """What this node knows of one other, by name; forgotten when its id changes."""

    node_id: int
    address: str = ""
    boot: int = 0
    beat: int = 0
    echo_ms: int = -1
    lost_ms: int = -1
    misses: int = 0
    heard_ms: int = -1
    """When its last frame came, by our own clock."""
    numbers: dict[int, int] = {}
    """Its highest durable sequence number, by the life that told it; of the last LIVES_MAX."""
    was_up: bool = False
    up_until_ms: int = -1
    """By our own clock, -1 for one that is down."""
    awaited: bool = True
    """No echo has come since the peer or this node started, or since the link was lost."""
    other_life: bool = False
    """It has started again since its last echo."""
    stalled: bool = False
    """Its fsyncs stall, as it says itself (S-RW-8)."""
    admin: str = ""
    """Where administrators dial this life of it, as it says itself; "" while that is not known."""

    def told(self, boot: int, number: int) -> None:
        """A life of the peer is durable up to this number."""
        numbers = self.numbers
        numbers[boot] = max(numbers.get(boot, 0), number)
        if len(numbers) > LIVES_MAX:
            del numbers[min(numbers, key=numbers.__getitem__)]

    def remembered(self) -> int:
        """What its other lives were durable up to (S-DISK-2). Late frames may bring an earlier life
        back for a moment: then what the present one has told is still its own."""
        return max((n for boot, n in self.numbers.items() if boot != self.boot), default=0)


class FailureDetector:
    """Local failure detection from echoes, lost links and requests that timed out."""

    def __init__(self, boot: int, settings: Settings) -> None:
        self.boot = boot
        self.peers: dict[str, Peer] = {}
        self._suspect_ms = settings.suspect_s * 1000
        self._age_max_ms = settings.frame_age_max_s * 1000
        self._misses_max = settings.misses_max
        self.now_ms = 0
        self.admins_told = 0
        """Grows when what a peer says of its admin address changes."""
        self.returned: list[tuple[str, bool]] = []
        """Peers whose awaited echo has come, each with whether it is the process that was heard
        before: what was dropped meanwhile may be said again (S-NET-2)."""

    def peer(self, name: str, node_id: int) -> Peer:
        """The peer's line; a new one when the name has a new id."""
        found = self.peers.get(name)
        if found is None or found.node_id != node_id:
            found = self.peers[name] = Peer(node_id)
        return found

    def heard(self, frame: Frame, name: str) -> bool:
        """Takes the head of a frame from `name`, "@host:port" for an id that is no member. False
        when its echo is missing or too old (S-NET-1)."""
        if frame.echo_boot == self.boot and frame.echo > self.now_ms:
            # Of a beat that was not sent yet: believed, it would be young for ever (S-IN-2).
            return False
        peer = self.peer(name, frame.node_id)
        peer.address = frame.address
        peer.heard_ms = self.now_ms
        if frame.boot != peer.boot:
            newer = frame.echo_boot == self.boot and frame.echo > peer.echo_ms
            if not newer and self.up(name):
                # Of an earlier life, and late: to echo that boot would silence the present one.
                return False
            peer.awaited, peer.other_life = True, peer.other_life or peer.boot != 0
            peer.boot, peer.beat, peer.stalled = frame.boot, frame.beat, False
            self.admin_told(peer, "")
        elif frame.beat > peer.beat or peer.beat - frame.beat > BEATS_MS_MAX:
            peer.beat = frame.beat
        if frame.echo_boot != self.boot:
            return False
        if frame.echo > peer.echo_ms:
            peer.echo_ms = frame.echo
            if frame.echo > peer.lost_ms:
                peer.lost_ms = -1
                peer.misses = 0
                if peer.awaited:
                    self.returned.append((name, not peer.other_life))
                    peer.awaited = peer.other_life = False
            self._judge(peer)
        return self.fresh(frame)

    def fresh(self, frame: Frame) -> bool:
        """Whether the sender has heard this very process, and lately (S-NET-1)."""
        return frame.echo_boot == self.boot and self.now_ms - frame.echo <= self._age_max_ms

    def up(self, name: str) -> bool:
        """Whether requests to the peer are likely to be answered."""
        peer = self.peers.get(name)
        return peer is not None and self.now_ms <= peer.up_until_ms

    def _judge(self, peer: Peer) -> None:
        """After whatever changes the answer of `up`, which every request asks for."""
        well = peer.echo_ms >= 0 and peer.lost_ms < 0 and peer.misses < self._misses_max
        peer.up_until_ms = peer.echo_ms + int(self._suspect_ms) if well else -1

    def lost(self, name: str) -> None:
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
        """Where administrators dial that id, None while that is not known here."""
        peer = self.peers.get(name)
        return (peer.admin or None) if peer is not None and peer.node_id == node_id else None

    def stalls(self, name: str) -> bool:
        """Whether the peer said last that its fsyncs stall."""
        peer = self.peers.get(name)
        return peer is not None and peer.stalled

    def missed(self, name: str) -> None:
        """A request to the peer timed out."""
        peer = self.peers.get(name)
        if peer is not None:
            peer.misses += 1
            self._judge(peer)

    def answered(self, name: str) -> None:
        """A request to the peer was answered."""
        peer = self.peers.get(name)
        if peer is not None and peer.misses:
            peer.misses = 0
            self._judge(peer)

    def echo_for(self, route: str) -> tuple[int, int]:
        """Boot and beat to echo to a peer, or to whoever speaks from "@host:port"."""
        peer = self.peers.get(route)
        if peer is None and route.startswith("@"):
            peer = next((p for p in self.peers.values() if p.address == route[1:]), None)
        return (peer.boot, peer.beat) if peer is not None else (0, 0)

    def changes(self, names: list[str]) -> list[tuple[str, bool]]:
        """Peers whose state is another one than at the last call, with the new state."""
        changed = []
        for name in names:
            peer = self.peers.get(name)
            if peer is not None and peer.was_up != (up := self.up(name)):
                peer.was_up = up
                changed.append((name, up))
        return changed

    def boots(self, names: Iterable[str]) -> list[int]:
        """Which process of each it is, 0 for one that was never heard."""
        return [peer.boot if (peer := self.peers.get(name)) else 0 for name in names]
