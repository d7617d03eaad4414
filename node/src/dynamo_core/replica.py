"""This node's copy: what it holds of a key, how it merges, how it mints (S-DOT-2, S-DOT-3).

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
from collections.abc import Callable

from dynamo_core.errors import Corrupt, TooManySiblings
from dynamo_core.hints import HintBook
from dynamo_core.ids import DATA, META, TREE, partition_of, range_of
from dynamo_core.journal import Journal
from dynamo_core.merkle import Forest, sum_of
from dynamo_core.messages import COMPLETE, OWNER, WRITER
from dynamo_core.operations import Put
from dynamo_core.ring import LEFT, Ring
from dynamo_core.settings import Settings
from dynamo_core.versions import (
    EMPTY,
    Dot,
    History,
    Record,
    Sibling,
    checked,
    decode_history,
    decode_record,
    digest_in,
    encode_record,
    last_writer,
    merge_bytes,
    update,
)

LEAF_ROWS_MAX = 1 << 20
_COMPLETE = b"complete/"
Draw = Callable[[], int]


class Minted:
    """What coordination made: the record to replicate, its event, and what the client may know."""

    __slots__ = ("context", "record", "stored")

    def __init__(self, stored: bytes, record: bytes, context: History) -> None:
        self.stored = stored
        self.record = record
        self.context = context


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
        self.marks: set[int] = set()
        self.unsure: set[int] = set()
        self.damaged: set[bytes] = set()
        self._losses: Counter[int] = Counter()
        self._voids = 0
        self.in_doubt = False
        """Distrust that is not on the disk yet: whatever is read back there is not believed."""
        self.forest = Forest(0, settings.leaf_bits)
        self._draw = draw
        self._actors: dict[int, int] = {}
        self._owned: dict[int, int] = {}
        self._others: dict[int, tuple[str, ...]] = {}
        self._beside: list[int] = []
        self._bits = 0
        self.lww = False

    # ------------------------------------------------------------ ring, marks, actors

    def adopt(self, ring: Ring, founding: bool = False) -> None:
        """Take the ring; marks of partitions that are no longer ours are lost at once."""
        self.lww = ring.identity.conflicts == "LastWriteWins"
        if self._bits != ring.partition_bits or self.forest.bits == self.settings.leaf_bits:
            self._bits = ring.partition_bits
            self.forest = Forest(self._bits, self.settings.leaf_bits)
            self._load_tree()
        self._others = {
            p: tuple(o for o in entry.owners if o != self.name and ring.members[o].state != LEFT)
            for p, entry in enumerate(ring.entries)
            if self.name in entry.owners
        }
        self._beside = [
            p for p, entry in enumerate(ring.entries)
            if p not in self._others and any(self.name in owners for owners in entry.quorums)
        ]  # fmt: skip
        if founding:
            for p in self._others:
                self.mark_complete(p)
        for p in [p for p in self.marks if p not in self._others]:
            self.lose_complete(p)
        self.refresh()

    def load(self) -> None:
        """Read marks from the store; the tree follows with the ring."""
        rows = self.journal.scan(META, _COMPLETE, _COMPLETE + b"\xff", 1 << 16)
        self.marks = {int.from_bytes(key[len(_COMPLETE) :], "big") for key, _ in rows}

    def reload(self) -> None:
        """After a refused write: memory follows the store again, every actor is born again."""
        self.born_again_all()
        self._voids += 1
        self.hints.load()
        self.load()
        self._load_tree()
        self.unsure |= {self.forest.slot_of(stored) for stored in self.damaged}
        self.refresh()
        if self.in_doubt:
            self.distrust()
            self.rebuild_tree()

    def _load_tree(self) -> None:
        self.forest = Forest(self._bits, self.settings.leaf_bits)
        start = b""
        while True:
            rows = self.journal.scan(TREE, start, None, self.settings.rows_max)
            for key, value in rows:
                self.forest.set(int.from_bytes(key, "big"), int.from_bytes(value, "big"))
            if len(rows) < self.settings.rows_max:
                return
            start = rows[-1][0] + b"\x00"

    def refresh(self) -> None:
        """Recompute the flags of this replica by partition, for the hot path."""
        self._owned = dict.fromkeys(self._beside, WRITER)
        for partition in self._others:
            self._refresh(partition)

    def _refresh(self, partition: int) -> None:
        others = self._others.get(partition)
        if others is not None:
            compared = not others or not self.compared.isdisjoint(others)
            proven = compared and partition in self.marks
            self._owned[partition] = OWNER | COMPLETE if proven else OWNER

    def flags(self, partition: int) -> int:
        """OWNER and COMPLETE, or WRITER, as they hold now; 0: no copy is kept."""
        return self._owned.get(partition, 0)

    def complete(self, partition: int) -> bool:
        """Whether an absence here proves something (S-RW-4)."""
        return bool(self._owned.get(partition, 0) & COMPLETE)

    def flags_of(self, stored: bytes) -> int:
        """The same for the partition of a store key."""
        return self._owned.get(partition_of(stored, self._bits), 0)

    def owned(self) -> dict[int, tuple[str, ...]]:
        """The partitions of this owner, each with its other owners."""
        return self._others

    def mark_complete(self, partition: int) -> None:
        """S-RING-6: earned by founding or by a full pass over all the other owners."""
        self.marks.add(partition)
        self.journal.put(META, _COMPLETE + partition.to_bytes(2, "big"), b"1")
        self._refresh(partition)

    def lose_complete(self, partition: int) -> None:
        """S-RING-6: this copy may miss something."""
        self._losses[partition] += 1
        self.marks.discard(partition)
        self.journal.put(META, _COMPLETE + partition.to_bytes(2, "big"), None)
        self._refresh(partition)

    def losses(self, partition: int) -> int:
        """How often this copy may have lost something; passes begun before the last are void."""
        return self._losses[partition] + self._voids

    def distrust(self) -> None:
        """S-DISK-2: the disk may have lost something; complete nowhere until the passes."""
        self.counters["store_distrusted"] += 1
        self.in_doubt = True
        self._voids += 1
        self.journal.then(self._doubt_written)
        self.born_again_all()
        for partition in sorted(self.marks):
            self.lose_complete(partition)

    def _doubt_written(self, stored: bool) -> None:
        self.in_doubt = self.in_doubt and not stored

    def born_again(self, partition: int) -> None:
        """S-DOT-2: this node forgets something of the partition that lives on elsewhere."""
        self._actors.pop(partition, None)

    def born_again_all(self) -> None:
        self._actors.clear()

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
        try:
            record = self.journal.get(DATA, stored)
        except Corrupt:
            self.note_damage(stored)
            raise
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
        partition = partition_of(stored, self._bits)
        self.born_again(partition)
        self.hints.discard(target, stored)
        self.hints.mark_dirty(partition, target)

    def keep_hint(self, target: str, stored: bytes, record: bytes) -> None:
        """Into this tick's batch; a damaged hint in its place is given up first, never merged over:
        what this node minted into it lives on elsewhere (S-DOT-2)."""
        if target in self.hints.targets(stored):
            self.hint(target, stored)
        self.hints.keep(target, stored, record, self.lww)

    def note_damage(self, stored: bytes) -> None:
        """S-DISK-7: give the record up, so that passes bring it back from the other owners."""
        self.counters["corrupt_records"] += 1
        self.damaged.add(stored)
        partition = partition_of(stored, self._bits)
        self.born_again(partition)
        self.lose_complete(partition)
        self.journal.put(DATA, stored, None)
        self.unsure.add(self.forest.slot_of(stored))
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

    def rebuild_tree(self) -> None:
        """Count every leaf again from the records: the tree of this disk is not to be trusted.
        Without a ring nobody can; then it is counted when the ring comes."""
        if not self._bits:
            return
        self.forest = Forest(self._bits, self.settings.leaf_bits)
        for key, _ in self.journal.scan(TREE, b"", None, 1 << 24):
            self.journal.put(TREE, key, None)
        start = b""
        while rows := self.rows(start, None, self.settings.rows_max):
            for stored, record in rows:
                slot = self.forest.slot_of(stored)
                leaf = self.forest.change(slot, None, digest_in(record))
                self.journal.put(TREE, slot.to_bytes(4, "big"), leaf)
            start = rows[-1][0] + b"\x00"

    def settle_leaves(self) -> None:
        """Count the leaves again whose sum damage has made unsure."""
        for slot in sorted(self.unsure):
            try:
                rows = self.rows(*range_of(slot, self.forest.bits), LEAF_ROWS_MAX)
            except Corrupt:
                continue
            total = sum_of([digest_in(record) for _, record in rows])
            self.journal.put(TREE, slot.to_bytes(4, "big"), self.forest.set(slot, total))
            self.unsure.discard(slot)

    def mend_leaf(self, slot: int) -> None:
        """S-AE-4: the records of a leaf are not those that were written; the passes mend them."""
        self.counters["leaves_mended"] += 1
        partition = slot >> self.settings.leaf_bits
        self.born_again(partition)
        self.lose_complete(partition)
        self.unsure.add(slot)
        self.settle_leaves()

    # ------------------------------------------------------------ writing

    def merge(self, stored: bytes, record: bytes) -> bool:
        """Into this tick's batch: sync a record into the owner's copy. True when it changed."""
        before = self.data(stored)
        merged = merge_bytes(stored[4:], before, record, self.lww)
        if merged == before:
            return False
        self._write(stored, before, merged)
        return True

    def _write(self, stored: bytes, before: bytes | None, after: bytes) -> None:
        slot = self.forest.slot_of(stored)
        old = digest_in(before) if before is not None else None
        self.journal.put(DATA, stored, after)
        leaf = self.forest.change(slot, old, digest_in(after))
        self.journal.put(TREE, slot.to_bytes(4, "big"), leaf)

    def forget(self, stored: bytes, record: bytes) -> None:
        """Into this tick's batch: delete a record that lives on elsewhere, or nowhere by proof."""
        slot = self.forest.slot_of(stored)
        self.journal.put(DATA, stored, None)
        leaf = self.forest.change(slot, digest_in(record), None)
        self.journal.put(TREE, slot.to_bytes(4, "big"), leaf)

    def take(self, stored: bytes, record: bytes, target: str) -> bool:
        """A replica that came from a peer: into the copy, or as a hint. Raises Corrupt."""
        checked(stored[4:], record)
        if target and target != self.name:
            self.keep_hint(target, stored, record)
            return True
        return self.merge(stored, record)

    def coordinate(
        self, put: Put, stored: bytes, target: str, wall_ms: int, known: bytes | None = None
    ) -> Minted:
        """One put on this node's record (S-DOT-1..3), kept for `target`, "" when we are an owner.

        `known` is a record that the coordinator read elsewhere for a delete without a context.
        Raises TooManySiblings, with nothing changed.
        """
        try:
            held = self.held(stored)
        except Corrupt:
            held = None
        if known is not None:
            held = merge_bytes(stored[4:], held, known, self.lww)
        before = decode_record(held) if held is not None else EMPTY
        seen = decode_history(put.context.history) if put.context is not None else History()
        event = before.event_of(put.request_id) if put.request_id else None
        if event is None and put.request_id not in seen.ids:
            if put.context is None and len(before.siblings) >= self.settings.siblings_max:
                raise TooManySiblings(f"{len(before.siblings)} siblings and no context")
            partition = partition_of(stored, self._bits)
            event = self._mint(before, partition)
            after = update(before, seen, self._sibling(put, event, before, wall_ms))
            if self.lww:
                after = last_writer(after)
            encoded = encode_record(put.key, after)
        else:
            self.counters["request_id_seen_again"] += 1
            encoded = held if held is not None else encode_record(put.key, EMPTY)
        if target:
            self.keep_hint(target, stored, encoded)
        else:
            self.merge(stored, encoded)
        context = seen if event is None else seen.with_dot(event)
        mine = Sibling(*(event or (0, 0)), None, request_id=put.request_id)
        return Minted(stored, encoded, context.naming((mine,)))

    def _mint(self, before: Record, partition: int) -> Dot:
        actor = self._actors.get(partition)
        if actor is None:
            actor = self._actors[partition] = self._draw()
        return actor, 1 + before.history.top(actor)

    def _sibling(self, put: Put, dot: Dot, before: Record, wall_ms: int) -> Sibling:
        stamp = 0
        if self.lww:
            newest = max((s.stamp for s in before.siblings), default=0)
            ahead = newest + 1 if newest - wall_ms <= self.settings.skew_max_ms else 0
            stamp = max(wall_ms, ahead)
        expires = wall_ms + put.expires_in_s * 1000 if put.expires_in_s else 0
        return Sibling(*dot, put.value, put.content_type, put.request_id, expires, stamp)
