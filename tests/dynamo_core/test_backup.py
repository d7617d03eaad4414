"""Backup and restore among real nodes on simulated disks (S-BAK-1, S-BAK-2)."""

from __future__ import annotations

import pytest

from dynamo_core.backup.archive_calls import Pack
from dynamo_core.backup.manifest import (
    Manifest,
    Piece,
    Progress,
    decode_manifest,
    encode_manifest,
    manifest_name,
    progress_name,
    too_many,
    unneeded,
)
from dynamo_core.keys import DATA, store_key
from dynamo_core.protocol.backup_messages import Part, Save
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.messages import Store as StoreRequest
from dynamo_core.protocol.round_messages import NumbersTold
from dynamo_core.testing.town import Town
from tests.dynamo_core.archived import KEYS, Archived, all_there, filled, with_a_hint_alone


@pytest.mark.parametrize(("before", "after"), [("a b c", "a b c d e"), ("a b c d e", "x y z")])
def test_every_key_comes_back_in_a_ring_of_another_size(before: str, after: str) -> None:
    archived = filled(before)
    report = archived.back_up("b")
    assert report["state"] == "done" and report["records"] == len(KEYS) and not report["missed"]
    other = Archived(Town(after), archived.objects)
    assert other.restore(other.town.names[1])["records"] == len(KEYS)
    all_there(other.town)


def test_a_partition_is_saved_once_though_three_own_it() -> None:
    archived = filled("a b c")
    archived.back_up("a")
    for pieces in archived.manifest().pieces.values():
        assert len(pieces) == 1 and not pieces[0].missed


def test_what_one_owner_alone_has_acked_is_in_it() -> None:
    """A complete owner may lack a write that was acked with W=1; the pass brings it."""
    archived = filled("a b c")
    town = archived.town
    town.lost = lambda sender, receiver, frame: any(
        isinstance(m, StoreRequest) for m in frame.messages
    )
    for index in range(30):
        assert town.put("a", b"late %d" % index, b"v", w=1).status == 204
    town.lost = lambda sender, receiver, frame: False
    archived.back_up("b")
    other = Archived(Town("x y z"), archived.objects)
    assert other.restore("x")["records"] == len(KEYS) + 30
    assert all(other.town.values("y", b"late %d" % n) == [b"v"] for n in range(30))


def test_hints_are_in_it() -> None:
    archived = filled("a b c d")
    key = with_a_hint_alone(archived)
    archived.back_up("d")
    other = Archived(Town("x y z"), archived.objects)
    other.restore("x")
    assert b"hinted" in other.town.values("y", key)


def test_all_owners_are_saved_where_none_is_complete() -> None:
    archived = filled("a b c")
    town = archived.town
    for name in ("a", "b", "c"):
        for partition in range(16):
            town.nodes[name].replica.lose_complete(partition)
            town.nodes[name].replica.complete = lambda partition: False  # type: ignore[method-assign]
    report = archived.back_up("a")
    assert report["state"] == "done"
    for pieces in archived.manifest().pieces.values():
        assert sorted(piece.node for piece in pieces) == ["a", "b", "c"]


def test_nodes_that_are_down_are_named() -> None:
    archived = filled("a b c")
    archived.town.kill("c")
    archived.town.run(3.0)
    report = archived.back_up("a")
    assert report["state"] == "done" and report["missed"] == ["c"]
    other = Archived(Town("x y z"), archived.objects)
    other.restore("x")
    all_there(other.town)


def test_what_has_not_changed_is_referred_to() -> None:
    archived = filled("a b c")
    archived.back_up("a")
    read = archived.town.get("a", KEYS[0])
    archived.town.put("a", KEYS[0], b"changed", context=read.context)
    archived.asked.clear()
    report = archived.back_up("b", "two", base="one")
    assert report["state"] == "done"
    packs = [r for _, r in archived.asked if isinstance(r, Pack) and r.family == DATA]
    assert len(packs) == 1
    referred = [p for ps in archived.manifest("two").pieces.values() for p in ps if p.backup]
    assert {piece.backup for piece in referred} == {"one"}
    archived.back_up("c", "three", base="two")
    backups = [p.backup for ps in archived.manifest("three").pieces.values() for p in ps]
    assert sorted(set(backups)) == ["one", "two"]
    other = Archived(Town("x y z"), archived.objects)
    assert other.restore("x", "three")["records"] == len(KEYS)
    assert other.town.values("y", KEYS[0]) == [b"changed"]


