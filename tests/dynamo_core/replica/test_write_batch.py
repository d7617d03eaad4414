"""The batch before the store: reads see it, and no waiter is called too early (S-DOT-3, C7)."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.errors import Corrupt
from dynamo_core.keys import DATA, HINTS
from dynamo_core.replica import write_batch as write_batch_module
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.testing.disk import Disk

keys = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])


def told(write_batch: WriteBatch) -> list[str]:
    """What a waiter for both levels hears, in order."""
    heard: list[str] = []
    write_batch.then(
        lambda ok: heard.append(f"written {ok}"), lambda ok: heard.append(f"synced {ok}")
    )
    return heard


@given(
    before=st.dictionaries(keys, st.binary(max_size=1)),
    batch=st.dictionaries(keys, st.none() | st.binary(max_size=1)),
    start=keys,
    end=st.none() | keys,
    limit=st.integers(1, 4),
)
def test_reads_see_the_batch_as_if_it_were_written(before, batch, start, end, limit) -> None:
    disk = Disk(1)
    disk.write([(DATA, key, value) for key, value in before.items()])
    write_batch = WriteBatch(disk)
    for key, value in batch.items():
        write_batch.put(DATA, key, value)
    write_batch.put(HINTS, b"c", b"another family")
    reads = [write_batch.get(DATA, key) for key in b"a b c d e".split()]
    rows = write_batch.scan(DATA, start, end, limit)
    assert write_batch.flush()
    assert reads == [disk.get(DATA, key) for key in b"a b c d e".split()]
    assert rows == disk.scan(DATA, start, end, limit)


@given(
    before=st.dictionaries(keys, st.binary(max_size=3)),
    batch=st.dictionaries(keys, st.none() | st.binary(max_size=3)),
    start=keys,
    end=st.none() | keys,
    limit=st.integers(1, 4),
    bytes_max=st.integers(1, 6),
)
def test_pages_are_together_what_a_scan_shows(before, batch, start, end, limit, bytes_max) -> None:
    """T-4: each page is small, and no row is missing while the batch changes rows."""
    disk = Disk(1)
    disk.write([(DATA, key, value) for key, value in before.items()])
    write_batch = WriteBatch(disk)
    for key, value in batch.items():
        write_batch.put(DATA, key, value)
    rows = []
    after = start
    with patch.object(write_batch_module, "PAGE_BYTES", bytes_max):
        while after is not None:
            page, after = write_batch.page(DATA, after, end, limit)
            on_disk = [row for row in page if row[0] not in batch]
            assert len(on_disk) <= limit
            assert sum(len(value) for _, value in on_disk[:-1]) < bytes_max
            rows += page
    assert rows == write_batch.scan(DATA, start, end, 100)


def test_a_waiter_is_called_when_it_is_written_and_when_it_is_synced() -> None:
    write_batch = WriteBatch(Disk(1))
    write_batch.put(DATA, b"a", b"1")
    heard = told(write_batch)
    assert (heard, write_batch.pending, write_batch.sync_wanted) == ([], True, False)
    assert write_batch.flush()
    assert (heard, write_batch.pending, write_batch.sync_wanted) == (["written True"], False, True)
    write_batch.synced(write_batch.sequence - 1)
    assert heard == ["written True"], "that fsync began before this batch"
    write_batch.synced(write_batch.sequence)
    assert (heard, write_batch.sync_wanted) == (["written True", "synced True"], False)


def test_a_refused_batch_is_told_as_such_and_nothing_is_written_until_a_reopening() -> None:
    disk = Disk(1)
    write_batch = WriteBatch(disk)
    disk.full = True
    write_batch.put(DATA, b"a", b"1")
    heard = told(write_batch)
    assert not write_batch.flush()
    assert heard == ["written False", "synced False"]
    disk.full = False
    write_batch.put(DATA, b"a", b"2")
    assert (write_batch.writable, write_batch.flush(), disk.get(DATA, b"a")) == (False, False, None)
    write_batch.writable = True
    write_batch.put(DATA, b"a", b"3")
    assert (write_batch.flush(), disk.get(DATA, b"a")) == (True, b"3")


def test_a_store_that_is_reopened_vouches_for_no_fsync() -> None:
    write_batch = WriteBatch(Disk(1))
    write_batch.put(DATA, b"a", b"1")
    heard = told(write_batch)
    write_batch.flush()
    write_batch.reopened()
    write_batch.synced(write_batch.sequence)
    assert heard == ["written True", "synced False"]


def test_a_wait_for_nothing_is_over_at_the_end_of_the_turn() -> None:
    """A retry that changes nothing still waits for the write that it repeats."""
    write_batch = WriteBatch(Disk(1))
    heard = told(write_batch)
    assert write_batch.flush()
    assert heard == ["written True"]
    write_batch.synced(0)
    assert heard == ["written True", "synced True"]


def test_damage_is_the_readers_to_handle_until_the_row_is_written_again() -> None:
    disk = Disk(1)
    disk.write([(DATA, b"a", b"1")])
    disk.corrupt.add((DATA, b"a"))
    write_batch = WriteBatch(disk)
    with pytest.raises(Corrupt):
        write_batch.get(DATA, b"a")
    write_batch.put(DATA, b"a", None)
    assert write_batch.get(DATA, b"a") is None
