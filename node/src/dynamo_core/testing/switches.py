"""Whether a partition has switched once in each term (C10), by the documents of remaining nodes.

A receiver may switch and be cut off before another node hears of it. An administrator who removes
it by force asserts that it is dead and fenced (S-MOVE-4): its move is undone, and another receiver
switches in the same term. So of two switches in one term, one is excused if every node that has
ever had it was removed by force, because C10 excludes forced removal. As soon as any other node has
it too, at any time, the term has two switches.
"""

from __future__ import annotations

from collections.abc import Collection

from dynamo_core.ring.document import Entry, Owners

Switch = tuple[Owners, Owners]
"""The owners after the switch and before it."""


class Switches:
    """Every switch of a history, and the nodes that have had it."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], dict[Switch, set[int]]] = {}
        """By partition and term: the ids of the nodes whose document has had each switch."""

    def hear(self, partition: int, entry: Entry, node_id: int, removed: Collection[int]) -> str:
        """A node has this entry of a switch that settles; `removed`: the ids removed by force until
        now. Returns the fault, "" if there is none."""
        assert entry.old is not None
        found = self._known.setdefault((partition, entry.term), {})
        found.setdefault((entry.owners, entry.old), set()).add(node_id)
        stand = [switch for switch, ids in found.items() if not ids.issubset(removed)]
        if len(stand) < 2:
            return ""
        return f"partition {partition} term {entry.term} switched in two ways: {stand}"

    def excused(self) -> int:
        """The number of terms with more than one switch."""
        return sum(len(found) > 1 for found in self._known.values())
