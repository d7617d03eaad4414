"""Scripted histories of moves, each on real nodes: what each rule of S-MOVE prevents.

The names L1, L2, L8 are those of the model of the rules. Each asserts a rule, so each fails if the
rule is removed from the core: tests/simulation/move_mutants.py names which.
"""

from __future__ import annotations

from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import LeavesReply
from dynamo_core.protocol.move_messages import Offer
from dynamo_core.protocol.operations import Put
from dynamo_core.protocol.ring_messages import Entries
from dynamo_core.ring.planning import cancelled, removed
from dynamo_core.testing.town import Town
from tests.simulation.ladders import KEY, QUICK, delete, forgotten, isolate, ladder, put_back
from tests.simulation.ladders import partition as partition_of_key


def four() -> tuple[Town, list[str], str]:
    """Three owners of the key in their order, and a fourth node that may receive it."""
    town = Town("a b c d")
    owners = list(town.owners(KEY))
    return town, owners, town.others(KEY)[0]


def move(town: Town, at: str, out: str, receiver: str) -> None:
    wish = {"partition": partition_of_key(town), "from": out, "to": receiver}
    town.change(at, operation_id=f"{out} to {receiver} at {town.now}", moves=[wish])


def apart(one: str, other: str) -> set[tuple[str, str]]:
    """The links between the nodes of both sides, in both directions."""
    return {(a, b) for a in one for b in other} | {(b, a) for a in one for b in other}


def switched(frame: Frame) -> bool:
    return any(
        isinstance(m, Entries) and any(entry.old for _, entry in m.entries) for m in frame.messages
    )


def hold_copies(town: Town, source: str, receiver: str) -> None:
    """No pass of the receiver over the source ends until the town removes this."""

    def lost(sender: str, to: str, frame: Frame) -> bool:
        leaves = any(isinstance(message, LeavesReply) for message in frame.messages)
        return leaves and (sender, to) == (source, receiver)

    town.lost = lost


def copied(town: Town, receiver: str, *owners: str) -> bool:
    under_way = town.nodes[receiver].moves.receiving.get(partition_of_key(town))
    return under_way is not None and set(under_way.copied) == set(owners)


@ladder("L1")
def old_owners_that_have_not_heard_of_the_switch() -> None:
    """While they may say 404, no strict write is acked without one of them."""
    town, (first, second, third), receiver = four()
    sides = apart(receiver + second, first + third)

    def lost(sender: str, to: str, frame: Frame) -> bool:
        if switched(frame):
            town.cut |= sides
        return (sender, to) in town.cut

    town.lost = lost
    move(town, first, third, receiver)
    town.until(lambda: bool(town.cut))
    town.run(6.0)
    acked = town.put(receiver, KEY, b"v", w=2, strict=True).status == 204
    assert not (acked and town.get(first, KEY, r=2).status == 404)


@ladder("L2")
def data_that_is_offered_after_a_round() -> None:
    """A member that holds unowned data lets no round pass."""
    town = Town("a b", n=1, settings=QUICK)
    (owner,), (receiver,) = town.owners(KEY), town.others(KEY)
    town.put(owner, KEY, b"v")
    town.lost = lambda sender, to, frame: any(isinstance(m, Offer) for m in frame.messages)
    move(town, owner, owner, receiver)
    town.until(town.moved)
    delete(town, receiver)
    town.run(40.0)
    town.lost = lambda sender, to, frame: False
    town.run(20.0)
    assert [town.values(name, KEY, r=1) for name in "ab"] == [[], []]
    town.until(lambda: forgotten(town))


@ladder("L8")
def a_forgotten_promise_and_a_strict_put() -> None:
    """An owner whose disk was put back to a time before its promise proves nothing alone."""
    town, (first, second, third), receiver = four()
    backup = town.disks[second].copy()
    hold_copies(town, third, receiver)
    move(town, first, second, receiver)
    town.until(lambda: copied(town, receiver, first, second))
    isolate(town, second)
    put_back(town, second, backup)
    acked = town.put(second, KEY, b"v", w=1, strict=True).status == 204
    town.lost = lambda sender, to, frame: False
    town.until(lambda: town.nodes[receiver].counters["switches"] == 1)
    assert not (acked and town.get(first, KEY, r=2).status == 404)


