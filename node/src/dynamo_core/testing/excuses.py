"""When C8 excuses a failed put at a node with slow fsyncs: no other node could fsync it.

S-RW-8: if a copy exists and only its fsync is missing, the coordinator asks another holder for an
fsync. So a slow disk alone is no excuse while, in each owner list of the key, another owner is at
hand: it runs undisturbed, its own fsyncs are fast, both dial each other at the right addresses, and
the coordinator hears it over good links. With N=1 there is no other holder, and a network that
loses frames may lose any of them.
"""

from __future__ import annotations

from dynamo_core.keys import partition_of
from dynamo_core.node import Node
from dynamo_core.testing.process import Process
from dynamo_core.testing.world import World

STEADY_S = 1.0
"""A disturbed owner counts again after this time."""


def owners_at_hand(world: World, node: Node, stored: bytes) -> list[set[str]]:
    """At the begin of a put: by owner list, the other owners that this node hears."""
    ring = node.ring_or_none
    weather = world.plan.weather
    if ring is None or weather.loss or weather.slow_tail or world.wires is not None:
        return []
    quorums = node.preference.places[partition_of(stored, ring.partition_bits)].quorums
    heard = {p.name for p in world.processes if node.up(p.name) and _dial_each_other(node, p)}
    return [heard.intersection(owners) - {node.name} for owners in quorums]


def _dial_each_other(node: Node, other: Process) -> bool:
    """False while the ring has the old address of a node that has moved (S-MEM-5), because the
    other's answers go to the old address."""
    there, me = other.node, node.identity
    if there is None:
        return False
    mine, others = there.addresses.get(me.name), node.addresses.get(other.name)
    return (mine, others) == (me.address, other.address)


def fsynced_elsewhere(world: World, process: Process, heard: list[set[str]], began: float) -> bool:
    """At the end of a put: whether one of them in each list could fsync all the time."""
    steady = {other.name for other in world.processes if _steady(world, process, other, began)}
    return bool(heard) and all(names & steady for names in heard)


def _steady(world: World, process: Process, other: Process, began: float) -> bool:
    node = other.node
    if node is None or not node.ready or node.replica.quarantined or other.paused or other.flips:
        return False
    links = ((process.name, other.name), (other.name, process.name))
    cut_until = max(world.cut_until.get(link, -STEADY_S) for link in links)
    return max(other.disturbed_at, other.slow_until, cut_until) + STEADY_S < began
