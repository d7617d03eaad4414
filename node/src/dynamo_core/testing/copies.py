"""All disks of a ring are copied, each at another moment, and a second ring starts on the copies
under another name while the first one goes on (S-BAK-4, decision 20). When: `copy_mixes`.

An administrator does what the operator does: waits for a ring at rest, copies each disk as a power
cut at that moment would leave it, and takes all copies or none. Both rings run in one virtual time,
each with its own clients and faults. Now and then a frame of one ring reaches the node of the same
index in the other ring, as if its address belonged to that node by now.

The judge demands, in addition to every claim in each ring:

- Some copy has each write that was acknowledged when the administrator found the ring at rest. The
  writes of the first ring are part of the second one's history. So the second one shows them (C1),
  and nothing that was deleted before comes back (C3).
- No dot of one ring is another write in the other ring (C5).
- No value that was written in one ring after the copies is on a disk of the other ring.
- Nothing that a frame names is in both rings, and each ring refuses the frames of the other one. It
  refuses contexts of the other one too, unless an administrator gives both rings one secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import msgspec

from dynamo_core.causality.codec import decode_record
from dynamo_core.errors import Corrupt, RingRefused, StoreDamaged
from dynamo_core.keys import DATA, HINTS, PREFIX_BYTES, store_key
from dynamo_core.membership.copied import CopyOf, new_id, rename
from dynamo_core.replica.hints import split_hint_key
from dynamo_core.ring.document import Ring
from dynamo_core.ring.renaming import Renaming
from dynamo_core.testing.at_rest import restless
from dynamo_core.testing.clients import Clients
from dynamo_core.testing.crossing import cross
from dynamo_core.testing.disk import Disk
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.history import (
    FAIL,
    OK,
    UNKNOWN,
    Attempt,
    Damage,
    Dot,
    Event,
    Restored,
    Trouble,
)
from dynamo_core.testing.ladder import Ladder
from dynamo_core.testing.plan import COPIED, Plan
from dynamo_core.testing.process import Process, WatchedDisk
from dynamo_core.testing.wire import Wire
from dynamo_core.testing.world import World

LOOK_S, TRIES_MAX = 0.2, 3
COPIED_S = 3.5
"""The administrator begins this time before the end, because clients still write meanwhile."""
INTERRUPTED = 0.3
"""Share of copies whose first start a power cut interrupts."""
SEED_OF_SECOND = 1 << 40
KEPT_FAMILIES = ("loss", "duplicate", "lag", "overload", "few siblings")
OF_COPIES = (
    "context of the first ring refused",
    "context of the first ring taken",
    "damaged copy salvaged",
    "frame of the other ring refused",
    "start on a copy interrupted",
)
"""States of the second ring that a long run must reach."""
SPREAD = 0.5
"""All disks are copied within this share of the age below which no tombstone is forgotten."""


Contexts = dict[bytes, list[tuple[str, list[int]]]]
"""By key, the contexts that clients have, with what each has seen."""


class First(World):
    """A ring whose disks are copied."""

    def __init__(self, plan: Plan, ladder: Ladder | None = None) -> None:
        super().__init__(plan, ladder)
        self.second: Second | None = None
        self.begin_second: Callable[[Second], None] = lambda second: None
        """Starts the clients and the faults of the second ring."""
        self.meanwhile: Callable[[], None] = lambda: None
        """Starts what is to happen while the disks are copied."""
        self.known_contexts: Callable[[], Contexts] = dict
        self.chance = Random(f"{plan.seed} copies")
        self._tries = 0

    def _send(self, sender: Process, address: str, frame: bytes) -> None:
        super()._send(sender, address, frame)
        if self.second is not None and self.second.begun:
            self.cross_to(self, self.second, address, frame)

    def cross_to(self, world: World, other: World, address: str, frame: bytes) -> None:
        """A frame of one of both rings may reach the other one too."""
        one_name = self.plan.copied.name == COPIED
        cross(world, other, address, frame, chance=self.chance, one_name=one_name)

    def copy_disks(self, until: float) -> None:
        """The administrator begins as soon as the ring is at rest."""
        if self.second is not None or self.healed or self.now > until:
            return
        if restless(self):
            self.count("copies wait for a ring at rest")
            self.later(LOOK_S, lambda: self.copy_disks(until))
            return
        self._tries += 1
        second = Second(self, self._tries)
        left = list(second.sources)
        self.chance.shuffle(left)
        spread = self.plan.tombstone_age_s * SPREAD * self.chance.choice((0.1, 0.5, 1.0))
        times = sorted(self.chance.uniform(0.0, spread) for _ in left)
        self.count("copies begun")
        self.meanwhile()
        for at, name in zip(times, left, strict=True):
            self.later(at, partial(self._copy, second, name, until, name == left[-1]))

    def _copy(self, second: Second, name: str, until: float, last: bool) -> None:
        source = next(process for process in self.processes if process.name == name)
        if self.healed or second.given_up:
            return
        ring = max((p.ring for p in self.processes if p.ring), key=lambda r: r.epoch, default=None)
        if ring is None or ring.epoch != second.epoch or source.disk.node_id != second.ids[name]:
            second.given_up = True
            self.count("copies given up, because the ring changed")
            if self._tries < TRIES_MAX:
                self.copy_disks(until)
            return
        if source.node is None:
            self.count("disk copied while its node is down")
        second.copied(source)
        if last:
            second.all_copied()
            self.second = second
            self.count("copies made")
            self.later(self.plan.copied.begins_s, lambda: self.begin_second(second))


class Second(World):
    """The ring of the copies, in the time of the first one."""

    def __init__(self, first: First, which: int) -> None:
        self.first = first
        plan = first.plan
        super().__init__(_plan_of_second(plan, which))
        nodes = [p.node for p in first.processes if p.node is not None and p.node.member]
        self.ring_before: Ring = nodes[0].ring
        self.epoch = self.ring_before.epoch
        self.sources = self.ring_before.live_names()
        self.ids = {name: self.ring_before.members[name].id for name in self.sources}
        self.began = first.now
        """When the ring was at rest: what is acked until now is in some copy."""
        self.cut_at: dict[str, float] = {}
        self.begun = self.given_up = False
        self.ends_at = 0.0
        self.clients: Clients | None = None
        self._seen_events: dict[str, int] = {}
        self._acked = self._acknowledged()
        self.contexts = first.known_contexts()
        self._heap = first._heap
        self._share_evidence()
        self.processes = [Process(self.name_of(name)) for name in self.sources]
        qualified = first.chance.random() < 0.5
        for process in self.processes:
            process.monotonic_s = 1.0 + 1000 * self.rng.random()
            process.machine_boot = 1000
            if qualified:  # as in a pod: the others' addresses follow from the own one
                process.address = f"{process.name}.nodes:1"
        self.by_address = {p.address: p for p in self.processes}

    def _share_evidence(self) -> None:
        """Both judges know each version, wherever it was written."""
        first = self.first
        self._records, self._dots, self.dots_of = first._records, first._dots, first.dots_of
        self.value_of, self.stamps, self.written = first.value_of, first.stamps, first.written
        self.shared_ids, self.expiring = first.shared_ids, first.expiring

    @property
    def now(self) -> float:
        """The time of both rings."""
        return self.first.now

    @now.setter
    def now(self, value: float) -> None:
        """The first ring sets it."""

    def run_until(self, end: float) -> None:
        """Both rings go on."""
        self.first.run_until(end)

    def _send(self, sender: Process, address: str, frame: bytes) -> None:
        super()._send(sender, address, frame)
        self.first.cross_to(self, self.first, address, frame)

    # ------------------------------------------------------------ the copies

    def name_of(self, name: str) -> str:
        """The new name of a member."""
        return f"{self.first.plan.copied.name}-{name.rpartition('-')[2]}"

    def copied(self, source: Process) -> None:
        """A copy of this disk, as a power cut now would leave it."""
        process = self._named(self.name_of(source.name))
        self.new_disk(process)
        fresh = process.disk
        process.disk = copy = source.disk.copy()
        assert isinstance(copy, WatchedDisk) and isinstance(fresh, WatchedDisk)
        copy.watch, copy.met, copy.dropped = fresh.watch, fresh.met, fresh.dropped
        copy.given_up, copy.emptied = fresh.given_up, fresh.emptied
        copy.take_journal(source.disk)
        process.lost_some = source.lost_some
        self.damage(process, lambda: copy.power_cut(self.first.chance))
        self._seen_events[source.name] = len(self.first.events)
        self.cut_at[source.name] = self.first.now

    def _named(self, name: str) -> Process:
        return next(process for process in self.processes if process.name == name)

    def all_copied(self) -> None:
        """S-BAK-4: some copy has each write that was acknowledged before."""
        self.written = list(self.first.written)
        self.clocks.latest_ms = self.first.clocks.latest_ms
        for value, key in self._acked.items():
            held = any(self.holds(p.disk, key, value) for p in self.processes)
            if not held and value in self.dots_of and not self._excused(key, value):
                detail = f"no copy has v{value} of {key!r}, which was acked before the first copy"
                self.events.append(Trouble("S-BAK-4", detail))

    def _acknowledged(self) -> dict[int, bytes]:
        events = self.first.events
        attempts = [e for e in events if isinstance(e, Attempt) and e.kind != "get"]
        return {e.value: e.key for e in attempts if e.outcome == OK}

    def _excused(self, key: bytes, value: int) -> bool:
        """A disk lost it, or the owners forgot it by proof."""
        if value in self.first.damaged or value in self.damaged or self.plan.lossy:
            return True
        disks = [process.disk for process in self.first.processes]
        rows = [row for disk in disks for row in disk.buried.get(store_key(key), ())]
        dots = self.dots_of[value]
        return any(decode_record(row).history.covers_dot(dot) for row in rows for dot in dots)

    def start_copies(self) -> None:
        """Each node gives its copy new names and starts."""
        self.begun = True
        self.ends_at = self.now + self.first.plan.copied.ends_at
        for process in self.processes:
            self.later(self.rng.random(), partial(self._start_copy, process))

    def _start_copy(self, process: Process) -> None:
        plan = self.first.plan
        copy = CopyOf(f"simulated/{COPIED}", f"ring of {plan.copied.name}", process.address)
        names = copy.names(f"simulated/{plan.copied.name}", process.name)
        try:
            if self.rng.random() < INTERRUPTED:
                self._renamed(process, names)
                self.damage(process, lambda: process.disk.power_cut(self.rng))
                self.count("start on a copy interrupted")
            self._renamed(process, names)
        except StoreDamaged:  # its ring does not read, as a fault had it: the person is told so
            self.damage(process, lambda: self.new_disk(process))
            return self.start(process)
        except RingRefused as error:
            return self.events.append(Trouble("S-BAK-4", f"{process.name} does not start: {error}"))
        process.disk.synced(process.disk.sequence())
        process.disk.marks.present = process.disk.marks.doubted = True
        before = next(name for name in self.sources if self.name_of(name) == process.name)
        process.disk.node_id = new_id(before, process.disk.node_id, names)
        return self.start(process)

    def _renamed(self, process: Process, names: Renaming) -> None:
        """As the shell does it: a copy that cannot be read is salvaged at the next start."""
        try:
            rename(process.disk, names)
        except Corrupt:
            self.count("damaged copy salvaged")
            self.damage(process, process.disk.salvage)
            rename(process.disk, names)

    # ------------------------------------------------------------ the judge

    def history(self) -> list[Event]:
        """What the checker judges: the first ring's events up to the copies, then the own ones."""
        return [*self.events[:1], *self._before(), *self.events[1:]]

    def _before(self) -> Iterator[Event]:
        """An operation that was not acked when the ring was at rest may have happened or not."""
        last = max(self.cut_at.values())
        until = max(self._seen_events.values())
        for index, event in enumerate(self.first.events):
            if isinstance(event, Dot) or (isinstance(event, Restored) and index < until):
                yield event
            elif isinstance(event, Damage) and index < self._seen_events.get(event.node, until):
                yield msgspec.structs.replace(event, node=self.name_of(event.node))
            elif isinstance(event, Attempt) and event.kind != "get" and event.began <= last:
                acked = event.outcome == OK and event.ended <= self.began
                outcome = event.outcome if acked or event.outcome == FAIL else UNKNOWN
                yield msgspec.structs.replace(
                    event, outcome=outcome, shown=[], due=False, holders=-1, synced=-1
                )

    def judge(self) -> None:
        """At the end: no value of one ring, written after the copies, is on a disk of the other."""
        last = max(self.cut_at.values())
        writes = [e for e in self.first.events if isinstance(e, Attempt) and e.kind != "get"]
        here = {e.value for e in writes if e.began <= last}
        there = {e.value for e in writes}
        for world, own in ((self, here), (self.first, there)):
            others = {e.value for e in world.events if isinstance(e, Attempt)} | own
            for process in world.processes:
                for key, value in self._values_on(process.disk):
                    if value not in others:
                        detail = f"{process.name} has v{value} of {key!r}, of the other ring"
                        world.events.append(Trouble("S-BAK-4", detail))

    def _values_on(self, disk: Disk) -> Iterator[tuple[bytes, int]]:
        rows = [*disk.rows[DATA].items()]
        rows += [(split_hint_key(key)[1], row) for key, row in disk.rows[HINTS].items()]
        for stored, row in rows:
            key = stored[PREFIX_BYTES:]
            record = self._records.get(row)
            for sibling in record.siblings if record is not None else ():
                name = sibling.value if sibling.value is not None else sibling.request_id
                value = self.value_of.get((key, name), 0)
                if value:
                    yield key, value


def _plan_of_second(plan: Plan, which: int) -> Plan:
    """The same ring with other clients and faults, and with other randomness."""
    copied = plan.copied
    return msgspec.structs.replace(
        plan,
        seed=plan.seed + which * SEED_OF_SECOND,
        steps=copied.steps,
        faults=copied.faults,
        families=[family for family in plan.families if family in KEPT_FAMILIES],
        created=False,
        founders=0,
        older=[],
        canaries=0,
        rotates_at=0.0,
        wire=Wire(),
        looks=0,
    )


def copy_disks(world: World, process: Process, fault: Fault) -> None:
    """An administrator begins to copy all disks of the ring."""
    if isinstance(world, First):
        world.copy_disks(world.plan.ends_at + world.steps_after - COPIED_S)


def world_of(plan: Plan, ladder: Ladder | None) -> World:
    """The world that the plan needs."""
    return First(plan, ladder) if plan.copied.name else World(plan, ladder)
