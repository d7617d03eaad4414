"""What an operation of a simulated client asks for, as the checker judges it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamo_core.node import Node
from dynamo_core.protocol.operations import Get, Operation
from dynamo_core.testing.history import Attempt

if TYPE_CHECKING:
    from dynamo_core.testing.world import World


def meant(world: World, attempt: Attempt, operation: Operation, node: Node) -> None:
    """Writes into the attempt what its operation asks for. What the operation leaves open comes
    from the ring's defaults, as the node that is asked has them now. The coordinator's defaults do
    not count: an answer need not name its coordinator, so with them the checker could not tell a
    strict attempt from a sloppy one, and C9 would excuse all that leave it open."""
    if node.ring_or_none is None:
        return
    target = node.ring.target
    attempt.strict = operation.strict if operation.strict is not None else not target.sloppy
    if operation.strict is None and attempt.strict:
        world.count("strict by the ring")
    if isinstance(operation, Get):
        attempt.r = operation.r or target.r
    else:
        attempt.w, attempt.dw = operation.w or target.w, operation.dw or target.dw
