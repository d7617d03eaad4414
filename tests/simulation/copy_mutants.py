"""Deliberate faults in copies of disks that become another ring (S-BAK-4). Each is sought in
histories that all have copies (`EVERY`)."""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo_core.membership import copied, ring_state
from dynamo_core.replica import replica
from dynamo_core.ring.renaming import Renaming
from dynamo_core.testing import at_rest, copies, copy_mixes
from tests.simulation.mutants import Patch, mutant

EVERY: Patch = (copy_mixes, "HISTORIES", 1.0)


@mutant("a copied disk keeps the old cluster id")
def _() -> list[Patch]:
    original = copied.renamed

    def renamed(ring: Any, names: Any) -> Any:
        return original(ring, msgspec.structs.replace(names, ring_id=ring.identity.cluster_id))

    return [EVERY, (copied, "renamed", renamed), (copied, "_is_renamed", lambda row, names: False)]


@mutant("a copied disk keeps its node id")
def _() -> list[Patch]:
    return [EVERY, (Renaming, "node_id", lambda self, node_id: node_id)]


@mutant("a copied disk keeps its actors")
def _() -> list[Patch]:
    """A node goes on with the actor of the node whose disk it has a copy of."""
    original = replica.Replica.__init__
    actor_of: dict[str, int] = {}

    def init(self: Any, name: str, *rest: Any, **named: Any) -> None:
        ring, _, ordinal = name.rpartition("-")
        draw = rest[-1]
        if ring == "first":
            actor_of[ordinal] = draw()
        fixed = actor_of.get(ordinal)
        original(self, name, *rest[:-1], draw if fixed is None else lambda: fixed, **named)

    return [EVERY, (copy_mixes, "NAMES", ("again",)), (replica.Replica, "__init__", init)]


@mutant("a ring document that is not fsynced is at rest")
def _() -> list[Patch]:
    moved: Patch = (copy_mixes, "AROUND", (copy_mixes._moved,))
    return [EVERY, moved, (ring_state.RingState, "fsynced", True)]


@mutant("disks are copied while the ring is not at rest")
def _() -> list[Patch]:
    return [EVERY, (copies, "restless", lambda world: at_rest.one_ring(world) is None)]
