"""How a simulated history begins: empty disks, and a ring made by command or given by hand."""

from __future__ import annotations

from functools import lru_cache

from dynamo_core.ring.document import Identity, Member, Ring, RingTarget
from dynamo_core.ring.placement import first_ring
from dynamo_core.testing.process import Process
from dynamo_core.testing.world import World

PARTITIONS = 16
CLUSTER = "simulated"

CREATE_S, CREATE_AGAIN_S = 0.05, 2.0


def begin(world: World) -> None:
    """All processes with empty disks, and the ring: made by command, or given by hand."""
    plan = world.plan
    for index, process in enumerate(world.processes):
        world.new_disk(process)
        process.disk.node_id = index + 1
        process.monotonic_s = 1.0 + 1000 * world.rng.random()
        world.start(process)
    if plan.created:
        world.later(CREATE_S, lambda: _create(world))
        return
    ring = _ring(plan.names[: len(_founders(world))], plan.n, plan.lossy).with_target(
        RingTarget(1, (), plan.r, plan.w, plan.dw, plan.sloppy)
    )
    for process in _founders(world):
        node = process.node
        assert node is not None
        world.enter(process, lambda node=node: node.ring_state.take(ring, founding=True))  # type: ignore[misc]
        world.flush(process, process.life)
        process.disk.synced(process.disk.written)


def _founders(world: World) -> list[Process]:
    return world.processes[: world.plan.founders or None]


def _create(world: World) -> None:
    """The administrator's command, repeated until the ring exists."""
    if any(process.knows_ring() for process in world.processes):
        return
    world.later(CREATE_AGAIN_S, lambda: _create(world))
    plan = world.plan
    members = [{"name": p.name, "address": p.address} for p in _founders(world)]
    conflicts = "LastWriteWins" if plan.lossy else "Siblings"
    body = {
        "cluster_id": CLUSTER, "partitions": PARTITIONS, "n": plan.n, "r": plan.r,
        "w": plan.w, "dw": plan.dw, "sloppy": plan.sloppy, "members": members,
        "conflicts": conflicts,
    }  # fmt: skip
    node = world.processes[0].node
    if node is not None:
        world.enter(
            world.processes[0], lambda: node.admin.create_ring(body, lambda status, ring: None)
        )


@lru_cache(maxsize=64)
def _ring(names: tuple[str, ...], n: int, lossy: bool) -> Ring:
    members = {
        name: Member(name, 1, index + 1, name + ":1", name + ":2")
        for index, name in enumerate(names)
    }
    conflicts = "LastWriteWins" if lossy else "Siblings"
    identity = Identity(CLUSTER, PARTITIONS, n, conflicts)  # type: ignore[arg-type]
    return first_ring(identity, members, RingTarget())
