"""Deliberate faults in bounds: large work in parts, full links, memory of finished work (T-4,
S-NET-2), and what is remembered of lives (S-DISK-2).

No history shows that a page has a bound in bytes, because a page costs only memory.
`test_pages_are_together_what_a_scan_shows` tests it, as `test_memory.py` tests other bounds.
"""

from __future__ import annotations

import gc
from typing import Any

from msgspec import structs

from dynamo_core.protocol.frames import Frame, encode_frame
from dynamo_core.protocol.messages import Fetch, Forward, Store
from dynamo_core.protocol.operations import Get, Operation, Outcome, Put
from dynamo_core.protocol.ring_messages import Gossip
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.request.get import GetOperation
from dynamo_core.request.put import PutOperation
from dynamo_core.runtime import failure_detector
from dynamo_core.runtime.dispatcher import Dispatcher
from dynamo_core.runtime.machine import NEVER, Machine
from dynamo_core.testing.town import SETTINGS, Town
from tests.simulation.ladders import KEY, ladder
from tests.simulation.mutants import LADDER_OF, Patch, mutant

VALUE = b"milk" * 1000


def submit(town: Town, at: str, operation: Operation) -> list[Outcome]:
    """The answers until now; no time passes."""
    answers: list[Outcome] = []
    town.nodes[at].submit(operation, answers.append)
    town.deliver()
    return answers


# ---------------------------------------------------------------- pages of the store


@mutant("what follows a page is never read")
def _() -> list[Patch]:
    original = WriteBatch.page
    return [(WriteBatch, "page", lambda self, *place: (original(self, *place)[0], None))]


@mutant("a page does not see the batch")
def _() -> list[Patch]:
    original = WriteBatch.page

    def page(self: Any, *place: Any) -> Any:
        changes, self.changes = self.changes, tuple({} for _ in self.changes)
        try:
            return original(self, *place)
        finally:
            self.changes = changes

    return [(WriteBatch, "page", page)]


# ---------------------------------------------------------------- what is finished


@ladder("what is finished holds no records")
def finished_machines_hold_no_records() -> None:
    """Their timers keep them until their deadline, but without their records (T-4)."""
    town = Town("a b c")
    first, *_ = town.owners(KEY)
    (put,) = submit(town, first, Put(key=KEY, value=VALUE, w=3))
    (get,) = submit(town, first, Get(key=KEY, r=3))
    assert (put.status, get.status) == (204, 200)
    kinds = (PutOperation, GetOperation)
    found = [m for m in gc.get_objects() if isinstance(m, kinds) and m.view is town.nodes[first]]
    assert {type(machine) for machine in found} == set(kinds)
    assert all(machine.finished for machine in found)
    assert not any(VALUE in record for machine in found for record in _records(machine))


def _records(machine: Machine) -> list[bytes]:
    if isinstance(machine, PutOperation):
        return [machine.record, machine.known or b"", machine.put.value or b""]
    assert isinstance(machine, GetOperation)
    return [machine.merged or b"", *(record for record, _ in machine.answers.values())]


@mutant("a finished put keeps its record")
def _() -> list[Patch]:
    return [(PutOperation, "let_go", Machine.let_go)]


@mutant("a finished get keeps its answers")
def _() -> list[Patch]:
    return [(GetOperation, "let_go", Machine.let_go)]


# ---------------------------------------------------------------- what a link does not take


@ladder("a link that takes no more")
def a_link_that_takes_no_more() -> None:
    """It is open and full: nothing is sent on it again, and others are asked at once."""
    town = Town("a b c d")
    first, second, third = town.owners(KEY)
    town.lost = lambda sender, to, frame: (
        to in (second, third) and any(isinstance(m, Store | Fetch) for m in frame.messages)
    )
    node = town.nodes[first]
    for operation in (Put(key=KEY, value=b"v", w=2), Get(key=KEY, r=2)):
        answers = submit(town, first, operation)
        for other in (second, third):
            node.link_lost(other, NEVER)
        town.deliver()
        assert len(answers) == 1, "each node that can be asked has been asked"
        town.run(0.5)
    assert not node.counters["calls_said_again"]


@mutant("what a link has not taken is said again on it")
def _() -> list[Patch]:
    original = Dispatcher.lost
    return [
        (Dispatcher, "lost", lambda self, name, redial_s: original(self, name, min(redial_s, 0.1)))
    ]


@ladder("a forwarded put that is not wanted any more")
def a_forwarded_put_that_is_not_wanted_any_more() -> None:
    """The node has coordinated it meanwhile: a repeated call would make it a second time, and only
    its request id would undo that (S-NET-2)."""
    town = Town("a b c d")
    first = town.owners(KEY)[0]
    (outsider,) = town.others(KEY)
    said: list[Forward] = []

    def lost(sender: str, to: str, frame: Frame) -> bool:
        said.extend(m for m in frame.messages if isinstance(m, Forward))
        return sender == outsider and any(isinstance(m, Forward | Store) for m in frame.messages)

    town.lost = lost
    submit(town, outsider, Put(key=KEY, value=b"v", w=3))
    town.run(SETTINGS.hedge_s + 0.01)
    assert len(said) == 1
    town.nodes[outsider].dispatcher.send_again(first, True)
    town.deliver()
    assert len(said) == 1


