"""Hinted replicas: bookkeeping, bounds, damage, delivery among real nodes (S-HINT-1..5)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.causality.codec import decode_record, encode_record
from dynamo_core.causality.records import History, Record, Sibling
from dynamo_core.keys import DATA, HINTS, partition_of, store_key
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import OWNER, SYNCED, LeavesReply, Store, Stored
from dynamo_core.repair.hint_delivery import HandingOn
from dynamo_core.replica.hint_target import spelled, target_of
from dynamo_core.replica.hints import HintBook, hint_key, split_hint_key
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.ring.planning import removed
from dynamo_core.testing.disk import Disk
from dynamo_core.testing.town import SETTINGS, Town

KEY = b"cart"
STORED = store_key(KEY)


def record(counter: int, key: bytes = KEY) -> bytes:
    dot = (1, counter)
    return encode_record(key, Record((Sibling(*dot, b"%d" % counter),), History().with_dot(dot)))


def hint_rows(town: Town, name: str) -> dict[bytes, bytes]:
    return town.disks[name].rows[HINTS]


@given(
    text=st.one_of(
        st.text(max_size=60),  # of 240 bytes at most; `intake` refuses more than 255
        st.from_regex("=[0-9a-f]{1,16}(:[0-9a-fx_ +-]{0,40})?", fullmatch=True),
    ),
    key=st.binary(min_size=1, max_size=100),
)
def test_a_hints_place_names_target_and_key(text: str, key: bytes) -> None:
    target = target_of(text)
    assert spelled(target) == text
    assert split_hint_key(hint_key(target, store_key(key))) == (target, store_key(key))


def test_the_bytes_before_a_hints_key() -> None:
    """They are on disks: the name with its length, nothing when a removed node offers a record."""
    town = Town("a b c d")
    down, at, _ = town.owners(KEY)
    (holder,) = town.others(KEY)
    town.kill(down)
    town.put(at, KEY, b"v", w=3)
    assert list(hint_rows(town, holder)) == [b"\x01" + down.encode() + STORED]
    node = town.nodes[at]
    town.cut = {(at, other) for other in town.names}
    node.ring_state.take(removed(node.ring, at, False, "gone")[0])
    town.run(0.5)
    assert b"\x00" + STORED in hint_rows(town, at)
    assert node.name == "~" + at, "no member has this name"


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 5)), max_size=20)
)
def test_the_book_counts_what_a_scan_at_the_start_finds(acts: list[tuple[str, int, int]]) -> None:
    """S-HINT-1: memory has only what the store has. Counter 0 drops the hint."""
    disk = Disk(1)
    write_batch = WriteBatch(disk)
    book = HintBook(write_batch, 1000, 3)
    for target, index, counter in acts:
        key = b"key %d" % index
        stored = store_key(key)
        held = book.record(target, stored)
        if counter:
            book.keep(target, stored, record(counter, key), False)
        elif held is not None:
            book.drop(target, stored)
        write_batch.flush()
    again = HintBook(WriteBatch(disk), 1000, 3)
    again.load()
    assert (again.counts, again.bytes) == (book.counts, book.bytes)
    for stored in {store_key(b"key %d" % n) for n in range(3)}:
        assert again.targets(stored) == book.targets(stored)
        assert again.any_for(stored) == bool(book.targets(stored))
    for target in "ab":
        rows = book.some(target, b"", 10)
        assert rows == sorted(rows)
        assert len(rows) == book.counts.get(target, 0)
        assert sum(len(value) for _, value in rows) == book.bytes.get(target, 0)
        for index, (stored, _) in enumerate(rows):
            assert book.some(target, stored, 10) == rows[index:]
            assert book.some(target, b"", 10, stored) == rows[:index]


def test_a_damaged_hint_is_given_up_with_all_its_bytes() -> None:
    """S-HINT-4: otherwise, after some damage, its target is full for ever with few hints or
    none."""
    disk = Disk(1)
    book = HintBook(WriteBatch(disk), 1000, 3)
    other = b"another key"
    book.keep("a", STORED, record(1), False)
    book.keep("a", store_key(other), record(1, other), False)
    disk.corrupt.add((HINTS, hint_key("a", STORED)))
    book.drop("a", STORED)
    book.drop("a", STORED)
    assert (book.counts, book.bytes) == ({"a": 1}, {"a": len(record(1, other))})


KEYS = [store_key(b"key %d" % index) for index in range(8)]
marks = st.tuples(st.sampled_from(("b", "c")), st.sampled_from(KEYS), st.booleans())


@given(marks=st.lists(marks, max_size=20), bits=st.sampled_from((0, 2, 8, 12)))
def test_the_partitions_with_hints_are_those_of_their_keys(marks, bits: int) -> None:
    book = HintBook(WriteBatch(Disk(1)), 1 << 20, 3)
    held: set[tuple[str, bytes]] = set()
    for target, stored, kept in marks:
        if kept:
            book.keep(target, stored, record(1, stored[4:]), False)
            held.add((target, stored))
        else:
            book.drop(target, stored)
            held.discard((target, stored))
    there = {partition_of(stored, bits) for _, stored in held}
    for partition in {partition_of(stored, bits) for stored in KEYS} | {0}:
        assert book.any_of(partition, bits) == (partition in there)


def test_dirty_marks_are_durable_until_they_are_cleaned() -> None:
    disk = Disk(1)
    write_batch = WriteBatch(disk)
    book = HintBook(write_batch, 1000, 3)
    book.mark_dirty(3, "a")
    book.mark_dirty(300, "b")
    book.clean(3, "a")
    write_batch.flush()
    again = HintBook(WriteBatch(disk), 1000, 3)
    again.load()
    assert again.dirty == {(300, "b")}


# ---------------------------------------------------------------- among nodes


def test_a_hint_is_kept_delivered_and_gone_only_then() -> None:
    """S-HINT-1, 2, 5: while the owners are away a stand-in answers for them."""
    town = Town("a b c d e")
    down = town.owners(KEY)
    at = town.others(KEY)[0]
    town.kill(*down)
    outcome = town.put(at, KEY, b"v", w=1)
    assert outcome.acks is not None
    assert (outcome.acks.owners, outcome.acks.hinted) == (0, outcome.acks.total)
    assert town.values(at, KEY, r=1) == [b"v"]
    kept = {name: list(hint_rows(town, name)) for name in town.nodes}
    assert sum(map(len, kept.values())) == len(town.nodes)
    town.kill(at)
    town.start(at)
    assert list(hint_rows(town, at)) == kept[at], "S-HINT-1: it survives its holder's restart"
    for name in down:
        town.start(name)
    town.until(lambda: not any(hint_rows(town, name) for name in town.names))
    targets = {split_hint_key(key)[0] for keys in kept.values() for key in keys}
    assert targets and targets <= set(down)
    assert all(STORED in town.disks[name].rows[DATA] for name in down if name in targets)


def test_no_ack_no_deletion() -> None:
    """C12: the target's answers are lost; the hint stays and comes again."""
    town = Town("a b c d")
    owner, at = town.owners(KEY)[-1], town.owners(KEY)[0]
    town.kill(owner)
    town.put(at, KEY, b"v", w=3)
    holder = town.others(KEY)[0]
    assert len(hint_rows(town, holder)) == 1
    town.cut.add((owner, holder))
    town.start(owner)
    town.run(5.0)
    assert len(hint_rows(town, holder)) == 1
    town.cut.clear()
    town.until(lambda: not hint_rows(town, holder))
    assert STORED in town.disks[owner].rows[DATA]


