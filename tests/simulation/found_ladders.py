"""Scripted histories of states that only long runs reached, each without its mend.

Random seeds reach each of these states once in tens of thousands of histories, and a stored plan
reaches its state only until some time changes: so each is scripted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from dynamo_core.causality.codec import decode_record, encode_record
from dynamo_core.causality.records import EMPTY
from dynamo_core.errors import NotHere
from dynamo_core.forgetting import quarantine
from dynamo_core.keys import DATA, HINTS
from dynamo_core.membership import ring_news
from dynamo_core.protocol.frames import Frame, encode_frame
from dynamo_core.protocol.messages import HINTED, Store
from dynamo_core.protocol.operations import Get, Outcome
from dynamo_core.protocol.ring_messages import Admit, Entries, Gossip, Parts
from dynamo_core.replica import coordination, replica
from dynamo_core.runtime import outbox
from dynamo_core.runtime.machine import Coordinate, Coordinated
from dynamo_core.testing.town import SETTINGS, Town
from tests.simulation.ladders import (
    KEY,
    QUICK,
    STORED,
    delete,
    forgotten,
    isolate,
    ladder,
    partition,
)
from tests.simulation.move_ladders import apart
from tests.simulation.mutants import LADDER_OF, Patch, mutant


def keep_from(town: Town, name: str, kept: Callable[[Any], bool]) -> None:
    """Frames reach this node without their messages of these types."""

    def lost(sender: str, to: str, frame: Frame) -> bool:
        rest = [message for message in frame.messages if not kept(message)]
        if to != name or len(rest) == len(frame.messages):
            return False
        left = encode_frame(msgspec.structs.replace(frame, messages=rest))
        town.frames.append((sender, to, left))
        return True

    town.lost = lost


@ladder("answers to two lives at one address")
def answers_to_two_lives_at_one_address() -> None:
    """A late knock of a lost disk is answered in the turn in which a read asks the node's present
    life: both have one address, and both frames leave (C8)."""
    town = Town("a b c")
    town.put("a", KEY, b"v", w=3)
    knocks: list[Frame] = []

    def listen(sender: str, to: str, frame: Frame) -> bool:
        if to == "a" and any(isinstance(m, Admit) for m in frame.messages):
            knocks.append(frame)
        return False

    town.lost = listen
    for _ in range(2):
        town.kill("c")
        town.run(3.0)
        town.wipe("c")
        town.start("c")
        town.until(lambda: town.nodes["c"].member)
    town.until(lambda: town.get("a", KEY, r=3).status == 200)
    assert knocks[0].node_id != town.disks["c"].node_id
    answers: list[Outcome] = []
    town.nodes["a"].submit(Get(key=KEY, r=3), answers.append)
    town.nodes["a"].receive(encode_frame(knocks[0]))
    town.deliver()
    assert [answer.status for answer in answers] == [200]


@ladder("delete retried where nothing is")
def a_delete_retried_where_nothing_is() -> None:
    """Two owners have its tombstone. Its retry, through another node, comes to the owner without
    it: as many nodes keep the delete as its answer counts (C7, S-REQ-1)."""
    town = Town("a b c d", settings=msgspec.structs.replace(SETTINGS, anti_entropy=False))
    one, two, three = town.owners(KEY)
    (stranger,) = town.others(KEY)
    town.put(two, KEY, b"v", w=3)
    town.lost = lambda sender, to, frame: (
        to in (one, stranger) and any(isinstance(m, Store) for m in frame.messages)
    )
    town.cut = apart(one, two + three + stranger)
    town.run(4.0)
    assert town.put(stranger, KEY, None, w=2, request_id="r").status == 204
    town.cut = set()
    town.until(lambda: town.nodes[stranger].up(one))
    keep_from(town, one, lambda message: isinstance(message, Store) and message.cause != "put")
    retried = town.put(stranger, KEY, None, w=3, request_id="r")
    assert retried.acks is not None
    kept = [name for name in town.names if _keeps(town, name, "r")]
    assert len(kept) >= retried.acks.total >= 3


def _keeps(town: Town, name: str, request_id: str) -> bool:
    """Whether this node's disk knows the request as done."""
    rows = town.disks[name].rows
    found = [row for key, row in rows[DATA].items() if key == STORED]
    found += [row for key, row in rows[HINTS].items() if key.endswith(STORED)]
    return any(decode_record(row).event_of(request_id) for row in found)


@ladder("read after a switch to one that joins")
def a_read_after_a_switch_to_one_that_joins() -> None:
    """It has copied everything before the first beat of another owner comes. Until it has compared
    its numbers it proves no absence, so it does not switch, and R=N can be met (C8, S-DISK-2)."""
    town = Town("a b c d", members="a b c")
    first = town.owners(KEY)[0]

    keep_from(town, "d", lambda message: isinstance(message, Gossip))
    town.change(first, operation_id="join", join=["d"])
    town.until(lambda: town.nodes["d"].member)
    assert "d" in town.ring.target.owners[partition(town)]
    for _ in range(20):
        town.run(0.5)
        assert town.get(first, KEY, r=3).status == 404
    town.lost = lambda sender, to, frame: False
    town.until(lambda: town.nodes["d"].counters["switches"] >= 1)
    assert town.get(first, KEY, r=3).status == 404


# ---------------------------------------------------------------- the faults


@mutant("one frame to each address")
def _() -> list[Patch]:
    original = outbox.Outbox.frames
    return [(outbox.Outbox, "frames", lambda self: list(dict(original(self)).items()))]


