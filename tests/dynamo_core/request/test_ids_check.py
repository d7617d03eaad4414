"""Request ids in records have a separate check, which older nodes skip (T-1, C17)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.causality.codec import (
    HEAD_BYTES,
    body_of,
    checked,
    decode_record,
    digest_in,
    encode_record,
    merge_bytes,
)
from dynamo_core.causality.records import History, Record, Sibling, Superseded, ids_in_order
from dynamo_core.errors import Corrupt, PeerCorrupt
from dynamo_core.keys import store_key
from dynamo_core.protocol.arrivals import verified_record

KEY = b"cart"
names = st.text(max_size=6)
randoms = st.integers(0, 2**64 - 1) | st.just(2**64 - 1)
counts = st.integers(0, 300) | st.sampled_from([2**32 - 1, 2**61 + 2**60 - 1, 2**62 - 1])
entries = st.builds(Superseded, randoms, counts, names, counts)


def record_of(ids: list[Superseded]) -> Record:
    named = {item.request_id: item for item in ids}
    return Record((Sibling(7, 2, b"milk"),), History({7: 2}, frozenset(), named))


def tail_of(record: bytes) -> bytes:
    return record[len(body_of(record)) :]


def older(record: Record) -> bytes:
    """As a node without the check makes it."""
    ids = ids_in_order(record.history.ids)
    return body_of(encode_record(KEY, record)) + msgspec.msgpack.encode(ids)


TWO = record_of([Superseded(7, 1, "request-1", 3), Superseded(9, 4, "request-2")])


def test_a_flipped_bit_of_the_ids_is_found_or_changes_none_of_them() -> None:
    """ "request-1" with one bit wrong is "request-3": a value that was acked under that id would be
    dropped by the next merge."""
    whole = encode_record(KEY, TWO)
    found = 0
    for bit in range(8 * len(body_of(whole)), 8 * len(whole)):
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << bit % 8
        try:
            passed = verified_record(store_key(KEY), bytes(spoilt))
        except PeerCorrupt:
            found += 1
        else:
            assert decode_record(passed).history == TWO.history
    assert found >= 8 * (len(tail_of(whole)) - 10), "all but the bits of the mark"


def test_on_this_disk_it_is_found_as_well_and_not_under_another_key() -> None:
    whole = encode_record(KEY, TWO)
    spoilt = whole.replace(b"request-1", b"request-3")
    assert digest_in(spoilt) == digest_in(whole)
    for key, data in ((KEY, spoilt), (b"other", body_of(whole))):
        with pytest.raises(Corrupt):
            checked(key, data)
    foreign = body_of(encode_record(b"other", TWO)) + tail_of(whole)
    with pytest.raises(Corrupt):
        checked(b"other", foreign)


def test_what_is_wrong_gets_no_new_check_by_a_merge() -> None:
    spoilt = encode_record(KEY, TWO).replace(b"request-1", b"request-3")
    other = encode_record(KEY, Record((Sibling(8, 1, b"tea", "", "request-3"),), History({8: 1})))
    with pytest.raises(Corrupt):
        merge_bytes(KEY, other, spoilt)


@given(st.lists(entries, max_size=4))
def test_ids_of_an_older_node_pass_and_an_older_node_reads_ours(ids: list[Superseded]) -> None:
    record = record_of(ids)
    whole, before = encode_record(KEY, record), older(record)
    if not record.history.ids:
        assert not tail_of(whole)
        return
    assert checked(KEY, whole) == whole
    assert checked(KEY, before) == before
    assert decode_record(before).history == decode_record(whole).history == record.history
    read_before = msgspec.msgpack.decode(tail_of(whole), type=list[Superseded])
    assert read_before == ids_in_order(record.history.ids)
    assert digest_in(before) == digest_in(whole), "copies are equal for anti-entropy"
    assert len(before) > HEAD_BYTES


def test_the_check_is_made_anew_where_both_are_merged() -> None:
    other = Record((Sibling(8, 1, b"tea"),), History({8: 1}))
    for mine in (older(TWO), encode_record(KEY, TWO)):
        merged = merge_bytes(KEY, mine, encode_record(KEY, other))
        assert tail_of(merged) == tail_of(encode_record(KEY, TWO))
