"""The floor that the core is compared with does what a put does."""

from __future__ import annotations

from benchmarks.floor import LEAF_BITS, PARTITION_BITS, Floor

from dynamo_core.causality.codec import decode_record, digest_in
from dynamo_core.keys import DATA, TREE, store_key
from dynamo_core.protocol.arrivals import verified_record
from dynamo_core.protocol.operations import Put
from dynamo_core.replica.merkle import Forest


def test_each_replica_has_the_record_and_the_leaf_that_the_core_would_have() -> None:
    floor, key = Floor(), b"a key"
    outcomes = floor.turn([Put(key=key, value=b"a value")])
    assert [outcome.status for outcome in outcomes] == [204]
    stored, forest = store_key(key), Forest(PARTITION_BITS, LEAF_BITS)
    for store in floor.stores:
        record = store.get(DATA, stored)
        assert record is not None and verified_record(stored, record)
        assert [sibling.value for sibling in decode_record(record).values(0)] == [b"a value"]
        leaf = Forest(PARTITION_BITS, LEAF_BITS).change(
            forest.slot_of(stored), None, digest_in(record)
        )
        assert store.get(TREE, forest.slot_of(stored).to_bytes(4, "big")) == leaf
