"""What an archive or a second run may do to a backup: parts that are lost, a base that does not
read, two runs under one id, partitions that take long, a copy that comes back to an old root."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import pytest

from dynamo_core.backup.archive_calls import Bring, Pack, Put, Unpack
from dynamo_core.backup.cluster_backup import ClusterBackup
from dynamo_core.backup.manifest import (
    decode_progress,
    encode_manifest,
    manifest_name,
    progress_name,
)
from dynamo_core.backup.orders import PATIENCE_S
from dynamo_core.backup.restore import ClusterRestore
from dynamo_core.keys import DATA, partition_of, store_key
from dynamo_core.protocol.backup_messages import Part
from dynamo_core.protocol.messages import Message
from dynamo_core.testing.town import Town, known
from tests.dynamo_core.archived import KEYS, Archived, all_there, filled


def restored(archived: Archived, name: str) -> Town:
    """Another ring, with that backup."""
    other = Archived(Town("x y z"), archived.objects)
    report = other.restore("x", name)
    assert report["state"] == "done", report
    return other.town


def packed(archived: Archived) -> list[str]:
    """The nodes that were asked to save partitions."""
    return [n for n, r in archived.asked if isinstance(r, Pack) and r.family == DATA]


# ---------------------------------------------------------------- parts of an earlier backup


def lose(archived: Archived, part: Part) -> None:
    del archived.objects[part.name]


def shorten(archived: Archived, part: Part) -> None:
    archived.objects[part.name] = archived.objects[part.name][:-1]


@pytest.mark.parametrize("harm", [lose, shorten])
def test_a_part_that_the_base_has_lost_is_sent_again(harm: Callable[..., None]) -> None:
    archived = filled("a b c")
    archived.back_up("a")
    part = next(archived.manifest().parts())
    harm(archived, part)
    archived.asked.clear()
    assert archived.back_up("b", "two", base="one")["state"] == "done"
    assert len(packed(archived)) == 1, "all other partitions are referred to"
    assert part.name not in {each.name for each in archived.manifest("two").parts()}
    all_there(restored(archived, "two"))


def test_a_run_that_goes_on_sends_again_what_has_been_lost_meanwhile() -> None:
    archived = filled("a b c")
    cut_off(archived)
    archived.back_up("a", "other")
    progress = decode_progress(archived.objects[progress_name("one")])
    pieces = [piece for some in progress.pieces.values() for piece in some if piece.parts]
    assert pieces
    lose(archived, pieces[0].parts[0])
    assert archived.back_up("b")["state"] == "done"
    assert archived.town.nodes["b"].counters["backups_resumed"] == 1
    all_there(restored(archived, "one"))


def cut_off(archived: Archived, name: str = "one", base: str = "") -> None:
    """A run that has saved some partitions, and ends."""
    asked = 0

    def fails(request: Message) -> bool:
        nonlocal asked
        asked += isinstance(request, Pack)
        return isinstance(request, Pack) and asked > 9

    archived.fails = fails
    archived.begin_backup("a", name, base)
    assert archived.ended("a", name, ClusterBackup)["state"] == "failed"
    archived.fails = lambda request: False


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_without_its_base_a_backup_sends_everything(harm: str) -> None:
    """And names no base any more: a deletion would take it for needed."""
    archived = filled("a b c")
    archived.back_up("a")
    if harm == "gone":
        del archived.objects[manifest_name("one")]
    else:
        archived.objects[manifest_name("one")] = b"{}"
    archived.late = lambda request: isinstance(request, Pack) and request.family == DATA
    archived.begin_backup("b", "two", base="one")
    archived.town.run(8.0)
    assert decode_progress(archived.objects[progress_name("two")]).base == ""
    archived.late = lambda request: False
    assert archived.ended("b", "two", ClusterBackup)["state"] == "done"
    assert archived.manifest("two").base == ""
    all_there(restored(archived, "two"))


def test_a_deleted_backup_begins_anew_under_its_id() -> None:
    """Nodes remember what they saved for it, and nothing of that is there any more."""
    archived = filled("a b c")
    assert archived.back_up("a")["state"] == "done"
    archived.objects.clear()
    assert archived.back_up("b")["state"] == "done"
    all_there(restored(archived, "one"))


def test_an_archive_that_keeps_nothing_ends_a_backup_with_a_sentence() -> None:
    archived = filled("a b c")
    answer = archived.objects.answer

    def forgets(request: Message, store: Any) -> Message:
        said = answer(request, store)
        for name in [name for name in archived.objects if name.startswith("parts/one/0003")]:
            del archived.objects[name]
        return said

    archived.objects.answer = forgets  # type: ignore[method-assign]
    report = archived.back_up("a")
    assert (report["state"], report["reason"]) == ("failed", "the archive loses parts")


def test_who_was_down_for_an_earlier_backup_has_not_missed_this_one() -> None:
    archived = filled("a b c")
    town = archived.town
    town.kill("c")
    town.run(3.0)
    assert archived.back_up("a")["missed"] == ["c"]
    town.start("c")
    archived.connect()
    town.run(5.0)
    again = archived.back_up("a", "two", base="one")
    assert town.nodes["a"].counters["backup_partitions_referred"] == 16
    assert again["missed"] == []


# ---------------------------------------------------------------- two runs under one id


def test_of_two_runs_under_one_id_the_second_changes_nothing() -> None:
    """The node that led the first was taken for dead. When the first has ended, parts that its
    manifest does not name may go."""
    archived = filled("a b c")
    archived.late = lambda request: isinstance(request, Pack)
    for leader in ("a", "b"):
        archived.begin_backup(leader, version=f"told by {leader}")
        archived.town.run(1.0)
    archived.late = lambda request: isinstance(request, Put | Bring) and "manif" in request.name
    archived.town.run(30.0)
    archived.silent_to = {"b"}
    archived.late = lambda request: False
    assert archived.ended("a", "one", ClusterBackup)["state"] == "done"
    archived.silent_to = set()
    assert archived.ended("b", "one", ClusterBackup)["state"] == "done"
    assert archived.manifest().version == "told by a"


def test_two_runs_that_write_the_manifest_in_the_same_moment_end_as_one() -> None:
    """Both have looked, and found no manifest. The first that comes to the archive stays."""
    archived = filled("a b c")
    archived.late = lambda request: isinstance(request, Put) and "manif" in request.name
    for leader in ("a", "b"):
        archived.begin_backup(leader, version=f"told by {leader}")
        archived.town.run(1.0)
    archived.town.run(30.0)
    written = [node for node, request in archived.asked if archived.late(request)]
    assert sorted(written) == ["a", "b"]
    archived.silent_to, archived.late = {"a"}, lambda request: False
    assert archived.ended("b", "one", ClusterBackup)["state"] == "done"
    archived.silent_to = set()
    report = archived.ended("a", "one", ClusterBackup)
    assert report["state"] == "done" and report["records"] == len(KEYS)
    assert archived.manifest().version == "told by b"


# ---------------------------------------------------------------- partitions that take long


def test_a_partition_may_take_longer_than_the_patience_with_a_ring_that_does_nothing() -> None:
    archived = filled("a b c")
    town = archived.town
    archived.late = lambda request: isinstance(request, Pack) and request.family == DATA
    archived.begin_backup("a")
    town.run(2.5 * PATIENCE_S)
    archived.late = lambda request: False
    report = archived.ended("a", "one", ClusterBackup)
    assert report["state"] == "done", report
    assert len(packed(archived)) == 16, "each partition is saved once"


def test_a_node_that_no_longer_knows_of_an_order_is_asked_again() -> None:
    """Its process has ended, and another one is up before any node has noticed."""
    archived = filled("a b c")
    town = archived.town
    archived.late = lambda request: isinstance(request, Pack) and request.family == DATA
    archived.begin_backup("a")
    town.run(1.0)
    town.kill("b")
    town.start("b")
    archived.connect()
    archived.late = lambda request: False
    assert archived.ended("a", "one", ClusterBackup)["state"] == "done"
    all_there(restored(archived, "one"))


def hanging(archived: Archived, shortest: float, longest: float) -> None:
    """What saves and reads partitions fails after some time, each after another one."""
    answered: dict[int, float] = {}
    spread = count()

    def fails(request: Message) -> bool:
        return isinstance(request, Unpack) or (isinstance(request, Pack) and request.family == DATA)

    def late(request: Message) -> bool:
        if not fails(request):
            return False
        if id(request) not in answered:
            took = shortest + next(spread) * 7.3 % (longest - shortest)
            answered[id(request)] = archived.town.now + took
        return archived.town.now < answered[id(request)]

    archived.fails, archived.late = fails, late


@pytest.mark.parametrize("took", [(1.0, 20.0), (40.0, 65.0)])
def test_an_archive_that_hangs_ends_a_backup(took: tuple[float, float]) -> None:
    archived = filled("a b c")
    archived.back_up("a", "whole")
    hanging(archived, *took)
    archived.begin_backup("b")
    archived.town.run(2.5 * PATIENCE_S)
    report = archived.town.nodes["b"].archive.status("one", ClusterBackup)
    assert report is not None
    assert report["state"] == "failed" and "the archive says no" in report["reason"], report


def test_a_part_that_no_node_can_read_ends_a_restore_in_a_ring_of_many_nodes() -> None:
    archived = filled("a b c")
    archived.back_up("a", "whole")
    bad = next(archived.manifest("whole").parts())
    other = Archived(Town("m n o p q r s t"), archived.objects)
    hanging(other, 60.0, 65.0)
    fails, late = other.fails, other.late
    other.fails = lambda request: fails(request) and request.part == bad  # type: ignore[attr-defined]
    other.late = lambda request: (
        isinstance(request, Unpack) and request.part == bad and late(request)
    )
    asked = {"id": "r", "backup": "whole", "archive": "memory"}
    other.town.nodes["m"].archive.restore(asked, lambda status, document: None)
    other.town.run(2.0 * PATIENCE_S)
    report = other.town.nodes["m"].archive.status("r", ClusterRestore)
    assert report is not None and report["state"] == "failed", report


@pytest.mark.parametrize("took", [(1.0, 20.0), (40.0, 65.0)])
def test_an_archive_that_hangs_ends_a_restore(took: tuple[float, float]) -> None:
    archived = filled("a b c")
    archived.back_up("a", "whole")
    hanging(archived, *took)
    asked = {"id": "r", "backup": "whole", "archive": "memory"}
    archived.town.nodes["b"].archive.restore(asked, lambda status, document: None)
    archived.town.run(2.5 * PATIENCE_S)
    report = archived.town.nodes["b"].archive.status("r", ClusterRestore)
    assert report is not None
    assert report["state"] == "failed" and "the archive says no" in report["reason"], report


# ---------------------------------------------------------------- a root that comes back


def test_what_was_written_while_a_partition_was_saved_is_not_referred_to() -> None:
    """A put comes between the root and the rows, is deleted and forgotten, and the root is the same
    again: the part has a value that the ring no longer has."""
    archived = filled("a b c", settings={"tombstone_age_min_s": 5.0, "exchange_s": 0.5})
    town = archived.town
    key = b"short-lived"
    partition = partition_of(store_key(key), town.ring.partition_bits)

    def late(request: Message) -> bool:
        return isinstance(request, Pack) and f"/{partition:04d}-" in request.prefix

    archived.late = late
    archived.begin_backup("a")
    town.run(1.0)
    assert town.put("a", key, b"v").status == 204
    archived.late = lambda request: False
    archived.ended("a", "one", ClusterBackup)
    assert key in values_of(archived, "one")
    town.put("a", key, None, context=known(town.get("a", key)))
    town.until(lambda: all(store_key(key) not in d.rows[DATA] for d in town.disks.values()), 120.0)
    archived.back_up("b", "two", base="one")
    assert key not in values_of(archived, "two")


def values_of(archived: Archived, name: str) -> dict[bytes, list[bytes]]:
    """By key, the values in a backup."""
    town = restored(archived, name)
    keys = [*KEYS, b"short-lived"]
    return {key: found for key in keys if (found := town.values("y", key))}


# ---------------------------------------------------------------- one id, one run


def test_a_whole_backup_of_another_ring_is_not_taken_for_this_one() -> None:
    """Two rings share an archive, and a person calls both backups nightly."""
    archived = filled("a b c")
    archived.back_up("a", "nightly")
    theirs = msgspec.structs.replace(archived.manifest("nightly"), cluster_id="another")
    archived.objects[manifest_name("nightly")] = encode_manifest(theirs)
    report = archived.back_up("b", "nightly")
    assert report["state"] == "failed"
    assert report["reason"] == "id: nightly is the backup of another ring"
    assert archived.manifest("nightly").cluster_id == "another"


def test_an_id_is_of_one_run_alone() -> None:
    archived = filled("a b c")
    archived.back_up("a")
    archived.restore("a")
    said: list[tuple[int, dict[str, Any]]] = []
    archive = archived.town.nodes["a"].archive
    of_backup = {"id": "one", "archive": "memory"}
    of_restore = {"id": "r-one", "backup": "one", "archive": "memory"}
    for ask, body in (
        (archive.restore, {**of_backup, "backup": "one"}),
        (archive.back_up, of_restore),
        (archive.back_up, {**of_backup, "archive": "elsewhere"}),
        (archive.restore, {**of_restore, "backup": "two"}),
        (archive.restore, {**of_restore, "archive": "elsewhere"}),
        (archive.restore, {**of_restore, "prefix": b"key 1"}),
    ):
        ask(body, lambda status, document: said.append((status, document)))
        status, document = said[-1]
        assert status == 409 and document["problem"] == "request-id-reused", body
        assert document["detail"].startswith("id: "), document
    same = ((archive.back_up, {**of_backup, "base": "zero"}), (archive.restore, of_restore))
    for ask, body in same:
        said.clear()
        ask(body, lambda status, document: said.append((status, document)))
        archived.town.run(1.0)  # it looks into the archive first
        assert [(status, document["state"]) for status, document in said] == [(202, "done")]
