"""Scripted histories of puts and of nodes that leave, and the deliberate faults that they show.

Each needs several nodes to be late in one order: a thousand seeds of every mix reach none of these
states; one history in a hundred thousand did.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec

from dynamo_core import node
from dynamo_core.membership import ring_news
from dynamo_core.moves import receiver as receiver_module
from dynamo_core.protocol.frames import Frame, encode_frame
from dynamo_core.protocol.messages import Forward, LeavesReply, Store
from dynamo_core.protocol.move_messages import Promise
from dynamo_core.protocol.operations import Acks, Outcome, Put
from dynamo_core.replica import replica
from dynamo_core.request import copies, put
from dynamo_core.ring.document import LEAVING
from dynamo_core.ring.planning import removed
from dynamo_core.testing.town import Town
from tests.simulation.ladders import KEY, ladder, partition
from tests.simulation.move_ladders import apart, copied, hold_copies, move
from tests.simulation.mutants import LADDER_OF, Patch, mutant


def of_a_later_entry(town: Town, *names: str) -> None:
    """Only these nodes have the next version of the entry of KEY's partition."""
    ring, here = town.ring, partition(town)
    later = msgspec.structs.replace(ring.entries[here], version=ring.entries[here].version + 1)
    for name in names:
        town.nodes[name].ring_state.take(ring.with_entry(here, later))


@ladder("a switch before the second copy")
def a_switch_before_the_second_copy() -> None:
    """The receiver also keeps a copy for the silent owner, under the present entry: W=1 needs no
    other node (C8, S-MOVE-1)."""
    town = Town("a b", n=1)
    (owner,), (receiver,) = town.owners(KEY), town.others(KEY)
    hold_copies(town, owner, receiver)
    move(town, owner, owner, receiver)
    town.until(lambda: copied(town, receiver))
    answers: list[Outcome] = []
    kept: list[Frame] = []

    def lost(sender: str, to: str, frame: Frame) -> bool:
        copying = to == receiver and any(isinstance(m, LeavesReply) for m in frame.messages)
        kept.extend([frame] if copying else [])
        return copying or any(isinstance(m, Store) and m.cause == "put" for m in frame.messages)

    town.lost = lost
    town.until(lambda: bool(kept))
    town.nodes[receiver].submit(Put(key=KEY, value=b"v", w=1), answers.append)
    town.deliver()
    town.nodes[receiver].receive(encode_frame(kept.pop()))
    town.deliver()
    assert town.nodes[receiver].counters["switches"] == 1
    assert not answers
    town.until(lambda: bool(answers))
    assert [answer.status for answer in answers] == [204]


@ladder("an entry that the last who could keep a copy learns from it")
def an_entry_that_is_learnt_from_a_copy() -> None:
    """A stand-in refused the entry, not the copy, and is asked again. With strict, so is an owner
    that seemed down and for which another node keeps a hint (C8, S-RING-4)."""
    town = Town("a b c d")
    one, two, three = town.owners(KEY)
    town.kill(three)
    of_a_later_entry(town, one, two)
    assert town.put(one, KEY, b"v", w=3).acks == Acks(total=3, owners=2, hinted=1, durable=1)
    town = Town("a b c d")
    others = [name for name in town.names if name != three]
    town.cut |= {(three, other) for other in others}
    town.run(4.0)
    town.cut.clear()
    of_a_later_entry(town, *others)
    assert town.put(one, KEY, b"v", w=3, strict=True).status == 204


@ladder("the last who stays is down")
def nobody_leaves_the_ring_to_a_node_that_is_down() -> None:
    """The last staying member has lost its disk: the leaving node first admits its next life
    (S-MEM-4)."""
    town = Town("a b", n=1)
    town.change("b", leave=["a"])
    town.until(lambda: all(entry.owners == ("b",) for entry in town.nodes["a"].ring.entries))
    assert town.nodes["a"].member
    town.kill("b")
    town.run(5.0)
    assert town.nodes["a"].moves.departing
    assert town.nodes["a"].ring.members["a"].state == LEAVING
    town.wipe("b")
    town.start("b")
    town.until(lambda: town.nodes["a"].ring_state.emptied)
    assert town.nodes["b"].member
    assert town.put("b", b"k", b"v", w=1).status == 204


