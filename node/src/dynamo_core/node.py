"""One node, pure: everything that a process decides, with one way in and data out.

The shell and the simulator drive it alike. In one tick: `tick(now, wall_ms)` first, then any number
of `receive` and `submit`, then `flush()` once, which writes one batch, tells who waited for it, and
returns the frames to send. fsyncs are the driver's: when `sync_wanted`, it makes one and calls
`synced(number)`. Machines (get, put, delivery, exchange, founding) never touch each other; they
return calls, which this module routes: to the local replica or into a peer's next frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import msgspec

from dynamo_core.admin import Administration
from dynamo_core.admission import Admissions
from dynamo_core.apart import Apart
from dynamo_core.background import Background
from dynamo_core.calls import Calls
from dynamo_core.clients import Clients, Done
from dynamo_core.collection import Collector
from dynamo_core.consent import Consent
from dynamo_core.delivery import Deliveries
from dynamo_core.durability import Durability
from dynamo_core.emptying import Emptying
from dynamo_core.errors import Corrupt
from dynamo_core.frames import decode_frame
from dynamo_core.gossip import Detector
from dynamo_core.happenings import Happenings
from dynamo_core.hedging import LATE_S, Hedging
from dynamo_core.hints import HintBook
from dynamo_core.ids import DATA, HINTS, Store
from dynamo_core.inside import Inside
from dynamo_core.journal import Journal
from dynamo_core.local_replica import LocalReplica
from dynamo_core.look_messages import Look
from dynamo_core.machine import Machine, Question
from dynamo_core.membership import Membership
from dynamo_core.messages import Message
from dynamo_core.moves import Moves
from dynamo_core.operations import Operation
from dynamo_core.post import Post
from dynamo_core.preference import Preference
from dynamo_core.promises import Promises
from dynamo_core.reception import Reception
from dynamo_core.repair import Repairs
from dynamo_core.replica import Replica
from dynamo_core.ring import Ring
from dynamo_core.round_messages import RoundAsk, RoundCommit
from dynamo_core.sense import Refusals
from dynamo_core.settings import RETUNED, Settings
from dynamo_core.settling import Settling
from dynamo_core.shares import Shares
from dynamo_core.whereabouts import Whereabouts

__all__ = ["Node", "NodeIdentity"]
STRANGER = "(no member)"


class NodeIdentity(msgspec.Struct, frozen=True):
    """Who this process is. `node_id` was born with the disk, random, 64 bits; `address` is where
    peers dial, `client` where clients do, `admin` where administrators do, "" where only this
    machine can; `seeds` are addresses to knock at without a ring, or while members are not heard
    where the ring has them (S-MEM-5)."""

    name: str
    node_id: int
    address: str
    client: str = ""
    zone: str = ""
    weight: int = 1
    seeds: tuple[str, ...] = ()
    admin: str = ""


class Node:
    """The one place where machines, messages and the store meet."""

    def __init__(
        self, identity: NodeIdentity, store: Store, settings: Settings, draw: Callable[[], int]
    ) -> None:
        self.identity = identity
        self.name = identity.name
        self.settings = settings
        self.draw = draw
        self.boot = draw()
        self.now = 0.0
        self.wall_ms = 0
        self.lww = False
        self.draining = False
        self.distrusted = False
        self.counters: Counter[str] = Counter()
        self.corrupt_from: Counter[str] = Counter()
        """Records, puts and outcomes that did not hold, by the peer that sent them (T-1)."""
        self.refusals = Refusals()
        self.background = Background(settings.latency_threshold_ms, self.counters)
        self.free_bytes: Callable[[], int] = lambda: 0  # the shell knows the disk
        self.ring_or_none: Ring | None = None
        self.preference: Preference
        self.addresses: dict[str, str] = {}
        self.durable_number = 0
        self.start_number = 0
        self.journal = Journal(store)
        self.happenings = Happenings()
        self.hints = HintBook(self.journal, settings.hint_bytes_max, settings.rows_max)
        self.replica = Replica(self.name, self.journal, self.hints, settings, draw)
        self.replica.counters = self.counters
        self.local = LocalReplica(self, self.journal, self.replica, self.hints)
        self.detector = Detector(self.boot, settings)
        self.durability = Durability(settings.fsync_stall_s)
        self.hedging = Hedging(settings, self.background, self.detector, self.counters)
        self.records = Shares(settings.records_bytes_max)
        self.deliveries = Deliveries(self, self.hints, self.replica, self.spawn)
        self.repairs = Repairs(self, self.replica, self.hints, self.spawn)
        self.admissions: Admissions = Admissions(self)
        self.membership = Membership(self)
        self.whereabouts = Whereabouts(self)
        self.emptying = Emptying(self)
        self.promises = Promises(self)
        self.moves = Moves(self)
        self.settling = Settling(self)
        self.apart = Apart(self)
        self.consent = Consent(self)
        self.collector = Collector(self)
        self.inside = Inside(self)
        self.local.serve(
            {RoundAsk: self.consent.ask, RoundCommit: self.consent.commit, Look: self.inside.answer}
        )
        self.post = Post(self)
        self.clients = Clients(self)
        self.admin = Administration(self)
        self.calls = Calls(self)
        self.reception = Reception(self)
        self._next_beat = self._next_scan = 0.0
        self._boots: list[int] = []

    # ------------------------------------------------------------ what others may see

    @property
    def ring(self) -> Ring:
        """The ring; only for code that runs on a member."""
        assert self.ring_or_none is not None
        return self.ring_or_none

    @property
    def member(self) -> bool:
        """Whether this node serves keys."""
        return self.ring_or_none is not None and not self.membership.gone

    @property
    def writable(self) -> bool:
        """Whether the store takes writes (S-DISK-4)."""
        return self.journal.writable

    @property
    def ready(self) -> bool:
        """A member with an open store, not draining; stays true when isolated."""
        return self.clients.refusal() in ("", "overloaded") and self.writable

    @property
    def sync_wanted(self) -> bool:
        """Somebody waits for an fsync."""
        return self.journal.sync_wanted

    @property
    def wake_at(self) -> float:
        """When `tick` must be called next, in the driver's monotonic seconds."""
        own = min(self.calls.wake_at, self._next_beat, self._next_scan, self.durability.wake_at)
        if not self.member:
            return own
        return min(own, self.moves.wake_at, self.repairs.wake_at, self.collector.wake_at)

    @property
    def stalled(self) -> bool:
        """Whether this node's fsyncs stall (S-RW-8)."""
        return self.durability.stalled

    def stalls(self, name: str) -> bool:
        """Whether the fsyncs of the node stall, as it says itself (S-RW-8)."""
        return self.stalled if name == self.name else self.detector.stalls(name)

    def up(self, name: str) -> bool:
        """Whether the node is likely to answer; this one is."""
        return name == self.name or self.detector.up(name)

    def heard(self, name: str, partition: int, seen: int, floor: int) -> None:
        """A member's numbers of the partition (S-DEL-3)."""
        self.apart.heard(name, partition, seen, floor)

    def sent_corrupt(self, name: str) -> None:
        """T-1: what this peer sent does not hold; it is counted and refused."""
        known = self.ring_or_none is not None and name in self.ring_or_none.members
        self.corrupt_from[name if known else STRANGER] += 1
        self.counters["corrupt_records_refused"] += 1

    def happened(self, kind: str, rule: str, **about: object) -> None:
        """Something that people may want to hear of, and the rule by which it happened."""
        self.happenings.add(self.wall_ms, kind, rule, **about)

    @property
    def next_scan(self) -> float:
        """When hints are looked for again (S-HINT-2), in the driver's monotonic seconds."""
        return self._next_scan

    def holds_data(self) -> bool:
        """Whether anything lies on this disk; a founder's must be empty (S-RING-5)."""
        try:
            return any(self.journal.scan(family, b"", None, 1) for family in (DATA, HINTS))
        except Corrupt:
            return True

    # ------------------------------------------------------------ the ways in

    def start(self, now: float, wall_ms: int, trusted: bool) -> None:
        """Load what the disk knows. `trusted` False: it may have lost something (S-DISK-2)."""
        self.now, self.wall_ms = now, wall_ms
        self.detector.now_ms = int(now * 1000)
        self.start_number = self.journal.number = self.journal.store.sequence()
        self.durable_number = self.start_number
        self.replica.load()
        self.hints.load()
        self.promises.load()
        self.membership.load()
        if self.member:
            self.apart.begin()
        if not trusted:
            self.distrusted = True
            self.replica.distrust()
            self.replica.rebuild_tree()

    def retune(self, settings: Settings) -> None:
        """Other settings from now on. May differ in hedge_s, fsync_stall_s, exchange_s,
        exchanges_max, moves_max, latency_threshold_ms, siblings_max, hint_bytes_max, anti_entropy
        and replace_lost; the others hold for the life of a node. Raises ValueError for those."""
        kept = {field: getattr(settings, field) for field in RETUNED}
        if msgspec.structs.replace(self.settings, **kept) != settings:
            raise ValueError(f"only {', '.join(RETUNED)} may change while a node runs")
        if settings.latency_threshold_ms != self.background.threshold_ms:
            self.background.retune(settings.latency_threshold_ms)
        self.settings = self.replica.settings = settings
        self.hedging.retune(settings.hedge_s)
        self.durability.stall_s = settings.fsync_stall_s
        self.hints.bytes_max = settings.hint_bytes_max

    def tick(self, now: float, wall_ms: int) -> None:
        """Time has moved; does what is due."""
        self.now = now
        self.wall_ms = self.replica.chronicle.wall_ms = wall_ms
        self.detector.now_ms = int(now * 1000)
        late_s = now - min(self.calls.wake_at, self._next_beat)
        if late_s > LATE_S:
            self.hedging.late(now, late_s)
        if now >= self.background.wake_at:
            self.background.tick(now)
        self._watch_fsync()
        if now >= self.calls.wake_at:
            self.calls.wake(now)
        if now >= self._next_beat:
            self._next_beat = now + self.settings.heartbeat_s
            self.membership.heartbeat()
            self.apart.beat()
            self._notice_changes()
            self.inside.beat()
            if self.journal.number > self.durable_number or self.stalled:
                # Nobody waits, but what peers remember of this disk must not lag (S-DISK-2), and
                # that a disk is quick again shows only when it is asked (S-RW-8).
                self.journal.then(None, lambda durable: None)
        if now >= self._next_scan:
            self._next_scan = now + self.settings.hint_scan_s
            if self.ring_or_none is not None:
                self.emptying.offer()
                self.deliveries.scan()
        if self.member:
            self._turns(now)
        self.calls.drain()

    def _turns(self, now: float) -> None:
        if now >= self.moves.wake_at:
            self.moves.tick(now)
        if now >= self.repairs.wake_at:
            self.repairs.tick(now)
        if now >= self.collector.wake_at:
            self.collector.tick(now)

    def submit(self, operation: Operation, done: Done, principal: str = "") -> None:
        """A client's operation; `done` is called exactly once, at once or in a later entry."""
        self.clients.submit(operation, done, principal)
        self.calls.drain()

    def say(self, route: str, message: Message) -> None:
        """Into the next frame to a node, or to an address written "@host:port"."""
        self.post.say(route, message)

    def receive(self, data: bytes | bytearray) -> None:
        """One frame from any link. Raises BadFrame, which the driver counts."""
        frame = decode_frame(data)
        if frame.name == self.identity.name and frame.node_id == self.identity.node_id:
            self.whereabouts.met_itself(frame)
            self.calls.drain()
            return
        self.reception.take(frame)
        self.calls.drain()

    def link_lost(self, name: str, redial_s: float = 0.0) -> None:
        """Our link to the node broke or was refused, and may be dialled again in `redial_s`: what
        is under way on it will not be answered (S-NET-2)."""
        self.detector.lost(name)
        self.calls.lost(name, redial_s)
        self.calls.drain()

    def flush(self) -> list[tuple[str, bytes]]:
        """The end of a tick: one batch to the store, then the frames, each with its address."""
        self._write()
        self._watch_fsync()
        return self.post.frames()

    def _watch_fsync(self) -> None:
        if self.journal.sync_wanted and self.durability.wanted(self.now, self.wall_ms):
            self.counters["fsyncs_stalled"] += 1

    def _write(self) -> None:
        while self.journal.pending:
            writable = self.journal.writable
            if not self.journal.flush() and writable:
                self.counters["store_refused_writes"] += 1
                self.replica.reload()
            self.calls.drain()

    def synced(self, number: int) -> None:
        """The store is durable up to this sequence number."""
        self.durable_number = max(self.durable_number, number)
        self.durability.synced(self.now)
        self.journal.synced(number)
        self.calls.drain()

    def reopened(self) -> None:
        """The driver has reopened a store that refused writes; what it has is what there is."""
        self._write()  # still refused: it rests on a tree that the store does not have
        self.journal.dropped()
        self.journal.writable = True
        self.replica.reload()
        self.membership.keep()
        self.calls.drain()

    def spawn(self, machine: Machine) -> None:
        """Start a machine and carry out what it asks for."""
        self.calls.spawn(machine)

    def ask(self, name: str, request: Message, done: Callable[[Message | None], None]) -> None:
        """One call without a machine around it; `done` is told the answer or None."""
        self.later(partial(self.spawn, Question(name, request, self.settings.call_s, done)))

    def later(self, call: Callable[[], None]) -> None:
        """Run a call of the shell that starts machines, and what follows from it."""
        self.calls.later(call)

    # ------------------------------------------------------------ messages

    def refuse(self, peer: str, message: Message, why: str) -> None:
        """S-IN-2: what a peer said makes no sense. It is counted, told once, and not done."""
        self.counters["senseless_input_refused"] += 1
        self.refusals.add(peer, type(message).__name__, why)

    # ------------------------------------------------------------ background

    def _notice_changes(self) -> None:
        if self.ring_or_none is None:
            return
        for name, up in self.detector.changes(list(self.preference.names)):
            self.counters["peer_up" if up else "peer_down"] += 1
            self.happened("peer_up" if up else "peer_down", "S-MEM-2", node=name)
            if up:
                self._next_scan = self.now
        boots, self._boots = self._boots, self.detector.boots(self.preference.names)
        if boots != self._boots:
            self.hints.fresh.clear()
