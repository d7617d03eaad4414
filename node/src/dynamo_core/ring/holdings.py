"""What one node has to do with each partition of a ring document: its copies, and with whom."""

from __future__ import annotations

from dynamo_core.ring.document import LAST_WRITE_WINS, LEFT, Owners, Ring


class Holdings:
    """Built whole from a document, before any of it is taken (S-IN-2)."""

    __slots__ = ("beside", "bits", "lww", "others")

    def __init__(self, ring: Ring, name: str) -> None:
        members = ring.members
        self.bits = ring.partition_bits
        self.lww = ring.identity.conflicts == LAST_WRITE_WINS
        self.others: dict[int, Owners] = {
            p: tuple(o for o in entry.owners if o != name and members[o].state != LEFT)
            for p, entry in enumerate(ring.entries)
            if name in entry.owners
        }
        """The partitions that the node owns, each with its other owners that have not LEFT."""
        self.beside = [
            p for p, entry in enumerate(ring.entries)
            if p not in self.others and any(name in owners for owners in entry.quorums)
        ]  # fmt: skip
        """Those of which it keeps a copy though it is no owner: joint writes need it."""
