"""The actors of this node's dots: one random number for each partition, only in memory (S-DOT-2).

A partition gets its actor when this node makes the first event there. The node draws a new actor
whenever it forgets a record that still exists on other nodes. A collected tombstone exists on no
node, so its actor stays. Its next counter is then above the *base*: the highest counter of the
actor in any collected record of the partition.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.bounds import COUNTER_MAX
from dynamo_core.causality.records import Dot, History

Draw = Callable[[], int]
"""A random number of 64 bits."""


class Actors:
    """The actors of one node in this life."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._actors: dict[int, int] = {}
        self._bases: dict[int, int] = {}

    def mint(self, partition: int, history: History) -> Dot:
        """A dot that no other event has. `history` covers all that this node holds of the key."""
        actor = self._actors.get(partition)
        if actor is None:
            actor = self._actors[partition] = self._draw()
        count = 1 + max(history.top(actor), self._bases.get(partition, 0))
        if count > COUNTER_MAX:  # every node would refuse it (S-IN-2)
            self.born_again(partition)
            return self.mint(partition, history)
        return actor, count

    def collected(self, partition: int, history: History) -> None:
        """This node has collected a record; its dots must not be minted again."""
        actor = self._actors.get(partition)
        if actor is not None:
            self._bases[partition] = max(history.top(actor), self._bases.get(partition, 0))

    def born_again(self, partition: int) -> None:
        """This node forgets something of the partition that still exists on other nodes."""
        self._actors.pop(partition, None)
        self._bases.pop(partition, None)

    def all_born_again(self) -> None:
        """Draw all actors anew, after a write that failed or whose outcome is unknown."""
        self._actors.clear()
        self._bases.clear()
