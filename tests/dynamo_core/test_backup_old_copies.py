"""Copies and hints from before a round that forgot a tombstone. A backup may read them, and they
must not bring back what was deleted before it began."""

from __future__ import annotations

import msgspec
import pytest

from dynamo_core.backup.archive_calls import Unpack
from dynamo_core.backup.cluster_backup import ClusterBackup
from dynamo_core.backup.manifest import encode_manifest, manifest_name
from dynamo_core.backup.restore import ClusterRestore
from dynamo_core.forgetting.participant import obstacle
from dynamo_core.forgetting.quarantine import COMMITS
from dynamo_core.keys import DATA, HINTS, partition_of, store_key
from dynamo_core.protocol.backup_messages import Save, Saved
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import Leaves, Message, Roots
from dynamo_core.testing.archives import Objects
from dynamo_core.testing.town import SETTINGS, Town, known
from tests.dynamo_core.archived import KEYS, Archived

QUICK = msgspec.structs.replace(SETTINGS, tombstone_age_min_s=12.0, collect_s=0.5)
KEY = KEYS[0]


def apart(town: Town, *pairs: tuple[str, str]) -> None:
    """These nodes do not reach each other."""
    town.cut = {*pairs, *((there, here) for here, there in pairs)}


def written(town: Town) -> tuple[str, str, str]:
    """The key has a value at all of its owners, which are returned."""
    first, second, third = town.owners(KEY)
    assert town.put(first, KEY, b"v", w=3).status == 204
    return first, second, third


def forgotten(town: Town, at: str) -> None:
    """The key is deleted, and its tombstone is forgotten."""
    assert town.put(at, KEY, None, context=known(town.get(at, KEY)), w=3).status == 204
    town.until(lambda: all(store_key(KEY) not in d.rows[DATA] for d in town.disks.values()))


def restored(archived: Archived) -> list[bytes | None]:
    """What another ring has of the key."""
    other = Archived(Town("x y z"), archived.objects)
    assert other.restore("x")["state"] == "done"
    return other.town.values("y", KEY)


def started(archived: Archived, *names: str) -> None:
    for name in names:
        archived.town.start(name, trusted=False)
    archived.connect()
    archived.town.run(2.0)


def test_an_old_disk_among_incomplete_owners_brings_nothing_back() -> None:
    """No owner is complete, and the old disk cannot compare its numbers with another owner."""
    town = Town("a b c d", settings=QUICK)
    archived = Archived(town, Objects())
    first, second, third = written(town)
    old = town.disks[third].copy()
    forgotten(town, first)
    town.kill(first, second, third)
    town.disks[third] = old
    apart(town, (first, third), (second, third))
    started(archived, first, second, third)
    leader = next(name for name in town.names if name not in (first, second, third))
    archived.begin_backup(leader)
    report = archived.ended(leader, "one", ClusterBackup)
    assert report["state"] == "done", report
    assert store_key(KEY) in town.disks[third].rows[DATA], "it has not dropped its copy"
    assert restored(archived) == []
    assert report["missed"] == [third]
    assert restored(archived) == []


def test_an_incomplete_copy_from_before_a_round_is_read_again() -> None:
    """One owner lacks the tombstone when its copy is read. The others are read after a round."""
    town = Town("a b c d", settings=QUICK)
    archived = Archived(town, Objects())
    first, second, third = written(town)
    leader = next(name for name in town.names if name not in (first, second, third))
    town.kill(third, leader)  # no node has a hint for the third one
    assert town.put(first, KEY, None, context=known(town.get(first, KEY)), w=2).status == 204
    town.kill(first, second)
    apart(town, (first, third), (second, third))
    started(archived, *town.names)
    partition = partition_of(store_key(KEY), town.ring.partition_bits)

    def of_all_owners(message: Message) -> bool:
        save = isinstance(message, Save)
        return save and message.partition == partition and not message.alone

    town.lost = lambda sender, receiver, frame: (
        receiver != third and any(map(of_all_owners, frame.messages))
    )
    archived.begin_backup(leader)
    town.run(20.0)
    town.cut = set()
    town.until(lambda: all(store_key(KEY) not in d.rows[DATA] for d in town.disks.values()), 90.0)
    town.lost = lambda sender, receiver, frame: False
    report = archived.ended(leader, "one", ClusterBackup)
    assert report["state"] == "done" and report["missed"] == [], report
    assert restored(archived) == []
    assert town.nodes[leader].counters["backup_copies_too_old"] > 0
    assert restored(archived) == []


def old_keeper(town: Town, archived: Archived) -> tuple[str, str]:
    """A node with an old disk and an old hint, which reaches no owner of the key; and a leader."""
    owners = town.owners(KEY)
    town.kill(owners[2])
    assert town.put(owners[0], KEY, b"v", w=3).acks.hinted == 1
    (keeper,) = [name for name, disk in town.disks.items() if disk.rows[HINTS]]
    leader = next(name for name in town.names if name not in (*owners, keeper))
    old = town.disks[keeper].copy()
    started(archived, owners[2])
    town.until(lambda: not town.disks[keeper].rows[HINTS])
    forgotten(town, owners[0])
    town.kill(keeper)
    town.disks[keeper] = old
    apart(town, *((keeper, owner) for owner in owners))
    started(archived, keeper)
    return keeper, leader


