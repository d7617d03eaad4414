"""Hints are saved first, partitions later. Between the two a round may forget a tombstone: then a
saved hint has a value that was deleted before the backup began."""

from __future__ import annotations

import msgspec

from dynamo_core.backup.archive_calls import Pack, Put
from dynamo_core.backup.cluster_backup import ClusterBackup
from dynamo_core.backup.manifest import Manifest, Piece
from dynamo_core.keys import DATA, HINTS, partition_of, store_key
from dynamo_core.protocol.backup_messages import Part
from dynamo_core.protocol.messages import Store as StoreRequest
from dynamo_core.testing.archives import Objects
from dynamo_core.testing.town import SETTINGS, Town, known
from tests.dynamo_core.archived import KEYS, Archived, with_a_hint_alone

QUICK = msgspec.structs.replace(SETTINGS, tombstone_age_min_s=12.0, collect_s=0.5)


def hinted(archived: Archived) -> tuple[bytes, str]:
    """A key that was deleted, and an owner of it. Node d has a hint with the value, and its
    deliveries are lost. The partition of the key is one of the last to be saved."""
    town = archived.town
    bits = town.ring.partition_bits
    late = [k for k in KEYS if partition_of(store_key(k), bits) > 11]
    key = next(k for k in late if "d" not in town.owners(k))
    first, _, away = town.owners(key)
    town.kill(away)
    assert town.put(first, key, b"v", w=3).acks.hinted == 1
    town.kill("d")
    read = town.get(first, key)
    assert town.put(first, key, None, context=known(read), w=2).status == 204
    town.lost = lambda sender, receiver, frame: any(
        sender == "d" and isinstance(message, StoreRequest) for message in frame.messages
    )
    town.start("d")
    town.start(away)
    town.until(lambda: store_key(key) in town.disks[away].rows[DATA])
    town.run(5.0)
    archived.connect()
    assert town.disks["d"].rows[HINTS]
    return key, first


def test_a_hint_from_before_a_round_brings_nothing_back() -> None:
    town = Town("a b c d", settings=QUICK)
    archived = Archived(town, Objects())
    key, leader = hinted(archived)
    archived.late = lambda request: isinstance(request, Pack) and request.family == DATA
    archived.begin_backup(leader)
    town.run(1.0)
    town.lost = lambda sender, receiver, frame: False
    town.until(lambda: all(store_key(key) not in d.rows[DATA] for d in town.disks.values()))
    archived.late = lambda request: False
    report = archived.ended(leader, "one", ClusterBackup)
    assert report["state"] == "done" and not report["missed"]
    other = Archived(Town("x y z"), archived.objects)
    assert other.restore("x")["state"] == "done"
    assert other.town.values("y", key) == []


def test_a_hint_that_no_round_has_followed_is_restored() -> None:
    """Only this node has it."""
    archived = Archived(Town("a b c d", settings=QUICK), Objects())
    key = with_a_hint_alone(archived)
    archived.back_up("d")
    other = Archived(Town("x y z"), archived.objects)
    other.restore("x")
    assert b"hinted" in other.town.values("y", key)


def test_a_hint_is_left_out_only_if_every_copy_is_from_after_a_later_round() -> None:
    part = Part("parts/one/hints-0", 3, 3, 3, "")
    floors = {0: [7], 1: [8, 9], 2: [8, 7], 3: [7], 4: [9]}
    pieces = {p: [Piece("a", [], floor=floor) for floor in some] for p, some in floors.items()}
    numbers = {part.name: {0: 6, 1: 7, 2: 7, 3: 7}}
    one = Manifest(1, "one", "c", 1, 2, {}, {"d": [part]}, [], pieces, rounds=numbers)
    assert one.forgotten() == {part.name: (0, 1)}
    older = msgspec.structs.replace(one, rounds={})
    assert older.forgotten() == {}


def test_a_restore_that_is_over_is_not_done_once_more() -> None:
    """The node that led it has ended, and no operator has seen the end. Meanwhile a client deleted
    a key, and its tombstone is forgotten."""
    town = Town("a b c", settings=QUICK)
    archived = Archived(town, Objects())
    for key in KEYS[:10]:
        town.put("a", key, b"v")
    archived.back_up("a")
    first = archived.restore("a")
    assert first["state"] == "done" and first["records"] == 10
    town.put("a", KEYS[0], None)
    stored = store_key(KEYS[0])
    town.until(lambda: all(stored not in disk.rows[DATA] for disk in town.disks.values()))
    for _ in range(2):
        again = archived.restore("b")
        assert (again["state"], again["records"], again["parts_done"]) == (
            "done",
            10,
            first["parts_done"],
        )
        assert town.values("c", KEYS[0]) == []
    other = archived.restore("c", prefix=b"key", id="r-one")
    assert other["state"] == "failed" and "restores/r-one.json" in other["reason"]
    assert archived.restore("c", id="r-two")["state"] == "done"
    assert town.values("c", KEYS[0]) == [b"v"], "another restore is wanted"


def test_a_restore_is_over_where_no_mark_may_be_written() -> None:
    """Its credentials may be for reading alone."""
    archived = Archived(Town("a b c"), Objects())
    archived.town.put("a", KEYS[0], b"v")
    archived.back_up("a")
    archived.fails = lambda request: isinstance(request, Put)
    assert archived.restore("b")["state"] == "done"
