"""This node's copy: what it holds of a key, how it merges, what it forgets (S-DOT-2).

The actor of a dot is a random 64-bit number born when the store is opened, one per partition, kept
in memory only, and born again whenever this node forgets a record that lives on elsewhere. So no
disk that comes back, cloned, restored or rolled back, can mint a dot twice (C5), and whoever holds
(A, n) of a key has seen (A, 1..n-1) of it.

A change of a record and of its leaf in the hash tree go into the same batch (S-AE-1). *complete*
is a durable mark per partition (S-RING-6) that counts only after this process has compared numbers
with another owner (S-DISK-2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from dynamo_core.actors import Actors, Draw
from dynamo_core.chronicle import Chronicle
from dynamo_core.codec import decode_record, merge_bytes
from dynamo_core.errors import Corrupt
from dynamo_core.hints import HintBook
from dynamo_core.holdings import Holdings
from dynamo_core.ids import DATA, META, partition_of
from dynamo_core.journal import Journal, Page
from dynamo_core.merkle import Forest
from dynamo_core.messages import COMPLETE, OWNER, WRITER
from dynamo_core.round_numbers import RoundNumbers
from dynamo_core.settings import Settings
from dynamo_core.tombstones import TOMBSTONE_BYTES_MAX, Tombstones
from dynamo_core.tree import Tree

_COMPLETE = b"complete/"


class Replica:
    """The local copy behind the journal."""

    def __init__(
        self, name: str, journal: Journal, hints: HintBook, settings: Settings, draw: Draw
    ) -> None:
        self.name = name
        self.journal = journal
        self.hints = hints
        self.settings = settings
        self.counters: Counter[str] = Counter()
        self.compared: set[str] = set()
        self.apart: set[int] = set()
        """Partitions whose numbers are not compared yet in this life (S-DEL-3)."""
        self.apart_target = ""
        """For whom, by name, what comes meanwhile is kept."""
        self.marks: set[int] = set()
        self.numbers = RoundNumbers(journal)
        self.tombstones = Tombstones(settings.tombstones_max)
        self.damaged: set[bytes] = set()
        self._losses: Counter[int] = Counter()
        self._voids = 0
        self.in_doubt = False
        """Distrust that is not on the disk yet: whatever is read back there is not believed."""
        self.tree = Tree(journal, settings.leaf_bits, settings.rows_max)
        self.actors = Actors(draw)
        self.chronicle = Chronicle(
            settings.history_bytes_max, settings.history_prefixes, settings.history_one_in
        )
        self._owned: dict[int, int] = {}
        self._others: dict[int, tuple[str, ...]] = {}
        self._beside: list[int] = []
        self.bits = 0
        self.lww = False

    @property
    def forest(self) -> Forest:
        """The hash trees of this copy."""
        return self.tree.forest

    # ------------------------------------------------------------ ring, marks, actors

    def adopt(self, held: Holdings, founding: bool = False) -> None:
        """Take the ring; marks of partitions that are no longer ours are lost at once."""
        self.lww = held.lww
        if self.bits != held.bits or self.forest.bits == self.settings.leaf_bits:
            self.bits = held.bits
            self.tree.load(self.bits)
        self._others, self._beside = held.others, held.beside
        if founding:
            for p in self._others:
                self.mark_complete(p)
        for p in [p for p in self.marks if p not in self._others]:
            self.lose_complete(p)
        self.refresh()

    def load(self) -> None:
        """Read marks and numbers from the store; the tree follows with the ring."""
        self.numbers.load()
        rows = self.journal.scan(META, _COMPLETE, _COMPLETE + b"\xff", 1 << 16)
        self.marks = {int.from_bytes(key[len(_COMPLETE) :], "big") for key, _ in rows}

    def reload(self) -> None:
        """After a refused write: memory follows the store again, every actor is born again."""
        self.actors.all_born_again()
        self._voids += 1
        self.chronicle.clear()
        self.hints.load()
        self.load()
        self.tree.load(self.bits)
        self.tree.unsure.update(map(self.forest.slot_of, self.damaged))
        self.refresh()
        if self.in_doubt:
            self.distrust()
            self.rebuild_tree()

    def refresh(self) -> None:
        """Recompute the flags of this replica by partition, for the hot path."""
        self._owned = dict.fromkeys(self._beside, WRITER)
        for partition in self._others:
            self.refresh_partition(partition)

    def refresh_partition(self, partition: int) -> None:
        """The same for one partition."""
        others = self._others.get(partition)
        if others is not None:
            proven = partition in self.marks and self.provable(partition, others)
            self._owned[partition] = OWNER | COMPLETE if proven else OWNER

    def provable(self, partition: int, others: Collection[str]) -> bool:
        """Whether a mark counts in this life: numbers are compared with one of the other owners
        (S-DISK-2, S-DEL-3)."""
        compared = not others or not self.compared.isdisjoint(others)
        return compared and partition not in self.apart

    def flags(self, partition: int) -> int:
        """OWNER and COMPLETE, or WRITER, as they hold now; 0: no copy is kept."""
        return self._owned.get(partition, 0)

    def complete(self, partition: int) -> bool:
        """Whether an absence here proves something (S-RW-4)."""
        return bool(self._owned.get(partition, 0) & COMPLETE)

    def owned(self) -> dict[int, tuple[str, ...]]:
        """The partitions of this owner, each with its other owners."""
        return self._others

    def mark_complete(self, partition: int) -> None:
        """S-RING-6: earned by founding or by a full pass over all the other owners."""
        self.marks.add(partition)
        self.journal.put(META, _COMPLETE + partition.to_bytes(2, "big"), b"1")
        self.refresh_partition(partition)

    def lose_complete(self, partition: int) -> None:
        """S-RING-6: this copy may miss something."""
        self._losses[partition] += 1
        self.marks.discard(partition)
        self.journal.put(META, _COMPLETE + partition.to_bytes(2, "big"), None)
        self.refresh_partition(partition)

    def losses(self, partition: int) -> int:
        """How often this copy may have lost something; passes begun before the last are void."""
        return self._losses[partition] + self._voids

    def distrust(self) -> None:
        """S-DISK-2: the disk may have lost something; complete nowhere until the passes."""
        self.counters["store_distrusted"] += 1
        self.in_doubt = True
        self._voids += 1
        self.journal.then(self._doubt_written)
        self.actors.all_born_again()
        for partition in sorted(self.marks):
            self.lose_complete(partition)

    def _doubt_written(self, stored: bool) -> None:
        self.in_doubt = self.in_doubt and not stored

    def born_again(self, partition: int) -> None:
        """S-DOT-2: this node forgets something of the partition that lives on elsewhere."""
        self.actors.born_again(partition)

    # ------------------------------------------------------------ reading

    def data(self, stored: bytes) -> bytes | None:
        """This owner's own record, None also for a damaged one, which is noted."""
        try:
            return self.journal.get(DATA, stored)
        except Corrupt:
            self.note_damage(stored)
            return None

    def held(self, stored: bytes) -> bytes | None:
        """S-DOT-3: the sync of everything that lies here of the key. Raises Corrupt."""
        record = self._own(stored)
        return self.with_hints(stored, record) if self.hints.any_for(stored) else record

    def _own(self, stored: bytes) -> bytes | None:
        """This owner's own record. Raises Corrupt for a damaged one, which is noted."""
        try:
            return self.journal.get(DATA, stored)
        except Corrupt:
            self.note_damage(stored)
            raise

    def with_hints(self, stored: bytes, record: bytes | None) -> bytes | None:
        """The owner's record and every hint of the key, as one."""
        if self.hints.any_for(stored):
            for target in self.hints.targets(stored):
                hint = self.hint(target, stored)
                if hint is not None:
                    record = merge_bytes(stored[4:], record, hint, self.lww)
        return record

    def hint(self, target: str, stored: bytes) -> bytes | None:
        """One hint, None also for a damaged one: it is given up, and its partition left dirty."""
        try:
            return self.hints.record(target, stored)
        except Corrupt:
            self.give_up_hint(target, stored)
            return None

    def give_up_hint(self, target: str, stored: bytes) -> None:
        """S-DISK-7: a damaged hint is nothing that could be sent; its partition is left dirty."""
        self.counters["corrupt_records"] += 1
        partition = partition_of(stored, self.bits)
        self.born_again(partition)
        self.hints.drop(target, stored)
        if target and not target.startswith("="):
            self.hints.mark_dirty(partition, target)

    def keep_hint(self, target: str, stored: bytes, record: bytes) -> None:
        """Into this tick's batch; a damaged hint in its place is given up first, never merged over:
        what this node minted into it lives on elsewhere (S-DOT-2)."""
        if target in self.hints.targets(stored):
            self.hint(target, stored)
        try:
            self.hints.keep(target, stored, record, self.lww)
        except Corrupt:
            self.give_up_hint(target, stored)
            self.hints.keep(target, stored, record, self.lww)

    def note_damage(self, stored: bytes) -> None:
        """S-DISK-7: give the record up, so that passes bring it back from the other owners."""
        self.counters["corrupt_records"] += 1
        self.damaged.add(stored)
        partition = partition_of(stored, self.bits)
        self.born_again(partition)
        self.lose_complete(partition)
        self.journal.put(DATA, stored, None)
        self.tree.unsure.add(self.forest.slot_of(stored))
        # In the batch that gives the record up: a crash in between must not leave a wrong leaf.
        self.settle_leaves()

    def rows(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """A slice of the owner's records without the damaged ones, which are given up. Raises
        Corrupt where the damage cannot be told to be one row's: only a salvage helps there."""
        rows: list[tuple[bytes, bytes]] = []
        while True:
            try:
                return rows + self.journal.scan(DATA, start, end, limit - len(rows))
            except Corrupt as error:
                key = error.key
                if key < start or self.data(key) is not None or key not in self.damaged:
                    raise
                rows += self.journal.scan(DATA, start, key, limit - len(rows))
                start = key + b"\x00"

    def page(self, start: bytes, end: bytes | None, limit: int) -> Page:
        """Like `rows`, a page of them, and where the next one begins; None: there is none."""
        while True:
            try:
                return self.journal.page(DATA, start, end, limit)
            except Corrupt as error:
                key = error.key
                if key < start or self.data(key) is not None or key not in self.damaged:
                    raise
                rows, after = self.journal.page(DATA, start, key, limit)
                if rows:
                    return rows, key + b"\x00" if after is None else after
                start = key + b"\x00"

    def rebuild_tree(self) -> None:
        """Count every leaf again from the records: the tree of this disk is not to be trusted.
        Without a ring nobody can; then it is counted when the ring comes."""
        if self.bits:
            self.tree.rebuild(self.page)

    def settle_leaves(self) -> None:
        """Count the leaves again whose sum damage has made unsure."""
        self.tree.settle(self.page)

    def mend_leaf(self, slot: int) -> None:
        """S-AE-4: the records of a leaf are not those that were written; the passes mend them."""
        self.counters["leaves_mended"] += 1
        partition = slot >> self.settings.leaf_bits
        self.born_again(partition)
        self.lose_complete(partition)
        self.tree.unsure.add(slot)
        self.settle_leaves()

    # ------------------------------------------------------------ writing

    def merge(self, stored: bytes, record: bytes, way: str = "exchange") -> bool:
        """Into this tick's batch: sync a record into the owner's copy. True when it changed. `way`:
        how it came, for people."""
        try:
            before = self.journal.get(DATA, stored)
        except Corrupt:
            self.note_damage(stored)
            before = None
        if before is not None:
            try:
                record = merge_bytes(stored[4:], before, record, self.lww)
            except Corrupt:  # what came has been proven, so it is what lies here
                self.note_damage(stored)
                before = None
            if record == before:
                return False
        self.tree.write(stored, before, record)
        if self.chronicle.on:
            self.chronicle.came(stored, before, record, way)
        if len(record) <= TOMBSTONE_BYTES_MAX:
            self.tombstones.written(stored, record)
        return True

    def replace(self, stored: bytes, before: bytes | None, after: bytes) -> bool:
        """The owner's record by one that descends from it."""
        if after == before:
            return False
        self.tree.write(stored, before, after)
        if len(after) <= TOMBSTONE_BYTES_MAX:
            self.tombstones.written(stored, after)
        return True

    def forget(self, stored: bytes, record: bytes) -> None:
        """Into this tick's batch: delete a record that lives on elsewhere, or nowhere by proof."""
        self.tree.write(stored, record, None)

    def collect(self, partition: int, stored: bytes, record: bytes) -> None:
        """A tombstone that nobody needs any more; its dots must not be minted again (S-DOT-2)."""
        self.actors.collected(partition, decode_record(record).history)
        self.tombstones.forget(partition, stored)
        self.forget(stored, record)

    def take(self, stored: bytes, record: bytes, target: str, way: str = "put") -> bool:
        """A replica, proven where it came in (T-1): into the copy, or as a hint."""
        if target and target != self.name:
            self.keep_hint(target, stored, record)
            if self.chronicle.on:
                self.chronicle.came(stored, None, record, way, target)
            return True
        return self.merge(stored, record, way)
