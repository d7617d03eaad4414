"""The parts of one node: what each may reach, in which order they hear of a new ring, and the host
that they all have (`runtime/host.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from dynamo_core.admin.admin import Administration
from dynamo_core.admin.planner import Planner
from dynamo_core.backup.archive import Archive
from dynamo_core.bounds import Refusals
from dynamo_core.forgetting.coordinator import RoundCoordinator
from dynamo_core.forgetting.participant import RoundParticipant
from dynamo_core.forgetting.quarantine import Quarantine
from dynamo_core.look.inside import Inside
from dynamo_core.membership.membership import Membership
from dynamo_core.membership.replacement import Replacements
from dynamo_core.membership.retirement import Retirement, former_name
from dynamo_core.membership.ring_news import RingNews
from dynamo_core.membership.ring_state import RingState, Taken
from dynamo_core.membership.whereabouts import Whereabouts
from dynamo_core.moves.promises import Promises
from dynamo_core.moves.receiver import Moves
from dynamo_core.moves.settling import Settling
from dynamo_core.protocol.look_messages import Look
from dynamo_core.protocol.messages import Forward, Message, Order
from dynamo_core.protocol.move_messages import Promise, Settle, Still
from dynamo_core.protocol.ring_messages import Announce
from dynamo_core.protocol.round_messages import Numbers, NumbersTold, RoundAsk, RoundCommit
from dynamo_core.protocol.route import Route
from dynamo_core.repair.hint_delivery import Deliveries
from dynamo_core.repair.scheduler import Repairs
from dynamo_core.replica.durability import Durability
from dynamo_core.replica.hints import HintBook
from dynamo_core.replica.key_history import KeyHistory
from dynamo_core.replica.local_replica import LocalReplica
from dynamo_core.replica.replica import Replica
from dynamo_core.replica.store import StoreContract
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.request.admission_control import AdmissionControl
from dynamo_core.ring.document import LEFT, Ring
from dynamo_core.ring.preference import Preference
from dynamo_core.runtime.delays import DelaySampler
from dynamo_core.runtime.dispatcher import Dispatcher
from dynamo_core.runtime.event_log import EventLog
from dynamo_core.runtime.failure_detector import FailureDetector
from dynamo_core.runtime.hedging import Hedging
from dynamo_core.runtime.host import NodeIdentity
from dynamo_core.runtime.inbox import Inbox, Replying
from dynamo_core.runtime.machine import AnyMachine, Question
from dynamo_core.runtime.outbox import Outbox
from dynamo_core.runtime.shares import Shares
from dynamo_core.runtime.slow import SlowBook
from dynamo_core.runtime.throttle import Throttle
from dynamo_core.runtime.traced import Spans
from dynamo_core.settings import Settings
from dynamo_core.staleness.staleness import Staleness

NO_MEMBER = "(no member)"


class Parts:
    """Composed once; no part knows another one that is not named here as its own."""

    def __init__(
        self,
        identity: NodeIdentity,
        store: StoreContract,
        settings: Settings,
        draw: Callable[[], int],
    ) -> None:
        self.identity = identity
        self.name = identity.name
        self.settings = settings
        self.draw = draw
        self.boot = draw()
        self.now = 0.0
        self.wall_ms = 0
        self.draining = False
        self.ring: Ring
        """The ring; only for code that runs on a member, as its preference lists are."""
        self.preference: Preference
        self.ring_or_none: Ring | None = None
        self.lww = self.member = False
        """Whether the last write wins in this ring; whether this node serves keys."""
        self.counters: Counter[str] = Counter()
        self.corrupt_from: Counter[str] = Counter()
        """Records, puts and outcomes that did not hold, by the peer that sent them (T-1)."""
        self.refusals = Refusals()
        self.events = EventLog()
        self.next_scan = 0.0
        """When hints are looked for again (S-HINT-2), in the driver's monotonic seconds."""
        self.throttle = Throttle(settings.latency_threshold_ms, self.counters)
        self.free_bytes: Callable[[], int] = lambda: 0
        self.spans: Spans | None = None
        self.durable_sequence = 0
        self.start_sequence = 0
        self.write_batch = WriteBatch(store)
        self.hints = HintBook(self.write_batch, settings.hint_bytes_max, settings.rows_max)
        self.replica = Replica(
            self.name,
            self.write_batch,
            self.hints,
            settings,
            draw,
            boot=self.boot,
            counters=self.counters,
            history=self._key_history(),
        )
        self.local = LocalReplica(self, self.write_batch, self.replica, self.hints)
        self.detector = FailureDetector(self.boot, settings)
        self.durability = Durability(settings.fsync_stall_s)
        self.sampler = DelaySampler(settings.delay_samples_per_minute)
        self.hedging = Hedging(settings, self.throttle, self.detector, self.counters)
        self.records = Shares(settings.records_bytes_max)
        self.slow = SlowBook(settings.slow_s, self.counters)
        self.deliveries = Deliveries(self, self.hints, self.replica, self.spawn)
        self.repairs = Repairs(self, self.replica, self.hints, self.spawn)
        self.ring_state = RingState(self, self.replica)
        self.addresses = self.ring_state.addresses
        """Where each name is dialled."""
        self.admission_control = AdmissionControl(self)
        self._compose()
        self._connect()
        self._route()

    def _compose(self) -> None:
        """The parts, each with what it may reach."""
        rings, replica, detector = self.ring_state, self.replica, self.detector
        news = self.ring_news = RingNews(self, rings, detector)
        around = (self, rings, news, detector)
        self.replacements = Replacements(*around, replica)
        self.whereabouts = Whereabouts(*around, self.write_batch)
        self.retirement = Retirement(self, rings, replica)
        self.quarantine = Quarantine(self, replica, detector)
        self.membership = Membership(
            *around,
            replica,
            replacements=self.replacements,
            whereabouts=self.whereabouts,
            retirement=self.retirement,
            quarantine=self.quarantine,
        )
        self.promises = Promises(self, rings, self.write_batch)
        self.settling = Settling(self, rings, news, self.write_batch)
        self.moves = Moves(
            self,
            rings,
            news,
            replica,
            promises=self.promises,
            settling=self.settling,
            admission=self.admission_control,
        )
        self.round_participant = RoundParticipant(self, replica)
        self.round_coordinator = RoundCoordinator(self, replica)
        self.admin = Administration(self, Planner(self, rings, news, self.write_batch))
        self.archive = Archive(self)
        self.inside = Inside(self)
        self.staleness = Staleness(self)

    def _key_history(self) -> KeyHistory | None:
        if not self.settings.history_bytes_max:
            return None
        return KeyHistory(self.settings, lambda: self.wall_ms)

    def _connect(self) -> None:
        """Who is told of a new ring, and in which order."""
        self.ring_state.connect(
            filters=(self.promises.admissible, self.moves.admissible),
            subscribers={
                # First what others ask: whom this node knows, what its copy holds.
                "lives": self._lives_changed,
                "replica": self._replica_takes,
                "promises": self.promises.learned,
                "moves": self.moves.learned,
                "settling": self.settling.learned,
                "quarantine": self.quarantine.learned,
                # Those above use the name that the node loses when its id is gone.
                "own life": self.ring_state.judge_life,
                # Last: it may write this node's line, and so change the ring again.
                "whereabouts": self.membership.learned,
            },
            on_held=self._held,
            on_gone=self._retire,
        )

    def _route(self) -> None:
        """Who takes which message."""
        self.local.serve(
            {RoundAsk: self.round_participant.ask, RoundCommit: self.round_participant.commit}
        )
        self.local.serve(self.archive.orders | self.staleness.orders)
        self.local.serve({Look: self.inside.own.answer})
        replying: dict[type, Replying] = {
            Order: self.admin.order,
            Promise: self.promises.promise,
            Still: self.moves.still,
            Settle: self.settling.settle,
        }
        self.outbox = Outbox(self, self.detector)
        self.dispatcher = Dispatcher(
            self,
            self.detector,
            self.outbox,
            self.local,
            replying=replying | self.membership.replying,
            learn=self.ring_news.learn,
            mark_dirty=self.replica.mark_dirty,
            sampler=self.sampler,
        )
        self.inbox = Inbox(
            self,
            self.detector,
            self.outbox,
            self.dispatcher,
            copy=self.local,
            membership=self.membership,
            replying=replying,
            routed={
                Forward: self.admission_control.forwarded,
                Announce: self.admin.planner.announced,
                Numbers: self.quarantine.asked,
                NumbersTold: self.quarantine.told,
            },
        )

    def _lives_changed(self, taken: Taken) -> None:
        """Nothing counts that was known of another life of a name (S-MEM-4)."""
        before = taken.before
        for member in taken.ring.members.values():
            old = before.members.get(member.name) if before is not None else None
            if member.state == LEFT:
                self.detector.forget(member.name)
            if old is not None and old.id != member.id:
                self.repairs.forget_peer(member.name)
                self.replica.compared.discard(member.name)

    def _replica_takes(self, taken: Taken) -> None:
        self.replica.adopt(taken.held, taken.founding)
        if taken.first:
            self.replica.rebuild_tree()

    def _held(self) -> None:
        """The document is another one. Every request reads these some dozen times."""
        rings = self.ring_state
        self.ring = self.ring_or_none = rings.ring
        self.preference, self.lww, self.member = rings.preference, rings.lww, rings.member

    def _retire(self) -> None:
        """This id is gone (S-MEM-3)."""
        self.member = False
        self.name = former_name(self.identity.name)
        self.replica.retire(self.name)

    # ------------------------------------------------------------ what others may see

    @property
    def serving(self) -> bool:
        """Whether operations of clients are for this node."""
        return self.member and not (self.moves.departing or self.whereabouts.yields)

    @property
    def writable(self) -> bool:
        """Whether the store takes writes (S-DISK-4)."""
        return self.write_batch.writable

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

    def heard(self, name: Route, partition: int, seen: int, floor: int) -> None:
        """A member's numbers of the partition (S-DEL-3)."""
        self.quarantine.heard(name, partition, seen, floor)

    def happened(self, kind: str, rule: str, about: dict[str, Any]) -> None:
        """An event for people, and the rule by which it happened."""
        self.events.add(self.wall_ms, kind, rule, about)

    def sent_corrupt(self, name: Route) -> None:
        """T-1: what this peer sent does not hold; it is counted and refused."""
        lines = self.ring_or_none.members if self.ring_or_none is not None else {}
        self.corrupt_from[name if isinstance(name, str) and name in lines else NO_MEMBER] += 1
        self.counters["corrupt_records_refused"] += 1

    # ------------------------------------------------------------ what they ask for

    def send(self, route: Route, message: Message) -> None:
        """Into the next frame to a node, or to an address."""
        self.outbox.send(route, message)

    def spawn(self, machine: AnyMachine) -> None:
        """Start a machine and carry out what it asks for."""
        self.dispatcher.spawn(machine)

    def ask(self, name: str, request: Message, done: Callable[[Message | None], None]) -> None:
        """One call without a machine around it; `done` is told the answer or None."""
        self.later(partial(self.spawn, Question(name, request, self.settings.call_s, done)))

    def later(self, call: Callable[[], None]) -> None:
        """Run a call of the shell that starts machines, and what follows from it."""
        self.dispatcher.later(call)

    def refuse(self, peer: str, message: Message, why: str) -> None:
        """S-IN-2: what a peer said makes no sense. It is counted, told once, and not done."""
        self.counters["senseless_input_refused"] += 1
        self.refusals.add(peer, type(message).__name__, why)
