"""Preference lists against a walk round the ring by linear scan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.ring.document import (
    LEAVING,
    LEFT,
    MEMBER,
    Entry,
    Identity,
    Member,
    Ring,
    RingTarget,
)
from dynamo_core.ring.placement import first_ring
from dynamo_core.ring.preference import Preference

PARTITIONS = 16
NAMES = tuple("abcdefg")


def line(index: int, name: str, state: str = MEMBER) -> Member:
    return Member(name, 1, 100 + index, f"{name}:1", state=state)  # type: ignore[arg-type]


def ring_of(owners: list[tuple[str, ...]], states: dict[str, str] | None = None) -> Ring:
    states = states or {}
    members = {x: line(i, x, states.get(x, MEMBER)) for i, x in enumerate(NAMES)}
    entries = tuple(Entry(0, 0, row) for row in owners)
    return Ring(Identity("c", len(owners), 3), members, RingTarget(), entries)


def twin_stand_ins(ring: Ring, partition: int) -> tuple[str, ...]:
    size = len(ring.entries)
    found_: list[str] = []
    for step in range(1, size + 1):
        first = ring.entries[(partition + step) % size].owners[0]
        if first not in found_:
            found_.append(first)
    found_ += [name for name in sorted(ring.members) if name not in found_]
    leaving = [name for name in found_ if ring.members[name].state == LEAVING]
    found_ = [name for name in found_ if name not in leaving] + leaving
    return tuple(
        name
        for name in found_
        if ring.members[name].state != LEFT and name not in ring.entries[partition].owners
    )


rows = st.lists(
    st.permutations(NAMES).map(lambda names: tuple(names[:3])),
    min_size=PARTITIONS,
    max_size=PARTITIONS,
)
states = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["JOINING", LEAVING, LEFT]))


@given(owners=rows, states=states)
def test_lists_are_owners_and_then_the_walk(
    owners: list[tuple[str, ...]], states: dict[str, str]
) -> None:
    ring = ring_of(owners, states)
    preference = Preference(ring)
    for partition in range(PARTITIONS):
        expected = twin_stand_ins(ring, partition)
        assert preference.owners(partition) == owners[partition]
        assert preference.writers(partition) == owners[partition]
        assert preference.stand_ins(partition) == expected
        assert preference.list(partition) == owners[partition] + expected
    assert preference.names == ring.live_names()


def test_with_d_standing_in_for_a_as_in_the_paper() -> None:
    """[P 4.6]: A is down during a write, the replica that A should have had goes to D."""
    owners = [tuple("abcd"[(p + i) % 4] for i in range(3)) for p in range(PARTITIONS)]
    preference = Preference(ring_of(owners))
    assert preference.owners(0) == ("a", "b", "c")
    assert preference.stand_ins(0)[0] == "d"


@pytest.mark.parametrize(
    ("entry", "writers"),
    [
        pytest.param(Entry(0, 1, ("a", "b", "c"), ("a", "d")), "abcd", id="move"),
        pytest.param(Entry(1, 0, ("d", "b", "c"), None, ("a", "b", "c")), "dbca", id="switched"),
    ],
)
def test_joint_writers_are_listed_before_stand_ins(entry: Entry, writers: str) -> None:
    ring = ring_of([("a", "b", "c")] * PARTITIONS)
    preference = Preference(ring.with_entry(5, entry))
    assert preference.owners(5) == entry.owners
    assert preference.writers(5) == tuple(writers)
    assert preference.list(5) == tuple(writers) + preference.stand_ins(5)
    assert sorted(preference.list(5)) == sorted(NAMES)
    assert preference.writers(4) == ("a", "b", "c")


def test_who_stands_in_differs_round_the_ring() -> None:
    """The hints for one node spread over all the others, not over one neighbour."""
    members = {f"n{i}": Member(f"n{i}", 1, i + 1, "") for i in range(10)}
    ring = first_ring(Identity("c", 256, 3), members, RingTarget())
    preference = Preference(ring)
    mine = [p for p in range(256) if "n0" in preference.owners(p)]
    assert {preference.stand_ins(p)[0] for p in mine} == set(members) - {"n0"}
