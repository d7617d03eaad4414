"""What the shell does with disks: fsyncs on a separate thread, stores that are opened again."""

from __future__ import annotations

from dynamo_core.testing.edges import disk_is_full
from dynamo_core.testing.process import Process
from dynamo_core.testing.surroundings import Surroundings

REOPEN_S = 0.25
RESTART_S = 0.3


def sync(world: Surroundings, process: Process) -> None:
    """One fsync of the present content of the disk; it may take long, or fail."""
    process.syncing = True
    life, sequence = process.life, process.disk.written
    delay = process.sync_s or 0.0003 + 0.003 * world.rng.random()
    process.synced_at = world.now + delay

    def over() -> None:
        if process.life != life or process.node is None:
            return
        node = process.node
        process.syncing = False
        if process.sync_fails:
            process.sync_fails = False
            world.count("fsync failed")
            world.stop(process)
            world.later(RESTART_S, lambda: world.start(process))
        elif process.disk.broken:
            node.refuses_writes()
            want_reopen(world, process)
        else:
            process.disk.synced(sequence)
            world.enter(process, lambda: node.synced(sequence))

    world.later(delay, over)


def want_reopen(world: Surroundings, process: Process) -> None:
    """A store that refuses writes is opened again after some time."""
    if process.reopening:
        return
    process.reopening = True
    process.disturb(world.now)
    if process.disk.full and process.node is not None:
        disk_is_full(world, process.node)
    life = process.life

    def reopen() -> None:
        if process.life != life or process.node is None:
            return
        process.reopening = False
        if process.syncing:
            want_reopen(world, process)
            return
        node = process.node
        process.disk.reopen()
        world.count("store reopened")
        world.enter(process, node.reopened)

    world.later(REOPEN_S, reopen)