def test_a_run_goes_on_where_another_node_was_killed() -> None:
    archived = filled("a b c")
    town = archived.town
    asked = 0

    def fails(request: Message) -> bool:
        nonlocal asked
        asked += isinstance(request, Pack)
        return isinstance(request, Pack) and asked > 9

    archived.fails = fails
    archived.begin_backup("a")
    town.run(20.0)
    kept = archived.objects[progress_name("one")]
    assert manifest_name("one") not in archived.objects and b'"pieces"' in kept
    town.kill("a")
    town.start("a")
    archived.connect()
    archived.fails = lambda request: False
    town.run(3.0)
    archived.asked.clear()
    assert archived.back_up("b")["state"] == "done"
    assert town.nodes["b"].counters["backups_resumed"] == 1
    assert len([r for _, r in archived.asked if isinstance(r, Pack)]) < 16
    assert archived.back_up("c")["state"] == "done", "once it is there it is the same backup"
    other = Archived(Town("x y z"), archived.objects)
    other.restore("x")
    all_there(other.town)


def test_an_archive_that_fails_now_and_then_costs_time_alone() -> None:
    archived = filled("a b c")
    count = 0

    def fails(request: Message) -> bool:
        nonlocal count
        count += 1
        return count % 3 > 0

    archived.fails = fails
    assert archived.back_up("a")["state"] == "done"
    archived.fails = lambda request: False
    other = Archived(Town("x y z"), archived.objects)
    other.fails = fails
    assert other.restore("x")["state"] == "done"
    all_there(other.town)


def test_an_archive_that_only_fails_ends_the_run_with_a_sentence() -> None:
    archived = filled("a b c")
    archived.fails = lambda request: isinstance(request, Pack)
    report = archived.back_up("a")
    assert report["state"] == "failed" and "the archive says no" in report["reason"]


def test_a_merge_overwrites_nothing_newer_and_keeps_what_is_deleted() -> None:
    archived = filled("a b c")
    town = archived.town
    archived.back_up("a")
    read = town.get("a", KEYS[0])
    town.put("a", KEYS[0], b"newer", context=read.context)
    town.put("a", KEYS[1], None)
    town.put("a", b"new", b"v")
    assert archived.restore("b")["state"] == "done"
    assert town.values("c", KEYS[0]) == [b"newer"]
    assert town.values("c", KEYS[1]) == []
    assert town.values("c", b"new") == [b"v"]
    all_there(town, KEYS[2:])


def test_a_restore_of_a_prefix_touches_nothing_else() -> None:
    archived = filled("a b c")
    archived.back_up("a")
    other = Archived(Town("x y z"), archived.objects)
    report = other.restore("x", prefix=b"key 1")
    wanted = [key for key in KEYS if key.startswith(b"key 1")]
    assert report["records"] == len(wanted) and report["skipped"] == len(KEYS) - len(wanted)
    all_there(other.town, wanted)
    assert other.town.values("y", b"key 2") == []


def test_a_restore_goes_on_while_an_owner_is_down_and_reaches_it_later() -> None:
    archived = filled("a b c")
    archived.back_up("a")
    other = Archived(Town("x y z"), archived.objects)
    other.town.kill("z")
    other.town.run(3.0)
    assert other.restore("x")["state"] == "done"
    other.town.start("z")
    other.connect()
    rows = other.town.disks["z"].rows[DATA]
    other.town.until(lambda: all(store_key(key) in rows for key in KEYS))