def test_at_the_bound_the_partition_is_durably_dirty_and_repaired_first() -> None:
    """S-HINT-4: and the metric says so."""
    town = Town(
        "a b c d", settings=msgspec.structs.replace(SETTINGS, hint_bytes_max=1, anti_entropy=False)
    )
    owner, at = town.owners(KEY)[-1], town.owners(KEY)[0]
    partition = partition_of(STORED, 4)
    other = next(
        k for k in (b"%d" % n for n in range(10_000)) if partition_of(store_key(k), 4) == partition
    )
    town.kill(owner)
    town.put(at, other, b"v", w=3)
    town.put(at, KEY, b"v", w=2)
    holder = town.others(KEY)[0]
    assert len(hint_rows(town, holder)) == 1
    assert (partition, owner) in town.nodes[holder].hints.dirty
    assert town.counters("hints_refused") >= 1
    town.kill(holder)
    town.start(holder)
    assert (partition, owner) in town.nodes[holder].hints.dirty
    town.start(owner)
    town.until(lambda: STORED in town.disks[owner].rows[DATA], 10.0)
    town.until(lambda: not any(node.hints.dirty for node in town.nodes.values()), 10.0)


def test_a_damaged_hint_blocks_no_other_and_is_never_sent() -> None:
    """S-DISK-7: found by the engine, or by the record's own checksum."""
    town = Town("a b c d")
    keys = [k for k in (b"%d" % n for n in range(400)) if "a" in town.owners(k)][:6]
    town.kill("a")
    for key in keys:
        town.put("b", key, b"v", w=3)
    rotten = [(name, key) for name in "bcd" for key in hint_rows(town, name)][:2]
    (first, one), (second, two) = rotten
    town.disks[first].corrupt.add((HINTS, one))
    hint_rows(town, second)[two] = hint_rows(town, second)[two][:-1] + b"?"
    sent: list[bytes] = []

    def listen(sender: str, receiver: str, frame: object) -> bool:
        sent.extend(m.record for m in frame.messages if isinstance(m, Store))  # type: ignore[attr-defined]
        return False

    town.lost = listen
    town.start("a")
    town.until(lambda: not any(hint_rows(town, name) for name in "bcd"), 10.0)
    assert not any(data.endswith(b"?") for data in sent)
    town.until(lambda: all(store_key(key) in town.disks["a"].rows[DATA] for key in keys))


