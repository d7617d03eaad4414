"""Moves of partitions on real nodes: joins, leaves, races, crashes at every step (S-MOVE-1..7)."""

from __future__ import annotations

from dynamo_core.keys import DATA, partition_of
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.move_messages import Promise
from dynamo_core.protocol.ring_messages import Entries
from dynamo_core.ring.document import LEFT, MEMBER
from dynamo_core.testing.town import Town

KEYS = [b"cart-%d" % index for index in range(60)]


def fill(town: Town) -> None:
    for key in KEYS:
        assert town.put("a", key, b"milk of " + key, w=2).status == 204


def everything_is_there(town: Town, at: str) -> None:
    for key in KEYS:
        assert town.values(at, key, r=2) == [b"milk of " + key]


def held(town: Town, name: str) -> set[int]:
    return set(town.nodes[name].replica.forest.held())


def test_a_node_joins_and_takes_its_share() -> None:
    town = Town("a b c d", members="a b c")
    fill(town)
    made = town.change("a", join=["d"])
    assert len(made.moves) == 12  # 16 partitions x 3 replicas / 4 nodes
    town.until(town.moved)
    assert town.ring.members["d"].state == MEMBER
    assert town.counters("switches") == len(made.moves)
    everything_is_there(town, "d")
    town.until(lambda: all(held(town, x) <= set(town.nodes[x].replica.owned()) for x in "abcd"))
    assert town.counters("records_surrendered") > 0
    everything_is_there(town, "b")


def test_a_node_leaves_and_nothing_is_lost() -> None:
    town = Town("a b c d")
    fill(town)
    town.change("b", leave=["d"])
    town.until(lambda: town.nodes["d"].ring_state.emptied)
    assert not any(town.disks["d"].rows[DATA])
    town.until(lambda: all(town.nodes[x].ring.members["d"].state == LEFT for x in "abc"))
    assert town.moved()
    everything_is_there(town, "c")
    assert town.get("d", KEYS[0]).problem == "not-a-member"


def test_what_was_copied_is_durable_before_anybody_hears_of_the_switch() -> None:
    """After a power cut only the receiver lacks the switch; the others make it the owner again."""
    town = Town("a b", n=1, members="a")
    for key in KEYS:
        assert town.put("a", key, b"milk", w=1).status == 204
    heard: list[bool] = []

    def lost(sender: str, to: str, frame: Frame) -> bool:
        entries = dict(e for m in frame.messages if isinstance(m, Entries) for e in m.entries)
        for stored in town.disks["a"].rows[DATA]:
            entry = entries.get(partition_of(stored, town.ring.partition_bits))
            if sender == "b" and entry is not None and entry.term:
                heard.append(bool(town.disks["b"].records(stored, durable=True)))
        return False

    town.lost = lost
    town.change("a", join=["b"])
    town.until(town.moved)
    assert set(heard) == {True}


def test_moves_that_wait_for_an_owner_hold_no_others_up() -> None:
    town = Town("a b c d e", members="a b c d")
    fill(town)
    town.lost = lambda sender, to, frame: (
        to == "b" and any(isinstance(message, Promise) for message in frame.messages)
    )
    town.change("a", join=["e"])
    free = [p for p, _, out in waiting(town) if "b" not in out]
    assert 2 < len(free) < len(waiting(town))
    town.until(lambda: stuck(town) == 2)
    town.kill("b")
    town.until(lambda: town.counters("switches") >= len(free))
    town.lost = lambda sender, to, frame: False
    town.start("b")
    town.until(town.moved)
    everything_is_there(town, "e")


def stuck(town: Town) -> int:
    entries = town.ring.entries
    return sum("b" in entries[p].owners for p in town.nodes["e"].moves.receiving)


def waiting(town: Town) -> list[tuple[int, str, tuple[str, ...]]]:
    """The partitions that e still has to receive, with their present owners."""
    rows = zip(town.ring.target.owners, town.ring.entries, strict=True)
    return [
        (p, "e", entry.owners)
        for p, (wanted, entry) in enumerate(rows)
        if "e" in wanted and "e" not in entry.owners
    ]


def test_a_leave_is_cancelled_midway() -> None:
    town = Town("a b c d")
    fill(town)
    town.change("b", leave=["d"])
    town.until(lambda: town.counters("switches") >= 3)
    from dynamo_core.ring.planning import cancelled

    town.nodes["c"].ring_state.take(cancelled(town.nodes["c"].ring))
    town.until(town.moved)
    assert town.ring.members["d"].state == MEMBER
    everything_is_there(town, "d")
    everything_is_there(town, "a")


def test_a_transfer_shows_its_bytes_and_takes_each_once() -> None:
    town = Town("a b c d", members="a b c")
    fill(town)
    shown: dict[int, dict[str, object]] = {}
    town.change("a", join=["d"])

    def look() -> bool:
        status = town.nodes["d"].admin.status()
        shown.update((one["partition"], one) for one in status["transfers"])
        return town.moved()

    town.cut = {("d", "c"), ("c", "d")}  # every partition waits for the pass over c
    town.run(1.0)
    assert not look() and shown
    town.cut = set()
    town.until(look)
    assert {one["state"] for one in shown.values()} <= {"beginning", "promises", "copying"}
    rows = town.disks["d"].rows[DATA].items()
    held_bytes = sum(len(stored) + len(record) for stored, record in rows)
    assert town.nodes["d"].counters["moved_bytes"] == held_bytes
