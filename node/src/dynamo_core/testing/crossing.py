"""Frames that reach the other one of two rings on copies of the same disks (S-BAK-4)."""

from __future__ import annotations

from functools import partial
from random import Random

from dynamo_core.protocol.frames import Frame, decode_frame
from dynamo_core.ring.document import Ring
from dynamo_core.testing.history import Trouble
from dynamo_core.testing.process import Process
from dynamo_core.testing.surroundings import Surroundings

CROSSED = 0.03
"""Share of frames that reach the other ring too."""


def cross(
    world: Surroundings, other: Surroundings, address: str, frame: bytes,
    *, chance: Random, one_name: bool,
) -> None:  # fmt: skip
    """The frame may also reach the node of the same number in the other ring. An empty disk names
    no ring, so only the handshake keeps its frames out. `one_name`: both rings have one name."""
    receiver = next((p for p in world.processes if p.address == address), None)
    if chance.random() >= CROSSED or receiver is None:
        return
    head = decode_frame(frame)
    ordinal = receiver.name.rpartition("-")[2]
    there = next((p for p in other.processes if p.name.rpartition("-")[2] == ordinal), None)
    if there is None or there.node is None or there.paused or there.older or not head.cluster_id:
        return
    if (ring := there.node.ring_or_none) is not None and (both := _in_both(ring, head, one_name)):
        detail = f"a frame of {head.name} names {both}, which the other ring has too"
        world.events.append(Trouble("S-BAK-4", detail))
    world.later(0.002, partial(_take, other, there, frame))


def _in_both(ring: Ring, head: Frame, one_name: bool) -> list[str]:
    """What the frame names and the other ring has too."""
    lines = ring.members.values()
    found = {ring.identity.cluster_id} & {head.cluster_id}
    found |= {f"{line.id:x}" for line in lines} & {f"{head.node_id:x}"}
    if not one_name:
        names = {line.name for line in lines} | {line.address for line in lines}
        found |= names & {head.name, head.address}
    return sorted(found)


def _take(other: Surroundings, there: Process, frame: bytes) -> None:
    node = there.node
    if node is None or there.paused:
        return
    ring, before = node.ring_or_none, node.counters["wrong_cluster_frames"]
    other.enter(there, partial(node.receive, frame))
    if ring is None:
        return
    other.count("frame of the other ring refused")
    if node.counters["wrong_cluster_frames"] == before:
        detail = f"{there.name} took a frame of the other ring"
        other.events.append(Trouble("S-BAK-4", detail))
