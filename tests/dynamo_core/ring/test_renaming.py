"""A ring document under new names: another ring, which merges as the old one did (S-BAK-4)."""

from __future__ import annotations

import msgspec
import pytest

from dynamo_core.errors import RingRefused
from dynamo_core.ring import planning
from dynamo_core.ring.change_request import parse_change_request
from dynamo_core.ring.document import LEFT, Identity, Member, Ring, RingTarget, merge
from dynamo_core.ring.placement import first_ring
from dynamo_core.ring.renaming import Renaming, renamed

NAMES = Renaming("cart", "again", "new-ring", "again-1", "again-1.again-nodes.shop.svc:8082")


def ring(count: int = 4) -> Ring:
    lines = {
        f"cart-{n}": Member(f"cart-{n}", 1, 100 + n, f"cart-{n}.cart-nodes.shop.svc:8082", "c:1")
        for n in range(count)
    }
    return first_ring(Identity("old-ring", 16, 3), lines, RingTarget())


def without_own(document: Ring) -> Ring:
    """The line of the node itself has its address one version later."""
    lines = {name: line for name, line in document.members.items() if name != NAMES.own}
    return Ring(document.identity, lines, document.target, document.entries)


def test_nothing_that_names_a_node_or_the_ring_is_in_both() -> None:
    old, new = ring(), renamed(ring(), NAMES)
    assert new.identity == Identity("new-ring", 16, 3)
    assert set(new.members) == {f"again-{n}" for n in range(4)}
    ids = {line.id for line in new.members.values()}
    assert len(ids) == 4 and not ids & {line.id for line in old.members.values()}
    assert new.members["again-2"].address == "again-2.again-nodes.shop.svc:8082"
    assert new.members["again-2"].client == ""
    assert new.members["again-1"].version == old.members["cart-1"].version + 1
    text = new.encode()
    assert b"cart" not in text and b"old-ring" not in text
    for before, after in zip(old.entries, new.entries, strict=True):
        assert [NAMES.name(owner) for owner in before.owners] == list(after.owners)
    with pytest.raises(RingRefused, match="this is new-ring, not old-ring"):
        merge(new, old)


def test_copies_of_several_moments_merge_as_their_rings_would_have() -> None:
    first = ring()
    wishes = parse_change_request({"defaults": {"r": 1}})
    second = planning.applied(first, planning.plan(first, wishes), wishes, {}, "one")
    line = second.members["cart-3"]
    second = second.with_member(line.changed(state=LEFT))
    for a, b in ((first, second), (second, first)):
        together = merge(renamed(a, NAMES), renamed(b, NAMES))
        assert without_own(together) == without_own(renamed(merge(a, b), NAMES))


def test_another_node_computes_the_same_of_all_but_its_own_line() -> None:
    other = Renaming("cart", "again", "new-ring", "again-2", "again-2.again-nodes.shop.svc:8082")
    a, b = renamed(ring(), NAMES), renamed(ring(), other)
    assert a.entries == b.entries and a.target == b.target and a.identity == b.identity
    for name in ("again-0", "again-3"):
        assert a.members[name] == b.members[name]
    assert merge(a, b).members["again-2"] == b.members["again-2"]


def test_an_address_without_the_own_name_leads_nowhere_until_its_node_tells() -> None:
    local = Renaming("cart", "again", "new-ring", "again-1", "127.0.0.1:7101")
    made = renamed(ring(), local)
    assert made.members["again-1"].address == "127.0.0.1:7101"
    assert made.members["again-0"].address == "again-0.invalid:7101"


@pytest.mark.parametrize("name", ["n1", "cart-x", "carts-1", "cart-1-2"])
def test_a_member_that_has_no_number_cannot_be_renamed(name: str) -> None:
    assert NAMES.name(name) == name and not NAMES.fits(name)
    old = ring()
    line = msgspec.structs.replace(old.members["cart-0"], name=name, id=999)
    with pytest.raises(RingRefused, match="not cart-NUMBER"):
        renamed(old.with_member(line), NAMES)


def test_a_disk_that_was_copied_during_a_move_is_refused() -> None:
    old = ring()
    entry = old.entries[0]
    other = next(name for name in old.members if name not in entry.owners)
    moving = msgspec.structs.replace(entry, move=(entry.owners[0], other), version=1)
    with pytest.raises(RingRefused, match="a partition moved when the disk was copied"):
        renamed(old.with_entry(0, moving), NAMES)
