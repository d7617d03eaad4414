"""What a store knows of the rounds that forget tombstones, by partition (S-DEL-2, S-DEL-3).

*seen* is the highest number of a round that this store has agreed to, *floor* that of a round that
is known to be committed; both are durable. Every record on its way carries the *seen* that its
store had when it was read, so an owner refuses one from before its floor, and a node whose own
*seen* is below an owner's floor knows that its disk took no part in that round.

A number is 32 bits that count and 32 random ones, so that no number is ever used for two rounds,
whatever disk a leader may have got back.
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
        """As the store has them."""
        for name, numbers in ((_SEEN, self._seen), (_FLOOR, self._floor)):
            numbers.clear()
            for key, row in self._write_batch.scan(META, name, name + b"\xff", 1 << 16):
                numbers[int.from_bytes(key[len(name) :], "big")] = int.from_bytes(row, "big")

    def seen(self, partition: int) -> int:
        """The stamp of what is read here now."""
        return self._seen.get(partition, 0)

    def floor(self, partition: int) -> int:
        """What an owner takes must have been read at this number or later."""
        return self._floor.get(partition, 0)

    def next(self, partition: int, beyond: int, random: int) -> int:
        """A number that was never used, above our own and `beyond`."""
        counter = (max(self.seen(partition), beyond) >> RANDOM_BITS) + 1
        return counter << RANDOM_BITS | random & ((1 << RANDOM_BITS) - 1)

    def see(self, partition: int, number: int) -> None:
        """Agree to a round, or take over that nothing from before it lies here."""
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
        """All of them, for a node without a ring (S-DEL-3)."""
        return tuple((p, seen, self.floor(p)) for p, seen in sorted(self._seen.items()))

    def take(self, rows: tuple[Row, ...]) -> None:
        """Those of the member that lets this empty node in."""
        for partition, seen, floor in rows:
            self.commit(partition, floor)
            self.see(partition, seen)
