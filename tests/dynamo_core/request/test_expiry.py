"""When a value expires: one absolute time, stamped once, for every node (S-TTL-1)."""

from __future__ import annotations

import pytest

from dynamo_core.bounds import EXPIRES_MS_MAX
from dynamo_core.causality.codec import decode_record
from dynamo_core.causality.records import Sibling
from dynamo_core.keys import store_key
from dynamo_core.protocol.operations import Put, fill_in
from dynamo_core.ring.document import RingTarget
from dynamo_core.testing.town import Town, known

KEY = b"cart"
A, B, C = ["a", "b", "c"]


def test_an_expiry_is_stamped_once_and_reads_as_a_deletion() -> None:
    """S-TTL-1: by the coordinator's clock, absolute from then on."""
    town = Town("a b c")
    town.put(A, KEY, b"v", expires_in_s=60, w=3)
    (sibling,) = town.get(B, KEY).values
    assert sibling.expires_ms == town.wall_ms + 60_000
    town.wall_ms += 60_000
    town.run(1.0)
    assert town.get(C, KEY).problem == "not-found"
    assert all(disk.records(store_key(KEY)) for disk in town.disks.values())


def siblings(town: Town) -> list[Sibling]:
    """All siblings on any disk."""
    rows = [r for disk in town.disks.values() for r in disk.records(store_key(KEY))]
    return [sibling for row in rows for sibling in decode_record(row).siblings]


def test_a_forwarded_put_is_stamped_where_the_client_asked_and_nowhere_else() -> None:
    """The coordinator's answer is late, so a stand-in makes a twin seconds later: one expiry."""
    town = Town("a b c d")
    at, first = town.others(KEY)[0], town.owners(KEY)[0]
    expires_ms = town.wall_ms + 60_000
    town.cut.add((first, at))
    town.nodes[at].submit(Put(key=KEY, value=b"v", expires_in_s=60, w=1), lambda outcome: None)
    town.deliver()
    town.cut |= {(at, other) for other in town.owners(KEY)}
    town.wall_ms += 5000
    town.run(0.5)
    assert len({sibling.dot for sibling in siblings(town)}) == 2
    assert {sibling.expires_ms for sibling in siblings(town)} == {expires_ms}
    town.cut.clear()
    town.run(5.0)
    assert len({sibling.dot for sibling in siblings(town)}) == 1
    assert {sibling.expires_ms for sibling in siblings(town)} == {expires_ms}


@pytest.mark.parametrize(
    "given, left_s",
    [(1_060_000, 60), (1_059_001, 60), (1_000_001, 1), (1_000_000, 1), (1, 1)],
)
def test_an_absolute_expiry_is_kept_and_older_nodes_get_the_seconds_left(
    given: int, left_s: int
) -> None:
    """S-TTL-1, C17: never 0, which would mean no expiry."""
    put = Put(key=KEY, value=b"v", expires_ms=given)
    fill_in(put, RingTarget(r=2, w=2), 1_000_000)
    assert (put.expires_ms, put.expires_in_s) == (given, left_s)
    fill_in(put, RingTarget(r=2, w=2), 5_000_000)
    assert (put.expires_ms, put.expires_in_s) == (given, left_s)


def test_no_expiry_is_later_than_the_year_9999() -> None:
    """RFC 3339 could not show it."""
    put = Put(key=KEY, value=b"v", expires_in_s=10 * 365 * 86_400)
    fill_in(put, RingTarget(r=2, w=2), EXPIRES_MS_MAX - 5)
    assert put.expires_ms == EXPIRES_MS_MAX


def test_a_value_with_a_time_that_has_passed_supersedes_and_reads_as_deleted() -> None:
    """S-TTL-1: the same as a put that expires at once."""
    town = Town("a b c")
    town.put(A, KEY, b"old", w=3)
    context = known(town.get(A, KEY))
    assert town.put(A, KEY, b"new", context=context, w=3, expires_ms=town.wall_ms).status == 204
    assert town.get(B, KEY).problem == "not-found"


def test_a_context_covers_expired_siblings_that_no_read_shows() -> None:
    """S-CTX-2, S-TTL-1: a write with the context of such a read replaces them."""
    town = Town("a b c")
    town.put(A, KEY, b"short", w=3, expires_in_s=1)
    town.put(A, KEY, b"long", w=3, expires_in_s=60)
    town.wall_ms += 2000
    town.run(1.0)
    assert town.values(B, KEY) == [b"long"]
    town.put(C, KEY, b"after", context=known(town.get(B, KEY)), w=3)
    for disk in town.disks.values():
        (data,) = disk.records(store_key(KEY))
        assert [sibling.value for sibling in decode_record(data).siblings] == [b"after"]
