"""Deliberate faults: what keeps a put going after a start, a lost link or a stalled fsync is left
out (S-NET-2, S-RW-8)."""

from __future__ import annotations

from copy import deepcopy
from functools import reduce
from operator import or_
from types import SimpleNamespace
from typing import Any

from dynamo_core.keys import DATA, HINTS
from dynamo_core.protocol.messages import Fetch, Store
from dynamo_core.protocol.operations import Get, Operation, Outcome, Put
from dynamo_core.replica.hints import hint_key
from dynamo_core.request import copies, get, put, quorum, replication
from dynamo_core.runtime import dispatcher
from dynamo_core.runtime.machine import NEVER
from dynamo_core.testing.town import Town
from tests.simulation.ladders import KEY, STORED, ladder, partition
from tests.simulation.move_ladders import copied, hold_copies, move
from tests.simulation.mutants import LADDER_OF, Patch, mutant


def submit(town: Town, at: str, operation: Operation) -> list[Outcome]:
    """The answers until now; no time passes."""
    answers: list[Outcome] = []
    town.nodes[at].submit(operation, answers.append)
    town.deliver()
    return answers


def durable_for(town: Town, owner: str) -> bool:
    """Whether a copy for this owner would survive a power cut of every machine."""
    for name, disk in town.disks.items():
        after: Any = deepcopy(disk)
        after.power_cut(SimpleNamespace(randint=lambda least, most: least))
        own = name == owner and STORED in after.rows[DATA]
        if own or hint_key(owner, STORED) in after.rows[HINTS]:
            return True
    return False


@ladder("puts beside nodes that have just started")
def puts_beside_nodes_that_have_just_started() -> None:
    """A peer that has not heard this life yet refuses its first call, and a peer that has just
    started refuses the first call to it: neither waits for its deadline (S-NET-2)."""
    town = Town("a b c")
    for name in town.names:
        town.kill(name)
        town.run(3.0)
        town.start(name)
        for at in (name, *town.names):
            answers = submit(town, at, Put(key=KEY, value=b"v", w=3))
            assert [answer.status for answer in answers] == [204]


@ladder("a put whose links are dialled again")
def a_put_whose_links_are_dialled_again() -> None:
    """Both links of an operation break, and are up again long before its deadline (S-NET-2)."""
    town = Town("a b c")
    first, *others = town.owners(KEY)
    assert town.put(first, KEY, b"before", w=3).status == 204
    for operation in (Put(key=KEY, value=b"v", w=2), Get(key=KEY, r=2)):
        town.lost = lambda sender, to, frame: any(
            isinstance(message, Store | Fetch) for message in frame.messages
        )
        answers = submit(town, first, operation)
        for other in others:
            town.nodes[first].link_lost(other, 0.3)
        town.lost = lambda sender, to, frame: False
        town.run(0.5)
        assert [answer.status for answer in answers] in ([204], [200])


@ladder("a put at a node whose fsync stalls")
def a_put_at_a_node_whose_fsync_stalls() -> None:
    """Another holder fsyncs, after the hedge delay (S-RW-8)."""
    town = Town("a b c")
    first = town.owners(KEY)[0]
    town.stalled.add(first)
    answers = submit(town, first, Put(key=KEY, value=b"v", w=2, dw=1))
    town.run(0.2)
    assert [answer.status for answer in answers] == [204]


@ladder("a put during a move to a node whose fsync stalls")
def a_put_during_a_move_to_a_node_whose_fsync_stalls() -> None:
    """Both owner lists have an fsynced copy when it is acked: after the switch only the new owners
    answer, also if machines failed meanwhile (S-RW-8, S-MOVE-1)."""
    town = Town("a b", n=1)
    (owner,), (receiver,) = town.owners(KEY), town.others(KEY)
    hold_copies(town, owner, receiver)
    move(town, owner, owner, receiver)
    town.until(lambda: copied(town, receiver))
    town.stalled.add(receiver)
    answers: list[Outcome] = []
    town.nodes[owner].submit(Put(key=KEY, value=b"v", w=1, dw=1), answers.append)
    town.until(lambda: bool(answers))
    assert answers[0].status == 204
    assert town.nodes[owner].ring.entries[partition(town)].move is not None
    assert durable_for(town, owner) and durable_for(town, receiver)


# ---------------------------------------------------------------- the faults


@mutant("call of a refused frame not said again")
def _() -> list[Patch]:
    original = dispatcher.Dispatcher.send_again

    def send_again(self: Any, name: str, same_life: bool) -> None:
        if name in self._again:  # a lost link: another rule
            original(self, name, same_life)

    return [(dispatcher.Dispatcher, "send_again", send_again)]


@mutant("a lost link is impossible at once")
def _() -> list[Patch]:
    never = property(lambda self: -NEVER)
    return [(kind, "waits_until", never) for kind in (put.PutOperation, get.GetOperation)]


@mutant("fsync not asked elsewhere")
def _() -> list[Patch]:
    return [(replication.Replication, "_fsync_elsewhere", lambda self: [])]


@mutant("dw over both lists")
def _() -> list[Patch]:
    original = copies.Copies.verdict

    def verdict(self: Any, lists: Any, wanted: tuple[int, int, bool], spare: int) -> Any:
        everywhere = original(self, (reduce(or_, lists),), wanted, spare)
        here = original(self, lists, (wanted[0], 0, wanted[2]), spare)
        return everywhere if here is quorum.MET else here

    return [
        (copies.Copies, "verdict", verdict),
        (replication.Replication, "_own_syncs", lambda self, flags: True),
    ]


LADDER_OF |= {
    "a lost link is impossible at once": "a put whose links are dialled again",
    "call of a refused frame not said again": "puts beside nodes that have just started",
    "dw over both lists": "a put during a move to a node whose fsync stalls",
    "fsync not asked elsewhere": "a put at a node whose fsync stalls",
}
