"""The gate: senseless documents are refused as a whole; sensible ones are all accepted (S-IN-2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dynamo_core.bounds import MEMBERS_MAX, Refusals
from dynamo_core.causality.codec import encode_record
from dynamo_core.causality.context import Context, seal, unseal
from dynamo_core.causality.records import History, Record, Sibling
from dynamo_core.errors import BadContext
from dynamo_core.keys import META, partition_of, store_key
from dynamo_core.membership.stored_ring import ADDRESSES_KEY, GONE_KEY, RING_KEY, says
from dynamo_core.protocol.frames import FRAME_VERSION, Frame, encode_frame
from dynamo_core.protocol.messages import Fetched, Message, Refused, Store
from dynamo_core.protocol.move_messages import Promise
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.protocol.ring_messages import Admit, Entries, FirstRing, Gossip, Parts
from dynamo_core.protocol.round_messages import NumbersTold, RoundDone
from dynamo_core.replica.actors import Actors
from dynamo_core.ring.document import LEFT, Entry, Identity, Member, Ring, RingParts, RingTarget
from dynamo_core.ring.gate import entry_fault, line_fault, ring_fault, step_fault, target_fault
from dynamo_core.ring.placement import first_ring
from dynamo_core.secret_keys import keys_of
from dynamo_core.testing.town import Town

SECRET = keys_of((b"s",)).contexts
LINES = {name: Member(name, 1, index, f"{name}:1") for index, name in enumerate("abcd", 1)}
RING = first_ring(Identity("shop", 16, 3), LINES, RingTarget())
OWNERS = RING.entries[0].owners
OTHER = next(name for name in LINES if name not in OWNERS)
replace = msgspec.structs.replace
ENTRY = RING.entries[0]
BAD_ENTRIES = {
    "version": replace(ENTRY, version=2**31),
    "version below nothing": replace(ENTRY, version=-1),
    "term": replace(ENTRY, term=2**33),
    "by": replace(ENTRY, by=-1),
    "an owner too few": replace(ENTRY, owners=OWNERS[:2]),
    "an owner too many": replace(ENTRY, owners=(*OWNERS, OTHER)),
    "an owner twice": replace(ENTRY, owners=(OWNERS[0], *OWNERS[:2])),
    "a receiver that owns": replace(ENTRY, move=(OWNERS[0], OWNERS[1])),
    "a receiver that goes out": replace(ENTRY, move=(OWNERS[0], OWNERS[0])),
    "no owner goes out": replace(ENTRY, move=(OTHER, OWNERS[0])),
    "a route for a receiver": replace(ENTRY, move=(OWNERS[0], "@d:1")),
    "old as it is": replace(ENTRY, old=OWNERS),
    "old too short": replace(ENTRY, old=(OTHER,)),
    "moves and settles": replace(ENTRY, move=(OWNERS[0], OTHER), old=(OTHER, *OWNERS[1:])),
}
BAD_LINES = {
    "no name": replace(LINES["a"], name=""),
    "a long name": replace(LINES["a"], name="é" * 128),
    "a name of a replaced life": replace(LINES["a"], name="~a"),
    "a route": replace(LINES["a"], name="@a:1"),
    "a target": replace(LINES["a"], name="=5"),
    "incarnation": replace(LINES["a"], incarnation=2**31),
    "version": replace(LINES["a"], version=2**62),
    "no id": replace(LINES["a"], id=0),
    "no address": replace(LINES["a"], address=""),
    "an address without a port": replace(LINES["a"], address="a"),
    "a client of two lines": replace(LINES["a"], client="a:1\r\nb:2"),
    "weight": replace(LINES["a"], weight=0),
    "a zone without end": replace(LINES["a"], zone="z" * 5000),
}
BAD_TARGETS = {
    "r": RingTarget(r=4),
    "w": RingTarget(w=0),
    "dw": RingTarget(dw=4),
    "version": RingTarget(version=2**31),
    "moves": RingTarget(moves=-1),
    "rows": RingTarget(owners=(OWNERS,) * 15),
    "a row too short": RingTarget(owners=(("a",),) * 16),
    "a stranger": RingTarget(owners=(("a", "b", "ghost"),) * 16),
    "operations": RingTarget(operations=("op",) * 1000),
}


@pytest.mark.parametrize("entry", BAD_ENTRIES.values(), ids=BAD_ENTRIES.keys())
def test_entries_without_sense(entry: Entry) -> None:
    assert entry_fault(entry, 3)
    after = RING.with_entries({3: entry})
    assert ring_fault(after).startswith("partition 3: ")
    assert step_fault(RING, after).startswith("partition 3: ")


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_lines_without_sense(line: Member) -> None:
    assert line_fault(line)
    after = Ring(RING.identity, RING.members | {line.name: line}, RING.target, RING.entries)
    assert ring_fault(after) and step_fault(RING, after)


@pytest.mark.parametrize("target", BAD_TARGETS.values(), ids=BAD_TARGETS.keys())
def test_targets_without_sense(target: RingTarget) -> None:
    assert target_fault(target, RING.identity, RING.members)
    after = Ring(RING.identity, RING.members, target, RING.entries)
    assert ring_fault(after) and step_fault(RING, after)


def test_owners_without_a_line_and_lines_without_end() -> None:
    ghost = RING.with_entries({0: replace(ENTRY, owners=("a", "b", "ghost"), version=1)})
    assert "'ghost' is no member" in step_fault(RING, ghost)
    many = {f"n{i}": Member(f"n{i}", 1, i + 9, "n:1", state=LEFT) for i in range(MEMBERS_MAX)}
    assert "at most" in ring_fault(Ring(RING.identity, LINES | many, RING.target, RING.entries))
    assert "identity" in step_fault(RING, replace(RING, identity=Identity("shop", 16, 2)))


def test_what_correct_nodes_write_passes() -> None:
    """C17: owners that have LEFT, old ones, targets of them, moves, the largest ring."""
    left = replace(LINES[OWNERS[0]], state=LEFT, version=7)
    ring = Ring(RING.identity, RING.members | {left.name: left}, RING.target, RING.entries)
    moved = (OTHER, *OWNERS[1:])
    for entry in (
        replace(ENTRY, move=(OWNERS[0], OTHER), by=2**64 - 1, version=2**31 - 1),
        replace(ENTRY, term=5, owners=moved, old=OWNERS, by=1),
        replace(ENTRY, version=1 << 16, by=9),
    ):
        assert ring_fault(ring.with_entries({3: entry})) == ""
    rows = tuple(entry.owners for entry in RING.entries)
    assert ring_fault(ring.with_target(RingTarget(1, rows, 1, 3, 3, False, ("~op",), 16))) == ""
    large = first_ring(Identity("c", 4096, 3), LINES, RingTarget())
    assert ring_fault(Ring.decode(large.encode())) == ""


# ---------------------------------------------------------------- as peers say it


def said(town: Town, sender: str, receiver: str, message: Any, **head: Any) -> None:
    """A frame of a member that makes sense except for this message."""
    node, other = town.nodes[receiver], town.nodes[sender]
    me = other.identity
    now_ms = node.detector.now_ms
    frame = Frame(
        FRAME_VERSION,
        "town",
        me.name,
        me.node_id,
        me.address,
        other.boot,
        now_ms,
        node.boot,
        now_ms,
        [message],
    )
    node.receive(encode_frame(replace(frame, **head)))
    town.deliver()


def bad(town: Town) -> Entry:
    return replace(town.ring.entries[3], version=2**33)


NEWS: dict[str, Callable[[Town], Message]] = {
    "an entry": lambda town: Entries(0, [(3, bad(town))]),
    "parts": lambda town: Parts(
        0, RingParts(entries=(*town.ring.entries[:3], bad(town), *town.ring.entries[4:])), ()
    ),
    "a promise": lambda town: Promise(5, 3, bad(town)),
    "a line": lambda town: Parts(0, RingParts(members={"z": Member("z", 1, 0, "z:1")}), ()),
    "a ghost": lambda town: Parts(
        0,
        RingParts(
            members=town.ring.members,
            entries=(Entry(0, 5, ("a", "b", "ghost")), *town.ring.entries[1:]),
        ),
        (),
    ),
    "numbers": lambda town: NumbersTold(0, [(3, 5, 9)]),
    "a partition": lambda town: NumbersTold(0, [(4000, 9, 5)]),
    "an address": lambda town: Admit(7, "nowhere", "", 1),
    "digests": lambda town: Gossip(0, (b"d" * 16,), 1, 1),
}


@pytest.mark.parametrize("news", NEWS.values(), ids=NEWS.keys())
def test_it_is_refused_whole_counted_by_its_peer_and_told_once(
    news: Callable[[Town], Message],
) -> None:
    town = Town("a b c")
    node = town.nodes["a"]
    before, disk = node.ring, dict(town.disks["a"].rows[META])
    numbers = node.replica.numbers.rows()
    for _ in range(3):
        said(town, "c", "a", news(town))
    assert node.ring is before and node.replica.numbers.rows() == numbers
    assert town.disks["a"].rows[META] == disk
    assert node.refusals.by_peer == {"c": 3}
    assert [peer for peer, _, _ in node.refusals.untold] == ["c"]
    town.run(3.0)
    assert town.put("a", b"cart", b"milk", w=3).status == 204
    assert town.counters("rings_refused") in (0, 3)


def test_entries_of_members_that_this_disk_has_forgotten_are_no_fault_of_the_peer() -> None:
    """An answer to what this node asked before its disk was put back comes late: the node asks for
    the members, and refuses nothing (seed 20000444)."""
    town = Town("a b c d", members="a b c")
    backup = town.disks["a"].copy()
    town.change("b", join=["d"])
    town.until(town.moved)
    entries = town.ring.entries
    town.kill("a")
    town.disks["a"] = backup
    town.cut |= {(other, "a") for other in "bcd"}
    town.start("a", trusted=False)
    asked: list[str] = []

    def listen(sender: str, receiver: str, frame: Frame) -> bool:
        asked.extend(receiver for m in frame.messages if sender == "a" and isinstance(m, Gossip))
        return False

    town.lost = listen
    before = town.nodes["a"].ring
    assert "d" not in before.members
    said(town, "b", "a", Parts(0, RingParts(entries=entries), ()))
    assert town.nodes["a"].ring is before and asked == ["b"]
    assert not town.nodes["a"].refusals.by_peer
    town.cut.clear()
    town.until(lambda: town.nodes["a"].ring.digests() == town.nodes["b"].ring.digests())


def test_a_senseless_call_is_answered_so() -> None:
    """Its sender need not wait for its timeout."""
    town = Town("a b c")
    heard: list[Message] = []

    def listen(sender: str, receiver: str, frame: Frame) -> bool:
        heard.extend(m for m in frame.messages if sender == "a" and receiver == "c")
        return False

    town.lost = listen
    said(town, "c", "a", Promise(5, 3, bad(town)))
    assert Refused(5, Refusal.SENSELESS) in heard


def test_an_answer_of_another_kind_fails_its_call() -> None:
    """The machine that asked never gets it, and goes on with the other nodes."""
    town = Town("a b c d")
    key = next(b"k%d" % i for i in range(99) if town.owners(b"k%d" % i)[0] == "b")
    town.put("a", key, b"milk", w=3)
    answered = 0

    def lie(sender: str, receiver: str, frame: Frame) -> bool:
        nonlocal answered
        for at, message in enumerate(frame.messages):
            if sender == "b" and receiver == "a" and isinstance(message, Fetched):
                answered += 1
                frame.messages[at] = RoundDone(message.id, 1)
                town.nodes["a"].receive(encode_frame(frame))
                return True
        return False

    town.lost = lie
    node = town.nodes["a"]
    while not answered:
        assert town.values("a", key, r=2) == [b"milk"]
    assert node.refusals.by_peer["b"] == answered


def test_one_beat_without_sense_does_not_silence_a_peer() -> None:
    """A beat from a far future is not echoed for ever, and an echo of a number that was never sent
    does not stay recent for ever."""
    town = Town("a b c")
    far = 2**50
    said(town, "c", "a", Gossip(0, (), 1, 1), beat=far)
    assert town.nodes["a"].detector.peers["c"].beat == far
    town.run(1.0)
    assert town.nodes["a"].detector.peers["c"].beat < far
    said(town, "c", "a", Gossip(0, (), 1, 1), echo=far)
    town.run(3.0)
    assert town.nodes["a"].up("c") and town.nodes["c"].up("a")
    town.kill("c")
    town.run(5.0)
    assert not town.nodes["a"].up("c")


def test_refusals_are_bounded_and_told_once() -> None:
    refusals = Refusals()
    for index in range(3000):
        refusals.add(f"n{index}", "Parts", "x" * 9999)
        refusals.add(f"n{index}", "Parts", "again")
    assert len(refusals.by_peer) <= 1025 and sum(refusals.by_peer.values()) == 6000
    assert len(refusals.untold) <= 1024 and all(len(why) <= 1024 for _, _, why in refusals.untold)


BAD_RECORDS = {
    "a sibling": Record((Sibling(7, 2**62, b"v"),), History({7: 1})),
    "a vector": Record((Sibling(7, 1, b"v"),), History({7: 2**63})),
    "a dot": Record((Sibling(7, 1, b"v"),), History({7: 1}, frozenset({(8, 2**64 - 1)}))),
}


@pytest.mark.parametrize("record", BAD_RECORDS.values(), ids=BAD_RECORDS.keys())
def test_a_record_with_a_counter_at_its_end_is_not_taken(record: Record) -> None:
    """Its digest is correct; if a node took it, no put of its key could ever be encoded again."""
    town = Town("a b c")
    stored = store_key(b"cart")
    place = partition_of(stored, 4)
    entry_id = town.ring.entries[place].id
    for target in ("", "b"):
        said(
            town,
            "c",
            "a",
            Store(9, place, entry_id, stored, encode_record(b"cart", record), target),
        )
    assert town.nodes["a"].counters["corrupt_records_refused"] == 2
    assert town.put("a", b"cart", b"milk", w=3).status == 204
    assert town.values("b", b"cart", r=3) == [b"milk"]


def test_a_context_with_a_counter_at_its_end_is_no_context() -> None:
    for count, good in ((2**62 - 1, True), (2**62, False), (2**63, False)):
        text = seal(SECRET, b"cart", Context(History({7: count}).encode()))
        if good:
            assert unseal(SECRET, b"cart", text).history
        else:
            with pytest.raises(BadContext):
                unseal(SECRET, b"cart", text)


def test_an_actor_at_its_end_is_born_again() -> None:
    draws = iter((7, 8))
    actors = Actors(lambda: next(draws))
    assert actors.mint(3, History({7: 5})) == (7, 6)
    assert actors.mint(3, History({7: 2**62 - 1})) == (8, 1)


# ---------------------------------------------------------------- on a disk


def spoilt(row: bytes) -> dict[str, bytes]:
    ring = Ring.decode(row)
    entry = replace(ring.entries[3], version=2**33)
    return {"one integer": ring.with_entries({3: entry}).encode(), "no document": row[:-7]}


@pytest.mark.parametrize("kind", ["one integer", "no document"])
@pytest.mark.parametrize("seeds", [("b:1", "c:1"), ()], ids=["seeds", "no seeds"])
def test_a_disk_whose_ring_makes_no_sense_starts_without_it_and_asks(
    kind: str, seeds: tuple[str, ...]
) -> None:
    """It keeps id and data, is complete nowhere until its passes, and is whole again."""
    town = Town("a b c")
    for index in range(20):
        town.put("a", b"k%d" % index, b"v", w=3)
    town.kill("a")
    rows = town.disks["a"].rows[META]
    held = dict(town.disks["a"].rows[0])
    rows[RING_KEY] = spoilt(rows[RING_KEY])[kind]
    node = town.start("a", seeds=seeds)
    assert node.ring_or_none is None and node.counters["ring_of_the_disk_refused"] == 1
    assert node.admin.status()["disk"] == "foreign"
    assert not any(key.startswith(b"complete/") for key in rows)
    said_so = says(node.ring_state.lost_ring, (), node.ring_state.remembered)
    assert "makes no sense" in said_so and "asks b:1, c:1 for it" in said_so
    town.until(lambda: node.member)
    assert node.ring_state.lost_ring == ""
    assert town.disks["a"].rows[0] == held
    town.until(lambda: all(node.replica.complete(p) for p in node.replica.owned()))
    assert town.values("a", b"k7", r=3) == [b"v"]
    town.kill("a")
    assert town.start("a").member


def test_without_seeds_and_addresses_it_says_what_is_missing() -> None:
    town = Town("a b c")
    town.kill("a", "b", "c")
    rows = town.disks["a"].rows[META]
    rows[RING_KEY] = b"\xc1"
    del rows[ADDRESSES_KEY]
    node = town.start("a", seeds=())
    line = says(node.ring_state.lost_ring, (), node.ring_state.remembered)
    assert line.endswith(
        "has no seeds and remembers no address to ask for it: start it with --seeds"
    )
    town.run(5.0)
    assert node.admin.status()["state"] is None and RING_KEY in rows


def test_it_is_neither_founded_nor_admitted_as_an_empty_node() -> None:
    town = Town("a b c")
    town.kill("a")
    town.disks["a"].rows[META][RING_KEY] = b"\xc1"
    town.cut = {("a", "b"), ("a", "c"), ("b", "a"), ("c", "a")}
    node = town.start("a")
    answers: list[tuple[int, Any]] = []
    body = {"members": [{"name": "a", "address": "a:1"}], "n": 1}
    node.admin.create_ring(body, lambda status, said: answers.append((status, said)))
    town.run(1.0)
    assert answers[0][0] == 409 and "makes no sense" in answers[0][1]["detail"]
    said(town, "b", "a", FirstRing(5, town.nodes["b"].ring.parts_differing(())))
    assert node.ring_or_none is None and GONE_KEY not in town.disks["a"].rows[META]
