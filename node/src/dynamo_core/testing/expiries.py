"""Expiries in a simulated history: what nodes stamp, and what the wall clocks of all machines tell.

The checker knows no clock. It is told by each read the earliest time that any machine had while the
read was under way, and the latest time that any node has ever been told. A value that expires after
the latest one is alive for all; one that expires before the earliest one is dead for all (S-TTL-1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dynamo_core.node import Node
from dynamo_core.protocol.operations import Operation, Put
from dynamo_core.testing.history import Attempt

if TYPE_CHECKING:
    from dynamo_core.testing.world import World

WALL_MS = 1_700_000_000_000
"""What a machine's clock shows when a history begins, while no fault has set it."""


class WallClocks:
    """What the wall clocks of all machines tell, in ms since 1970."""

    def __init__(self) -> None:
        self.latest_ms = 0
        """The latest time that any node has been told."""
        self._lowest: list[tuple[float, int]] = [(0.0, 0)]
        """Since when which offset is the lowest one of all machines."""

    def tell(self, now: float, offset_ms: int) -> int:
        """What a clock with this offset tells."""
        told = WALL_MS + int(now * 1000) + offset_ms
        self.latest_ms = max(self.latest_ms, told)
        return told

    def are_set(self, now: float, offsets_ms: Iterable[int]) -> None:
        """Some machine has got another offset; these are those of all machines."""
        self._lowest.append((now, min(offsets_ms)))

    def earliest_ms(self, since: float) -> int:
        """The earliest time that any machine has had since then."""
        before = [offset for at, offset in self._lowest if at <= since][-1]
        after = [offset for at, offset in self._lowest if at > since]
        return WALL_MS + int(since * 1000) + min([before, *after])


def absolute_ms(now: float, until_s: float) -> int:
    """The time `until_s` after now, by a clock that no fault has set; 0 for no expiry."""
    return WALL_MS + int((now + until_s) * 1000) if until_s else 0


def stamp(world: World, attempt: Attempt, operation: Operation, node: Node) -> None:
    """Write down when the value of a put is to expire, as it enters the node that the client asked:
    whatever becomes of it, no version of it may say another time."""
    if not isinstance(operation, Put):
        return
    seconds_ms = node.wall_ms + operation.expires_in_s * 1000 if operation.expires_in_s else 0
    attempt.expires_ms = operation.expires_ms or seconds_ms
    world.stamps.setdefault(attempt.value, set()).add(attempt.expires_ms)
    if 0 < attempt.expires_ms <= node.wall_ms:
        world.count("put of a time that has passed")
