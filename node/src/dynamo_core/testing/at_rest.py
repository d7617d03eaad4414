"""Whether a simulated ring is at rest, as the operator sees it before it asks for snapshots of the
disks (`copies`)."""

from __future__ import annotations

from dynamo_core.node import Node
from dynamo_core.ring.document import JOINING, LEAVING
from dynamo_core.testing.surroundings import Surroundings


def restless(world: Surroundings) -> bool:
    """Whether the operator would still wait: nodes that are down, not complete or not of one mind,
    moves, hints, and what a power cut could still take back."""
    if (nodes := one_ring(world)) is None:
        return True
    ring = nodes[0].ring
    passing = any(line.state in (JOINING, LEAVING) for line in ring.members.values())
    moving = any(entry.move or entry.old for entry in ring.entries)
    wanted = any(
        set(wish) != set(entry.owners)
        for wish, entry in zip(ring.target.owners, ring.entries, strict=False)
    )
    return passing or moving or wanted or not all(map(_rests, nodes))


def one_ring(world: Surroundings) -> list[Node] | None:
    """The nodes, if all members show one ring document."""
    nodes = [p.node for p in world.processes if p.node is not None and not p.paused]
    nodes = [node for node in nodes if node.member]
    if not nodes or any(node.ring.digest != nodes[0].ring.digest for node in nodes):
        return None
    return nodes if {node.name for node in nodes} == set(nodes[0].ring.live_names()) else None


def _rests(node: Node) -> bool:
    replica = node.replica
    whole = all(replica.complete(partition) for partition in replica.owned())
    return node.ready and whole and node.ring_state.fsynced and not node.hints.counts
