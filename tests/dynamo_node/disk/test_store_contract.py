"""One contract for both engines: RocksDB and its twin in memory."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamo_core.errors import StoreFailed
from dynamo_core.keys import DATA, FAMILIES, HINTS, META, TREE, partition_of, range_of, store_key
from dynamo_node.memory_store import MemoryStore
from dynamo_node.storage import RocksStore

JOIN_S = 60.0


@pytest.fixture(params=["memory", "rocksdb"])
def store(request, tmp_path):
    opened = MemoryStore() if request.param == "memory" else RocksStore(tmp_path / "store")
    yield opened
    opened.close()


def test_a_key_that_was_never_written_is_none(store):
    assert store.get(DATA, b"absent") is None
    assert store.scan(DATA, b"", None, 10) == []
    assert store.sequence() == 0


def test_a_batch_is_visible_when_write_returns(store):
    store.write([(DATA, b"k", b"value"), (TREE, b"k", b"leaf"), (META, b"", b"empty key")])
    assert [store.get(family, b"k") for family in range(4)] == [b"value", None, b"leaf", None]
    assert store.get(META, b"") == b"empty key"


def test_the_last_line_of_a_batch_wins(store):
    store.write([(DATA, b"k", b"1"), (DATA, b"k", None), (DATA, b"k", b"2"), (DATA, b"j", b"3")])
    store.write([(DATA, b"j", b"4"), (DATA, b"j", None)])
    assert store.scan(DATA, b"", None, 10) == [(b"k", b"2")]


def test_a_deleted_key_is_gone_and_deleting_it_again_is_no_error(store):
    store.write([(HINTS, b"a", b"1"), (HINTS, b"b", b"2")])
    store.write([(HINTS, b"a", None)])
    store.write([(HINTS, b"a", None), (HINTS, b"never", None)])
    assert store.get(HINTS, b"a") is None
    assert store.scan(HINTS, b"", None, 10) == [(b"b", b"2")]


def test_an_empty_value_is_a_value(store):
    store.write([(DATA, b"k", b"")])
    assert store.get(DATA, b"k") == b""
    assert store.scan(DATA, b"", None, 10) == [(b"k", b"")]


def test_families_are_apart(store):
    store.write([(family, b"\xff\xff", bytes([family])) for family in range(len(FAMILIES))])
    for family in range(len(FAMILIES)):
        assert store.scan(family, b"", None, 10) == [(b"\xff\xff", bytes([family]))]
        assert store.scan(family, b"\xff\xff\0", None, 10) == []


def test_scan_bounds_order_and_limit(store):
    names = [b"", b"\0", b"a", b"a\0", b"ab", b"b", b"\xff", b"\xff\xff\xff\xff\xff"]
    store.write([(DATA, name, b"v" + name) for name in reversed(names)])
    rows = [(name, b"v" + name) for name in names]
    assert store.scan(DATA, b"", None, 100) == rows
    assert store.scan(DATA, b"a", b"b", 100) == rows[2:5]
    assert store.scan(DATA, b"a\0", b"\xff", 2) == rows[3:5]
    assert store.scan(DATA, b"a", b"a", 100) == []
    assert store.scan(DATA, b"b", b"a", 100) == []
    assert store.scan(DATA, b"", None, 0) == []


def test_a_scan_ends_with_the_row_that_reaches_its_bytes(store):
    rows = [(b"%d" % index, bytes(index)) for index in range(1, 6)]
    store.write([(DATA, key, value) for key, value in rows])
    assert store.scan(DATA, b"", None, 100, 5) == rows[:3]
    assert store.scan(DATA, b"", None, 100, 6) == rows[:3]
    assert store.scan(DATA, b"", None, 100, 1) == rows[:1]
    assert store.scan(DATA, b"", None, 2, 100) == rows[:2]
    assert store.scan(DATA, b"", None, 100, 100) == rows
    assert store.scan(DATA, b"\xff", None, 1) == rows[6:7]


def test_a_partition_is_one_range(store):
    keys = sorted(store_key(b"key %d" % index) for index in range(500))
    store.write([(DATA, key, b"v") for key in keys])
    found = []
    for partition in range(16):
        start, end = range_of(partition, 4)
        rows = [key for key, _ in store.scan(DATA, start, end, 500)]
        assert {partition_of(key, 4) for key in rows} <= {partition}
        found += rows
    assert found == keys


def test_the_sequence_grows_with_every_write(store):
    numbers = [store.sequence()]
    for batch in (
        [(DATA, b"a", b"1")],
        [(DATA, b"a", None)],
        [(DATA, b"b", b""), (META, b"c", b"")],
    ):
        numbers.append(store.write(batch))
        assert store.sequence() == numbers[-1]
    assert numbers == sorted(set(numbers))


def test_sync_returns_a_number_that_covers_what_was_written(store):
    written = store.write([(DATA, b"a", b"1")])
    assert store.sync() == written
    assert store.sync() == written


def test_reads_and_writes_go_on_while_another_thread_syncs(store):
    done = threading.Event()
    numbers: list[int] = []

    def syncer():
        while not done.is_set():
            numbers.append(store.sync())
        numbers.append(store.sync())

    thread = threading.Thread(target=syncer, daemon=True)
    thread.start()
    for index in range(300):
        key = b"%06d" % index
        written = store.write([(DATA, key, key * 20)])
        assert store.get(DATA, key) == key * 20
    done.set()
    thread.join(JOIN_S)
    assert not thread.is_alive(), f"sync did not return in {JOIN_S:g} s"
    assert numbers == sorted(numbers)
    assert numbers[-1] == written


def test_reopen_keeps_everything(store):
    rows = [(b"%04d" % index, b"v%d" % index) for index in range(1000)]
    before = store.write([(DATA, key, value) for key, value in rows])
    store.reopen()
    assert store.scan(DATA, b"", None, 2000) == rows
    assert store.sequence() == before
    assert store.write([(DATA, b"later", b"")]) > before


def test_disk_bytes_grow_with_what_is_stored(store):
    empty = store.disk_bytes()
    store.write([(DATA, b"%04d" % index, bytes(1000)) for index in range(1000)])
    assert store.disk_bytes() - empty >= 1000 * 1000


def test_a_closed_store_refuses(store):
    store.close()
    store.close()
    for call in (
        lambda: store.get(DATA, b"k"),
        lambda: store.scan(DATA, b"", None, 1),
        lambda: store.write([(DATA, b"k", b"v")]),
        lambda: store.sync(),
    ):
        with pytest.raises(StoreFailed, match=r"^the store is closed$"):
            call()


short = st.binary(max_size=3)
lines = st.tuples(st.integers(0, 3), short, st.none() | st.binary(max_size=8))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(st.lists(lines, min_size=1, max_size=6), max_size=8),
    scans=st.lists(st.tuples(st.integers(0, 3), short, st.none() | short, st.integers(0, 5))),
)
def test_both_engines_answer_alike(tmp_path_factory, batches, scans):
    twins = [MemoryStore(), RocksStore(tmp_path_factory.mktemp("twin") / "store")]
    for batch in batches:
        assert len({twin.write(batch) for twin in twins}) == 1
    for scan in [*scans, *((family, b"", None, 100) for family in range(4))]:
        memory, rocks = (twin.scan(*scan) for twin in twins)
        assert memory == rocks
    for family, key, _ in [line for batch in batches for line in batch]:
        assert twins[0].get(family, key) == twins[1].get(family, key)
    twins[1].close()