@mutant("a call is said again for a machine that does not want it")
def _() -> list[Patch]:
    return [(PutOperation, "wants", Machine.wants)]


# ---------------------------------------------------------------- numbers of lives


@ladder("late frames of a life before")
def late_frames_of_a_life_before() -> None:
    """A node hears another after a long silence, with late frames of an earlier life in between. A
    number from the present life does not mean that the disk was rolled back (S-DISK-2)."""
    town = Town("a b c")
    late: list[Frame] = []

    def keep(sender: str, to: str, frame: Frame) -> bool:
        if (sender, to) == ("b", "a") and any(isinstance(m, Gossip) for m in frame.messages):
            late.append(frame)
        return False

    town.lost = keep
    town.run(1.0)
    town.lost = lambda sender, to, frame: False
    town.kill("b")
    town.run(SETTINGS.suspect_s + 1.0)
    town.cut.add(("a", "b"))
    node = town.start("b")
    for index in range(3):
        assert town.put("c", b"%d" % index, b"v", w=1).status == 204
        town.run(1.0)
        town.nodes["a"].receive(encode_frame(late[-1]))
        town.run(1.0)
    assert node.durable_sequence > node.start_sequence
    town.cut.clear()
    town.until(lambda: node.up("a"))
    assert "a" in node.replica.compared and not node.replica.distrusted


@ladder("a disk that was rolled back")
def a_disk_that_was_rolled_back() -> None:
    """Its peers remember the durable number of its earlier life (S-DISK-2)."""
    town = Town("a b c")
    backup = town.disks["a"].copy()
    town.put("b", KEY, b"v", w=3)
    town.run(2.0)
    town.kill("a")
    town.disks["a"] = backup
    node = town.start("a", trusted=True)
    town.until(lambda: "b" in node.replica.compared and "c" in node.replica.compared)
    assert node.replica.distrusted


@ladder("a frame that is minutes late")
def a_frame_that_is_minutes_late() -> None:
    """The next call to its sender echoes the latest beat, so the sender takes the call (S-NET-1). A
    beat that was too high is corrected by the frames after it (S-IN-2)."""
    town = Town("a b c")
    heard: list[Frame] = []

    def keep(sender: str, to: str, frame: Frame) -> bool:
        if (sender, to) == ("b", "a"):
            heard.append(frame)
        return False

    town.lost = keep
    town.run(1.0)
    late = heard[-1]
    town.run(failure_detector.BEATS_MS_MAX / 1000 + 2.0)
    town.nodes["a"].receive(encode_frame(late))
    assert [answer.status for answer in submit(town, "a", Put(key=KEY, value=b"v", w=3))] == [204]
    high = structs.replace(heard[-1], beat=heard[-1].beat + 2 * failure_detector.BEATS_MS_MAX)
    town.nodes["a"].receive(encode_frame(high))
    town.run(2 * SETTINGS.suspect_s)
    assert [answer.status for answer in submit(town, "a", Put(key=KEY, value=b"w", w=3))] == [204]


@mutant("a frame that is minutes late tells the beat")
def _() -> list[Patch]:
    def falls_behind(self: Any, beat: int) -> None:
        self.beat = beat

    return [(failure_detector.Peer, "falls_behind", falls_behind)]


@mutant("a beat that was too high is never corrected")
def _() -> list[Patch]:
    return [(failure_detector.Peer, "falls_behind", lambda self, beat: None)]


@mutant("what a life has told is held against itself")
def _() -> list[Patch]:
    """The old code: each change of the life remembers the number of the life before."""
    last, own, before = -1, -2, -3

    def told(self: Any, boot: int, at: int) -> None:
        sequences = self.sequences
        if sequences.get(last, boot) != boot:
            sequences[before] = max(sequences.get(before, 0), sequences.get(own, 0))
        sequences[last], sequences[own] = boot, max(sequences.get(own, 0), at)

    return [
        (failure_detector.Peer, "told", told),
        (failure_detector.Peer, "remembered", lambda self: self.sequences.get(before, 0)),
    ]


@mutant("what earlier lives have told is forgotten")
def _() -> list[Patch]:
    return [(failure_detector.Peer, "remembered", lambda self: 0)]


LADDER_OF |= {
    "a beat that was too high is never corrected": "a frame that is minutes late",
    "a call is said again for a machine that does not want it": (
        "a forwarded put that is not wanted any more"
    ),
    "a finished get keeps its answers": "what is finished holds no records",
    "a finished put keeps its record": "what is finished holds no records",
    "a frame that is minutes late tells the beat": "a frame that is minutes late",
    "what a life has told is held against itself": "late frames of a life before",
    "what a link has not taken is said again on it": "a link that takes no more",
    "what earlier lives have told is forgotten": "a disk that was rolled back",
}
