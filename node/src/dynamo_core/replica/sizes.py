"""The size of each partition of this copy, for plans; this node counts when another node asks.

Each question makes this node count one slice; its answer has what is known so far. A node that
wants more asks again. So this node counts only what is needed, and the event loop is never blocked
for longer than one slice. A small partition is counted whole. Of a large one only a sample is
counted. The rest is estimated from the part of the key space that the sample covers, since MD5
spreads keys evenly. So a plan for a terabyte takes no longer.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.errors import Corrupt
from dynamo_core.keys import DATA, PREFIX_BYTES, range_of
from dynamo_core.protocol.messages import Message, Sizes, SizesReply
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.runtime.machine import View

KEPT_S = 30.0
"""A count is used for this time. Higher: plans are made faster, from older counts."""
SLICE_BYTES = 1024 * 1024
SAMPLE_ROWS = 512
"""Rows that are read of a larger partition. With n rows of one size the error of the estimate is
1/sqrt(n), 4% of a partition; a plan adds up many partitions."""
SAMPLE_BYTES = 512 * 1024


class SizeBook:
    """The counts of one node."""

    def __init__(self, view: View, write_batch: WriteBatch) -> None:
        self._view = view
        self._write_batch = write_batch
        self._counted: dict[int, tuple[float, int, int]] = {}
        """By partition: when, bytes, keys."""
        self._at = (-1, b"")
        self._bytes = self._keys = 0
        """Of the partition that is counted now, up to the key in `_at`."""
        self._rows = 8

    def answer(self, request: Sizes, reply: Callable[[Message], None]) -> None:
        """Counts a slice of the wanted partitions and answers with what is known."""
        now = self._view.now
        last = len(self._view.ring.entries)
        asked = [p for p in request.partitions if 0 <= p < last]
        left = [p for p in asked if now - self._when(p) > KEPT_S]
        budget = self._view.settings.rows_max
        while left and budget > 0:
            budget -= 1 + self._count(left[0], min(self._rows, budget))
            if now - self._when(left[0]) <= KEPT_S:
                del left[0]
        counted = self._counted
        rows = [(p, *counted[p][1:]) for p in asked if p in counted]
        reply(SizesReply(request.id, rows, len(left), self._view.free_bytes()))

    def _when(self, partition: int) -> float:
        counted = self._counted.get(partition)
        return counted[0] if counted else float("-inf")

    def _count(self, partition: int, rows_max: int) -> int:
        """Counts the next rows of the partition. Damage ends the count: plans are estimates."""
        start, end = range_of(partition, self._view.ring.partition_bits)
        if self._at[0] != partition:
            self._at, self._bytes, self._keys = (partition, start), 0, 0
        try:
            rows = self._write_batch.scan(DATA, self._at[1], end, rows_max)
        except Corrupt:
            rows = []
        size = sum(len(stored) + len(record) for stored, record in rows)
        self._bytes, self._keys = self._bytes + size, self._keys + len(rows)
        if len(rows) < rows_max:
            return self._noted(partition, len(rows))
        self._rows = max(8, SLICE_BYTES * len(rows) // size)
        self._at = (partition, rows[-1][0] + b"\x00")
        if self._keys >= SAMPLE_ROWS or self._bytes >= SAMPLE_BYTES:
            self._infer(partition, rows[-1][0])
            return self._noted(partition, len(rows))
        return len(rows)

    def _infer(self, partition: int, last: bytes) -> None:
        """Estimates the partition: n rows reach up to `last`, so n - 1 are in the space before."""
        bits = self._view.ring.partition_bits
        space = 2 ** (8 * PREFIX_BYTES - bits)
        reached = int.from_bytes(last[:PREFIX_BYTES], "big") % space
        keys = max(self._keys, (self._keys - 1) * space // max(1, reached))
        self._bytes, self._keys = self._bytes * keys // self._keys, keys

    def _noted(self, partition: int, rows: int) -> int:
        self._counted[partition] = (self._view.now, self._bytes, self._keys)
        self._at = (-1, b"")
        return rows