def test_what_the_node_that_merges_refuses_itself_an_exchange_brings_it() -> None:
    """It has just started and has not compared numbers: the other owners alone take the records."""
    archived = filled("a b c")
    archived.back_up("a")
    other = Archived(Town("x y z"), archived.objects)
    town = other.town
    town.kill("x")
    town.run(3.0)
    town.lost = lambda sender, receiver, frame: any(
        isinstance(message, NumbersTold) for message in frame.messages
    )
    node = town.start("x")
    other.connect()
    assert other.restore("x")["state"] == "done"
    assert node.replica.quarantined and not town.disks["x"].rows[DATA]
    own = {partition for partition, owner in node.hints.dirty if owner == "x"}
    assert node.hints.dirty and not own, "no exchange with itself brings anything"
    town.lost = lambda sender, receiver, frame: False
    town.until(lambda: not any(one.hints.dirty for one in town.nodes.values()), 20.0)
    rows = town.disks["x"].rows[DATA]
    town.until(lambda: all(store_key(key) in rows for key in KEYS))


def test_a_part_that_was_changed_in_the_archive_is_not_merged() -> None:
    archived = filled("a b c")
    archived.back_up("a")
    part = next(archived.manifest().parts())
    archived.objects[part.name] = archived.objects[part.name][:-1] + b"!"
    other = Archived(Town("x y z"), archived.objects)
    report = other.restore("x")
    assert report["state"] == "failed" and part.name in report["reason"]


def test_a_damaged_record_is_taken_from_another_owner() -> None:
    archived = filled("a b c")
    town = archived.town
    for name in ("a", "b"):
        row = town.disks[name].rows[DATA]
        row[store_key(KEYS[0])] = row[store_key(KEYS[0])][:-1] + b"?"
    assert archived.back_up("a")["state"] == "done"
    other = Archived(Town("x y z"), archived.objects)
    other.restore("x")
    all_there(other.town)


def test_an_order_whose_answer_is_lost_is_one_order() -> None:
    archived = filled("a b c")
    town = archived.town
    orders = (
        Save(7, "one", "memory", 3, town.ring.entries[3].id),
        Save(8, "one", "memory", 3, town.ring.entries[3].id),
    )
    said: list[Message] = []
    for order in orders:
        town.nodes["a"].local.answer(order, said.append)
    town.run(1.0)
    assert [answer.id for answer in said] == [7, 8]
    assert len([r for _, r in archived.asked if isinstance(r, Pack)]) == 1


# ---------------------------------------------------------------- what is kept, and what may go


def manifest(name: str, at: int, *parts: str, base: str = "") -> Manifest:
    lines = [Part(part, 1, 1, 1, "") for part in parts]
    pieces = {0: [Piece("a", lines)]}
    return Manifest(1, name, "c", at, at + 1, {}, {}, [], pieces, base)


def test_nothing_that_a_kept_backup_refers_to_is_unneeded() -> None:
    names = ["parts/one/0", "parts/one/1", "parts/two/0", "parts/run/0", "parts/old/9"]
    kept = [manifest("two", 2, "parts/one/0", "parts/two/0", base="one")]
    running = [Progress("run", "c", 3, "two")]
    assert unneeded(names, kept, running) == ["parts/old/9", "parts/one/1"]


def test_retention_wants_both_rules() -> None:
    backups = [manifest(name, at) for name, at in (("a", 1), ("b", 2), ("c", 3), ("d", 4))]
    assert too_many(backups, 2, 10) == ["a", "b"]
    assert too_many(backups, 2, 2) == ["a"]
    assert too_many(backups, 0, 10) == ["a", "b", "c", "d"]


def test_a_manifest_comes_back_and_other_bytes_are_refused() -> None:
    one = manifest("one", 1, "parts/one/0")
    data = encode_manifest(one)
    assert decode_manifest(data) == one
    for bad in (b"", b"{}", data.replace(b"parts/one/0", b"parts/one/1"), data[:-2]):
        with pytest.raises(Exception, match="manifest"):
            decode_manifest(bad)
