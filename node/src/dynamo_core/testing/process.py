"""One name of the simulated world: its machine, its disk, and the Node while it runs."""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.errors import Corrupt
from dynamo_core.keys import DATA, HINTS, META, partition_of
from dynamo_core.membership.stored_ring import GONE_KEY
from dynamo_core.node import Node
from dynamo_core.replica.hint_target import HintTarget
from dynamo_core.replica.hints import split_hint_key
from dynamo_core.replica.store import Change
from dynamo_core.ring.document import JOINING, MEMBER, Ring
from dynamo_core.testing.disk import Disk

NEVER = float("inf")
Call = Callable[[], None]


class Process:
    """One name: its machine, its disk, and the Node while it runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address, self.client = name + ":1", name + ":2"
        """Where peers and clients dial it; other addresses after a move."""
        self.node: Node | None = None
        self.disk = Disk(0)
        self.life = 0
        """Counts starts and stops: calls that were scheduled for an earlier life do nothing."""
        self.older = False
        """It runs the version before (`versions`)."""
        self.paused = False
        self.silent = False
        """Down without a trace: a peer that dials it learns nothing."""
        self.queue: list[Call] = []
        self.machine_boot = 1
        self.monotonic_s = 1.0
        self.wall_offset_ms = 0
        self.sync_s = 0.0
        self.sync_fails = False
        self.flips = 0.0
        """Above 0: its memory is bad; the value says how."""
        self.syncing = False
        self.synced_at = 0.0
        """When the present fsync ends."""
        self.reopening = False
        self.flush_due = False
        self.wakes_at = NEVER
        self.disturbed_at = -1.0
        self.slow_until = -1.0
        """Until then its fsyncs may be slow; that excuses less (`excuses`)."""
        self.lost_some = False
        """Its disk has lost data that was durable."""
        self.held_at_start: set[int] = set()
        """The puts on its disk at its start, if the disk had been put back."""
        self.old_disks: list[Disk] = []
        self.on_heal: Call | None = None
        self.ring: Ring | None = None
        """Its ring document at its last turn."""
        self.known: list[tuple[int, int]] = []
        """By partition: the highest id of an entry that it knew in a life whose disk was lost
        or changed."""

    def disturb(self, until: float) -> None:
        """Until then C8 requires nothing of it."""
        self.disturbed_at = max(self.disturbed_at, until)

    def remember(self) -> None:
        """Its disk will change now, and its knowledge of owners may be lost with it."""
        if self.ring is not None:
            ids = [entry.id for entry in self.ring.entries]
            self.known = [*map(max, self.known or ids, ids)]

    def outdated(self, stored: bytes) -> bool:
        """Whether it once knew a later entry of this store key's partition than it knows now."""
        ring = self.node.ring_or_none if self.node is not None else None
        if ring is None or not self.known:
            return False
        partition = partition_of(stored, ring.partition_bits)
        return ring.entries[partition].id < self.known[partition]

    def knows_ring(self) -> bool:
        """Whether its disk has the ring."""
        return b"ring" in self.disk.rows[META]

    def stays(self) -> bool:
        """Whether its disk has a ring that it has not begun to leave."""
        if not self.knows_ring():
            return False
        try:
            line = Ring.decode(self.disk.rows[META][b"ring"]).members.get(self.name)
        except Corrupt:
            return False
        return bool(line and line.id == self.disk.node_id and line.state in (JOINING, MEMBER))


def seeds(processes: list[Process], process: Process) -> tuple[str, ...]:
    """The addresses of the other nodes."""
    return tuple(p.address for p in processes if p is not process)


class WatchedDisk(Disk):
    """Reports every written record to the world, and buries records that a round has forgotten."""

    watch: Callable[[bytes, bytes], None]
    dropped: Callable[[HintTarget, bytes, bytes], None]
    given_up: Callable[[bytes, bytes], None]
    emptied: Callable[[], None]
    met: Callable[[str], None]

    def _apply(self, batch: list[Change]) -> None:
        for family, key, value in batch:
            if value is None and family == HINTS and (family, key) not in self.corrupt:
                hint = self.rows[HINTS].get(key)
                if hint is not None:
                    self.dropped(*split_hint_key(key), hint)
            elif family == META and key.startswith(b"dirty/"):
                self.met("partition left dirty" if value else "dirty partition settled")
        self._deleted(batch)
        super()._apply(batch)
        for family, key, value in batch:
            if family == META and key == GONE_KEY:
                self.emptied()
            if value is not None and family in (DATA, HINTS):
                self.watch(key if family == DATA else split_hint_key(key)[1], value)

    def _deleted(self, batch: list[Change]) -> None:
        """Records that this batch deletes: buried by a round, or given up to others. Records that
        stay here as a hint are neither."""
        gone = [key for family, key, value in batch if value is None and family == DATA]
        if not gone:
            return
        forgotten = any(family == META and key.startswith(b"floor/") for family, key, _ in batch)
        kept = {split_hint_key(key)[1] for family, key, value in batch if family == HINTS and value}
        for key in gone:
            if (DATA, key) in self.corrupt:
                continue
            row = self.rows[DATA].get(key)
            if row is not None and forgotten:
                self.buried.setdefault(key, []).append(row)
                self.met("tombstone buried")
            elif row is not None and key not in kept:
                self.given_up(key, row)

    def copy(self) -> Disk:
        """A copy that is also watched."""
        other = super().copy()
        other.__class__ = WatchedDisk
        assert isinstance(other, WatchedDisk)
        other.watch, other.dropped, other.met = self.watch, self.dropped, self.met
        other.given_up, other.emptied = self.given_up, self.emptied
        return other
