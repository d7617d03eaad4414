"""Placement: the rules as properties, fewest moves against exhaustive search on small rings."""

from __future__ import annotations

from collections import Counter
from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_core.errors import BadParameter
from dynamo_core.ring.document import LEFT, Identity, Member, RingTarget, digest_of
from dynamo_core.ring.placement import first_ring, place, shares, zone_cap
from tests.dynamo_core.exhaustive import fewest_moves, moves

Members = dict[str, tuple[str, int]]
Owners = tuple[tuple[str, ...], ...]


def equal(count: int, zones: int = 1) -> Members:
    return {f"n{i:02}": (f"z{i % zones}", 1) for i in range(count)}


def counts(owners: Owners) -> Counter[str]:
    return Counter(name for row in owners for name in row)


def firsts(owners: Owners) -> Counter[str]:
    return Counter(row[0] for row in owners)


def assert_rules(owners: Owners, members: Members, partitions: int, n: int) -> None:
    cap = zone_cap(members, partitions, n)
    share = shares(members, partitions, n, cap)
    assert len(owners) == partitions
    assert {len(set(row)) for row in owners} == {n}
    assert {len(row) for row in owners} == {n}
    held = counts(owners)
    assert sum(share.values()) == partitions * n
    assert {x: held[x] for x in members if not floor(share[x]) <= held[x] <= ceil(share[x])} == {}
    assert max(max(Counter(members[x][0] for x in row).values()) for row in owners) <= cap
    if len({zone for zone, _ in members.values()}) >= n:
        assert cap == 1


@st.composite
def memberships(draw: st.DrawFn, least: int, most: int, names: str = "abcdef") -> Members:
    chosen = draw(st.sets(st.sampled_from(names), min_size=least, max_size=most))
    zones = st.sampled_from(["", "x", "y", "z"])
    return {name: (draw(zones), draw(st.integers(1, 4))) for name in sorted(chosen)}


@given(data=st.data(), partitions=st.integers(1, 40), n=st.integers(1, 4))
def test_any_placement_keeps_the_rules_with_and_without_a_previous_one(
    data: st.DataObject, partitions: int, n: int
) -> None:
    first = data.draw(memberships(n, 6))
    owners = place(first, partitions, n)
    assert_rules(owners, first, partitions, n)
    second = data.draw(memberships(n, 6))
    assert_rules(place(second, partitions, n, owners), second, partitions, n)


@settings(max_examples=60)
@given(data=st.data(), n=st.integers(1, 3), partitions=st.integers(1, 6))
def test_no_placement_needs_fewer_moves(data: st.DataObject, n: int, partitions: int) -> None:
    names = "abcde"
    row = st.permutations(names).map(lambda order: tuple(order[:n]))
    before = tuple(data.draw(st.lists(row, min_size=partitions, max_size=partitions)))
    members = data.draw(memberships(n, 4, names))
    after = place(members, partitions, n, before)
    assert moves(before, after) == fewest_moves(members, before, n)


@given(data=st.data(), partitions=st.integers(1, 40), n=st.integers(1, 4))
def test_who_stays_an_owner_keeps_the_place_in_the_list(
    data: st.DataObject, partitions: int, n: int
) -> None:
    before = place(data.draw(memberships(n, 6)), partitions, n)
    after = place(data.draw(memberships(n, 6)), partitions, n, before)
    for old, new in zip(before, after, strict=True):
        assert [x for x in old if x in new] == [y for x, y in zip(old, new, strict=True) if x == y]


@given(data=st.data(), partitions=st.integers(1, 40), n=st.integers(1, 4))
def test_an_unchanged_membership_moves_nothing(
    data: st.DataObject, partitions: int, n: int
) -> None:
    members = data.draw(memberships(n, 6))
    owners = place(members, partitions, n)
    assert place(members, partitions, n, owners) == owners


@pytest.mark.parametrize("zones", [1, 3, 5])
@pytest.mark.parametrize(("partitions", "size"), [(64, 3), (256, 3), (256, 5), (256, 29)])
def test_a_join_moves_at_most_the_newcomers_share(partitions: int, size: int, zones: int) -> None:
    before = place(equal(size, zones), partitions, 3)
    after = place(equal(size + 1, zones), partitions, 3, before)
    assert moves(before, after) <= ceil(partitions * 3 / (size + 1))
    assert set(counts(after)) - set(counts(before)) == {f"n{size:02}"}
    assert_rules(after, equal(size + 1, zones), partitions, 3)


