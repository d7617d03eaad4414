"""The partitions of which one node keeps a copy by a ring document, and the other nodes that do."""

from __future__ import annotations

from dynamo_core.ring.document import LAST_WRITE_WINS, LEFT, Owners, Ring


class Holdings:
    """Computed from the whole document before the node takes any part of it (S-IN-2)."""

    __slots__ = ("beside", "bits", "lww", "others")

    def __init__(self, ring: Ring, name: str) -> None:
        members = ring.members
        self.bits = ring.partition_bits
        self.lww = ring.identity.conflicts == LAST_WRITE_WINS
        self.others: dict[int, Owners] = {
            p: tuple([o for o in entry.owners if o != name and members[o].state != LEFT])
            for p, entry in enumerate(ring.entries)
            if name in entry.owners
        }
        """The partitions that the node owns, each with its other owners that have not LEFT."""
        self.beside = [
            p
            for p, entry in enumerate(ring.entries)
            if p not in self.others and any(name in owners for owners in entry.quorums)
        ]
        """The partitions of which it keeps a copy for joint writes, without being an owner."""
