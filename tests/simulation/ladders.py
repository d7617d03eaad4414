"""Scripted histories that once broke a rule of forgetting, each on real nodes (S-DEL-2, S-DEL-3).

The names are those of the model of the rules that found them. Each asserts a rule, so each fails if
the rule is removed from the core: tests/simulation/round_mutants.py names which.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dynamo_core.keys import DATA, HINTS, partition_of, store_key
from dynamo_core.protocol.frames import Frame, encode_frame
from dynamo_core.protocol.messages import Fetched, Store
from dynamo_core.protocol.operations import Get, Outcome
from dynamo_core.protocol.round_messages import RoundAsk
from dynamo_core.testing.disk import Disk
from dynamo_core.testing.town import SETTINGS, Town, known

KEY = b"cart"
STORED = store_key(KEY)
QUICK = msgspec.structs.replace(SETTINGS, tombstone_age_min_s=12.0, collect_s=0.5)
LADDERS: dict[str, Callable[[], None]] = {}


def ladder(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def named(climb: Callable[[], None]) -> Callable[[], None]:
        LADDERS[name] = climb
        return climb

    return named


def partition(town: Town) -> int:
    return partition_of(STORED, town.ring.partition_bits)


def rows(town: Town, name: str) -> int:
    return len(town.disks[name].rows[DATA]) + len(town.disks[name].rows[HINTS])


def forgotten(town: Town) -> bool:
    return not any(rows(town, name) for name in town.names)


def delete(town: Town, at: str) -> None:
    """With the context of a read, on every owner."""
    outcome = town.put(at, KEY, None, context=known(town.get(at, KEY, r=1)), w=town.ring.identity.n)
    assert outcome.status == 204


def put_back(town: Town, name: str, disk: Disk) -> None:
    town.kill(name)
    town.disks[name] = disk
    town.start(name)


def isolate(town: Town, name: str) -> None:
    others = [other for other in town.names if other != name]
    town.cut |= {(name, other) for other in others} | {(other, name) for other in others}


def nothing_comes_back(town: Town) -> None:
    town.run(20.0)
    for name in town.nodes:
        assert town.values(name, KEY) == []


def stands(name: str) -> bool:
    """Whether the ladder holds."""
    try:
        LADDERS[name]()
    except AssertionError:
        return False
    return True


@ladder("M1")
def a_disk_from_before_a_collection() -> None:
    """It still holds a value whose tombstone all others have forgotten."""
    town = Town("a b c", settings=QUICK)
    town.put("a", KEY, b"v", w=3)
    backup = town.disks["b"].copy()
    delete(town, "a")
    town.until(lambda: forgotten(town))
    put_back(town, "b", backup)
    nothing_comes_back(town)
    assert forgotten(town)
    assert town.counters("stale_copies_dropped") == 1


@ladder("M1 after a restart")
def a_disk_from_before_a_collection_and_others_that_started_again() -> None:
    """The others know the round from their disks."""
    town = Town("a b c", settings=QUICK)
    town.put("a", KEY, b"v", w=3)
    backup = town.disks["b"].copy()
    delete(town, "a")
    town.until(lambda: forgotten(town))
    town.kill("a", "c")
    for name in "ac":
        town.start(name)
    put_back(town, "b", backup)
    nothing_comes_back(town)


@ladder("M2")
def a_rebuild_from_one_owner_only() -> None:
    """A record that only the third owner holds is not absent because two others say so."""
    town = Town("a b c", settings=QUICK)
    town.cut |= {(one, other) for one in "ab" for other in "c"} | {("c", "a"), ("c", "b")}
    assert town.put("a", KEY, b"v", w=2, strict=True).status == 204
    town.kill("a")
    town.wipe("a")
    town.cut = {(one, other) for one in "ac" for other in "b"} | {("b", "a"), ("b", "c")}
    town.start("a")
    town.run(20.0)
    assert town.nodes["a"].member
    assert town.get("c", KEY, r=2).problem == "insufficient-owners"


@ladder("L3")
def a_hint_that_comes_twice() -> None:
    """Its second copy reaches the stand-in after the stand-in has agreed to the round."""
    town = Town("a b c", n=2, settings=QUICK)
    first, second = town.owners(KEY)
    (third,) = town.others(KEY)
    frames: list[Frame] = []

    def listen(sender: str, receiver: str, frame: Frame) -> bool:
        if receiver == third and any(isinstance(m, Store) for m in frame.messages):
            frames.append(frame)
        return False

    town.kill(second)
    town.lost = listen
    town.put(first, KEY, b"v", w=2)
    assert frames
    town.start(second)
    town.until(lambda: rows(town, third) == 0)
    delete(town, first)
    town.until(lambda: forgotten(town))
    for frame in frames:
        town.nodes[third].receive(encode_frame(frame))
    nothing_comes_back(town)


@ladder("L4")
def a_read_repair_past_a_round() -> None:
    """A live node writes back after the round what it read before."""
    town = Town("a b c d", settings=QUICK)
    one, two, three = town.owners(KEY)
    (reader,) = town.others(KEY)
    town.cut |= {(one, two), (two, one), (one, three), (three, one)}
    town.lost = lambda sender, receiver, frame: any(isinstance(m, Store) for m in frame.messages)
    town.put(one, KEY, b"v", w=1)

    def silent(sender: str, receiver: str, frame: Frame) -> bool:
        answers = any(isinstance(m, Fetched) for m in frame.messages)
        return (sender, receiver) == (three, reader) and answers

    town.lost = silent
    answers: list[Outcome] = []
    town.nodes[reader].submit(Get(key=KEY, r=3, timeout_s=60.0), answers.append)
    town.deliver()
    town.cut.clear()
    town.until(lambda: all(rows(town, name) for name in (one, two, three)))
    delete(town, one)
    town.until(lambda: forgotten(town), 50.0)
    town.until(lambda: bool(answers))
    nothing_comes_back(town)


@ladder("L5")
def a_put_that_a_stale_disk_took_alone() -> None:
    """Its copy is dropped, but not the puts that it acked in this life."""
    town = Town("a b", n=2, settings=QUICK)
    town.put("a", KEY, b"v", w=2)
    backup = town.disks["b"].copy()
    delete(town, "a")
    town.until(lambda: forgotten(town))
    isolate(town, "b")
    put_back(town, "b", backup)
    assert town.put("b", KEY, b"new", w=1).status == 204
    town.cut.clear()
    town.run(10.0)
    assert [town.values(name, KEY) for name in "ab"] == [[b"new"], [b"new"]]
    assert town.counters("stale_copies_dropped") == 1


@ladder("L6")
def a_put_that_a_new_life_took_alone() -> None:
    """It returns under a new id after a round, and is cut off: this does not make it stale."""
    town = Town("a b c d", n=2, settings=QUICK)
    owners, (third, fourth) = town.owners(KEY), town.others(KEY)
    town.put(owners[0], KEY, b"v", w=2)
    delete(town, owners[0])
    town.until(lambda: forgotten(town))
    town.kill(third)
    town.wipe(third)
    town.cut |= {(owner, third) for owner in owners} | {(third, owner) for owner in owners}
    town.start(third)
    town.until(lambda: third in town.nodes and town.nodes[third].member)
    town.kill(fourth)
    assert town.put(third, KEY, b"new", w=1).status == 204
    town.start(fourth)
    town.cut.clear()
    town.run(10.0)
    assert [town.values(name, KEY) for name in town.names] == [[b"new"]] * 4


@ladder("L7")
def a_number_below_one_that_was_seen() -> None:
    """A round with a high number that was abandoned, one below it, and a disk from in between."""
    town = Town("a b", n=2, settings=QUICK)
    leader, other = town.owners(KEY)
    town.put("a", KEY, b"v", w=2)
    here = partition(town)
    _, members, target, _ = town.ring.digests()
    entry_id = town.ring.entries[here].id
    number = 5 << 32
    town.nodes[other].round_participant.ask(
        RoundAsk(0, here, entry_id, number, members, target, []), lambda reply: None
    )
    town.deliver()
    backup = town.disks[other].copy()
    delete(town, leader)
    town.until(lambda: forgotten(town))
    put_back(town, other, backup)
    nothing_comes_back(town)


@ladder("a hint that waits")
def a_hint_that_waits_for_its_link() -> None:
    """While it is on any disk, its tombstone stays, and the node says why."""
    town = Town("a b c", n=2, settings=QUICK)
    first, second = town.owners(KEY)
    (third,) = town.others(KEY)
    town.kill(second)
    town.put(first, KEY, b"v", w=2)
    town.lost = lambda sender, receiver, frame: (
        (sender, receiver) == (third, second) and any(isinstance(m, Store) for m in frame.messages)
    )
    town.start(second)
    town.until(lambda: rows(town, second) == 1)
    delete(town, first)
    town.run(30.0)
    town.lost = lambda sender, receiver, frame: False
    assert town.nodes[first].admin.status()["tombstones"]["waiting_for"] in (
        f"a hint for {second} lies at {third}",
        f"the next round of partition {partition(town)}, which {second} leads",
    )
    nothing_comes_back(town)
    town.until(lambda: forgotten(town))


@ladder("a dot after a collection")
def a_dot_after_a_collection() -> None:
    """An old context covers what its client saw, and no value that was written later."""
    town = Town("a b c", settings=QUICK)
    at = town.owners(KEY)[0]
    town.put(at, KEY, b"v", w=3)
    old = known(town.get(at, KEY))
    delete(town, at)
    town.until(lambda: forgotten(town))
    town.put(at, KEY, b"new", w=3)
    town.put(at, KEY, b"late", context=old, w=3)
    assert set(town.values(at, KEY)) == {b"new", b"late"}


@ladder("L10")
def a_twin_of_a_retry_that_was_read() -> None:
    """One request under two dots; a client that read the dropped one supersedes both (S-REQ-1)."""
    for first, second in ("ab", "ba"):  # either dot may be the smaller one, which stays
        town = Town("a b", n=2, settings=QUICK)
        town.cut |= {("a", "b"), ("b", "a")}
        for name in (first, second):
            town.put(name, KEY, b"v", w=1, request_id="r")
        context = known(town.get(second, KEY, r=1))
        town.cut.clear()
        town.until(lambda town=town: town.values("a", KEY) == [b"v"])  # type: ignore[misc]
        town.put(first, KEY, b"new", context=context, w=2)
        assert town.values(first, KEY) == [b"new"]
