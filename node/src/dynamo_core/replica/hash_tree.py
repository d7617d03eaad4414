"""The hash tree of one store: the forest in memory, its leaves in the batches (S-AE-1, S-AE-4).

A record and its leaf change in one batch. If damage has made the sum of a leaf unsure, or the tree
of a disk cannot be trusted, this node computes the sums again from the records.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.causality.codec import digest_in
from dynamo_core.errors import Corrupt
from dynamo_core.keys import DATA, TREE, range_of
from dynamo_core.replica.merkle import Forest, sum_of
from dynamo_core.replica.write_batch import Page, WriteBatch

LEAF_ROWS_MAX = 1 << 20
PageOf = Callable[[bytes, bytes | None, int], Page]
"""A slice of the records: start, end, limit. Raises Corrupt."""


class HashTree:
    """All partitions of one node."""

    def __init__(self, write_batch: WriteBatch, leaf_bits: int, rows_max: int) -> None:
        self._write_batch = write_batch
        self._leaf_bits = leaf_bits
        self._rows_max = rows_max
        self.forest = Forest(0, leaf_bits)
        self.unsure: set[int] = set()
        """Slots whose sum may be wrong because of damage."""
        self._counting = False

    def load(self, partition_bits: int) -> None:
        """Read the leaves from the store."""
        self.forest = Forest(partition_bits, self._leaf_bits)
        start = b""
        while True:
            rows = self._write_batch.scan(TREE, start, None, self._rows_max)
            for key, value in rows:
                self.forest.set(int.from_bytes(key, "big"), int.from_bytes(value, "big"))
            if len(rows) < self._rows_max:
                return
            start = rows[-1][0] + b"\x00"

    def write(self, stored: bytes, before: bytes | None, after: bytes | None) -> None:
        """Add a record (None deletes it) and its leaf to this tick's batch."""
        forest, changes = self.forest, self._write_batch.changes
        slot = int.from_bytes(stored[:4], "big") >> forest.shift
        changes[DATA][stored] = after
        changes[TREE][slot.to_bytes(4, "big")] = forest.change(slot, before, after)

    def rebuild(self, page_of: PageOf) -> None:
        """Compute every leaf again from the records. Raises Corrupt."""
        self._counting = True
        try:
            self._count(page_of)
        finally:
            self._counting = False
        self.recompute(page_of)

    def _count(self, page_of: PageOf) -> None:
        self.forest = Forest(self.forest.bits - self._leaf_bits, self._leaf_bits)
        for key, _ in self._write_batch.scan(TREE, b"", None, 1 << 24):
            self._write_batch.put(TREE, key, None)
        start: bytes | None = b""
        while start is not None:
            rows, start = page_of(start, None, self._rows_max)
            for stored, record in rows:
                slot = self.forest.slot_of(stored)
                leaf = self.forest.change(slot, None, digest_in(record))
                self._write_batch.put(TREE, slot.to_bytes(4, "big"), leaf)

    def recompute(self, page_of: PageOf) -> None:
        """Compute the unsure leaves again. It does nothing while such a computation runs: reading
        may find more damage and call it again."""
        if self._counting:
            return
        for slot in sorted(self.unsure):
            start: bytes | None
            start, end = range_of(slot, self.forest.bits)
            digests: list[bytes] = []
            try:
                while start is not None:
                    rows, start = page_of(start, end, self._rows_max)
                    digests += [digest_in(record) for _, record in rows]
            except Corrupt:
                continue
            total = sum_of(digests)
            self._write_batch.put(TREE, slot.to_bytes(4, "big"), self.forest.set(slot, total))
            self.unsure.discard(slot)
