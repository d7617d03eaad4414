"""Nodes that come back with their disk at another address, alone, all at once, or each at the
other's (S-MEM-5). What is seeds to the shell, names that are resolved again, is here the present
addresses of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamo_core.testing.fault import Fault
    from dynamo_core.testing.process import Process
    from dynamo_core.testing.world import World


def move(world: World, fault: Fault, one: Process, other: Process) -> None:
    """Stops who is to move and starts it elsewhere after a while."""
    if fault.kind == "swap addresses" and one is not other:
        moved, addresses = [one, other], [other.address, one.address]
    else:
        moved = world.processes if fault.kind == "move all" else [one]
        world.moves += 1
        addresses = [f"{process.name}:{world.moves * 10 + 1}" for process in moved]
    for process in moved:
        world.stop(process)
    resettle(world, moved, addresses)
    for process in moved:
        world.later(fault.lasts, lambda process=process: world.start(process))  # type: ignore[misc]


def resettle(world: World, moved: Sequence[Process], addresses: Sequence[str]) -> None:
    """From now on they are dialled there, and a process that resolves its seeds finds them."""
    for process, address in zip(moved, addresses, strict=True):
        process.address = address
        process.client = f"{process.name}:{world.moves * 10 + 2}"
    world.by_address = {process.address: process for process in world.processes}
    for process in world.processes:
        if process.node is not None:
            process.node.seek(seeds(world, process))


def seeds(world: World, process: Process) -> tuple[str, ...]:
    """Where the others are."""
    return tuple(p.address for p in world.processes if p is not process)
