"""Preference lists: for each partition its owners, then the stand-ins, in one fixed order.

The lists are built once per ring document, because every request reads one. Owners come first, in
the order of the entry. Stand-ins follow: a walk round the ring from the partition meets first
owners, and this is their order [P 4.3, 4.6]. So the hints for one node spread over all others.
Members that are first owner of no partition come last, by name.

Each name has one bit until the process ends. So a request can keep a set of nodes in one integer,
also when a new ring document comes while it runs.

While a partition moves, its writes are joint (S-MOVE-1, S-MOVE-3). The receiver of a move is then a
writer beside the owners, and so are the owners before a switch that settles. They are not
stand-ins.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from dynamo_core.ring.document import LEAVING, Ring

Names = tuple[str, ...]


class Bits(dict[str, int]):
    """One bit for each name, given when a caller first asks for the name and never changed."""

    def __missing__(self, name: str) -> int:
        bit = self[name] = 1 << len(self)
        return bit

    def mask(self, names: Iterable[str]) -> int:
        """The bits of these names."""
        mask = 0
        for name in names:
            mask |= self[name]
        return mask

    def names(self, mask: int) -> list[str]:
        """The names whose bits these are, sorted."""
        return sorted(name for name, bit in self.items() if bit & mask)


class Place:
    """One partition as a write needs it: its owners, its writers, and the owner lists that must
    each have W acks, by name and as bits."""

    __slots__ = ("lists", "owners", "quorums", "shared", "writers")

    def __init__(self, owners: Names, quorums: tuple[Names, ...], bits: Bits):
        self.owners = owners
        self.writers = tuple(dict.fromkeys(chain.from_iterable(quorums)))
        self.quorums = quorums
        self.lists = tuple(map(bits.mask, quorums))
        self.shared = bits.mask(set(self.writers).intersection(*quorums))
        """The bits of the nodes that are in every list."""


class Preference:
    """The preference lists of one ring document; `names` has all nodes that may be asked."""

    __slots__ = ("_lists", "_stand_ins", "bits", "names", "places")

    def __init__(self, ring: Ring, bits: Bits | None = None) -> None:
        self.names: Names = ring.live_names()
        self.bits = Bits() if bits is None else bits
        """The bits of this node; they stay when the ring document changes."""
        lists = [(entry.owners, entry.quorums) for entry in ring.entries]
        made = {both: Place(*both, self.bits) for both in dict.fromkeys(lists)}
        self.places = tuple([made[both] for both in lists])
        """By partition; those with the same owner lists have one place."""
        leaving = {m.name for m in ring.members.values() if m.state == LEAVING}
        # Leaving nodes come last as stand-ins, so that their hints drain.
        walks = _walks(ring, self.names)
        if leaving:
            walks = [sorted(walk, key=leaving.__contains__) for walk in walks]
        self._stand_ins = tuple(
            [
                tuple([name for name in walk if name not in place.writers])
                for walk, place in zip(walks, self.places, strict=True)
            ]
        )
        self._lists = tuple(
            [
                place.writers + others
                for place, others in zip(self.places, self._stand_ins, strict=True)
            ]
        )

    def owners(self, partition: int) -> Names:
        """The nodes that must hold the partition; reads ask them."""
        return self.places[partition].owners

    def writers(self, partition: int) -> Names:
        """The owners, and the nodes that joint writes need beside them."""
        return self.places[partition].writers

    def stand_ins(self, partition: int) -> Names:
        """All other nodes, in the order in which they stand in."""
        return self._stand_ins[partition]

    def list(self, partition: int) -> Names:
        """Owners, then the other writers, then the stand-ins."""
        return self._lists[partition]


def _walks(ring: Ring, names: Names) -> list[list[str]]:
    """For each partition, the names in the order in which the walk from the next partition meets
    them as first owners.

    The walk from the last partition meets the first owners in the order of the ring. The loop goes
    backwards from there and moves each partition's first owner to the front of the order.
    """
    firsts = [entry.owners[0] for entry in ring.entries if entry.owners]
    order = [name for name in dict.fromkeys((*firsts, *names)) if name in names]
    walks: list[list[str]] = []
    for entry in reversed(ring.entries):
        walks.append(order.copy())
        first = entry.owners[:1]
        if first and first[0] in names:
            order.remove(first[0])
            order.insert(0, first[0])
    return walks[::-1]
