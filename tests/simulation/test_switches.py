"""One switch in a term, and what a forced removal excuses (C10, S-MOVE-4)."""

from __future__ import annotations

from dynamo_core.ring.document import Entry
from dynamo_core.testing.switches import Switches

A, B, C, D, E = range(1, 6)
BEFORE = ("a", "b")
ONE = Entry(2, 7, ("b", "c"), None, BEFORE)
OTHER = Entry(2, 7, ("b", "d"), None, BEFORE)
NONE_REMOVED: set[int] = set()


def test_one_switch_may_be_heard_by_all() -> None:
    switches = Switches()
    assert [switches.hear(3, ONE, node, NONE_REMOVED) for node in (A, B, C)] == [""] * 3
    assert switches.hear(4, OTHER, A, NONE_REMOVED) == "", "another partition"
    assert switches.hear(3, Entry(3, 7, ("b", "d"), None, ("b", "c")), A, NONE_REMOVED) == ""
    assert switches.excused() == 0


def test_two_ways_in_one_term_are_two() -> None:
    switches = Switches()
    assert not switches.hear(3, ONE, C, NONE_REMOVED)
    assert "partition 3 term 2" in switches.hear(3, OTHER, D, NONE_REMOVED)


def test_from_other_owners_it_is_another_switch() -> None:
    switches = Switches()
    assert not switches.hear(3, ONE, C, NONE_REMOVED)
    assert switches.hear(3, Entry(2, 7, ("b", "c"), None, ("b", "e")), A, NONE_REMOVED)


def test_a_switch_that_only_its_removed_receiver_had_is_excused() -> None:
    switches = Switches()
    assert not switches.hear(3, ONE, C, NONE_REMOVED)
    assert not switches.hear(3, OTHER, D, {C})
    assert not switches.hear(3, OTHER, B, {C})
    assert switches.excused() == 1


def test_so_is_one_that_the_removed_receiver_makes_when_it_is_started_all_the_same() -> None:
    switches = Switches()
    assert not switches.hear(3, OTHER, D, {C})
    assert not switches.hear(3, ONE, C, {C})


def test_not_one_that_another_node_had_heard_of() -> None:
    switches = Switches()
    assert not switches.hear(3, ONE, C, NONE_REMOVED)
    assert not switches.hear(3, ONE, B, NONE_REMOVED)
    assert switches.hear(3, OTHER, D, {C})


def test_nor_one_that_another_node_hears_of_later() -> None:
    switches = Switches()
    assert not switches.hear(3, ONE, C, NONE_REMOVED)
    assert not switches.hear(3, OTHER, D, {C})
    assert switches.hear(3, ONE, A, {C})


def test_the_removal_of_another_node_excuses_nothing() -> None:
    switches = Switches()
    assert not switches.hear(3, ONE, C, NONE_REMOVED)
    assert switches.hear(3, OTHER, D, {E})
