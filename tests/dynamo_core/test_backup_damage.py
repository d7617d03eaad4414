"""Records that are damaged on every disk (S-DISK-7): a backup cannot have them, and says so."""

from __future__ import annotations

import pytest

from dynamo_core.keys import DATA, HINTS, partition_of, store_key
from dynamo_core.protocol.backup_messages import key_hash
from dynamo_core.replica.hints import split_hint_key
from dynamo_core.testing.archives import Objects
from dynamo_core.testing.town import Town
from tests.dynamo_core.archived import KEYS, Archived, filled, with_a_hint_alone

STORED = store_key(KEYS[0])


def spoil(town: Town, *names: str) -> None:
    for name in names:
        rows = town.disks[name].rows[DATA]
        rows[STORED] = rows[STORED][:-1] + b"?"


def told(archived: Archived) -> list[tuple[int, str]]:
    """What the manifest says."""
    return archived.manifest().damaged()


def test_a_record_that_is_damaged_on_all_disks_is_told() -> None:
    archived = filled("a b c")
    spoil(archived.town, "a", "b", "c")
    report = archived.back_up("a")
    assert report["state"] == "done" and report["damaged"] == 1, report
    partition = partition_of(STORED, archived.town.ring.partition_bits)
    assert told(archived) == [(partition, key_hash(STORED))]
    assert KEYS[0].hex() not in str(told(archived))


def test_a_record_that_one_owner_has_is_not() -> None:
    archived = filled("a b c")
    spoil(archived.town, "a", "b")
    assert archived.back_up("a")["damaged"] == 0 and told(archived) == []


def test_it_is_told_by_each_later_backup_until_a_client_writes_the_key_again() -> None:
    """Also when the nodes have started again, and when nothing has changed."""
    archived = filled("a b c")
    town = archived.town
    spoil(town, "a", "b", "c")
    archived.back_up("a")
    town.kill("a", "b", "c")
    for name in "abc":
        town.start(name)
    archived.connect()
    town.run(5.0)
    assert archived.back_up("b", "two", base="one")["damaged"] == 1
    assert town.put("a", KEYS[0], b"again", w=3).status == 204
    assert archived.back_up("b", "three", base="two")["damaged"] == 0


def test_an_owner_that_never_had_the_record_asks_the_others() -> None:
    """It was acknowledged by two nodes, and is damaged on both; the third one saves the copy."""
    archived = Archived(Town("a b c"), Objects())
    town = archived.town
    saver = town.owners(KEYS[0])[partition_of(STORED, town.ring.partition_bits) % 3]
    others = [name for name in town.names if name != saver]
    town.kill(saver)
    town.disks[saver].rows[HINTS].clear()
    assert town.put(others[0], KEYS[0], b"v", w=2).status == 204
    spoil(town, *others)
    for name in others:
        assert town.nodes[name].replica.data(STORED) is not None
        town.nodes[name].replica.note_damage(STORED)
    town.start(saver)
    archived.connect()
    town.run(8.0)
    assert archived.back_up(others[0])["damaged"] == 1


@pytest.mark.parametrize("delivered", [False, True])
def test_a_damaged_hint_is_told_if_no_owner_has_the_record(delivered: bool) -> None:
    archived = Archived(Town("a b c d"), Objects())
    key = with_a_hint_alone(archived)
    town = archived.town
    hints = town.disks["d"].rows[HINTS]
    for row in [row for row in hints if split_hint_key(row)[1] == store_key(key)]:
        hints[row] = hints[row][:-1] + b"?"
    if delivered:
        assert town.put("a", key, b"there", w=2).status == 204
    report = archived.back_up("d")
    assert report["state"] == "done" and report["damaged"] == (not delivered), report