@mutant("a retried delete is acked by a node that has nothing of it")
def _() -> list[Patch]:
    original = coordination.Coordination.coordinate

    def coordinate(self: Any, request: Coordinate, wall_ms: int) -> Coordinated:
        try:
            return original(self, request, wall_ms)
        except NotHere:
            put, target = request.put, request.target
            assert put.context is not None
            empty = encode_record(put.key, EMPTY)
            self.replica.take(request.stored, empty, target)
            flags = HINTED if target else self.replica.flags(request.partition)
            return Coordinated(0, empty, put.context.history, flags, 0)

    return [(coordination.Coordination, "coordinate", coordinate)]


@mutant("a receiver switches before its numbers are compared")
def _() -> list[Patch]:
    original = replica.Replica.provable

    def provable(self: Any, partition: int, others: Any) -> bool:
        return partition not in self.owned() or original(self, partition, others)

    return [(replica.Replica, "provable", provable)]


LADDER_OF |= {
    "a receiver switches before its numbers are compared": "read after a switch to one that joins",
    "a retried delete is acked by a node that has nothing of it": "delete retried where nothing is",
    "one frame to each address": "answers to two lives at one address",
}


@ladder("entries of members that a disk has forgotten")
def entries_of_members_that_a_disk_has_forgotten() -> None:
    """An answer without members comes after the disk that asked was put back to a time before a
    join: the node asks for the members and blames no peer (S-IN-2, seed 20000444)."""
    town = Town("a b c d", members="a b c")
    backup = town.disks["a"].copy()
    late: list[Frame] = []

    def lost(sender: str, to: str, frame: Frame) -> bool:
        parts = [m for m in frame.messages if isinstance(m, Parts) and m.parts.entries]
        kept = to == "a" and sender != "d" and any(m.parts.members is None for m in parts)
        late.extend([frame] if kept else [])
        return kept or (to == "a" and any(isinstance(m, Entries) for m in frame.messages))

    town.lost = lost
    town.change("b", join=["d"])
    town.until(lambda: any(names_d(frame) for frame in late))
    frame = next(frame for frame in late if names_d(frame))
    town.kill("a")
    town.disks["a"] = backup
    town.lost = lambda sender, to, frame: False
    town.cut |= apart("a", "bcd")
    town.start("a", trusted=False)
    assert "d" not in town.nodes["a"].ring.members
    town.nodes["a"].receive(encode_frame(frame))
    town.cut.clear()
    town.until(lambda: "d" in town.nodes["a"].ring.members)
    assert not town.nodes["a"].refusals.by_peer


def names_d(frame: Frame) -> bool:
    """Whether an entry in the parts of the frame has d as an owner."""
    parts = [m.parts for m in frame.messages if isinstance(m, Parts)]
    return any("d" in entry.owners for part in parts for entry in part.entries or ())


@mutant("late entries of unknown members are a fault of the peer")
def _() -> list[Patch]:
    return [(ring_news, "knows_all", lambda ring: True)]


LADDER_OF["late entries of unknown members are a fault of the peer"] = (
    "entries of members that a disk has forgotten"
)


@ladder("a full disk when its copy is to be dropped")
def a_full_disk_when_its_copy_is_to_be_dropped() -> None:
    """The batch that takes the mark of the copy is refused; the copy goes when there is room. The
    others have started again, so they do not know how far this disk was (S-DISK-2)."""
    town = Town("a b c", settings=QUICK)
    town.put("a", KEY, b"v", w=3)
    backup = town.disks["b"].copy()
    delete(town, "a")
    town.until(lambda: forgotten(town))
    town.put("a", KEY, b"new", w=3)
    town.kill("a", "b", "c")
    for name in "ac":
        town.start(name)
    backup.full, town.disks["b"] = True, backup
    node = town.start("b")
    town.until(lambda: bool(node.quarantine.dropping))
    isolate(town, "b")
    backup.full = False
    node.reopened()
    town.until(lambda: not node.quarantine.dropping)
    assert not backup.rows[DATA]
    assert town.get("b", KEY, r=1).problem == "insufficient-owners", "not that it is absent"


@mutant("a dropped copy keeps its mark")
def _() -> list[Patch]:
    original = quarantine.Drop._slice

    def slice_(self: Any) -> bool:
        marks, self.replica.marks = self.replica.marks, set()
        left = original(self)
        self.replica.marks = marks
        return left

    return [(quarantine.Drop, "_slice", slice_)]


@ladder("a hint for an old disk that starts twice")
def a_hint_for_an_old_disk_that_starts_twice() -> None:
    """The first life acks the hint, and its sender drops it; the second one drops its copy."""
    town = Town("a b c d", settings=QUICK)
    (old, *others), (stand_in,) = town.owners(KEY), town.others(KEY)
    town.put(old, KEY, b"v", w=3)
    backup = town.disks[old].copy()
    delete(town, old)
    town.until(lambda: forgotten(town))
    town.kill(old)
    town.cut |= {link for other in others for link in apart(old + stand_in, other)}
    town.run(5.0)
    assert town.put(stand_in, KEY, b"new", w=1).status == 204
    town.disks[old] = backup
    town.start(old)
    town.until(lambda: not town.disks[stand_in].rows[HINTS])
    town.kill(old)
    town.start(old)
    town.cut.clear()
    town.run(10.0)
    assert town.counters("stale_copies_dropped") == 1
    assert [town.values(name, KEY) for name in town.names] == [[b"new"]] * 4


@mutant("a drop takes every hint of an earlier life")
def _() -> list[Patch]:
    def stays(self: Any, target: Any) -> bool:
        return bool(self.replica.quarantine_target.same_start(target))

    return [(quarantine.Drop, "_stays", stays)]


LADDER_OF |= {
    "a dropped copy keeps its mark": "a full disk when its copy is to be dropped",
    "a drop takes every hint of an earlier life": "a hint for an old disk that starts twice",
}