def test_a_leave_moves_what_the_leaver_had_and_nothing_else() -> None:
    before = place(equal(10), 256, 3)
    members = equal(10)
    del members["n04"]
    after = place(members, 256, 3, before)
    assert moves(before, after) == counts(before)["n04"]
    assert [new for old, new in zip(before, after, strict=True) if "n04" not in old] == [
        old for old in before if "n04" not in old
    ]


@pytest.mark.parametrize(("partitions", "size"), [(256, 3), (256, 5), (1024, 30), (64, 30)])
def test_first_owners_are_spread(partitions: int, size: int) -> None:
    held = firsts(place(equal(size), partitions, 3))
    assert len(held) == size
    assert max(held.values()) <= partitions / size + 2
    assert min(held.values()) >= partitions / size - 2


def test_first_owners_stay_spread_as_the_ring_grows_node_by_node() -> None:
    owners = place(equal(3), 256, 3)
    for size in range(4, 13):
        owners = place(equal(size), 256, 3, owners)
        held = firsts(owners)
        assert max(held.values()) - min(held.values()) <= 256 / size / 3


def test_weights_are_kept_in_replicas_and_in_first_owners() -> None:
    owners = place({"a": ("", 1), "b": ("", 2), "c": ("", 3), "d": ("", 2)}, 256, 2)
    assert counts(owners) == {"a": 64, "b": 128, "c": 192, "d": 128}
    assert {
        x: abs(firsts(owners)[x] - counts(owners)[x] / 2) <= 2 for x in "abcd"
    } == dict.fromkeys("abcd", True)


def test_a_node_too_heavy_for_its_weight_holds_every_partition_once() -> None:
    owners = place({"a": ("", 100), "b": ("", 1), "c": ("", 1), "d": ("", 1)}, 300, 3)
    assert counts(owners) == {"a": 300, "b": 200, "c": 200, "d": 200}


def test_distinct_zones_come_before_balance() -> None:
    members = {"a": ("x", 1), "b": ("y", 1), "c": ("z", 1), "d": ("z", 1), "e": ("z", 1)}
    owners = place(members, 48, 3)
    assert counts(owners) == {"a": 48, "b": 48, "c": 16, "d": 16, "e": 16}
    assert {frozenset(members[x][0] for x in row) for row in owners} == {frozenset("xyz")}


def test_two_equal_zones_for_three_replicas_both_hold_every_partition() -> None:
    members = equal(6, 2)
    owners = place(members, 256, 3)
    assert {len({members[x][0] for x in row}) for row in owners} == {2}
    assert counts(owners) == dict.fromkeys(members, 128)


def test_too_few_zones_do_not_cost_balance() -> None:
    members = {"a": ("x", 1), **dict.fromkeys("bcdef", ("y", 1))}
    assert counts(place(members, 256, 3)) == dict.fromkeys("abcdef", 128)


def test_partners_vary_so_that_a_failure_is_felt_by_all() -> None:
    owners = place(equal(30), 1024, 3)
    partners = {x for row in owners if "n00" in row for x in row} - {"n00"}
    assert len(partners) == 29


@pytest.mark.parametrize(("members", "n"), [({}, 1), (equal(2), 3), (equal(3), 0)])
def test_too_few_members_are_refused(members: Members, n: int) -> None:
    with pytest.raises(BadParameter) as caught:
        place(members, 16, n)
    assert caught.value.field == "members"


def test_the_same_input_gives_the_same_placement_everywhere_and_always() -> None:
    members = {f"node-{i}": (f"z{i % 4}", 1 + i % 2) for i in range(9)}
    backwards = dict(reversed(members.items()))
    owners = place(members, 256, 3)
    assert place(backwards, 256, 3) == owners
    del backwards["node-3"]
    after = place(backwards, 256, 3, owners)
    assert (digest_of(owners).hex(), digest_of(after).hex()) == GOLDEN


GOLDEN = ("c7a958dd0080a4da4faa745c283937bf", "730b4c092c44ec70e9c9f50526f9a46a")
"""Changes only with a release that says so: plans are hashed and quoted (S-MOVE-6)."""


def test_the_first_ring_holds_the_placement_of_its_live_members() -> None:
    members = {x: Member(x, 1, i + 1, f"{x}:1", zone=x) for i, x in enumerate("abcd")}
    members["e"] = Member("e", 1, 5, "e:1", state=LEFT)
    target = RingTarget(r=1, w=3)
    ring = first_ring(Identity("c", 64, 3), members, target)
    assert ring.members == members
    assert ring.target == target
    assert tuple(entry.owners for entry in ring.entries) == place(
        {x: (x, 1) for x in "abcd"}, 64, 3
    )
    assert {(e.term, e.version, e.move, e.old) for e in ring.entries} == {(0, 0, None, None)}
    assert ring.fault() == ""
