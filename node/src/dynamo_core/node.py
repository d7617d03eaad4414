"""One node, pure: everything that a process decides, with one way in and data out.

The shell and the simulator drive it in the same way. One tick is: `tick(now, wall_ms)` first, then
any number of `receive` and `submit`, then `flush()` once. `flush` writes one batch, informs those
who waited for it, and returns the frames to send. The driver makes the fsyncs: when `sync_wanted`,
it makes one and calls `synced(number)`. Machines (get, put, delivery, exchange, founding) never
touch each other. They return calls; this module routes a call to the local replica or into the
next frame to a peer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import msgspec

from dynamo_core.admin.admin import Administration
from dynamo_core.bounds import Refusals
from dynamo_core.errors import Corrupt
from dynamo_core.forgetting.coordinator import RoundCoordinator
from dynamo_core.forgetting.participant import RoundParticipant
from dynamo_core.forgetting.quarantine import Quarantine
from dynamo_core.keys import DATA, HINTS
from dynamo_core.membership.membership import Membership
from dynamo_core.membership.replacement import Replacements
from dynamo_core.membership.retirement import Retirement
from dynamo_core.membership.whereabouts import Whereabouts
from dynamo_core.moves.promises import Promises
from dynamo_core.moves.receiver import Moves
from dynamo_core.moves.settling import Settling
from dynamo_core.protocol.frames import decode_frame
from dynamo_core.protocol.messages import Forward, Message, Order
from dynamo_core.protocol.move_messages import Promise, Settle, Still
from dynamo_core.protocol.operations import Operation
from dynamo_core.protocol.ring_messages import Announce
from dynamo_core.protocol.round_messages import Numbers, NumbersTold, RoundAsk, RoundCommit
from dynamo_core.repair.hint_delivery import Deliveries
from dynamo_core.repair.scheduler import Repairs
from dynamo_core.replica.durability import Durability
from dynamo_core.replica.hints import HintBook
from dynamo_core.replica.local_replica import LocalReplica
from dynamo_core.replica.replica import Replica
from dynamo_core.replica.store import Store
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.request.admission_control import AdmissionControl, Done
from dynamo_core.ring.document import Ring
from dynamo_core.ring.preference import Bits, Preference
from dynamo_core.runtime.dispatcher import Dispatcher
from dynamo_core.runtime.failure_detector import FailureDetector
from dynamo_core.runtime.hedging import LATE_S, Hedging
from dynamo_core.runtime.inbox import Inbox
from dynamo_core.runtime.machine import Machine, Question
from dynamo_core.runtime.outbox import Outbox
from dynamo_core.runtime.shares import Shares
from dynamo_core.runtime.slow import SlowBook
from dynamo_core.runtime.throttle import Throttle
from dynamo_core.runtime.traced import Spans
from dynamo_core.settings import RETUNED, Settings

__all__ = ["Node", "NodeIdentity"]
STRANGER = "(no member)"


class NodeIdentity(msgspec.Struct, frozen=True):
    """The identity of this process. `node_id` is 64 random bits, made together with the disk. Peers
    dial `address`, clients dial `client`, administrators dial `admin` ("": only this machine can
    reach it). A node without a ring asks the `seeds`; so does a member that does not hear some
    member at the address in the ring (S-MEM-5)."""

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
        """Records, puts and outcomes with a wrong digest, by the peer that sent them (T-1)."""
        self.refusals = Refusals()
        self.throttle = Throttle(settings.latency_threshold_ms, self.counters)
        self.free_bytes: Callable[[], int] = lambda: 0  # the shell knows the disk
        self.ring: Ring
        """The ring; only code that runs on a member may read it."""
        self._ring: Ring | None = None
        self.member = False
        """Whether this node serves keys."""
        self.bits = Bits()
        self.preference: Preference
        self.addresses: dict[str, str] = {}
        self.durable_number = 0
        self.start_number = 0
        self.write_batch = WriteBatch(store)
        self.hints = HintBook(self.write_batch, settings.hint_bytes_max, settings.rows_max)
        self.replica = Replica(self.name, self.write_batch, self.hints, settings, draw)
        self.replica.counters = self.counters
        self.local = LocalReplica(self, self.write_batch, self.replica, self.hints)
        self.detector = FailureDetector(self.boot, settings)
        self.durability = Durability(settings.fsync_stall_s)
        self.hedging = Hedging(settings, self.throttle, self.detector, self.counters)
        self.records = Shares(settings.records_bytes_max)
        self.slow = SlowBook(settings.slow_s, self.counters)
        self.spans: Spans | None = None
        self.deliveries = Deliveries(self, self.hints, self.replica, self.spawn)
        self.repairs = Repairs(self, self.replica, self.hints, self.spawn)
        self.replacements: Replacements = Replacements(self)
        self.membership = Membership(self)
        self.whereabouts = Whereabouts(self)
        self.retirement = Retirement(self)
        self.promises = Promises(self)
        self.moves = Moves(self)
        self.settling = Settling(self)
        self.quarantine = Quarantine(self)
        self.round_participant = RoundParticipant(self)
        self.round_coordinator = RoundCoordinator(self)
        self.local.serve(
            {RoundAsk: self.round_participant.ask, RoundCommit: self.round_participant.commit}
        )
        self.outbox = Outbox(self)
        self.admission_control = AdmissionControl(self)
        self.admin = Administration(self)
        self.dispatcher = Dispatcher(self)
        self.inbox = self._reception()
        self._next_beat = self._next_scan = 0.0
        self._boots: list[int] = []

    def _reception(self) -> Inbox:
        """Which part takes which message; the local copy and the membership declare theirs."""
        return Inbox(
            self,
            replying={
                Order: self.admin.order, Promise: self.promises.promise, Still: self.moves.still,
                Settle: self.settling.settle,
            },
            routed={
                Forward: self.admission_control.forwarded, Announce: self.admin.planner.announced,
                Numbers: self.quarantine.asked, NumbersTold: self.quarantine.told,
            },
        )  # fmt: skip

    # ------------------------------------------------------------ what others may see

    @property
    def ring_or_none(self) -> Ring | None:
        """The ring, None before this node has one."""
        return self._ring

    @ring_or_none.setter
    def ring_or_none(self, ring: Ring | None) -> None:
        assert ring is not None, "a node does not forget its ring"
        self.ring = self._ring = ring
        self.member = not self.membership.gone

    @property
    def writable(self) -> bool:
        """Whether the store takes writes (S-DISK-4)."""
        return self.write_batch.writable

    @property
    def ready(self) -> bool:
        """Whether this node is a member with an open store and does not drain. It stays true when
        no other member answers."""
        return self.admission_control.refusal() in ("", "overloaded") and self.writable

    @property
    def sync_wanted(self) -> bool:
        """Whether a caller waits for an fsync."""
        return self.write_batch.sync_wanted

    @property
    def wake_at(self) -> float:
        """When `tick` must be called next, in the driver's monotonic seconds."""
        own = min(
            self.dispatcher.wake_at, self._next_beat, self._next_scan, self.durability.wake_at
        )
        if not self.member:
            return own
        return min(own, self.moves.wake_at, self.repairs.wake_at, self.round_coordinator.wake_at)

    @property
    def stalled(self) -> bool:
        """Whether this node's fsyncs stall (S-RW-8)."""
        return self.durability.stalled

    def stalls(self, name: str) -> bool:
        """Whether the node has said that its fsyncs stall (S-RW-8)."""
        return self.stalled if name == self.name else self.detector.stalls(name)

    def up(self, name: str) -> bool:
        """Whether the node is likely to answer; this one is."""
        return name == self.name or self.detector.up(name)

    def heard(self, name: str, partition: int, seen: int, floor: int) -> None:
        """A member's numbers of the partition (S-DEL-3)."""
        self.quarantine.heard(name, partition, seen, floor)

    def sent_corrupt(self, name: str) -> None:
        """T-1: this peer sent bytes with a wrong digest; they are counted and refused."""
        known = self.ring_or_none is not None and name in self.ring_or_none.members
        self.corrupt_from[name if known else STRANGER] += 1
        self.counters["corrupt_records_refused"] += 1

    def holds_data(self) -> bool:
        """Whether this disk holds data; the disk of a founder must be empty (S-RING-5)."""
        try:
            return any(self.write_batch.scan(family, b"", None, 1) for family in (DATA, HINTS))
        except Corrupt:
            return True

    # ------------------------------------------------------------ the ways in

    def start(self, now: float, wall_ms: int, trusted: bool) -> None:
        """Load the state on the disk. `trusted` False: the disk may have lost data (S-DISK-2)."""
        self.now, self.wall_ms = now, wall_ms
        self.detector.now_ms = int(now * 1000)
        self.start_number = self.write_batch.number = self.write_batch.store.sequence()
        self.durable_number = self.start_number
        self.replica.load()
        self.hints.load()
        self.promises.load()
        self.membership.load()
        if self.member:
            self.quarantine.begin()
        if not trusted:
            self.distrusted = True
            self.replica.distrust()
            self.replica.rebuild_tree()

    def retune(self, settings: Settings) -> None:
        """Use other settings from now on. They may differ in hedge_s, fsync_stall_s, exchange_s,
        exchanges_max, moves_max, latency_threshold_ms, siblings_max, hint_bytes_max, anti_entropy,
        replace_lost and slow_s. Raises ValueError when another one differs: those hold until the
        node ends."""
        kept = {field: getattr(settings, field) for field in RETUNED}
        if msgspec.structs.replace(self.settings, **kept) != settings:
            raise ValueError(f"only {', '.join(RETUNED)} may change while a node runs")
        if settings.latency_threshold_ms != self.throttle.threshold_ms:
            self.throttle.retune(settings.latency_threshold_ms)
        self.settings = self.replica.settings = settings
        self.hedging.retune(settings.hedge_s)
        self.slow.retune(settings.slow_s)
        self.durability.stall_s = settings.fsync_stall_s
        self.hints.bytes_max = settings.hint_bytes_max

    def tick(self, now: float, wall_ms: int) -> None:
        """Take the new time and do what is due."""
        self.now, self.wall_ms = now, wall_ms
        self.detector.now_ms = int(now * 1000)
        late_s = now - min(self.dispatcher.wake_at, self._next_beat)
        if late_s > LATE_S:
            self.hedging.late(now, late_s)
        if now >= self.throttle.wake_at:
            self.throttle.tick(now)
        self._watch_fsync()
        if now >= self.dispatcher.wake_at:
            self.dispatcher.wake(now)
        if now >= self._next_beat:
            self._next_beat = now + self.settings.heartbeat_s
            self.membership.heartbeat()
            self.quarantine.beat()
            self._notice_changes()
            if self.write_batch.number > self.durable_number or self.stalled:
                # No caller waits. But the peers must know a recent number of this disk (S-DISK-2),
                # and only an fsync shows that a slow disk is quick again (S-RW-8).
                self.write_batch.then(None, lambda durable: None)
        if now >= self._next_scan:
            self._next_scan = now + self.settings.hint_scan_s
            if self.ring_or_none is not None:
                self.retirement.offer()
                self.deliveries.scan()
        if self.member:
            self._turns(now)
        self.dispatcher.drain()

    def _turns(self, now: float) -> None:
        if now >= self.moves.wake_at:
            self.moves.tick(now)
        if now >= self.repairs.wake_at:
            self.repairs.tick(now)
        if now >= self.round_coordinator.wake_at:
            self.round_coordinator.tick(now)

    def submit(self, operation: Operation, done: Done, principal: str = "") -> None:
        """Take a client's operation. `done` is called exactly once: at once, or in a later call of
        this node."""
        self.admission_control.submit(operation, done, principal)
        self.dispatcher.drain()

    def send(self, route: str, message: Message) -> None:
        """Into the next frame to a node, or to an address written "@host:port"."""
        self.outbox.send(route, message)

    def receive(self, data: bytes | bytearray) -> None:
        """One frame from any link. Raises BadFrame, which the driver counts."""
        frame = decode_frame(data)
        if frame.name == self.identity.name and frame.node_id == self.identity.node_id:
            self.whereabouts.met_itself(frame)
            self.dispatcher.drain()
            return
        self.inbox.take(frame)
        self.dispatcher.drain()

    def link_lost(self, name: str, redial_s: float = 0.0) -> None:
        """The link from this node to `name` broke or was refused. It may be dialled again in
        `redial_s` seconds. Calls under way on it get no answer (S-NET-2)."""
        self.detector.lost(name)
        self.dispatcher.lost(name, redial_s)
        self.dispatcher.drain()

    def flush(self) -> list[tuple[str, bytes]]:
        """The end of a tick: one batch to the store, then the frames, each with its address."""
        self._write()
        self._watch_fsync()
        return self.outbox.frames()

    def _watch_fsync(self) -> None:
        if self.write_batch.sync_wanted and self.durability.wanted(self.now, self.wall_ms):
            self.counters["fsyncs_stalled"] += 1

    def _write(self) -> None:
        while self.write_batch.pending:
            writable = self.write_batch.writable
            if not self.write_batch.flush() and writable:
                self.counters["store_refused_writes"] += 1
                self.replica.reload()
            self.dispatcher.drain()

    def synced(self, number: int) -> None:
        """The store is durable up to this sequence number."""
        self.durable_number = max(self.durable_number, number)
        self.durability.synced(self.now)
        self.write_batch.synced(number)
        self.dispatcher.drain()

    def reopened(self) -> None:
        """The driver has reopened a store that refused writes; memory follows the store again."""
        self._write()  # refused: this batch was built on a tree that the store does not have
        self.write_batch.dropped()
        self.write_batch.writable = True
        self.replica.reload()
        self.membership.keep()
        self.dispatcher.drain()

    def spawn(self, machine: Machine) -> None:
        """Start a machine and carry out what it asks for."""
        self.dispatcher.spawn(machine)

    def ask(self, name: str, request: Message, done: Callable[[Message | None], None]) -> None:
        """One call without a machine around it; `done` is told the answer or None."""
        self.later(partial(self.spawn, Question(name, request, self.settings.call_s, done)))

    def later(self, call: Callable[[], None]) -> None:
        """Run a call of the shell that starts machines, and what follows from it."""
        self.dispatcher.later(call)

    # ------------------------------------------------------------ messages

    def refuse(self, peer: str, message: Message, why: str) -> None:
        """S-IN-2: a peer's message makes no sense. It is counted, logged once, and not served."""
        self.counters["senseless_input_refused"] += 1
        self.refusals.add(peer, type(message).__name__, why)

    # ------------------------------------------------------------ background

    def _notice_changes(self) -> None:
        if self.ring_or_none is None:
            return
        for _, up in self.detector.changes(list(self.preference.names)):
            self.counters["peer_up" if up else "peer_down"] += 1
            if up:
                self._next_scan = self.now
        boots, self._boots = self._boots, self.detector.boots(self.preference.names)
        if boots != self._boots:
            self.hints.fresh.clear()
