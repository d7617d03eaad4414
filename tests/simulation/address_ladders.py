"""Scripted histories of members that come back at another address (S-MEM-5, S-MEM-3)."""

from __future__ import annotations

from ladders import ladder
from town import Town

from dynamo_core.ring import LEAVING, MEMBER

LEAVES = "a member leaves, moves twice, and the administrator has not heard of it"
CLONE = "a copy of a disk is started beside the original"
OLD = "a disk whose name has a later life comes back at another address"


def lines(town: Town, name: str) -> set[str]:
    """Where the members that run have that name."""
    return {n.ring.members[name].address for n in town.nodes.values() if n.member}


def moved(town: Town, name: str, address: str, **fields: object) -> None:
    """The node comes back with its disk, there."""
    town.kill(name)
    town.start(name, address=address, **fields)


@ladder(LEAVES)
def a_leave_stands() -> None:
    """The administrator had the line of before; the leave and the new address both stand."""
    town = Town("a b c d", n=2)
    town.cut = {("c", "a"), ("a", "c"), ("d", "a"), ("a", "d"), ("b", "a"), ("a", "b")}
    moved(town, "c", "c:8")
    town.run(6.0)
    moved(town, "c", "c:9")
    town.run(6.0)
    town.change("a", leave=["c"])
    assert town.nodes["a"].ring.members["c"].state == LEAVING
    town.cut = set()
    town.run(8.0)
    assert lines(town, "c") == {"c:9"}
    assert MEMBER not in {n.ring.members["c"].state for n in town.nodes.values() if n.member}


@ladder(CLONE)
def the_original_keeps_its_place() -> None:
    """The copy acknowledges nothing, and the line stays; once the original is silent the copy is
    the member."""
    town = Town("a b c")
    town.disks["copy"] = town.disks["a"].copy()
    copy = town.start("copy", name="a", address="a:9")
    town.run(10.0)
    assert lines(town, "a") == {"a:1"}
    assert town.put("copy", b"cart", b"milk", w=1).problem == "not-a-member"
    assert "stop one of them" in copy.whereabouts.trouble()
    assert "a:9" in town.nodes["a"].whereabouts.trouble()
    assert town.put("a", b"cart", b"milk", w=3).status == 204
    town.kill("a")
    town.run(15.0)
    assert lines(town, "a") == {"a:9"}
    assert town.values("copy", b"cart", r=3) == [b"milk"]
    assert copy.whereabouts.trouble() == ""


@ladder(OLD)
def a_gone_id_changes_no_line() -> None:
    town = Town("a b c")
    old = town.disks["a"]
    town.kill("a")
    town.wipe("a")
    town.run(3.0)
    town.start("a")
    town.until(lambda: town.nodes["a"].member, 20.0)
    town.run(3.0)
    town.disks["old"] = old
    town.start("old", name="a", address="a:9")
    town.run(12.0)
    assert lines(town, "a") == {"a:1"} and not town.counters("moved_lines_written")
    assert town.nodes["old"].membership.gone