def test_old_hints_of_a_node_that_has_not_compared_its_numbers_bring_nothing_back() -> None:
    """Its disk is from before it delivered them."""
    town = Town("a b c d e", settings=QUICK)
    archived = Archived(town, Objects())
    keeper, leader = old_keeper(town, archived)
    archived.begin_backup(leader)
    report = archived.ended(leader, "one", ClusterBackup)
    assert report["state"] == "done", report
    assert archived.manifest().hints[keeper], "it was saved with its hints"
    assert restored(archived) == []


@pytest.mark.parametrize("heals", [True, False])
def test_what_an_old_disk_keeps_apart_is_saved_once_it_has_compared_its_numbers(
    heals: bool,
) -> None:
    """Until then no node knows whether a round went by since. The manifest names the node."""
    town = Town("a b c d e", settings=QUICK)
    archived = Archived(town, Objects())
    keeper, leader = old_keeper(town, archived)
    owners = {*town.cut}
    apart(town, *owners, (keeper, leader))
    assert town.put(keeper, KEY, b"new", w=1).status == 204
    town.cut = owners
    town.run(1.0)
    archived.begin_backup(leader)
    if heals:
        town.run(1.0)
        town.cut = set()
    report = archived.ended(leader, "one", ClusterBackup)
    assert report["state"] == "done", report
    assert report["missed"] == ([] if heals else [keeper])
    partition = partition_of(store_key(KEY), town.ring.partition_bits)
    assert (partition in archived.manifest().unsure.get(keeper, ())) == (not heals)
    assert restored(archived) == ([b"new"] if heals else [])


def test_a_round_between_the_passes_and_the_rows_begins_the_passes_anew() -> None:
    """A hint from before it may have come to another owner meanwhile."""
    settings = msgspec.structs.replace(QUICK, exchange_s=1000.0)
    town = Town("a b c", settings=settings)
    Archived(town, Objects())
    partition = partition_of(store_key(KEY), town.ring.partition_bits)
    replica = town.nodes["a"].replica
    town.put("a", KEY, b"v", w=3)
    passes = 0

    def a_round_goes_by(sender: str, receiver: str, frame: Frame) -> bool:
        nonlocal passes
        asked = [m for m in frame.messages if isinstance(m, Leaves | Roots)]
        if sender == "a" and asked and town.now >= begun:
            passes += 1
            if passes == 2:
                replica.numbers.commit(partition, 7 << 32)
        return False

    town.run(5.0)
    begun = town.now
    town.lost = a_round_goes_by
    order = Save(7, "one", "memory", partition, town.ring.entries[partition].id)
    said: list[Message] = []
    town.nodes["a"].local.answer(order, said.append)
    town.until(lambda: bool(said))
    (saved,) = said
    assert isinstance(saved, Saved) and saved.passed == saved.floor == 7 << 32
    assert passes >= 4, "two passes, and these once more"


def test_a_deleted_value_does_not_come_back_in_a_restore_that_takes_long() -> None:
    """One copy of the backup has the value, another one the tombstone. The tombstone is merged
    first, and the value when the ring could have forgotten the tombstone long since."""
    town = Town("a b c", settings=QUICK)
    archived = Archived(town, Objects())
    first = written(town)[0]
    archived.back_up(first, "old")
    assert town.put(first, KEY, None, context=known(town.get(first, KEY)), w=3).status == 204
    archived.back_up(first, "new")
    partition = partition_of(store_key(KEY), town.ring.partition_bits)
    old, new = (archived.manifest(name).pieces[partition] for name in ("old", "new"))
    both = msgspec.structs.replace(
        archived.manifest("new"), id="one", pieces={partition: new + old}
    )
    archived.objects[manifest_name("one")] = encode_manifest(both)
    other = Archived(Town("x y z", settings=QUICK), archived.objects)
    late = {part.name for piece in old for part in piece.parts}
    other.late = lambda request: isinstance(request, Unpack) and request.part.name in late
    other.begin_restore("x", id="r")
    other.town.run(60.0)
    other.late = lambda request: False
    assert other.ended("x", "r", ClusterRestore)["state"] == "done"
    assert other.town.values("y", KEY) == []
    other.town.until(lambda: all(not disk.rows[DATA] for disk in other.town.disks.values()))


def test_a_round_that_a_node_had_agreed_to_is_over_before_its_restore_begins() -> None:
    town = Town("x y z", settings=QUICK)
    archived = Archived(town, Objects())
    written(town)
    archived.back_up("x")
    archived.asked.clear()
    replica = town.nodes["x"].replica
    agreed = replica.agreed_at
    forgotten(town, "x")
    assert agreed < replica.agreed_at <= town.now
    archived.begin_restore("x")
    town.run(replica.agreed_at + COMMITS * QUICK.call_s - 0.1 - town.now)
    assert "restore" in obstacle(replica, town.ring, 0)
    assert not any(isinstance(request, Unpack) for _, request in archived.asked)
    archived.ended("x", "r-one", ClusterRestore)
    assert town.values("x", KEY) == [b"v"]
    assert obstacle(replica, town.ring, 0) == ""
