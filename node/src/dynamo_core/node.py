"""One node, pure: everything that a process decides, with one way in and data out.

The shell and the simulator drive it in the same way. One tick is: `tick(now, wall_ms)` first, then
any number of `receive` and `submit`, then `flush()` once. `flush` writes one batch, informs those
who waited for it, and returns the frames to send. The driver makes the fsyncs: when `sync_wanted`,
it makes one and calls `synced(sequence)`. Machines (get, put, delivery, exchange, founding) never
touch each other. They return calls; this module routes a call to the local replica or into the
next frame to a peer.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dynamo_core.parts import Parts
from dynamo_core.protocol.frames import decode_frame
from dynamo_core.protocol.operations import Done, Operation
from dynamo_core.protocol.route import Route
from dynamo_core.replica.store import StoreContract
from dynamo_core.runtime.hedging import LATE_S
from dynamo_core.runtime.host import NodeIdentity
from dynamo_core.runtime.traced import Spans
from dynamo_core.settings import RETUNED, Settings

__all__ = ["Node", "NodeIdentity"]


class Node(Parts):
    """The one place where machines, messages and the store meet."""

    def __init__(
        self,
        identity: NodeIdentity,
        store: StoreContract,
        settings: Settings,
        draw: Callable[[], int],
    ) -> None:
        super().__init__(identity, store, settings, draw)
        self._next_beat = 0.0
        self.wake_at = 0.0
        """When `tick` must be called next, in the driver's monotonic seconds, as of the last
        `flush`."""
        self._due_at = 0.0
        """Before then `tick` has nothing to do, if nothing has entered since the last `flush`."""
        self._boots: list[int] = []
        self._epoch = 0

    @property
    def ready(self) -> bool:
        """Whether this node is a member with an open store and does not drain. It stays true when
        no other member answers."""
        return self.admission_control.refusal() in ("", "overloaded") and self.writable

    @property
    def sync_wanted(self) -> bool:
        """Whether a caller waits for an fsync."""
        return bool(self.write_batch.syncing)

    # ------------------------------------------------------------ the ways in

    def start(self, now: float, wall_ms: int, trusted: bool) -> None:
        """Load the state on the disk. `trusted` False: the disk may have lost data (S-DISK-2)."""
        self.now, self.wall_ms = now, wall_ms
        self.detector.tick(now)
        self.start_sequence = self.durable_sequence = self.write_batch.load()
        self.replica.load()
        self.hints.load()
        self.promises.load()
        self.ring_state.load()
        self.whereabouts.load()
        if self.member:
            self.quarantine.begin()
        if not trusted:
            self.replica.distrust()
            self.replica.rebuild_tree()

    def attach(
        self, free_bytes: Callable[[], int] | None = None, spans: Spans | None = None
    ) -> None:
        """What the shell has, before the start: how many bytes of the disk are free, and where
        spans go. None leaves it as it is."""
        self.free_bytes = free_bytes or self.free_bytes
        self.spans = spans or self.spans

    def seek(self, seeds: tuple[str, ...]) -> None:
        """The seeds are at these addresses from now on."""
        self.identity = msgspec.structs.replace(self.identity, seeds=seeds)

    def drain(self) -> None:
        """The process is about to end: no operation is taken any more."""
        self.draining = True

    def retune(self, settings: Settings) -> None:
        """Use other settings from now on. They may differ in hedge_s, fsync_stall_s, exchange_s,
        exchanges_max, moves_max, latency_threshold_ms, siblings_max, hint_bytes_max, anti_entropy,
        replace_lost, slow_s, delay_samples_per_minute and canaries_per_minute. Raises ValueError
        when another one differs: those hold until the node ends."""
        kept = {field: getattr(settings, field) for field in RETUNED}
        if msgspec.structs.replace(self.settings, **kept) != settings:
            raise ValueError(f"only {', '.join(RETUNED)} may change while a node runs")
        if settings.latency_threshold_ms != self.throttle.threshold_ms:
            self.throttle.retune(settings.latency_threshold_ms)
        self.settings = settings
        self.replica.retune(settings)
        self.hedging.retune(settings.hedge_s)
        self.slow.retune(settings.slow_s)
        self.durability.retune(settings.fsync_stall_s)
        self.hints.retune(settings.hint_bytes_max)
        self.sampler.retune(settings.delay_samples_per_minute)
        self.staleness.retune()

    def tick(self, now: float, wall_ms: int) -> None:
        """Take the new time and do what is due."""
        self.now, self.wall_ms = now, wall_ms
        self.detector.tick(now)
        if now >= self._due_at:
            self._do_due(now)
        self._due_at = 0.0

    def _do_due(self, now: float) -> None:
        wake_at = self.dispatcher.wake_at
        late_s = now - min(wake_at, self._next_beat)
        if late_s > LATE_S:
            self.hedging.late(now, late_s)
        if now >= self.throttle.wake_at:
            self.throttle.tick(now)
        if self.write_batch.syncing:
            self._watch_fsync()
        if now >= wake_at:
            self.dispatcher.wake(now)
        if now >= self._next_beat:
            self._next_beat = now + self.settings.heartbeat_s
            self.membership.heartbeat()
            self.quarantine.beat()
            self._notice_changes()
            self._tell_events()
            if self.write_batch.sequence > self.durable_sequence or self.stalled:
                # No caller waits. But the peers must know a recent sequence number of this disk
                # (S-DISK-2), and only an fsync shows that a slow disk is quick again (S-RW-8).
                self.write_batch.then(None, lambda durable: None)
        if now >= self.next_scan:
            self.next_scan = now + self.settings.hint_scan_s
            if self.ring_or_none is not None:
                self.retirement.offer()
                self.deliveries.scan()
        if self.member:
            self._turns(now)
        if self.dispatcher.work:
            self.dispatcher.drain()

    def _turns(self, now: float) -> None:
        if now >= self.moves.wake_at:
            self.moves.tick(now)
        if now >= self.repairs.wake_at:
            self.repairs.tick(now)
        if now >= self.round_coordinator.wake_at:
            self.round_coordinator.tick(now)
        if now >= self.staleness.wake_at:
            self.staleness.tick(now)

    def submit(self, operation: Operation, done: Done, principal: str = "") -> None:
        """Take a client's operation. `done` is called exactly once: at once, or in a later call of
        this node."""
        self.admission_control.submit(operation, done, principal)
        self.dispatcher.drain()

    def receive(self, data: bytes | bytearray) -> None:
        """One frame from any link. Raises BadFrame, which the driver counts."""
        frame = decode_frame(data)
        me = self.identity
        if frame.name == me.name and frame.node_id == me.node_id:
            self.whereabouts.met_itself(frame)
        else:
            self.inbox.take(frame)
        if self.dispatcher.work:
            self.dispatcher.drain()

    def link_lost(self, name: Route, redial_s: float = 0.0) -> None:
        """The link from this node to `name` broke or was refused. It may be dialled again in
        `redial_s` seconds. Calls under way on it get no answer (S-NET-2)."""
        self.detector.lost(name)
        self.dispatcher.lost(name, redial_s)
        self.dispatcher.drain()

    def flush(self) -> list[tuple[str, bytes]]:
        """The end of a tick: one batch to the store, then the frames, each with its address."""
        if self.write_batch.pending:
            self._write()
        if self.write_batch.syncing:
            self._watch_fsync()
        self.wake_at = due = self._next_due()
        self._due_at = min(due, self.throttle.wake_at)
        return self.outbox.frames() if self.outbox.outbox else []

    def _next_due(self) -> float:
        if not self.member:
            return min(
                self.dispatcher.wake_at, self._next_beat, self.next_scan, self.durability.wake_at
            )
        return min(
            self.dispatcher.wake_at,
            self._next_beat,
            self.next_scan,
            self.durability.wake_at,
            self.moves.wake_at,
            self.repairs.wake_at,
            self.round_coordinator.wake_at,
            self.staleness.wake_at,
        )

    def _watch_fsync(self) -> None:
        """A caller waits for an fsync."""
        if self.durability.wanted(self.now, self.wall_ms):
            self.counters["fsyncs_stalled"] += 1

    def _write(self) -> None:
        while self.write_batch.pending:
            writable = self.write_batch.writable
            if not self.write_batch.flush() and writable:
                self.counters["store_refused_writes"] += 1
                self.replica.reload()
            self.dispatcher.drain()

    def synced(self, sequence: int) -> None:
        """The store is durable up to this sequence number."""
        self.durable_sequence = max(self.durable_sequence, sequence)
        self.durability.synced(self.now)
        self.write_batch.synced(sequence)
        self.dispatcher.drain()

    def refuses_writes(self) -> None:
        """The store has refused an fsync: it takes no writes until it is reopened."""
        self.write_batch.refused()

    def reopened(self) -> None:
        """The driver has reopened a store that refused writes; what it has is what there is."""
        self._write()  # still refused: it rests on a tree that the store does not have
        self.write_batch.reopened()
        self.replica.reload()
        self.ring_state.keep()
        self.dispatcher.drain()

    # ------------------------------------------------------------ background

    def _tell_events(self) -> None:
        """What happened since the last heartbeat becomes lines for people."""
        ring = self.ring_or_none
        if ring is not None and ring.epoch != self._epoch:
            self._epoch = ring.epoch
            self.happened("ring", "S-RING-3", {"epoch": ring.epoch})
        self.events.beat(self.wall_ms, self.counters)

    def _notice_changes(self) -> None:
        if self.ring_or_none is None:
            return
        for name, up in self.detector.changes(list(self.preference.names)):
            kind = "peer_up" if up else "peer_down"
            self.counters["peer_up" if up else "peer_down"] += 1
            self.happened(kind, "S-MEM-2", {"node": name})
            if up:
                self.next_scan = self.now
        boots, self._boots = self._boots, self.detector.boots(self.preference.names)
        if boots != self._boots:
            self.hints.hand_on_again()
