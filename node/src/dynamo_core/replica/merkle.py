"""Hash trees that are updated in O(1): one per partition, 2**leaf_bits leaves (S-AE-1, [P 4.7]).

A leaf is the sum modulo 2**128 of the digests of the records in its arc, a root the sum of its
leaves. The order of a sum does not matter. So a write adds the new digest and subtracts the old
one, and a tree can be built while writes go on. Two levels are enough: a partition's leaves are
4 KiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SUM_BYTES = 16
_MODULUS = 1 << (8 * SUM_BYTES)
_MASK = _MODULUS - 1
_EMPTY = bytes(SUM_BYTES)
"""The root of a partition without records."""


class Forest:
    """The trees of one node. A slot is an arc of the ring cut into 2**(partition + leaf bits)."""

    def __init__(self, partition_bits: int, leaf_bits: int) -> None:
        self.bits = partition_bits + leaf_bits
        self.leaf_bits = leaf_bits
        self.shift = 32 - self.bits
        self._leaves: dict[int, int] = {}
        self._roots: dict[int, int] = {}
        """Sums of leaves that are not cut to the modulus."""

    def slot_of(self, stored: bytes) -> int:
        """The slot in which a store key lies."""
        return int.from_bytes(stored[:4], "big") >> self.shift

    def change(self, slot: int, old: bytes | None, new: bytes | None) -> bytes:
        """Replace a digest in a leaf; a record counts by its digest, with which it begins. Returns
        the leaf's new bytes."""
        delta = int.from_bytes(new[:SUM_BYTES], "big") if new else 0
        if old:
            delta -= int.from_bytes(old[:SUM_BYTES], "big")
        leaves, roots, partition = self._leaves, self._roots, slot >> self.leaf_bits
        leaves[slot] = total = (leaves.get(slot, 0) + delta) & _MASK
        roots[partition] = roots.get(partition, 0) + delta
        return total.to_bytes(SUM_BYTES, "big")

    def set(self, slot: int, total: int) -> bytes:
        """Set a leaf's sum. Returns the leaf's bytes."""
        partition = slot >> self.leaf_bits
        delta = total - self._leaves.get(slot, 0)
        self._leaves[slot] = total
        self._roots[partition] = self._roots.get(partition, 0) + delta
        return total.to_bytes(SUM_BYTES, "big")

    def other_sums(self, first: int, last: int, sums: Mapping[int, int]) -> list[int]:
        """The leaves first..last-1 that do not equal these sums of digests."""
        leaves = self._leaves
        slots: Iterable[int] = range(first, last)
        if len(leaves) + len(sums) < last - first:  # most arcs have never had a record
            slots = sorted({s for s in (*leaves, *sums) if first <= s < last})
        return [s for s in slots if leaves.get(s, 0) != sums.get(s, 0) & _MASK]

    def held(self) -> list[int]:
        """The partitions with at least one record on this node."""
        return [partition for partition, total in sorted(self._roots.items()) if total & _MASK]

    def root(self, partition: int) -> bytes:
        """The partition's root."""
        total = self._roots.get(partition)
        return (total & _MASK).to_bytes(SUM_BYTES, "big") if total else _EMPTY

    def leaves(self, partition: int) -> bytes:
        """All leaves of the partition, in order, concatenated."""
        first = partition << self.leaf_bits
        return b"".join(
            self._leaves.get(slot, 0).to_bytes(SUM_BYTES, "big")
            for slot in range(first, first + (1 << self.leaf_bits))
        )


def sum_of(digests: list[bytes]) -> int:
    """The leaf over these digests."""
    return sum(int.from_bytes(digest, "big") for digest in digests) % _MODULUS


def differing(a: bytes, b: bytes) -> list[int]:
    """Numbers of the leaves that differ between two concatenations of equal length."""
    return [
        at // SUM_BYTES
        for at in range(0, max(len(a), len(b)), SUM_BYTES)
        if a[at : at + SUM_BYTES] != b[at : at + SUM_BYTES]
    ]
