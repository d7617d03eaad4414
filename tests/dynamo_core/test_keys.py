"""Keys and their places: MD5 positions, partitions as ranges, no aliases (S-KEY-1, S-KEY-2)."""

from __future__ import annotations

from hashlib import md5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.keys import KEY_BYTES_MAX, PREFIX_BYTES, partition_of, range_of, store_key

keys = st.binary(min_size=1, max_size=64) | st.binary(
    min_size=KEY_BYTES_MAX, max_size=KEY_BYTES_MAX
)


@given(key=keys, bits=st.integers(4, 12))
def test_the_top_bits_of_the_md5_are_the_partition(key: bytes, bits: int) -> None:
    position = int.from_bytes(md5(key, usedforsecurity=False).digest(), "big")
    assert partition_of(store_key(key), bits) == position >> (128 - bits)


@given(a=keys, b=keys)
def test_no_two_keys_alias(a: bytes, b: bytes) -> None:
    """C14: the key itself is in the place, so equal prefixes do no harm."""
    assert (store_key(a) == store_key(b)) == (a == b)
    assert store_key(a)[PREFIX_BYTES:] == a


@pytest.mark.parametrize("key", [b"\xff", b"\xfe", b"\x80", b"\x00", b"\x00\x00", b"%ff", b"/"])
def test_bytes_that_a_framework_would_change_stay_apart(key: bytes) -> None:
    assert store_key(key)[PREFIX_BYTES:] == key


@given(key=keys, bits=st.integers(4, 20))
def test_a_key_lies_in_the_range_of_its_slot_alone(key: bytes, bits: int) -> None:
    stored = store_key(key)
    slot = partition_of(stored, bits)
    for other in {slot, (slot + 1) % (1 << bits), (slot - 1) % (1 << bits)}:
        start, end = range_of(other, bits)
        inside = start <= stored and (end is None or stored < end)
        assert inside == (other == slot)


@pytest.mark.parametrize("bits", [0, 4, 8, 20])
def test_ranges_tile_the_whole_ring(bits: int) -> None:
    size = 1 << bits
    some = sorted({0, 1 % size, size // 2, size - 1})
    assert range_of(0, bits)[0] == b"\x00" * PREFIX_BYTES
    assert range_of(size - 1, bits)[1] is None, "the last arc wraps to the end of the store"
    for slot in some[:-1]:
        assert range_of(slot, bits)[1] == range_of(slot + 1, bits)[0]
