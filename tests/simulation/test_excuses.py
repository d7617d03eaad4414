"""What excuses a failed put at a node with slow fsyncs, and what does not (C8, S-RW-8)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from dynamo_core.keys import partition_of, store_key
from dynamo_core.testing.beginning import begin
from dynamo_core.testing.excuses import STEADY_S, fsynced_elsewhere, owners_at_hand
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.network import Weather
from dynamo_core.testing.plan import Plan
from dynamo_core.testing.process import Process
from dynamo_core.testing.workload import make_plan
from dynamo_core.testing.world import World

STORED = store_key(b"cart")
CALM: Plan = msgspec.structs.replace(
    next(plan for plan in map(make_plan, range(100)) if plan.quiet and not plan.created),
    nodes=4,
    n=2,
    r=1,
    w=1,
    dw=1,
    weather=Weather(),
    founders=0,
)


def calm(plan: Plan = CALM) -> tuple[World, Process, Process]:
    """A world in which all have met, and both owners of the key."""
    world = World(plan)
    begin(world)
    world.run_until(6.0)
    node = world.processes[0].node
    assert node is not None
    owners = node.ring.entries[partition_of(STORED, node.ring.partition_bits)].owners
    found = {process.name: process for process in world.processes}
    return world, found[owners[0]], found[owners[1]]


def due(world: World, process: Process) -> bool:
    """Whether a put that begins now must succeed although this node's fsyncs are slow."""
    assert process.node is not None
    heard = owners_at_hand(world, process.node, STORED)
    return fsynced_elsewhere(world, process, heard, world.now)


TROUBLE: dict[str, Callable[[World, Process, Process], object]] = {
    "its fsyncs are slow as well": lambda w, p, q: setattr(q, "slow_until", w.now + 1),
    "it was disturbed": lambda w, p, q: q.disturb(w.now),
    "it is frozen": lambda w, p, q: setattr(q, "paused", True),
    "it is down": lambda w, p, q: w.stop(q),
    "the link to it is cut": lambda w, p, q: w.cut(p.name, q.name, Fault(0.0, "cut", 0, lasts=1)),
    "the link from it is cut": lambda w, p, q: w.cut(q.name, p.name, Fault(0.0, "cut", 0, lasts=1)),
    "its memory is bad": lambda w, p, q: setattr(q, "flips", 0.1),
    "it dials the node where that was": lambda w, p, q: q.node.addresses.update({p.name: "old:1"}),  # type: ignore[union-attr]
    "it is dialled where it was": lambda w, p, q: p.node.addresses.update({q.name: "old:1"}),  # type: ignore[union-attr]
    "it is not heard": lambda w, p, q: p.node.link_lost(q.name),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_the_other_owner_cannot_fsync_for_it(trouble: str) -> None:
    world, process, other = calm()
    assert due(world, process)
    TROUBLE[trouble](world, process, other)
    assert not due(world, process)


def test_nodes_that_do_not_own_the_key_are_not_needed() -> None:
    world, process, other = calm()
    for stranger in world.processes:
        if stranger not in (process, other):
            world.stop(stranger)
    assert due(world, process)


def test_a_network_that_loses_frames_may_lose_the_question() -> None:
    world, process, _ = calm(msgspec.structs.replace(CALM, weather=Weather(loss=0.1)))
    assert not due(world, process)


def test_an_owner_that_is_disturbed_while_the_put_lasts_excuses_it() -> None:
    world, process, other = calm()
    assert process.node is not None
    heard, began = owners_at_hand(world, process.node, STORED), world.now
    world.run_until(began + 0.1)
    other.disturb(world.now)
    assert not fsynced_elsewhere(world, process, heard, began)
    assert fsynced_elsewhere(world, process, heard, world.now + 2 * STEADY_S)
