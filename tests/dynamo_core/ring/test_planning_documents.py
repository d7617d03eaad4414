"""The ring documents of a change: applied, cancelled, a node removed by force."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_core.errors import BadParameter
from dynamo_core.ring.document import (
    CHANGED,
    JOINING,
    LEAVING,
    LEFT,
    MEMBER,
    Member,
    RingTarget,
    merge,
)
from dynamo_core.ring.planning import FORCED, OPERATIONS_KEPT_MAX, cancelled, moves_left, removed
from tests.dynamo_core.rings import JOIN_D, a_ring, after, done, planned, with_entry, with_line


def test_applying_writes_members_and_target_and_no_more() -> None:
    ring = a_ring("abcd", 64, 2)
    body = {
        "join": [{"name": "e", "address": "e:1", "weight": 2}],
        "leave": ["a"],
        "weights": {"b": 3},
    }
    changed = after(ring, body, "first")
    assert changed.entries == ring.entries
    assert changed.members["e"] == Member("e", 1, 1101, "e:1", "e:80", weight=2, state=JOINING)
    assert (changed.members["a"].state, changed.members["a"].version) == (LEAVING, CHANGED)
    assert (changed.members["b"].weight, changed.members["b"].version) == (3, CHANGED)
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
    for index in range(20):
        ring = after(ring, {}, f"op{index}")
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
    assert (back.members["a"].state, back.members["a"].version) == (MEMBER, 2 * CHANGED)
    assert back.target.owners == tuple(entry.owners for entry in ring.entries)
    assert (back.target.operations, moves_left(back)) == (("op", "~op"), 0)
    assert back.target.version == changed.target.version + 1
    assert cancelled(back) is back
    assert cancelled(ring) is ring


def test_a_join_that_removed_nodes_need_is_not_cancelled() -> None:
    ring = after(a_ring("abc", 16, 2), {"join": [{"name": "d", "address": "d:1"}]})
    for name in "ab":
        ring = removed(ring, name, True, f"remove {name}")[0]
    with pytest.raises(BadParameter) as refused:
        cancelled(ring)
    assert refused.value.field == "cancel"
    assert "without d 1 nodes would stay, n = 2" in str(refused.value)
    assert "the places of a and b, removed by force" in str(refused.value)
    more = after(ring, {"join": [{"name": "e", "address": "e:1"}]}, "more")
    switched = msgspec.structs.replace(more, entries=done(more).entries)
    assert cancelled(switched) is switched, "what has switched stays, and was all"
    alone = removed(ring, "d", True, "remove d")[0]
    assert cancelled(alone).live_names() == ("c",), "the cancel makes no member leave"


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
    assert (left.members["a"].state, left.members["a"].version) == (LEFT, CHANGED)
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
    one_ack = msgspec.structs.replace(ring, target=RingTarget(w=1))
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
    with pytest.raises(BadParameter, match="2 nodes would stay"):
        planned(left, {})
    made = planned(left, JOIN_D)
    assert {(out, into) for _, out, into in made.moves} == {("c", "d")} and len(made.moves) == 16


@settings(max_examples=60)
@given(data=st.data())
def test_any_row_of_changes_ends_balanced_with_all_nodes_in_place(data: st.DataObject) -> None:
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
            with suppress(BadParameter):  # removed nodes need the join
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
