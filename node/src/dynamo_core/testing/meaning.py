"""What an operation of a simulated client asks for, in the form for the checker."""

from __future__ import annotations

from dynamo_core.node import Node
from dynamo_core.protocol.operations import Get, Operation, Put
from dynamo_core.testing.history import Attempt
from dynamo_core.testing.world import World


def meant(world: World, attempt: Attempt, operation: Operation, node: Node) -> None:
    """Writes into the attempt what its operation asks for. Options that the operation leaves open
    come from the ring's present defaults at the node that is asked. The coordinator's defaults do
    not count: an answer need not name its coordinator, so the checker could not tell a strict
    attempt from a sloppy one, and C9 would excuse every operation that leaves the option open."""
    if node.ring_or_none is None:
        return
    defaults = node.ring.target
    attempt.strict = operation.strict if operation.strict is not None else not defaults.sloppy
    if operation.strict is None and attempt.strict:
        world.count("strict by the ring")
    if isinstance(operation, Get):
        attempt.r = operation.r or defaults.r
    else:
        attempt.w, attempt.dw = operation.w or defaults.w, operation.dw or defaults.dw


def stamp(world: World, attempt: Attempt, operation: Operation, node: Node) -> None:
    """Record when the value of a put expires, as it enters the node that the client asked: no
    version of it may later have another time."""
    if not isinstance(operation, Put):
        return
    seconds_ms = node.wall_ms + operation.expires_in_s * 1000 if operation.expires_in_s else 0
    attempt.expires_ms = operation.expires_ms or seconds_ms
    world.stamps.setdefault(attempt.value, set()).add(attempt.expires_ms)
    world.expiring = world.expiring or attempt.expires_ms > 0
    if 0 < attempt.expires_ms <= node.wall_ms:
        world.count("put of a time that has passed")
