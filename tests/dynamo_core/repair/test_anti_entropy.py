"""Exchange, passes and the rolling scrub among real nodes (S-AE-1..4, S-RING-6, C13)."""

from __future__ import annotations

import msgspec

from dynamo_core.keys import DATA, store_key
from dynamo_core.protocol.messages import FetchedMany, Store
from dynamo_core.testing.town import SETTINGS, Town

KEY = b"cart"


def complete(town: Town, name: str) -> bool:
    node = town.nodes[name]
    owned = node.replica.owned() if node.member else {}
    return bool(owned) and all(node.replica.complete(p) for p in owned)


def damage(town: Town, name: str, key: bytes) -> None:
    """The next read of the record finds a broken block."""
    town.disks[name].corrupt.add((DATA, store_key(key)))


def row(town: Town, name: str, key: bytes) -> bytes | None:
    return town.disks[name].rows[DATA].get(store_key(key))


def test_an_empty_disk_is_filled_within_seconds_and_with_no_client_traffic() -> None:
    """C4, C13: a wait for writes under way would take minutes for a few thousand keys."""
    town = Town("a b c d")
    keys = [b"key %d" % index for index in range(1000)]
    for key in keys:
        town.put("b", key, b"v")
    town.kill("a")
    town.wipe("a")
    town.start("a")
    town.until(lambda: complete(town, "a"), 10.0)
    for key in keys:
        rows = {row(town, name, key) for name in town.owners(key)}
        assert len(rows) == 1 and None not in rows


def test_a_loss_voids_the_passes_that_came_before_it() -> None:
    """S-RING-6: c does not have a record that came with the pass over b and was then lost. If the
    partition were complete after the pass over c, both would report that the key is absent."""
    town = Town("a b c")
    town.kill("c")
    assert town.put("a", KEY, b"v", strict=True).status == 204
    town.kill("a")
    town.wipe("a")
    town.start("a")
    town.until(lambda: row(town, "a", KEY) is not None)
    town.run(3.0)
    assert not complete(town, "a"), "c has not been heard"
    damage(town, "a", KEY)
    town.kill("b")
    town.get("a", KEY, r=1)
    town.start("c")
    town.run(10.0)
    assert town.get("a", KEY, r=2).problem == "insufficient-owners"
    town.start("b")
    town.until(lambda: complete(town, "a"))
    assert town.values("a", KEY, r=2) == [b"v"]


def test_what_a_full_store_refused_is_no_part_of_a_pass() -> None:
    """S-AE-3: a record is durable here, or its pass does not count."""
    town = Town("a b c")
    for index in range(40):
        town.put("b", b"key %d" % index, b"v")
    town.kill("a")
    town.wipe("a")
    town.lost = lambda sender, receiver, frame: (
        receiver == "a"
        and any(isinstance(message, FetchedMany | Store) for message in frame.messages)
    )
    node = town.start("a")
    town.until(lambda: node.member)
    town.disks["a"].full = True
    town.lost = lambda sender, receiver, frame: False
    town.run(5.0)
    assert node.replica.marks == set()
    assert not node.writable
    town.disks["a"].full = False
    node.reopened()
    town.until(lambda: complete(town, "a"))
    assert all(row(town, "a", b"key %d" % n) for n in range(40))


def test_damage_comes_back_from_the_other_owners_and_goes_to_none_of_them() -> None:
    """C13, S-DISK-7."""
    town = Town("a b c")
    town.put("a", KEY, b"v")
    good = row(town, "b", KEY)
    damage(town, "a", KEY)
    assert town.values("a", KEY, r=2) == [b"v"]
    town.until(lambda: complete(town, "a"))
    assert [row(town, name, KEY) for name in "abc"] == [good] * 3


# ---------------------------------------------------------------- the rolling scrub (S-AE-4)


def test_a_damaged_record_is_found_and_repaired_without_a_read() -> None:
    town = Town("a b c")
    keys = [b"%d" % index for index in range(60)]
    for key in keys:
        town.put("a", key, b"v", w=3)
    good = {key: row(town, "b", key) for key in keys}
    damage(town, "a", keys[7])
    damage(town, "a", keys[8])
    town.until(lambda: not town.disks["a"].corrupt, 30.0)
    town.until(lambda: complete(town, "a"))
    assert {key: row(town, "a", key) for key in keys} == good


def test_bit_rot_that_the_engine_does_not_see_is_found_by_the_records_checksum() -> None:
    town = Town("a b c")
    town.put("a", KEY, b"value", w=3)
    good = row(town, "b", KEY)
    assert good is not None
    town.disks["a"].rows[DATA][store_key(KEY)] = good.replace(b"value", b"VALUE")
    town.until(lambda: town.nodes["a"].counters["corrupt_records"] > 0, 30.0)
    town.until(lambda: complete(town, "a"))
    assert [row(town, name, KEY) for name in "abc"] == [good] * 3