@ladder("a move that no other node heard of")
def a_move_that_nobody_heard_of() -> None:
    """Its receiver is removed by force, and hands over its hint under the entry of the owners,
    which is older than its own (S-MEM-3, S-MOVE-4)."""
    town = Town("a b c", n=1)
    (owner,), (receiver, other) = town.owners(KEY), town.others(KEY)
    town.kill(owner)
    assert town.put(receiver, KEY, b"v", w=1).acks == Acks(total=1, owners=0, hinted=1, durable=1)
    town.lost = lambda sender, to, frame: any(isinstance(m, Store) for m in frame.messages)
    town.start(owner)
    town.until(lambda: town.nodes[receiver].up(owner))

    def lost(sender: str, to: str, frame: Frame) -> bool:
        if any(isinstance(message, Promise) for message in frame.messages):
            town.cut |= apart(receiver, owner + other)
        return (sender, to) in town.cut or any(isinstance(m, Store) for m in frame.messages)

    town.lost = lost
    move(town, receiver, owner, receiver)
    town.until(lambda: bool(town.cut))
    assert town.nodes[owner].ring.entries[partition(town)].move is None
    left = removed(town.nodes[owner].ring, receiver, True, "fenced")[0]
    town.nodes[owner].ring_state.take(left)
    town.until(lambda: receiver not in town.nodes[other].ring.live_names())
    town.cut.clear()
    town.lost = lambda sender, to, frame: False
    town.until(lambda: town.nodes[receiver].ring_state.emptied)
    assert town.values(owner, KEY, r=1) == [b"v"]


@ladder("an own copy that waits for its fsync")
def an_own_copy_that_waits_for_its_fsync() -> None:
    """A node stands in, becomes an owner meanwhile, and the put ends before its fsync: a node does
    not exchange with itself, so the mark goes to the other owner (C4, S-HINT-4)."""
    town = Town("a b c", n=2)
    (first, second), (receiver,) = town.owners(KEY), town.others(KEY)
    node = town.nodes[receiver]

    def lost(sender: str, to: str, frame: Frame) -> bool:
        return any(
            isinstance(m, Forward) or (isinstance(m, Store) and m.cause == "put")
            for m in frame.messages
        )

    town.lost = lost
    answers: list[Outcome] = []
    node.submit(Put(key=KEY, value=b"v", w=2, dw=2, timeout_s=10.0), answers.append)
    town.run(0.2)
    move(town, receiver, first, receiver)
    town.until(lambda: node.counters["switches"] == 1)
    with patch.object(node, "synced"):
        node.link_lost(second, 60.0)
        town.run(10.0)
    assert [answer.status for answer in answers] == [503]
    town.lost = lambda sender, to, frame: False
    town.until(lambda: not any(each.hints.dirty for each in town.nodes.values()))
    assert town.values(second, KEY) == [b"v"]


# ---------------------------------------------------------------- the faults


@mutant("a second copy refused for its entry counts as tried")
def _() -> list[Patch]:
    def forget(self: Any, call: tuple[str, str]) -> None:
        self.ended(*call)

    return [(copies.Copies, "forget", forget)]


@mutant("who refused only for the entry is not asked again")
def _() -> list[Patch]:
    def outdated(self: Any, at: str, request: Any, now: float) -> Any:
        self.copies.forget((at, request.target))
        self._renew(now)
        return self._cover() + self._decide(now)

    return [(put.PutOperation, "outdated", outdated)]


@mutant("LEFT though no member that stays is up")
def _() -> list[Patch]:
    original = receiver_module.Moves._change_state

    def change_state(self: Any) -> None:
        with patch.object(node.Node, "up", lambda self, name: True):
            original(self)

    return [(receiver_module.Moves, "_change_state", change_state)]


@mutant("a removed node goes by an entry that it alone has")
def _() -> list[Patch]:
    original = ring_news.RingNews.learn

    def learn(self: Any, name: str, refusal: Any) -> None:
        entry = refusal.entry
        if (
            entry is not None
            and self.node.ring.entries[refusal.partition].later(entry) is not entry
        ):
            return
        original(self, name, refusal)

    return [(ring_news.RingNews, "learn", learn)]


@mutant("a node marks itself dirty")
def _() -> list[Patch]:
    def mark_dirty(self: Any, partition: int, owner: str) -> None:
        self.hints.mark_dirty(partition, owner)

    return [(replica.Replica, "mark_dirty", mark_dirty)]


LADDER_OF |= {
    "LEFT though no member that stays is up": "the last who stays is down",
    "a node marks itself dirty": "an own copy that waits for its fsync",
    "a removed node goes by an entry that it alone has": "a move that no other node heard of",
    "a second copy refused for its entry counts as tried": "a switch before the second copy",
    "who refused only for the entry is not asked again": (
        "an entry that the last who could keep a copy learns from it"
    ),
}
