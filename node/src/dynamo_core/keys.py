"""Keys, positions, families: the smallest words that every room shares.

A key is 1..1024 bytes (S-KEY-1); its MD5 is its 128-bit position on the ring and the top bits of
the position are the partition (S-KEY-2, [P 4.1, 6.2]). The store key starts with the first four
bytes of the position, so a partition is one contiguous range of the store and so is each leaf of
its hash tree.
"""

from __future__ import annotations

from hashlib import md5

KEY_BYTES_MAX = 1024
VALUE_BYTES_MAX = 1024 * 1024
PREFIX_BYTES = 4

DATA, HINTS, TREE, META = 0, 1, 2, 3
FAMILIES = ("data", "hints", "tree", "meta")


def until_full(rows: list[tuple[bytes, bytes]], bytes_max: int) -> list[tuple[bytes, bytes]]:
    """The first rows, up to and including the one with which their values reach `bytes_max`."""
    size = 0
    for count, (_, value) in enumerate(rows, 1):
        size += len(value)
        if size >= bytes_max:
            return rows[:count]
    return rows


def store_key(key: bytes) -> bytes:
    """Where the key lies in the store: four bytes of its position, then the key itself. A parameter
    or field called `stored` is such a store key, nothing else."""
    return md5(key, usedforsecurity=False).digest()[:PREFIX_BYTES] + key


def partition_of(stored: bytes, partition_bits: int) -> int:
    """The partition of a store key: the top bits of its position."""
    return int.from_bytes(stored[:PREFIX_BYTES], "big") >> (8 * PREFIX_BYTES - partition_bits)


def range_of(slot: int, bits: int) -> tuple[bytes, bytes | None]:
    """Start and end (None = end of store) of arc `slot` when the ring is cut into 2**bits arcs."""
    width = 8 * PREFIX_BYTES - bits
    start = (slot << width).to_bytes(PREFIX_BYTES, "big")
    after = (slot + 1) << width
    if after >> (8 * PREFIX_BYTES):
        return start, None
    return start, after.to_bytes(PREFIX_BYTES, "big")