@ladder("a put between copy and switch")
def a_put_between_copy_and_switch() -> None:
    """{first, second} acked it before the switch; {third, receiver} must not say 404 after it."""
    town, (first, second, third), receiver = four()
    hold_copies(town, third, receiver)
    move(town, first, second, receiver)
    town.until(lambda: copied(town, receiver, first, second))
    town.cut = apart(third, first + second)
    assert town.put(first, KEY, b"v", w=2, strict=True).status == 204
    town.lost = lambda sender, to, frame: False
    town.until(lambda: town.nodes[receiver].counters["switches"] == 1)
    town.cut |= apart(receiver, first + second)
    assert town.get(receiver, KEY, r=2).status != 404


@ladder("a put that one owner misses")
def a_put_that_one_owner_misses() -> None:
    """The receiver copies from every owner: a record of two of three is not absent after it."""
    town, (first, second, third), receiver = four()
    town.cut = apart(first, second + third)
    assert town.put(third, KEY, b"v", w=2, strict=True).status == 204
    for name in (first, second, third):
        town.nodes[name].settings = QUICK
    town.cut = set()
    town.lost = lambda sender, to, frame: (
        {sender, to} in ({first, second}, {first, third})
        and any(isinstance(message, LeavesReply) for message in frame.messages)
    )
    move(town, second, third, receiver)
    town.until(lambda: town.nodes[receiver].counters["switches"] >= 1)
    town.cut = apart(second + third, first + receiver)
    assert town.get(receiver, KEY, r=2).status != 404


@ladder("a second receiver of the term")
def a_second_receiver_of_the_term() -> None:
    """One receiver has switched, and no other node knows; its promises still bind the owners."""
    town = Town("a b c d e")
    owners, (one, other) = town.owners(KEY), town.others(KEY)
    first, third = owners[0], owners[2]
    isolate(town, other)
    for wish in ((third, other), (other, third), (third, other)):
        if wish == (other, third):
            node = town.nodes[other]
            node.ring_state.take(cancelled(node.ring))
        else:
            move(town, other, *wish)
        town.run(2.0)
    cut_off = {(one, name) for name in town.names} | {(name, one) for name in town.names}

    def lost(sender: str, to: str, frame: Frame) -> bool:
        if sender == one and switched(frame):
            town.cut |= cut_off
        return (sender, to) in town.cut

    town.lost = lost
    move(town, first, third, one)
    town.until(lambda: cut_off <= town.cut)
    assert town.nodes[one].counters["switches"] == 1
    town.cut = cut_off
    town.run(20.0)
    assert town.nodes[other].counters["switches"] == 0
    town.cut = set()
    town.lost = lambda sender, to, frame: False
    town.until(town.moved)
    assert town.put(first, KEY, b"v").status == 204


@ladder("a plan that is taken back")
def a_plan_that_is_taken_back() -> None:
    """Moves that have not switched are undone, and every promise is released."""
    town, (first, second, third), receiver = four()
    hold_copies(town, third, receiver)
    move(town, first, second, receiver)
    town.until(lambda: copied(town, receiver, first, second))
    node = town.nodes[third]
    node.ring_state.take(cancelled(node.ring))
    town.run(2.0)
    town.lost = lambda sender, to, frame: False
    town.run(4.0)
    assert town.counters("switches") == 0
    assert not any(town.nodes[name].promises.given for name in town.names)
    assert town.ask(first, Put(key=KEY, value=b"v")).status == 204


@ladder("two removed, and the disk of the third lost")
def two_removed_and_the_disk_of_the_third_lost() -> None:
    """W=3 survives two disks: the third copy is a hint for a removed node, whose place no node can
    take, because too few are left (C7, S-HINT-3)."""
    town, (first, second, third), _ = four()
    town.kill(first)
    assert town.put(second, KEY, b"v", w=3).status == 204
    town.kill(second)
    node = town.nodes[third]
    one = removed(node.ring, first, False, "one")[0]
    node.ring_state.take(removed(one, second, False, "and another")[0])
    town.run(4.0)
    town.kill(third)
    town.wipe(third)
    town.start(third)
    town.until(lambda: town.nodes[third].member)
    town.until(lambda: town.values(third, KEY, r=1) == [b"v"])
