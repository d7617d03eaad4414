"""Nodes that return with their disk at another address: one, all at once, or two at each other's
(S-MEM-5). The shell resolves the names of its seeds again; here the seeds are the present addresses
of all nodes."""

from __future__ import annotations

from collections.abc import Sequence

from dynamo_core.testing.fault import Fault
from dynamo_core.testing.process import Process, seeds
from dynamo_core.testing.world import World


def move(world: World, fault: Fault, one: Process, other: Process) -> None:
    """Stops the nodes that move and starts them elsewhere after some time."""
    if fault.kind == "swap addresses" and one is not other:
        moved, addresses = [one, other], [other.address, one.address]
    else:
        moved = world.processes if fault.kind == "move all" else [one]
        world.moves += 1
        addresses = [f"{process.name}:{world.moves * 10 + 1}" for process in moved]
    for process in moved:
        world.stop(process)
    readdress(world, moved, addresses)
    for process in moved:
        world.later(fault.lasts, lambda process=process: world.start(process))  # type: ignore[misc]


def readdress(world: World, moved: Sequence[Process], addresses: Sequence[str]) -> None:
    """From now on these addresses reach them, and a process that resolves its seeds gets them."""
    for process, address in zip(moved, addresses, strict=True):
        process.address = address
        process.client = f"{process.name}:{world.moves * 10 + 2}"
    world.by_address = {process.address: process for process in world.processes}
    for process in world.processes:
        if process.node is not None:
            process.node.seek(seeds(world.processes, process))
