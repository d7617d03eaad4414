"""Counts hard states in the turns of a node: frames that were cut, work that took several turns,
full disks during a change, rings of one and of two. `sightings` counts those in answers.

A frame that is larger than a link accepts is a fault, unless it has only one message, which cannot
be cut.
"""

from __future__ import annotations

from dynamo_core.keys import range_of
from dynamo_core.node import Node
from dynamo_core.protocol.frames import decode_frame
from dynamo_core.protocol.messages import FetchedMany, ListingReply, Store
from dynamo_core.protocol.move_messages import Offer
from dynamo_core.ring.document import LEAVING, Ring
from dynamo_core.testing.history import Trouble
from dynamo_core.testing.plan import Limits
from dynamo_core.testing.surroundings import Surroundings

FEW = {1: "one", 2: "two"}


def frames_sent(
    world: Surroundings, limits: Limits, node: Node, frames: list[tuple[str, bytes]]
) -> None:
    """Examine the frames of a node in a history with small limits."""
    if len({address for address, _ in frames}) < len(frames):
        world.count("frame cut")
    for _, data in frames:
        messages = decode_frame(data).messages
        if len(messages) > 1 and len(data) > limits.frame_bytes:
            detail = f"{node.name} sends {len(data)} bytes, {len(messages)} messages, in one frame"
            world.events.append(Trouble("frames", detail))
        hints = [m for m in messages if isinstance(m, Store) and m.cause == "hint"]
        if hints and sum(node.hints.counts.values()) > len(hints):
            world.count("hints delivered in several turns")
        for message in messages:
            if isinstance(message, ListingReply) and message.more:
                world.count("leaf listed in several turns")
            elif isinstance(message, FetchedMany) and len(message.records) < limits.keys:
                fetched = sum(map(len, message.records))
                world.counters["records fetched up to a bound"] += fetched > limits.fetch_bytes
            elif isinstance(message, Offer):
                _offered(world, node, message)


def _offered(world: Surroundings, node: Node, offer: Offer) -> None:
    start, end = range_of(offer.partition, node.ring.partition_bits)
    if len(node.replica.rows(start, end, len(offer.rows) + 1)) > len(offer.rows):
        world.count("partition surrendered in several turns")


def ring_changed(world: Surroundings, before: Ring, after: Ring) -> None:
    """A ring of one or two has grown, or a larger ring has shrunk to one or two."""
    had, has = len(before.live_names()), len(after.live_names())
    if had < has and had in FEW:
        world.count(f"ring of {FEW[had]} grew")
    elif has < had and has in FEW:
        world.count(f"ring shrank to {FEW[has]}")


def disk_is_full(world: Surroundings, node: Node) -> None:
    """A full disk has just refused a batch."""
    name, ring = node.identity.name, node.ring_or_none
    if ring is None or name not in ring.members:
        return
    if node.ring_state.gone:
        world.counters["full while it hands over"] += node.write_batch.holds_data()
    elif ring.members[name].state == LEAVING:
        world.count("full while it leaves")
    if node.member and node.moves.receiving:
        world.count("full while it receives")
    held = node.replica.forest.held()
    if node.member and any(name not in node.preference.writers(p) for p in held):
        world.count("full while it surrenders")
