"""Scripted histories of members that return at another address (S-MEM-5, S-MEM-3)."""

from __future__ import annotations

from dynamo_core.protocol.ring_messages import Prepare
from dynamo_core.ring.document import LEAVING, MEMBER, Member
from dynamo_core.testing.town import Town
from tests.simulation.ladders import ladder

LEAVES = "a member leaves, moves twice, and the administrator has not heard of it"
CLONE = "a copy of a disk is started beside the original"
TWO_COMMANDS = "a founder moves between two create commands"
ASKED_ELSEWHERE = "a member is asked to join at another address than its line has"
OLD = "a disk whose name has a later life comes back at another address"


def lines(town: Town, name: str) -> set[str]:
    """The addresses of that name at the running members."""
    return {n.ring.members[name].address for n in town.nodes.values() if n.member}


def moved(town: Town, name: str, address: str, **fields: object) -> None:
    """The node returns with its disk at that address."""
    town.kill(name)
    town.start(name, address=address, **fields)


@ladder(LEAVES)
def a_leave_stands() -> None:
    """The administrator had the old line; the leave and the new address both remain."""
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
    """The copy acknowledges nothing, and the line stays; when the original is silent, the copy is
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
    assert town.nodes["old"].ring_state.gone


@ladder(TWO_COMMANDS)
def the_ring_has_it_where_it_is() -> None:
    """Otherwise the earlier command asks it at the later command's address first (S-RING-5)."""
    town = Town("a b c", founded=False)
    town.kill("c")
    for address in ("c:1", "c:9"):
        members = [{"name": x, "address": x + ":1"} for x in "ab"]
        members.append({"name": "c", "address": address})
        body = {"cluster_id": "town", "partitions": 16, "n": 2, "members": members}
        town.nodes["a"].membership.create(body, lambda *answer: None)
        town.run(0.4)
    town.start("c", address="c:9")
    town.until(lambda: all(node.member for node in town.nodes.values()))
    town.run(10.0)
    assert lines(town, "c") == {"c:9"}


@ladder(ASKED_ELSEWHERE)
def a_line_with_another_address_is_not_believed() -> None:
    """Two administrators: the plan of one had its old address, and the other asked it."""
    town = Town("a b c", members="a b", n=2)
    c = town.start("c", address="c:9")
    c.membership.prepared(Prepare(0, "town", "c", "c:9"))
    line = Member("c", 1, town.disks["c"].node_id, "c:1")
    town.nodes["a"].ring_state.take(town.ring.with_member(line))
    town.until(lambda: c.member)
    town.run(10.0)
    assert lines(town, "c") == {"c:9"}
