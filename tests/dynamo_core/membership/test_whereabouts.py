"""A member that returns with its disk at another address (S-MEM-5)."""

from __future__ import annotations

import msgspec
import pytest

from dynamo_core.membership.whereabouts import LOOKS_S
from dynamo_core.protocol.ring_messages import Prepare
from dynamo_core.ring.document import LEAVING, LEFT, MEMBER, Member, merge
from dynamo_core.testing.town import Town
from tests.dynamo_core.rings import a_ring, after

KEY = b"cart"


def lines(town: Town, name: str) -> set[tuple[str, str]]:
    """The addresses of that name at the running members."""
    members = [node.ring.members[name] for node in town.nodes.values() if node.member]
    return {(line.address, line.client) for line in members}


def all_up(town: Town) -> bool:
    return all(n.up(name) for n in town.nodes.values() for name in town.ring.live_names())


def settled(town: Town, **where: str) -> None:
    """All members hear each other, and have those names at their addresses."""
    town.until(
        lambda: (
            all_up(town)
            and len({n.ring.digest for n in town.nodes.values()}) == 1
            and all(town.ring.members[name].address == address for name, address in where.items())
        ),
        20.0,
    )


# ---------------------------------------------------------------- one, all, two for each other


def test_a_moved_member_is_one_again() -> None:
    town = Town("a b c")
    assert town.put("a", KEY, b"milk", w=3).status == 204
    town.kill("c")
    town.run(5.0)
    town.start("c", address="c:9", client="c:80", seeds=())
    settled(town, c="c:9")
    assert lines(town, "c") == {("c:9", "c:80")}
    assert town.values("c", KEY, r=3) == [b"milk"]
    line = town.ring.members["c"]
    assert (line.incarnation, line.id, line.state) == (1, town.disks["c"].node_id, MEMBER)
    assert town.counters("moved_lines_written") == 1


def test_all_at_once_find_each_other_by_their_seeds() -> None:
    town = Town("a b c")
    town.put("a", KEY, b"milk", w=3)
    town.kill("a", "b", "c")
    town.where.clear()
    for name in "abc":
        town.start(name, address=name + ":9", seeds=("a:9", "b:9"))
    settled(town, a="a:9", b="b:9", c="c:9")
    assert [lines(town, name) for name in "abc"] == [{(name + ":9", "")} for name in "abc"]
    assert town.values("b", KEY, r=3) == [b"milk"]


def test_all_at_once_without_seeds_say_what_to_do() -> None:
    town = Town("a b", n=2)
    town.kill("a", "b")
    town.where.clear()
    for name in "ab":
        town.start(name, address=name + ":9", seeds=())
    town.run(15.0)
    said = town.nodes["a"].whereabouts.trouble()
    assert "b at b:1" in said and "--seeds" in said
    assert town.nodes["a"].whereabouts.unheard() == [("b", "b:1")]


def test_two_that_have_changed_places_are_told_apart() -> None:
    """Meanwhile frames for one reach the other: the other uses nothing in them."""
    town = Town("a b c")
    town.put("a", KEY, b"milk", w=3)
    town.kill("a", "b")
    town.start("a", address="b:1")
    town.start("b", address="a:1")
    town.run(0.5)
    assert town.put("c", b"other", b"tea", w=1).status == 204
    settled(town, a="b:1", b="a:1")
    assert (lines(town, "a"), lines(town, "b")) == ({("b:1", "")}, {("a:1", "")})
    assert town.values("a", KEY, r=3) == [b"milk"]
    town.run(5.0)
    assert town.values("b", b"other", r=3) == [b"tea"]


def test_a_client_address_alone_is_written_at_once() -> None:
    town = Town("a b c")
    town.kill("a")
    town.start("a", client="a:81")
    town.run(1.0)
    assert lines(town, "a") == {("a:1", "a:81")}


def test_a_line_by_another_name_of_the_same_place_stays() -> None:
    """Its knock comes back to itself."""
    town = Town("a b c")
    town.where["alias:1"] = "a"
    line = msgspec.structs.replace(town.ring.members["a"], address="alias:1", version=1)
    town.nodes["b"].ring_state.take(town.ring.with_member(line))
    town.run(3 * LOOKS_S)
    assert lines(town, "a") == {("alias:1", "")}
    assert all_up(town) and town.nodes["a"].whereabouts.trouble() == ""
    town.kill("a")
    town.start("a")
    assert "alias:1" not in town.where  # it cannot dial that itself, as behind a router
    town.run(3 * LOOKS_S)
    assert lines(town, "a") == {("alias:1", "")}


