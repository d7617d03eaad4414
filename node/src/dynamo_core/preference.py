"""Preference lists: for each partition its owners, then the stand-ins, in one fixed order.

Built once per ring document and then only indexed, since every request asks. Owners come first, as
the entry has them; stand-ins follow in the order in which a walk round the ring from the partition
meets them as first owners [P 4.3, 4.6], so that the hints for one node spread over all the others;
members that are first owner of nothing close the list, by name.

While a partition moves its writes are joint (S-MOVE-1, S-MOVE-3): the receiver of a move, or the
owners before a switch that settles, are `writers` beside the owners, and not stand-ins.
"""

from __future__ import annotations

from dynamo_core.ring import LEAVING, Ring

Names = tuple[str, ...]


class Preference:
    """The preference lists of one ring document; `names` is everybody who may be asked."""

    __slots__ = ("_lists", "_owners", "_stand_ins", "_writers", "names", "places")

    def __init__(self, ring: Ring) -> None:
        self.names: Names = ring.live_names()
        self._owners = tuple(entry.owners for entry in ring.entries)
        quorums = tuple(entry.quorums for entry in ring.entries)
        self._writers = tuple(
            tuple(dict.fromkeys(name for owners in lists for name in owners)) for lists in quorums
        )
        leaving = {m.name for m in ring.members.values() if m.state == LEAVING}
        self._stand_ins = tuple(
            # Whoever leaves is asked last, so that it is rid of its hints one day.
            tuple(sorted((n for n in walk if n not in writers), key=leaving.__contains__))
            for walk, writers in zip(_walks(ring, self.names), self._writers, strict=True)
        )
        self.places = tuple(zip(self._owners, self._writers, quorums, strict=True))
        """By partition: its owners, its writers, the owner lists of which each must have W acks."""
        self._lists = tuple(
            writers + others for writers, others in zip(self._writers, self._stand_ins, strict=True)
        )

    def owners(self, partition: int) -> Names:
        """The nodes that must hold the partition; reads ask them."""
        return self._owners[partition]

    def writers(self, partition: int) -> Names:
        """The owners, and whoever joint writes need beside them."""
        return self._writers[partition]

    def stand_ins(self, partition: int) -> Names:
        """Everybody else, in the order in which they stand in."""
        return self._stand_ins[partition]

    def list(self, partition: int) -> Names:
        """Owners, then the other writers, then the stand-ins."""
        return self._lists[partition]


def _walks(ring: Ring, names: Names) -> list[list[str]]:
    """For each partition the names in the order in which the walk from the next one meets them.

    Going backwards, a partition's first owner moves to the front of the order of the walk that
    starts there: after one round the order holds for the whole ring, the second round reads it.
    """
    order = list(names)
    walks: list[list[str]] = [[]] * len(ring.entries)
    for write in (False, True):
        for partition in reversed(range(len(ring.entries))):
            if write:
                walks[partition] = order.copy()
            first = ring.entries[partition].owners[:1]
            if first and first[0] in names:
                order.remove(first[0])
                order.insert(0, first[0])
    return walks
