"""This node's copy: what it holds of a key, how it merges, what it forgets (S-DOT-2).

The actor of a dot is a random 64-bit number, one per partition, drawn after the store is opened and
kept only in memory. The node draws a new one whenever it forgets a record that still exists on
other nodes. So a disk that was cloned, restored or rolled back cannot make a dot twice (C5). A node
that holds (A, n) of a key has seen (A, 1..n-1) of it.

A record and its leaf in the hash tree change in the same batch (S-AE-1). *complete* is a durable
mark per partition (S-RING-6). It counts only after this process has compared numbers with another
owner (S-DISK-2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from dynamo_core.causality.codec import decode_record, merge_bytes
from dynamo_core.errors import Corrupt
from dynamo_core.keys import DATA, META, partition_of
from dynamo_core.protocol.messages import COMPLETE, OWNER, WRITER
from dynamo_core.replica.actors import Actors, Draw
from dynamo_core.replica.given_up import GivenUp
from dynamo_core.replica.hash_tree import HashTree
from dynamo_core.replica.hint_target import HintTarget, InQuarantine
from dynamo_core.replica.hints import HintBook
from dynamo_core.replica.key_history import KeyHistory
from dynamo_core.replica.merkle import Forest
from dynamo_core.replica.round_numbers import RoundNumbers
from dynamo_core.replica.tombstones import TOMBSTONE_BYTES_MAX, Tombstones
from dynamo_core.replica.write_batch import Page, WriteBatch
from dynamo_core.ring.holdings import Holdings
from dynamo_core.settings import Settings

_COMPLETE = b"complete/"


class Replica:
    """The local copy behind the write batch."""

    def __init__(
        self,
        name: str,
        write_batch: WriteBatch,
        hints: HintBook,
        settings: Settings,
        draw: Draw,
        *,
        boot: int = 0,
        counters: Counter[str] | None = None,
        history: KeyHistory | None = None,
    ) -> None:
        self.name = name
        self.write_batch = write_batch
        self.hints = hints
        self.settings = settings
        self.counters: Counter[str] = Counter() if counters is None else counters
        self.history = history
        """What changed watched keys, for people; None, the usual case: nothing is noted."""
        self.compared: set[str] = set()
        self.quarantined: set[int] = set()
        """Partitions whose numbers are not compared yet in this life (S-DEL-3)."""
        self.quarantine_target = InQuarantine(f"{boot:016x}")
        """The target of the hints that are kept meanwhile."""
        self.stamps: dict[int, int] = {}
        """By partition: the *seen* with which its quarantine ended, that of these hints."""
        self.restores: set[tuple[str, str]] = set()
        """Restores that this node leads (""), and the parts of restores that it merges: it agrees
        to no round meanwhile."""
        self.agreed_at = float("-inf")
        """When this process last agreed to a round."""
        self.marks: set[int] = set()
        self.numbers = RoundNumbers(write_batch)
        self.tombstones = Tombstones(settings.tombstones_max)
        self.damaged: set[bytes] = set()
        self.given_up = GivenUp(write_batch)
        self._losses: Counter[int] = Counter()
        self._voids = 0
        self.distrusted = False
        """Whether this disk may have lost something (S-DISK-2)."""
        self.in_doubt = False
        """This disk is distrusted, but that is not on the disk yet: do not trust marks that are
        read back from it."""
        self.tree = HashTree(write_batch, settings.leaf_bits, settings.rows_max)
        self.actors = Actors(draw)
        self.roles: dict[int, int] = {}
        """By partition, for the hot path: what `flags` returns; none for a partition of others."""
        self._others: dict[int, tuple[str, ...]] = {}
        self._beside: list[int] = []
        self.bits = 0
        self.lww = False

    @property
    def forest(self) -> Forest:
        """The hash trees of this copy."""
        return self.tree.forest

    # ------------------------------------------------------------ ring, marks, actors

    def retune(self, settings: Settings) -> None:
        """Other settings from now on."""
        self.settings = settings

    def agrees(self, now: float) -> None:
        """To a round."""
        self.agreed_at = now

    def retire(self, name: str) -> None:
        """The id of this node is gone: its copy has this name from now on, and compares nothing."""
        self.name = name
        self.quarantined.clear()

    def adopt(self, held: Holdings, founding: bool = False) -> None:
        """Take the ring. Partitions that this node keeps no longer lose their marks at once."""
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
        """Read marks and numbers from the store; the tree is read when the ring comes."""
        self.numbers.load()
        self.given_up.load()
        rows = self.write_batch.scan(META, _COMPLETE, _COMPLETE + b"\xff", 1 << 16)
        self.marks = {int.from_bytes(key[len(_COMPLETE) :], "big") for key, _ in rows}

    def reload(self) -> None:
        """After a refused write: read memory from the store again and draw all actors anew."""
        self.actors.all_born_again()
        self._voids += 1
        if self.history is not None:
            self.history.clear()
        self.hints.load()
        self.load()
        self.tree.load(self.bits)
        self.tree.unsure.update(map(self.forest.slot_of, self.damaged))
        self.refresh()
        if self.in_doubt:
            self.distrust()
            self.rebuild_tree()

    def refresh(self) -> None:
        """Compute the flags of this replica by partition again, for the hot path."""
        self.roles = dict.fromkeys(self._beside, WRITER)
        for partition in self._others:
            self.refresh_partition(partition)

    def refresh_partition(self, partition: int) -> None:
        """The same for one partition."""
        others = self._others.get(partition)
        if others is not None:
            proven = partition in self.marks and self.provable(partition, others)
            self.roles[partition] = OWNER | COMPLETE if proven else OWNER

    def provable(self, partition: int, others: Collection[str]) -> bool:
        """Whether a mark counts in this process: its numbers were compared with one of the other
        owners (S-DISK-2, S-DEL-3)."""
        compared = not others or not self.compared.isdisjoint(others)
        return compared and partition not in self.quarantined

    def flags(self, partition: int) -> int:
        """The present flags: OWNER and COMPLETE, or WRITER; 0: this node keeps no copy."""
        return self.roles.get(partition, 0)

    def complete(self, partition: int) -> bool:
        """Whether a key that is absent here is proven absent (S-RW-4)."""
        return bool(self.roles.get(partition, 0) & COMPLETE)

    def owned(self) -> dict[int, tuple[str, ...]]:
        """The partitions that this node owns, each with its other owners."""
        return self._others

    def mark_complete(self, partition: int) -> None:
        """S-RING-6: set the mark after founding, or after a full pass over all other owners."""
        self.marks.add(partition)
        self.write_batch.put(META, _COMPLETE + partition.to_bytes(2, "big"), b"1")
        self.refresh_partition(partition)

    def lose_complete(self, partition: int) -> None:
        """S-RING-6: remove the mark, because this copy may miss something."""
        self._losses[partition] += 1
        self.marks.discard(partition)
        self.write_batch.put(META, _COMPLETE + partition.to_bytes(2, "big"), None)
        self.refresh_partition(partition)

    def losses(self, partition: int) -> int:
        """How often this copy may have lost something. A pass that began before the last loss does
        not count."""
        return self._losses[partition] + self._voids

    def distrust(self) -> None:
        """S-DISK-2: the disk may have lost something. No partition is complete until its passes."""
        self.counters["store_distrusted"] += 1
        self.distrusted = self.in_doubt = True
        self._voids += 1
        self.write_batch.then(self._doubt_written)
        self.actors.all_born_again()
        for partition in sorted(self.marks):
            self.lose_complete(partition)

    def _doubt_written(self, written: bool) -> None:
        self.in_doubt = self.in_doubt and not written

    def born_again(self, partition: int) -> None:
        """S-DOT-2: this node forgets something of the partition that still exists on other
        nodes."""
        self.actors.born_again(partition)

    # ------------------------------------------------------------ reading

    def data(self, stored: bytes) -> bytes | None:
        """This owner's own record. None also for a damaged one, whose damage is noted."""
        try:
            return self.write_batch.get(DATA, stored)
        except Corrupt:
            self.note_damage(stored)
            return None

    def held(self, stored: bytes) -> bytes | None:
        """S-DOT-3: the sync of all that this node holds of the key. Raises Corrupt."""
        try:
            record = self.write_batch.get(DATA, stored)
        except Corrupt:
            self.note_damage(stored)
            raise
        return self.with_hints(stored, record) if self.hints.any_for(stored) else record

    def with_hints(self, stored: bytes, record: bytes | None) -> bytes | None:
        """The owner's record and every hint of the key, as one."""
        if self.hints.any_for(stored):
            for target in self.hints.targets(stored):
                hint = self.hint(target, stored)
                if hint is not None:
                    record = merge_bytes(stored[4:], record, hint, self.lww)
        return record

    def hint(self, target: HintTarget, stored: bytes) -> bytes | None:
        """One hint. None also for a damaged one: it is given up, and its partition becomes
        dirty."""
        try:
            return self.hints.record(target, stored)
        except Corrupt:
            self.give_up_hint(target, stored)
            return None

    def give_up_hint(self, target: HintTarget, stored: bytes) -> None:
        """S-DISK-7: drop a damaged hint, because it cannot be sent; its partition becomes dirty."""
        self.counters["corrupt_records"] += 1
        partition = partition_of(stored, self.bits)
        self.born_again(partition)
        self.hints.drop(target, stored)
        if isinstance(target, str):
            self.mark_dirty(partition, target)

    def mark_dirty(self, partition: int, owner: str) -> None:
        """`owner` misses writes of the partition that no hint has, so that an exchange must bring
        them. An exchange repairs both sides and needs another owner: for what this node itself
        misses, each other owner is marked."""
        own = owner == self.name
        for name in self._others.get(partition, ()) if own else (owner,):
            self.hints.mark_dirty(partition, name)

    def keep_hint(self, target: HintTarget, stored: bytes, record: bytes) -> None:
        """Add a hint to this tick's batch. A damaged hint in its place is given up first and not
        merged: other nodes may still hold the dots that this node minted into it (S-DOT-2)."""
        if target in self.hints.targets(stored):
            self.hint(target, stored)
        try:
            self.hints.keep(target, stored, record, self.lww)
        except Corrupt:
            self.give_up_hint(target, stored)
            self.hints.keep(target, stored, record, self.lww)

    def note_damage(self, stored: bytes) -> None:
        """S-DISK-7: give the record up. Passes bring it back from the other owners."""
        self.counters["corrupt_records"] += 1
        self.damaged.add(stored)
        self.given_up.note(stored)
        partition = partition_of(stored, self.bits)
        self.born_again(partition)
        self.lose_complete(partition)
        self.write_batch.put(DATA, stored, None)
        self.tree.unsure.add(self.forest.slot_of(stored))
        # Do this in the batch that drops the record, so that a crash cannot leave a wrong leaf.
        self.recompute_leaves()

    def rows(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """A slice of the owner's records. Damaged ones are given up and left out. Raises Corrupt if
        the damage cannot be traced to one row; then only a salvage helps."""
        rows: list[tuple[bytes, bytes]] = []
        while True:
            try:
                return rows + self.write_batch.scan(DATA, start, end, limit - len(rows))
            except Corrupt as error:
                key = error.key
                if key < start or self.data(key) is not None or key not in self.damaged:
                    raise
                rows += self.write_batch.scan(DATA, start, key, limit - len(rows))
                start = key + b"\x00"

    def page(self, start: bytes, end: bytes | None, limit: int) -> Page:
        """A page of records as from `rows`, and the start of the next page, None if there is
        none."""
        while True:
            try:
                return self.write_batch.page(DATA, start, end, limit)
            except Corrupt as error:
                key = error.key
                if key < start or self.data(key) is not None or key not in self.damaged:
                    raise
                rows, after = self.write_batch.page(DATA, start, key, limit)
                if rows:
                    return rows, key + b"\x00" if after is None else after
                start = key + b"\x00"

    def rebuild_tree(self) -> None:
        """Compute every leaf again from the records, because the tree of this disk cannot be
        trusted. Without a ring this is not possible; then it is done when the ring comes."""
        if self.bits:
            self.tree.rebuild(self.page)

    def recompute_leaves(self) -> None:
        """Compute the leaves again whose sum may be wrong because of damage."""
        self.tree.recompute(self.page)

    def mend_leaf(self, slot: int) -> None:
        """S-AE-4: a leaf does not have the records that were written; passes bring them back."""
        self.counters["leaves_mended"] += 1
        partition = slot >> self.settings.leaf_bits
        self.born_again(partition)
        self.lose_complete(partition)
        self.tree.unsure.add(slot)
        self.recompute_leaves()

    # ------------------------------------------------------------ writing

    def merge(self, stored: bytes, record: bytes, cause: str = "exchange") -> bool:
        """Sync a record into the owner's copy, in this tick's batch. True if the copy changed.
        `cause`: why it came, for the history."""
        try:
            before = self.write_batch.get(DATA, stored)
        except Corrupt:
            self.note_damage(stored)
            before = None
        if before is not None:
            try:
                record = merge_bytes(stored[4:], before, record, self.lww)
            except Corrupt:  # the new record was verified, so the stored one is damaged
                self.note_damage(stored)
                before = None
            if record == before:
                return False
        if self.history is not None:
            self.history.came(stored, before, record, cause)
        self.tree.write(stored, before, record)
        if len(record) <= TOMBSTONE_BYTES_MAX:
            self.tombstones.written(stored, record)
        return True

    def replace(self, stored: bytes, before: bytes | None, after: bytes) -> bool:
        """Replace the owner's record by one that descends from it."""
        if after == before:
            return False
        self.tree.write(stored, before, after)
        if len(after) <= TOMBSTONE_BYTES_MAX:
            self.tombstones.written(stored, after)
        return True

    def forget(self, stored: bytes, record: bytes) -> None:
        """Delete a record in this tick's batch: other nodes still have it, or it was collected."""
        self.tree.write(stored, record, None)

    def collect(self, partition: int, stored: bytes, record: bytes) -> None:
        """Collect a tombstone that no node needs any more. Its dots must not be minted again
        (S-DOT-2)."""
        self.actors.collected(partition, decode_record(record).history)
        self.tombstones.forget(partition, stored)
        self.given_up.over(stored)
        self.forget(stored, record)

    def take(self, stored: bytes, record: bytes, target: HintTarget, cause: str = "put") -> bool:
        """Take a replica, verified where it came in (T-1): into the copy, or as a hint."""
        if target and target != self.name:
            self.keep_hint(target, stored, record)
            if self.history is not None:
                self.history.came(stored, None, record, cause, target)
            return True
        return self.merge(stored, record, cause)