def test_a_stand_in_that_loses_a_hint_to_damage_never_mints_its_dots_again() -> None:
    """S-DOT-2, C5: a replica for the same owner arrives over the damage; its dot (A, 1) still
    exists at the owners, so the next put here must use another actor."""
    town = Town("a b c d")
    holder = town.others(KEY)[0]
    node, disk = town.nodes[holder], town.disks[holder]
    target = town.owners(KEY)[0]
    town.kill(*town.owners(KEY))
    assert town.put(holder, KEY, b"first", w=1).status == 204
    (row,) = disk.rows[HINTS]
    (first,) = decode_record(disk.rows[HINTS][row]).siblings
    disk.corrupt.add((HINTS, row))
    node.replica.take(STORED, record(1), target)
    town.deliver()
    assert town.put(holder, KEY, b"second", w=1).status == 204
    held = node.replica.held(STORED)
    assert held is not None
    (second,) = [s for s in decode_record(held).siblings if s.value == b"second"]
    assert second.dot != first.dot


@pytest.mark.parametrize("count", [1, 3])
def test_an_unowned_target_s_hints_go_to_all_current_owners(count: int) -> None:
    """S-HINT-3."""
    town = Town("a b c d")
    holder = town.nodes["d"]
    keys = [b"%d" % n for n in range(count)]
    for key in keys:
        holder.replica.take(store_key(key), record(1, key), "left long ago")
    town.deliver()
    assert len(hint_rows(town, "d")) == count
    town.until(lambda: not hint_rows(town, "d"))
    for key in keys:
        for owner in town.owners(key):
            assert store_key(key) in town.disks[owner].rows[DATA]
    assert town.counters("hints_rerouted") == count


