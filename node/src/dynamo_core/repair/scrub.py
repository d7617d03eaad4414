"""The rolling scrub: it reads the store, a slice per turn, and compares it with the tree (S-AE-4).

A record that cannot be read is given up. If a leaf is not the sum of its records, a record has
silently disappeared or an older one has come back. The scrub then computes the leaf again, the
partition is no longer complete, and the passes with the other owners bring back what is missing
(C13). The scrub also counts what operators want to know of all records.
"""

from __future__ import annotations

from collections import Counter

from dynamo_core.causality.codec import checked, decode_record, digest_in
from dynamo_core.causality.records import Record
from dynamo_core.errors import Corrupt
from dynamo_core.keys import range_of
from dynamo_core.replica.hash_tree import LEAF_ROWS_MAX
from dynamo_core.replica.replica import Replica

LEAVES_MAX = 4096
"""Leaves of one slice; most of them are empty in a small store."""


class Scrub:
    """The position of the scrub, and the counts of its last whole round."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._next = 0
        self._wall_ms = 0
        self._tombstones = self._clock_max = 0
        self.tombstones: int | None = None
        """Records without a live value; None before the first round is over."""
        self.clock_entries_max = 0
        """S-DOT-5: the largest history, in actors; 50 is reason to look."""

    def turn(self, wall_ms: int, rows_max: int) -> None:
        """Read the next slice, of `rows_max` rows. Raises Corrupt if damage cannot be traced to
        single rows."""
        forest = self._replica.forest
        first, end = self._next, 1 << forest.bits
        last = min(first + LEAVES_MAX, end)
        bits = forest.bits
        rows, after = self._replica.page(
            range_of(first, bits)[0], range_of(last - 1, bits)[1], rows_max
        )
        if after is not None:
            last = max(first + 1, forest.slot_of(after[:-1]))
            rows = self._rows(first, last, LEAF_ROWS_MAX)
        self._wall_ms = wall_ms
        self._check(rows, first, last)
        self._next = last % end
        if not self._next:
            self.tombstones, self.clock_entries_max = self._tombstones, self._clock_max
            self._tombstones = self._clock_max = 0

    def partition(self, partition: int) -> None:
        """Read all of one partition at once, before a full repair."""
        bits = self._replica.forest.leaf_bits
        for leaf in range(partition << bits, (partition + 1) << bits):
            self._check(self._rows(leaf, leaf + 1, LEAF_ROWS_MAX), leaf, leaf + 1)

    def _rows(self, first: int, last: int, limit: int) -> list[tuple[bytes, bytes]]:
        bits = self._replica.forest.bits
        return self._replica.rows(range_of(first, bits)[0], range_of(last - 1, bits)[1], limit)

    def _check(self, rows: list[tuple[bytes, bytes]], first: int, last: int) -> None:
        """Compare the leaves first..last-1 with `rows`, which are all their records."""
        forest = self._replica.forest
        if not self._replica.write_batch.writable:
            return  # the store has refused writes: the tree in memory is ahead of it
        sums: Counter[int] = Counter()
        for stored, record in rows:
            try:
                self._note(stored, record, decode_record(checked(stored[4:], record)))
            except Corrupt:
                self._replica.note_damage(stored)
            else:
                sums[forest.slot_of(stored)] += int.from_bytes(digest_in(record), "big")
        for slot in forest.other_sums(first, last, sums):
            self._replica.mend_leaf(slot)

    def _note(self, stored: bytes, data: bytes, record: Record) -> None:
        if not record.values(self._wall_ms):
            self._tombstones += 1
            self._replica.tombstones.read(stored, data)
        history = record.history
        self._clock_max = max(self._clock_max, len(history.vector) + len(history.dots))