def test_a_record_that_has_silently_gone_is_missed_and_comes_back() -> None:
    """The tree still counts the record, so no exchange would ever see the difference."""
    town = Town("a b c")
    for index in range(20):
        town.put("a", b"%d" % index, b"v", w=3)
    lost = town.disks["a"].rows[DATA].pop(store_key(b"3"))
    town.until(lambda: town.nodes["a"].counters["leaves_mended"] > 0, 30.0)
    assert not complete(town, "a"), "until the passes are done an absence here proves nothing"
    town.until(lambda: complete(town, "a"))
    assert row(town, "a", b"3") == lost


def test_a_sound_store_is_left_alone_and_counted() -> None:
    """S-DOT-5: the largest clock; tombstones as the status shows them."""
    town = Town("a b c")
    for index in range(50):
        town.put("a", b"%d" % index, b"v", w=3)
    for index in range(5):
        town.put("b", b"%d" % index, None, w=3)
    for name in ("a", "b", "c"):
        town.put(name, KEY, name.encode(), w=3)
    town.run(20.0)
    for node in town.nodes.values():
        assert node.admin.status()["tombstones"]["count"] == 5
        assert node.repairs.scrub.clock_entries_max == 3
        assert node.counters["leaves_mended"] + node.counters["corrupt_records"] == 0
    assert town.counters("stored_by_exchange") == 0


def test_damage_that_a_count_of_all_leaves_meets_leaves_the_sums_right() -> None:
    """Each other record of its leaf is counted once."""
    town = Town("a b", n=2, settings=msgspec.structs.replace(SETTINGS, leaf_bits=0))
    keys = [b"%d" % index for index in range(60)]
    for key in keys:
        assert town.put("a", key, b"v", w=2).status == 204
    town.kill("a")
    damage(town, "a", keys[0])
    town.start("a", trusted=False)
    assert town.nodes["a"].counters["corrupt_records"] == 1
    town.run(60.0)
    assert town.nodes["a"].counters["leaves_mended"] == 0


def test_a_repair_in_full_holds_the_records_against_the_tree_first() -> None:
    town = Town("a b c", settings=msgspec.structs.replace(SETTINGS, anti_entropy=False))
    town.put("a", KEY, b"v", w=3)
    lost = town.disks["a"].rows[DATA].pop(store_key(KEY))
    for full, found in ((False, None), (True, lost)):
        answers: list[str] = []
        admin = town.nodes["b"].admin
        admin.repair("", [], [], full, lambda status, body: answers.append(body["id"]))  # noqa: B023
        town.until(lambda: admin.repair_status(answers[0])["state"] == "done")  # type: ignore[index]  # noqa: B023
        assert row(town, "a", KEY) == found


def ages(town: Town, name: str) -> tuple[float | None, float | None]:
    status = town.nodes[name].admin.status()
    return status["oldest_comparison_s"], status["oldest_exchange_s"]


def test_a_ring_that_agrees_has_compared_lately() -> None:
    """Both ages stay below one turn over all peers, however long there are no writes."""
    town = Town("a b c")
    town.put("a", KEY, b"v", w=3)
    town.run(300.0)
    turns_s = 3 * SETTINGS.exchange_s
    for name in town.names:
        compared_s, agreed_s = ages(town, name)
        assert compared_s is not None and compared_s < turns_s
        assert agreed_s is not None and agreed_s < turns_s


def test_the_oldest_comparison_grows_while_a_co_owner_is_away_and_ends_when_it_is_back() -> None:
    town = Town("a b c")
    town.kill("c")
    town.run(60.0)
    compared_s, agreed_s = ages(town, "a")
    assert compared_s is not None and compared_s > 59.0
    assert agreed_s is not None and agreed_s > 59.0
    town.start("c")
    town.run(5.0)
    compared_s, _ = ages(town, "a")
    assert compared_s is not None and compared_s < 3 * SETTINGS.exchange_s


def test_a_node_that_shares_nothing_has_no_oldest_comparison() -> None:
    assert ages(Town("a", n=1), "a") == (None, None)


def test_a_pair_that_a_move_brings_counts_from_then() -> None:
    town = Town("a b c", n=2)
    town.run(30.0)
    town.change("a", moves=[move_of(town)])
    town.until(town.moved)
    town.run(3 * SETTINGS.exchange_s)
    for name in town.names:
        compared_s, _ = ages(town, name)
        assert compared_s is not None and compared_s < 6 * SETTINGS.exchange_s


def move_of(town: Town) -> dict[str, object]:
    """One replica of partition 0 from its first owner to a node that does not own it."""
    owners = town.ring.entries[0].owners
    (other,) = [name for name in town.names if name not in owners]
    return {"partition": 0, "from": owners[0], "to": other}