def test_a_removed_nodes_hints_stay_until_another_node_has_its_place() -> None:
    """C7, S-HINT-3: the remaining owners get each hint once; then every owner gets all, and they
    go."""
    town = Town("a b c d e", settings=msgspec.structs.replace(SETTINGS, rows_max=2))
    first, second, third = town.owners(KEY)
    holder, away = town.others(KEY)
    town.kill(first, away)
    assert town.put(second, KEY, b"v", w=3).status == 204
    handed: list[str] = []
    held_up = True

    def lost(sender: str, to: str, frame: Frame) -> bool:
        hints = [to for m in frame.messages if isinstance(m, Store) and m.cause == "hint"]
        handed.extend(hints)
        return held_up and any(isinstance(m, LeavesReply) for m in frame.messages)

    town.lost = lost
    node = town.nodes[holder]
    node.ring_state.take(removed(node.ring, first, False, "dead")[0])
    town.run(20.0)
    assert sorted(handed) == sorted((second, third))
    for key in (b"%d" % index for index in range(100)):  # for somebody else, everywhere
        node.replica.take(store_key(key), record(1, key), away)
    assert town.put(second, KEY, b"w", w=3).status == 204
    town.run(20.0)
    assert sorted(handed) == sorted((second, third) * 2)
    town.kill(third)
    town.start(third)
    town.run(20.0)
    assert sorted(handed) == sorted((second, third) * 3), "it may have another disk"
    assert hint_key(first, STORED) in hint_rows(town, holder)
    held_up = False
    town.start(away)
    town.until(town.moved)
    town.until(lambda: not hint_rows(town, holder))
    rows = {town.disks[name].rows[DATA][STORED] for name in town.owners(KEY)}
    assert len(rows) == 1
    assert len(decode_record(rows.pop()).siblings) == 2


def test_a_restart_amid_a_delivery_of_a_removed_nodes_hints() -> None:
    """The list of delivered hints is lost between two slices: the run ends, the next one has
    all."""
    town = Town("a b c d e", settings=msgspec.structs.replace(SETTINGS, hints_in_flight_max=1))
    first, second, _ = town.owners(KEY)
    holder, away = town.others(KEY)
    town.kill(first, away)
    assert town.put(second, KEY, b"v", w=3).status == 204
    node = town.nodes[holder]
    town.lost = lambda s, t, frame: any(isinstance(m, LeavesReply) for m in frame.messages)
    node.ring_state.take(removed(node.ring, first, False, "dead")[0])
    town.until(lambda: node.counters["hints_handed_on"] == 1)
    key = next(
        key
        for key in (b"%d" % index for index in range(1000))
        if first not in node.ring.entries[partition_of(store_key(key), 4)].owners
    )
    node.replica.take(store_key(key), record(1, key), first)
    delivery = HandingOn(node, node.hints, node.replica, first, lambda target: None)
    effects = delivery.start(node.now)
    node.hints.fresh.clear()
    for name, request in effects:
        delivery.replied(name, request, Stored(0, OWNER | SYNCED), node.now)
    assert delivery.finished
    assert node.hints.targets(store_key(key)) == [], "delivered to all who own it"


def test_a_leaving_node_keeps_a_removed_nodes_hints_with_it() -> None:
    """S-MOVE-7: it has LEFT once another node has the place and the copies."""
    town = Town("a b c d", n=2)
    first, second = town.owners(KEY)
    town.kill(first)
    assert town.put(second, KEY, b"v", w=2).status == 204
    (holder,) = [name for name in town.nodes if hint_rows(town, name)]
    node = town.nodes[holder]
    town.lost = lambda sender, to, frame: any(isinstance(m, LeavesReply) for m in frame.messages)
    node.ring_state.take(removed(node.ring, first, False, "dead")[0])
    town.change(holder, leave=[holder])
    town.run(20.0)
    assert len(hint_rows(town, holder)) == 1
    town.lost = lambda sender, to, frame: False
    town.until(lambda: node.ring_state.emptied)
    assert all(STORED in town.disks[name].rows[DATA] for name in town.owners(KEY))
