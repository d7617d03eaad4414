"""Hash trees: sums without order, O(1) updates that equal a rebuild (S-AE-1, [P 4.7])."""

from __future__ import annotations

from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.keys import store_key
from dynamo_core.replica.merkle import SUM_BYTES, Forest, differing, sum_of

PARTITION_BITS, LEAF_BITS = 4, 2
digests = st.integers(0, 9).map(lambda n: blake2b(bytes((n,)), digest_size=SUM_BYTES).digest())
changes = st.lists(st.tuples(st.integers(0, 30), st.none() | digests), max_size=40)


def stored(index: int) -> bytes:
    return store_key(b"key %d" % index)


def named(index: int, digest: bytes) -> bytes:
    """As records have it: the key is part of what is hashed."""
    return blake2b(b"%d" % index + digest, digest_size=SUM_BYTES).digest()


def rebuilt(rows: dict[bytes, bytes]) -> Forest:
    forest = Forest(PARTITION_BITS, LEAF_BITS)
    slots: dict[int, list[bytes]] = {}
    for key, digest in rows.items():
        slots.setdefault(forest.slot_of(key), []).append(digest)
    for slot, found in slots.items():
        forest.set(slot, sum_of(found))
    return forest


@given(changes)
def test_updates_in_place_equal_a_rebuild(history: list[tuple[int, bytes | None]]) -> None:
    forest, rows = Forest(PARTITION_BITS, LEAF_BITS), {}
    for index, digest in history:
        key = stored(index)
        leaf = forest.change(forest.slot_of(key), rows.pop(key, None), digest)
        assert len(leaf) == SUM_BYTES
        if digest is not None:
            rows[key] = digest
    again = rebuilt(rows)
    for partition in range(1 << PARTITION_BITS):
        assert forest.root(partition) == again.root(partition)
        assert forest.leaves(partition) == again.leaves(partition)


@given(st.lists(digests, max_size=8).flatmap(lambda d: st.tuples(st.just(d), st.permutations(d))))
def test_sums_have_no_order(lists: tuple[list[bytes], list[bytes]]) -> None:
    assert sum_of(lists[0]) == sum_of(lists[1])


@given(history=changes)
def test_a_root_is_the_sum_of_its_leaves(history: list[tuple[int, bytes | None]]) -> None:
    forest = rebuilt({stored(n): digest for n, digest in history if digest})
    for partition in range(1 << PARTITION_BITS):
        leaves = forest.leaves(partition)
        parts = [leaves[at : at + SUM_BYTES] for at in range(0, len(leaves), SUM_BYTES)]
        assert len(parts) == 1 << LEAF_BITS
        assert forest.root(partition) == sum_of(parts).to_bytes(SUM_BYTES, "big")


@given(a=changes, b=changes)
def test_leaves_that_differ_are_those_whose_rows_differ(
    a: list[tuple[int, bytes | None]], b: list[tuple[int, bytes | None]]
) -> None:
    mine = {stored(n): named(n, digest) for n, digest in a if digest}
    theirs = {stored(n): named(n, digest) for n, digest in b if digest}
    one, two = rebuilt(mine), rebuilt(theirs)
    unequal = {one.slot_of(k) for k, _ in mine.items() ^ theirs.items()}
    found = {
        (partition << LEAF_BITS) + leaf
        for partition in range(1 << PARTITION_BITS)
        for leaf in differing(one.leaves(partition), two.leaves(partition))
    }
    assert found == unequal


def test_lists_of_other_lengths_differ_where_one_has_no_leaf() -> None:
    a = blake2b(b"a", digest_size=SUM_BYTES).digest()
    assert differing(a, a + a) == [1]
    assert differing(b"", b"") == []
