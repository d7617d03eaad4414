"""Plans as properties, fewest moves against exhaustive search, and the documents of a change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import ceil
from typing import Any

import msgspec
import pytest
from exhaustive import fewest_moves
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_core.change import (
    FORCED,
    OPERATIONS_KEPT_MAX,
    Plan,
    applied,
    cancelled,
    moves_left,
    parse_wishes,
    plan,
    removed,
)
from dynamo_core.errors import BadParameter
from dynamo_core.placement import found
from dynamo_core.ring import (
    JOINING,
    LEAVING,
    LEFT,
    MEMBER,
    Entry,
    Identity,
    Member,
    Ring,
    Target,
    digest_of,
    merge,
)

JOIN_D = {"join": [{"name": "d", "address": "d:1"}]}


def a_ring(names: str = "abc", partitions: int = 64, n: int = 3, zones: str = "") -> Ring:
    lines = {
        name: Member(name, 1, at + 1, f"{name}:1", zone=zones[at : at + 1])
        for at, name in enumerate(names)
    }
    return found(Identity("c", partitions, n), lines, Target())


def with_line(ring: Ring, name: str, **fields: Any) -> Ring:
    line = msgspec.structs.replace(ring.members[name], **fields)
    return msgspec.structs.replace(ring, members=ring.members | {name: line})


def with_entry(ring: Ring, partition: int, **fields: Any) -> Ring:
    entry = msgspec.structs.replace(ring.entries[partition], **fields)
    entries = (*ring.entries[:partition], entry, *ring.entries[partition + 1 :])
    return msgspec.structs.replace(ring, entries=entries)


def planned(ring: Ring, body: Mapping[str, Any]) -> Plan:
    return plan(ring, parse_wishes(body))


def after(ring: Ring, body: Mapping[str, Any], operation: str = "op") -> Ring:
    wishes = parse_wishes(body)
    ids = {new.name: (1000 + ord(new.name[0]), f"{new.name}:80") for new in wishes.join}
    return applied(ring, plan(ring, wishes), wishes, ids, operation)


def done(ring: Ring) -> Ring:
    """Every move of the target has switched, the members know what they are."""
    entries = tuple(
        Entry(entry.term + 1, 0, owners) if set(owners) != set(entry.owners) else entry
        for entry, owners in zip(ring.entries, ring.target.owners, strict=True)
    )
    states = {JOINING: MEMBER, LEAVING: LEFT}
    lines = {
        name: msgspec.structs.replace(line, state=states.get(line.state, line.state))
        for name, line in ring.members.items()
    }
    return Ring(ring.identity, lines, ring.target, entries)


def refusal(ring: Ring, body: Mapping[str, Any]) -> BadParameter:
    with pytest.raises(BadParameter) as caught:
        planned(ring, body)
    return caught.value


# ---------------------------------------------------------------- plans


@pytest.mark.parametrize("zones", [1, 3, 5])
@pytest.mark.parametrize(("partitions", "size"), [(64, 3), (256, 3), (256, 5), (256, 29)])
def test_a_join_moves_the_newcomers_share_and_not_one_more(
    partitions: int, size: int, zones: int
) -> None:
    names = [chr(ord("A") + at) for at in range(size)]
    zone = {name: f"z{at % zones}" for at, name in enumerate(names)}
    lines = {name: Member(name, 1, ord(name), f"{name}:1", zone=zone[name]) for name in names}
    ring = found(Identity("c", partitions, 3), lines, Target())
    new = {"name": "new", "address": "n:1", "zone": f"z{size % zones}"}
    made = planned(ring, {"join": [new]})
    assert len(made.moves) <= ceil(partitions * 3 / (size + 1))
    assert {into for _, _, into in made.moves} == {"new"}
    assert made.before["new"] == 0 and made.after["new"] == len(made.moves)
    assert sum(made.after.values()) == sum(made.before.values()) == partitions * 3


@settings(max_examples=40)
@given(data=st.data(), n=st.integers(1, 2))
def test_no_plan_needs_fewer_moves_and_each_is_balanced(data: st.DataObject, n: int) -> None:
    names = data.draw(st.sets(st.sampled_from("abcd"), min_size=n, max_size=3))
    rows = st.permutations(sorted(names)).map(lambda order: tuple(order[:n]))
    ring = a_ring("".join(sorted(names)), 16, n)
    owners = data.draw(st.lists(rows, min_size=16, max_size=16))
    ring = Ring(ring.identity, ring.members, Target(), tuple(Entry(0, 0, row) for row in owners))
    join = data.draw(st.sets(st.sampled_from(sorted(set("abcd") - names)), max_size=1))
    leave = data.draw(st.sets(st.sampled_from(sorted(names)), max_size=1))
    weights = {name: data.draw(st.integers(1, 3)) for name in names - leave}
    body = {
        "join": [{"name": name, "address": name} for name in join],
        "leave": sorted(leave),
        "weights": weights,
    }
    if len(names) + len(join) - len(leave) < n:
        assert refusal(ring, body).field == "leave"
        return
    made = planned(ring, body)
    members = dict.fromkeys(join, ("", 1)) | {name: ("", w) for name, w in weights.items()}
    assert len(made.moves) == fewest_moves(members, tuple(owners), n)
    if set(weights.values()) | {1} == {1}:
        held = [made.after[name] for name in members]
        assert max(held) - min(held) <= 1
    assert made.violations == ()
    assert {name for name, count in made.after.items() if count} <= set(members)


def test_a_plan_lists_a_line_a_replica_and_counts_nodes_and_zones() -> None:
    ring = a_ring("abc", 64, 3, "xyz")
    made = planned(ring, {"join": [{"name": "d", "address": "d:1", "zone": "z"}]})
    assert made.before == {"a": 64, "b": 64, "c": 64, "d": 0}
    assert made.after == {"a": 64, "b": 64, "c": 32, "d": 32}
    assert made.zones_before == made.zones_after == {"x": 64, "y": 64, "z": 64}
    for partition, out, into in made.moves:
        entry = ring.entries[partition].owners
        assert (out, into) == ("c", "d") and out in entry
        assert made.owners[partition] == tuple("d" if name == "c" else name for name in entry)
    assert made.violations == ()


def test_without_wishes_a_plan_balances_what_is_there() -> None:
    ring = a_ring("abcd", 16, 1)
    lopsided = Ring(ring.identity, ring.members, Target(), (Entry(0, 0, ("a",)),) * 16)
    made = planned(lopsided, {})
    assert made.after == dict.fromkeys("abcd", 4)
    assert len(made.moves) == 12
    assert planned(ring, {}).moves == ()


def test_a_move_under_way_counts_with_what_it_will_be() -> None:
    ring = after(a_ring("abc", 16), JOIN_D)
    partition, out, into = planned(a_ring("abc", 16), JOIN_D).moves[0]
    moving = with_entry(ring, partition, move=(out, into))
    again = planned(moving, {})
    assert again.owners == ring.target.owners
    assert (partition, out, into) in again.moves
    assert len(again.moves) == moves_left(moving) == 12


def test_the_same_plan_has_the_same_hash_on_every_node_and_python() -> None:
    ring = a_ring("abc", 64, 3, "xyz")
    body: dict[str, Any] = {
        "join": [{"name": "e", "address": "e:1", "zone": "x"}, *JOIN_D["join"]],
        "weights": {"b": 2, "a": 1},
        "moves": [{"tokens": 3, "to": "d", "from": "b"}],
    }
    turned = {key: value[::-1] if key == "join" else value for key, value in body.items()}
    turned["weights"] = {"a": 1, "b": 2}
    decoded = Ring.decode(ring.encode())
    made = planned(ring, body)
    assert planned(decoded, turned) == made
    assert digest_of((made.owners, made.moves)).hex() == GOLDEN
    others = [
        planned(ring, {**body, "weights": {"b": 3}}),
        planned(with_line(ring, "a", version=1), body),
        planned(with_entry(ring, 3, version=1), body),
        planned(ring.with_target(Target(1)), body),
    ]
    assert len({made.hash, *(other.hash for other in others)}) == 5


GOLDEN = "671dfab8e100c2a09cd58a99c16b7e90"
"""Changes only with a release that says so: plans are quoted (S-MOVE-6)."""


# ---------------------------------------------------------------- moves by hand


def test_moves_by_hand_change_nothing_else() -> None:
    ring = a_ring("abcd", 16, 2)
    partition = next(p for p, e in enumerate(ring.entries) if "d" not in e.owners)
    out, other = ring.entries[partition].owners
    made = planned(ring, {"moves": [{"partition": partition, "from": out, "to": "d"}]})
    assert made.moves == ((partition, out, "d"),)
    assert made.owners[partition] == ("d", other)


def test_moves_by_hand_go_on_top_of_a_change_that_is_under_way() -> None:
    ring = after(a_ring("abc", 16), JOIN_D)
    partition = next(p for p, row in enumerate(ring.target.owners) if "d" not in row)
    made = planned(ring, {"moves": [{"partition": partition, "from": "a", "to": "d"}]})
    assert made.after["d"] == 13 and len(made.moves) == 13


def test_tokens_are_given_by_the_fullest_from_partitions_all_over_the_ring() -> None:
    ring = a_ring("abcd", 64, 1)
    made = planned(ring, {"moves": [{"tokens": 9, "to": "d"}]})
    assert Counter(out for _, out, _ in made.moves) == {"a": 3, "b": 3, "c": 3}
    partitions = [partition for partition, _, _ in made.moves]
    assert len(set(partitions)) == 9 and max(partitions) - min(partitions) > 20


def test_tokens_come_from_the_zone_or_node_that_is_named() -> None:
    ring = a_ring("abcdef", 64, 3, "xxyyzz")
    by_zone = planned(ring, {"moves": [{"tokens": 8, "zone": "x", "to": "d"}]})
    assert Counter(out for _, out, _ in by_zone.moves) == {"a": 4, "b": 4}
    by_node = planned(ring, {"moves": [{"tokens": 3, "from": "c", "to": "d"}]})
    assert {out for _, out, _ in by_node.moves} == {"c"} and by_node.violations == ()
    most = by_node.before["c"]
    too_many = {"moves": [{"tokens": most + 1, "from": "c", "to": "d"}]}
    assert f"only {most} of {most + 1}" in str(refusal(ring, too_many))


def test_two_owners_in_one_zone_are_listed_and_come_last() -> None:
    ring = a_ring("abcd", 16, 3, "xyzz")
    partition = next(p for p, e in enumerate(ring.entries) if "d" not in e.owners)
    made = planned(ring, {"moves": [{"partition": partition, "from": "a", "to": "d"}]})
    assert made.violations == (f"partition {partition}: d and c are in one zone, 'z'",)
    kind = planned(ring, {"moves": [{"tokens": 8, "to": "d"}]})
    assert {out for _, out, _ in kind.moves} == {"c"} and kind.violations == ()
    few_zones = planned(
        a_ring("abcd", 16, 3, "xxzz"), {"moves": [{"tokens": 1, "from": "a", "to": "d"}]}
    )
    assert few_zones.violations == ()


# ---------------------------------------------------------------- refusals

BAD_WISHES: dict[str, tuple[dict[str, Any], str, str]] = {
    "joins that are here": ({"join": [{"name": "a", "address": "x:1"}]}, "join", "a is MEMBER"),
    "an address that is taken": ({"join": [{"name": "d", "address": "a:1"}]}, "join", "is a"),
    "two of one name": ({"join": [JOIN_D["join"][0]] * 2}, "join", "same name"),
    "a name with an at": ({"join": [{"name": "@d", "address": "d:1"}]}, "join", "no ~ or @"),
    "a stranger leaves": ({"leave": ["z"]}, "leave", "'z'"),
    "too few stay": ({"leave": ["a"]}, "leave", "2 nodes would stay, n = 3"),
    "joins and leaves": ({**JOIN_D, "leave": ["d"]}, "leave", "d joins"),
    "a stranger's weight": ({"weights": {"z": 2}}, "weights", "'z'"),
    "no weight": ({"weights": {"a": 0}}, "weights", "1 to 1000"),
    "the weight of one that leaves": ({"weights": {"a": 2}, "leave": ["a"]}, "weights", "a leaves"),
    "neither": ({"moves": [{"to": "a"}]}, "moves", "either"),
    "both": ({"moves": [{"to": "a", "tokens": 1, "partition": 1}]}, "moves", "either"),
    "from nobody": ({"moves": [{"to": "a", "partition": 1}]}, "moves", "from"),
    "to a stranger": ({"moves": [{"to": "z", "tokens": 1}]}, "moves", "'z'"),
    "to an owner": ({"moves": [{"to": "a", "from": "b", "partition": 1}]}, "moves", "already"),
    "from no owner": ({"moves": [{"to": "a", "from": "z", "partition": 1}]}, "moves", "not z's"),
    "no such partition": ({"moves": [{"to": "a", "from": "b", "partition": 64}]}, "moves", "64"),
    "no tokens to give": ({"moves": [{"to": "a", "tokens": 1}]}, "moves", "only 0 of 1"),
}


@pytest.mark.parametrize(("body", "field", "words"), BAD_WISHES.values(), ids=BAD_WISHES)
def test_a_wish_that_cannot_be_is_named(body: dict[str, Any], field: str, words: str) -> None:
    error = refusal(a_ring(), body)
    assert error.field == field and words in str(error) and str(error).startswith(field)


# ---------------------------------------------------------------- documents


def test_applying_writes_members_and_target_and_no_more() -> None:
    ring = a_ring("abcd", 64, 2)
    body = {"join": [{"name": "e", "address": "e:1", "weight": 2}], "leave": ["a"],
            "weights": {"b": 3}}  # fmt: skip
    changed = after(ring, body, "first")
    assert changed.entries == ring.entries
    assert changed.members["e"] == Member("e", 1, 1101, "e:1", "e:80", weight=2, state=JOINING)
    assert (changed.members["a"].state, changed.members["a"].version) == (LEAVING, 1)
    assert (changed.members["b"].weight, changed.members["b"].version) == (3, 1)
    assert changed.members["c"] == ring.members["c"]
    target = changed.target
    assert (target.version, target.operations) == (1, ("first",))
    assert target.owners == planned(ring, body).owners
    assert target.moves == moves_left(changed) == len(planned(ring, body).moves)
    assert merge(ring, changed) == changed


def test_a_name_that_has_left_joins_with_its_next_life() -> None:
    ring = with_line(a_ring("abcd", 16, 2), "d", state=LEFT, incarnation=3, version=5)
    line = after(ring, JOIN_D).members["d"]
    assert (line.incarnation, line.id, line.state, line.version) == (4, 1100, JOINING, 0)


def test_the_ids_of_the_last_operations_are_kept() -> None:
    ring = a_ring("abcd", 16, 2)
    for number in range(20):
        ring = after(ring, {}, f"op{number}")
    assert len(ring.target.operations) == OPERATIONS_KEPT_MAX
    assert ring.target.operations[-2:] == ("op18", "op19")
    mine, theirs = after(ring, {}, "mine"), after(ring, {"weights": {"a": 2}}, "theirs")
    known = {"mine", "theirs"} & set(merge(mine, theirs).target.operations)
    assert len(known) == 1 and known == {"mine", "theirs"} & set(
        merge(theirs, mine).target.operations
    )


def test_who_was_superseded_wishes_again() -> None:
    ring = a_ring("abcd", 64, 2)
    lost = after(after(ring, {"join": [{"name": "e", "address": "e:1"}], "leave": ["a"]}), {}, "2")
    again = planned(lost, {"join": [{"name": "e", "address": "e:1"}], "leave": ["a"]})
    assert again.owners == lost.target.owners
    assert after(lost, {"join": [{"name": "e", "address": "e:1"}], "leave": ["a"]}).members == (
        lost.members
    )


def test_a_cancelled_join_leaves_and_a_cancelled_leave_stays() -> None:
    ring = a_ring("abcd", 64, 2)
    changed = after(ring, {"join": [{"name": "e", "address": "e:1"}], "leave": ["a"]}, "op")
    back = cancelled(changed)
    assert back.members["e"].state == LEAVING, "it alone knows what it has begun"
    assert (back.members["a"].state, back.members["a"].version) == (MEMBER, 2)
    assert back.target.owners == tuple(entry.owners for entry in ring.entries)
    assert (back.target.operations, moves_left(back)) == (("op", "~op"), 0)
    assert back.target.version == changed.target.version + 1
    assert cancelled(back) is back
    assert cancelled(ring) is ring


def test_a_cancelled_join_keeps_what_has_switched() -> None:
    ring = a_ring("abcd", 64, 2)
    changed = after(ring, {"join": [{"name": "e", "address": "e:1"}]})
    partition, out, _ = planned(ring, {"join": [{"name": "e", "address": "e:1"}]}).moves[0]
    moving = planned(ring, {"join": [{"name": "e", "address": "e:1"}]}).moves[1][0]
    owners = changed.target.owners[partition]
    changed = with_entry(
        changed, partition, term=1, owners=owners, old=ring.entries[partition].owners
    )
    changed = with_entry(changed, moving, move=(ring.entries[moving].owners[0], "e"))
    back = cancelled(changed)
    assert back.members["e"].state == JOINING
    assert back.target.owners[partition] == owners and out not in owners
    assert back.target.owners[moving] == ring.entries[moving].owners


def test_a_removal_gives_the_places_of_the_gone_to_others() -> None:
    ring = a_ring("abcd", 64, 2)
    left, lost, below = removed(ring, "a", False, "op")
    assert (left.members["a"].state, left.members["a"].version) == (LEFT, 1)
    held = [p for p, e in enumerate(ring.entries) if "a" in e.owners]
    assert below == held and lost == []
    assert left.entries == ring.entries, "it stays named until another has switched"
    assert not any("a" in row for row in left.target.owners)
    assert moves_left(left) == left.target.moves == len(held)
    assert left.target.operations == ("op",)
    assert merge(ring, left) == left
    assert cancelled(left).target.owners == left.target.owners, "it will never come back"


def test_a_move_of_a_removed_receiver_is_undone_above_all_it_wrote() -> None:
    ring = after(a_ring("abcd", 64, 2), {"join": [{"name": "e", "address": "e:1"}]})
    ring = with_entry(ring, 5, version=3, move=(ring.entries[5].owners[0], "e"))
    other = next(p for p, e in enumerate(ring.entries) if p > 5 and "d" not in e.owners)
    ring = with_entry(ring, other, version=3, move=(ring.entries[other].owners[0], "d"))
    left = removed(ring, "e", False, "op")[0]
    assert (left.entries[5].move, left.entries[5].version) == (None, 3 + FORCED)
    assert left.entries[other] == ring.entries[other]
    assert merge(ring, left) == left


def test_what_may_be_lost_is_what_w_owners_may_have_acked_alone() -> None:
    ring = a_ring("abcde", 64, 3)
    once = removed(ring, "a", False, "1")[0]
    _, lost, below = removed(once, "b", False, "2")
    both = [p for p, e in enumerate(ring.entries) if {"a", "b"} <= set(e.owners)]
    assert lost == both and set(lost) < set(below)
    one_ack = msgspec.structs.replace(ring, target=Target(w=1))
    assert removed(one_ack, "a", False, "1")[1] == removed(ring, "a", False, "1")[2]


def test_no_partition_is_left_without_an_owner_unless_that_is_accepted() -> None:
    ring = a_ring("abc", 16, 1)
    with pytest.raises(BadParameter) as caught:
        removed(ring, "a", False, "op")
    assert caught.value.field == "accept_loss"
    left, lost, _ = removed(ring, "a", True, "op")
    assert lost == [p for p, e in enumerate(ring.entries) if e.owners == ("a",)]
    assert {row[0] for row in left.target.owners} == {"b", "c"}
    for name in ("a", "z"):
        with pytest.raises(BadParameter) as caught:
            removed(left, name, True, "op")
        assert caught.value.field == "name"


def test_below_n_the_places_of_the_gone_wait_for_a_join() -> None:
    left, _, below = removed(a_ring("abc", 16), "c", False, "op")
    assert below == list(range(16))
    assert moves_left(left) == 0
    assert refusal(left, {}).field == "members"
    made = planned(left, JOIN_D)
    assert {(out, into) for _, out, into in made.moves} == {("c", "d")} and len(made.moves) == 16


@settings(max_examples=60)
@given(data=st.data())
def test_any_row_of_changes_ends_balanced_with_everybody_in_place(data: st.DataObject) -> None:
    ring = a_ring("abcd", 16, 2)
    for step in range(4):
        live = ring.live_names()
        stay = [name for name in live if ring.members[name].state != LEAVING]
        free = sorted(set("abcdef") - set(live))
        kind = data.draw(st.sampled_from(["join", "leave", "cancel", "remove", "weights"]))
        if kind == "join" and free:
            name = data.draw(st.sampled_from(free))
            ring = after(ring, {"join": [{"name": name, "address": f"{name}:1"}]}, str(step))
        elif kind == "leave" and len(stay) > 2:
            ring = after(ring, {"leave": [data.draw(st.sampled_from(stay))]}, str(step))
        elif kind == "remove" and len(stay) > 2:
            ring = removed(ring, data.draw(st.sampled_from(live)), True, str(step))[0]
        elif kind == "weights":
            ring = after(ring, {"weights": {data.draw(st.sampled_from(stay)): 2}}, str(step))
        if data.draw(st.booleans()):
            ring = cancelled(ring)
        if ring.target.owners and data.draw(st.booleans()):
            ring = done(ring)
    if ring.target.owners:
        ring = done(ring)
    assert ring.fault() == ""
    held = {name for entry in ring.entries for name in entry.owners}
    staying = {n for n, m in ring.members.items() if m.state in (MEMBER, JOINING)}
    assert held <= staying
    assert moves_left(ring) == 0
