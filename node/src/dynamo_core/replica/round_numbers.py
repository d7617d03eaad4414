"""What a store knows of the rounds that forget tombstones, by partition (S-DEL-2, S-DEL-3).

*seen* is the highest number of a round that this store has agreed to. *floor* is the highest number
of a round that this store knows to be committed. Both are durable. Every record that is sent has
the *seen* that its store had when it was read, so an owner refuses a record from before its floor.
A node whose *seen* is below an owner's floor knows that its disk took no part in that round.

A number has 32 bits that count and 32 random bits. So no number is used for two rounds, even if a
leader has got an old disk back.
"""

from __future__ import annotations

from dynamo_core.keys import META
from dynamo_core.replica.write_batch import WriteBatch

RANDOM_BITS = 32
_SEEN, _FLOOR = b"seen/", b"floor/"
Row = tuple[int, int, int]
"""Partition, seen, floor."""


class RoundNumbers:
    """Read from memory, written into this tick's batch."""

    def __init__(self, write_batch: WriteBatch) -> None:
        self._write_batch = write_batch
        self._seen: dict[int, int] = {}
        self._floor: dict[int, int] = {}

    def load(self) -> None:
        """Read the numbers from the store."""
        for name, numbers in ((_SEEN, self._seen), (_FLOOR, self._floor)):
            numbers.clear()
            for key, row in self._write_batch.scan(META, name, name + b"\xff", 1 << 16):
                numbers[int.from_bytes(key[len(name) :], "big")] = int.from_bytes(row, "big")

    def seen(self, partition: int) -> int:
        """The *seen* for a record that is read here now."""
        return self._seen.get(partition, 0)

    def floor(self, partition: int) -> int:
        """An owner takes only records that were read at this number or a later one."""
        return self._floor.get(partition, 0)

    def next(self, partition: int, beyond: int, random: int) -> int:
        """A number that was never used, above this node's own numbers and above `beyond`."""
        counter = (max(self.seen(partition), beyond) >> RANDOM_BITS) + 1
        return counter << RANDOM_BITS | random & ((1 << RANDOM_BITS) - 1)

    def see(self, partition: int, number: int) -> None:
        """Agree to a round, or note that this store holds nothing from before it."""
        if number > self.seen(partition):
            self._seen[partition] = number
            self._put(_SEEN, partition, number)

    def commit(self, partition: int, number: int) -> None:
        """The round is known to be committed, and this store has seen it."""
        self.see(partition, number)
        if number > self.floor(partition):
            self._floor[partition] = number
            self._put(_FLOOR, partition, number)

    def _put(self, name: bytes, partition: int, number: int) -> None:
        self._write_batch.put(META, name + partition.to_bytes(2, "big"), number.to_bytes(8, "big"))

    def rows(self) -> tuple[Row, ...]:
        """The numbers of all partitions, for a node without a ring (S-DEL-3)."""
        return tuple((p, seen, self.floor(p)) for p, seen in sorted(self._seen.items()))

    def take(self, rows: tuple[Row, ...]) -> None:
        """Take the numbers of the member that admits this empty node."""
        for partition, seen, floor in rows:
            self.commit(partition, floor)
            self.see(partition, seen)