def test_a_disk_of_before_the_move_that_is_put_back_is_dialled_where_it_is() -> None:
    town = Town("a b c")
    before = town.disks["a"].copy()
    town.kill("a")
    town.start("a", address="a:9")
    settled(town, a="a:9")
    town.kill("a")
    town.disks["a"] = before
    town.start("a")
    settled(town, a="a:1")


@pytest.mark.parametrize("asked_at", ["c:9", "alias:1"])
def test_a_founder_believes_a_line_only_with_the_address_at_which_it_was_asked(
    asked_at: str,
) -> None:
    """A later command asked it here, and an earlier command founded it with its old address."""
    town = Town("a b c", members="a b", n=2)
    c = town.start("c", address="c:9")
    c.membership.prepared(Prepare(0, "town", "c", asked_at))
    line = Member("c", 1, town.disks["c"].node_id, "alias:1")
    town.nodes["a"].ring_state.take(town.ring.with_member(line))
    town.until(lambda: c.member)
    town.run(3 * LOOKS_S)
    believed = asked_at == "alias:1"
    assert lines(town, "c") == {("alias:1" if believed else "c:9", "")}


# ---------------------------------------------------------------- lines of administrators


def changed_while(moves: int, **body: object) -> Member:
    """The result for a line that moves this often while an administrator, who does not know of it,
    changes it."""
    ring = a_ring("abcd", 16, 2)
    moved = ring
    for index in range(moves):
        moved = moved.with_member(moved.members["a"].at(f"a:{index}", ""))
    told = after(ring, body)
    assert merge(moved, told) == merge(told, moved)
    return merge(moved, told).members["a"]


@pytest.mark.parametrize("moves", [1, 2, 100])
def test_what_an_administrator_writes_stands_over_any_moves(moves: int) -> None:
    assert changed_while(moves, leave=["a"]).state == LEAVING
    assert changed_while(moves, weights={"a": 5}).weight == 5


def test_a_leave_that_an_older_node_wrote_stands_over_one_move() -> None:
    """It counts changes as moves; of two lines of one version the later state stands (C17)."""
    line = Member("a", 1, 1, "a:1")
    told = msgspec.structs.replace(line, state=LEAVING, version=1)
    assert line.at("a:9", "").later(told) is told
    assert told.at("a:9", "").later(told) == told.at("a:9", "")


def test_the_member_writes_its_address_into_a_later_line() -> None:
    town = Town("a b c d", n=2)
    town.cut = {(x, y) for x in "abcd" for y in "abcd" if "d" in (x, y)}
    town.kill("a")
    town.start("a", address="a:9")
    town.run(6.0)
    town.change("d", weights={"a": 3})
    town.cut = set()
    settled(town, a="a:9")
    assert town.ring.members["a"].weight == 3
    assert town.counters("moved_lines_written_again") == 1


def test_one_that_has_left_stays_as_it_is() -> None:
    line = Member("a", 1, 1, "a:1", state=LEFT, version=1)
    assert line.later(msgspec.structs.replace(line, state=MEMBER).at("a:9", "")) is line


# ---------------------------------------------------------------- two processes, one id


def test_two_lives_that_cannot_hear_each_other_do_not_flap() -> None:
    """Each writes the line less and less often; once they hear each other one of them yields."""
    town = Town("a b c")
    town.disks["copy"] = town.disks["a"].copy()
    town.cut = {("a", "copy"), ("copy", "a")}
    town.start("copy", name="a", address="a:9")
    town.run(600.0)
    written = town.counters("moved_lines_written")
    assert 2 <= written <= 16
    town.cut = set()
    town.run(30.0)
    (stays,) = lines(town, "a")
    town.run(700.0)
    assert lines(town, "a") == {stays}
    yielding = [town.nodes[name].whereabouts.yields for name in ("a", "copy")]
    assert sorted(yielding) == [False, True]
    assert town.counters("twins_met") >= 2
