"""Plans as properties, fewest moves against exhaustive search, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import ceil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_core.errors import BadParameter
from dynamo_core.ring.document import Entry, Identity, Member, Ring, RingTarget, digest_of
from dynamo_core.ring.placement import first_ring
from dynamo_core.ring.planning import cancelled, moves_left
from tests.dynamo_core.exhaustive import fewest_moves
from tests.dynamo_core.rings import JOIN_D, a_ring, after, planned, with_entry, with_line


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
    ring = first_ring(Identity("c", partitions, 3), lines, RingTarget())
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
    ring = Ring(
        ring.identity, ring.members, RingTarget(), tuple(Entry(0, 0, row) for row in owners)
    )
    join = data.draw(st.sets(st.sampled_from(sorted(set("abcd") - names)), max_size=1))
    leave = data.draw(st.sets(st.sampled_from(sorted(names)), max_size=1))
    weights = {name: data.draw(st.integers(1, 3)) for name in names - leave}
    body = {
        "join": [{"name": name, "address": name + ":1"} for name in join],
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
        owners = ring.entries[partition].owners
        assert (out, into) == ("c", "d") and out in owners
        assert made.owners[partition] == tuple("d" if name == "c" else name for name in owners)
    assert made.violations == ()


def test_without_wishes_a_plan_balances_what_is_there() -> None:
    ring = a_ring("abcd", 16, 1)
    lopsided = Ring(ring.identity, ring.members, RingTarget(), (Entry(0, 0, ("a",)),) * 16)
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
        planned(ring.with_target(RingTarget(1)), body),
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


# ---------------------------------------------------------------- defaults (S-RING-3)


def test_other_defaults_move_nothing_and_are_under_the_hash() -> None:
    ring = with_entry(a_ring("abcd", 16, 2), 3, owners=("a", "b"))
    body = {"defaults": {"w": 1, "sloppy": False}}
    made = planned(ring, body)
    assert (made.moves, made.before) == ((), made.after), "though it could be better balanced"
    old = {"r": 2, "w": 2, "dw": 1, "sloppy": True}
    assert made.defaults == {"before": old, "after": {**old, "w": 1, "sloppy": False}}
    others = [planned(ring, other).hash for other in ({"defaults": {"w": 1}}, {})]
    assert len({made.hash, *others}) == 3
    changed = after(ring, body)
    assert changed.target == RingTarget(1, made.owners, 2, 1, 1, False, ("op",), 0)
    assert (changed.entries, changed.members) == (ring.entries, ring.members)
    later = after(after(changed, {"leave": ["d"]}), {"defaults": {"r": 1}})
    assert (later.target.r, later.target.w, later.target.sloppy) == (1, 1, False)


def test_other_defaults_leave_a_change_that_is_under_way_and_a_cancel_leaves_them() -> None:
    joining = after(a_ring("abc", 16), JOIN_D)
    changed = after(joining, {"defaults": {"w": 3}}, "second")
    assert changed.target.owners == joining.target.owners
    assert changed.target.moves == moves_left(joining) == 12
    back = cancelled(changed)
    assert (back.target.w, moves_left(back)) == (3, 0)
    moving = with_entry(a_ring("abcd", 16, 3), 0, owners=("a", "b", "c"), move=("a", "d"))
    assert planned(moving, {"defaults": {"w": 3}}).owners[0] == ("d", "b", "c")


def test_defaults_go_with_other_wishes() -> None:
    made = planned(a_ring("abc", 64), {**JOIN_D, "defaults": {"dw": 2}})
    assert made.owners == planned(a_ring("abc", 64), JOIN_D).owners
    assert made.defaults["after"]["dw"] == 2


def test_an_old_ring_with_a_dw_above_w_may_change_something_else() -> None:
    ring = a_ring().with_target(RingTarget(1, (), 2, 1, 2))
    assert planned(ring, {"defaults": {"sloppy": False}}).defaults["after"]["dw"] == 2
    assert refusal(ring, {"defaults": {"w": 1}}).field == "defaults.w"


# ---------------------------------------------------------------- refusals

BAD_WISHES: dict[str, tuple[dict[str, Any], str, str]] = {
    "joins that are here": ({"join": [{"name": "a", "address": "x:1"}]}, "join", "a is MEMBER"),
    "an address that is taken": ({"join": [{"name": "d", "address": "a:1"}]}, "join", "is a"),
    "two of one name": ({"join": [JOIN_D["join"][0]] * 2}, "join", "same name"),
    "a name with an at": ({"join": [{"name": "@d", "address": "d:1"}]}, "join", "no ~, @ or ="),
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
    "r above n": ({"defaults": {"r": 4}}, "defaults.r", "1 to n = 3"),
    "no w": ({"defaults": {"w": 0}}, "defaults.w", "1 to n = 3"),
    "dw above w": ({"defaults": {"dw": 3}}, "defaults.dw", "1 to w = 2"),
    "w below dw": ({"defaults": {"w": 1, "dw": 2}}, "defaults.dw", "1 to w = 1"),
    "no tokens to give": ({"moves": [{"to": "a", "tokens": 1}]}, "moves", "only 0 of 1"),
}


@pytest.mark.parametrize(("body", "field", "words"), BAD_WISHES.values(), ids=BAD_WISHES)
def test_a_wish_that_cannot_be_is_named(body: dict[str, Any], field: str, words: str) -> None:
    error = refusal(a_ring(), body)
    assert error.field == field and words in str(error) and str(error).startswith(field)
