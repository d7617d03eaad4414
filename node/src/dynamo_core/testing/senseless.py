"""Ring input and numbers that make no sense, from a faulty peer and on a disk (S-IN-2, T-3).

In all other respects the frames are a member's own: addressed correctly, recent, of this ring. The
decoder refuses some of them; most are refused only after they were read.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo_core.errors import BadFrame
from dynamo_core.keys import META
from dynamo_core.membership.stored_ring import RING_KEY
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.ring_messages import Entries, Parts
from dynamo_core.protocol.round_messages import NumbersTold
from dynamo_core.ring.document import Entry, Ring, RingParts
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.process import Process
from dynamo_core.testing.world import World

TIMES = 6
"""How many such messages one fault sends to every node."""
_replace = msgspec.structs.replace


def talk(world: World, process: Process, fault: Fault) -> None:
    """The process sends senseless messages to all others, a few times."""
    for time in range(TIMES):
        world.later(fault.lasts * time / TIMES, lambda: _say(world, process))


def _say(world: World, process: Process) -> None:
    node = process.node
    if node is None or process.paused or not node.member:
        return
    world.count("ring input without sense sent")
    message = _message(world, node)
    for peer in world.processes:
        if peer is not process:
            frame = node.outbox.frame_of(peer.name, [message])
            for delay in world.network.delays():
                world.later(delay, lambda to=peer, data=frame: _hear(world, to, data))  # type: ignore[misc]


def _hear(world: World, receiver: Process, frame: bytes) -> None:
    node = receiver.node
    if node is None:
        return

    def receive() -> None:
        try:
            node.receive(frame)
        except BadFrame:
            world.count("frame without sense refused whole")

    world.enter(receiver, receive)


def _message(world: World, node: Any) -> Message:
    rng, ring = world.rng, node.ring
    partition = rng.randrange(len(ring.entries))
    entry = _spoilt(rng.randrange(4), ring.entries[partition])
    entries = tuple(entry if p == partition else one for p, one in enumerate(ring.entries))
    way = rng.randrange(4)
    if way == 0:
        return Entries(0, [(partition, entry)])
    if way == 1:
        # A floor that no node has seen: an owner that believes it drops its copy.
        return NumbersTold(0, [(p, 0, 1 << 57) for p in range(len(ring.entries))])
    if way == 2:
        return NumbersTold(0, [(partition, 1 << 60, 1 << 60)])
    return Parts(0, RingParts(entries=entries), ())


def _spoilt(way: int, entry: Entry) -> Entry:
    if way == 0:
        return _replace(entry, version=2**33)
    if way == 1:
        return _replace(entry, version=entry.version + 1, owners=(*entry.owners[1:], "ghost"))
    if way == 2:
        return _replace(entry, term=entry.term + 1, owners=entry.owners[:1] * 2)
    return _replace(entry, version=entry.version + 1, move=(entry.owners[0], entry.owners[-1]))


def spoil(world: World, process: Process, fault: Fault) -> None:
    """The process starts again on a disk whose ring document makes no sense."""
    others = [p for p in world.processes if p is not process]
    if process.on_heal is not None or not process.stays() or not any(p.stays() for p in others):
        return
    world.stop(process)
    rows = process.disk.rows[META]

    def change() -> None:
        row = rows[RING_KEY]
        ring = Ring.decode(row)
        entry = _spoilt(0, ring.entries[0])
        cut = fault.amount < 0.5
        rows[RING_KEY] = row[: len(row) // 2] if cut else ring.with_entries({0: entry}).encode()

    process.remember()
    change()
    world.count("ring of a disk spoilt")
    world.later(min(fault.lasts, 0.5), lambda: world.start(process))
