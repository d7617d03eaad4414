"""Who mints: one random actor a partition, in memory only (S-DOT-2).

An actor is born when it first mints, and born again whenever this node forgets a record that lives
on elsewhere. A tombstone that is collected lives on nowhere; its actor goes on, above the *base*:
the highest count of the actor in any record of the partition that was collected.
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
        """A dot that no other event has; `history` is of everything that lies here of the key."""
        actor = self._actors.get(partition)
        if actor is None:
            actor = self._actors[partition] = self._draw()
        count = 1 + max(history.top(actor), self._bases.get(partition, 0))
        if count > COUNTER_MAX:  # nobody would take it (S-IN-2)
            self.born_again(partition)
            return self.mint(partition, history)
        return actor, count

    def collected(self, partition: int, history: History) -> None:
        """A record is forgotten by proof: its dots must not be minted again."""
        actor = self._actors.get(partition)
        if actor is not None:
            self._bases[partition] = max(history.top(actor), self._bases.get(partition, 0))

    def born_again(self, partition: int) -> None:
        """This node forgets something of the partition that lives on elsewhere."""
        self._actors.pop(partition, None)
        self._bases.pop(partition, None)

    def all_born_again(self) -> None:
        """After a write that failed, or perhaps did not."""
        self._actors.clear()
        self._bases.clear()
