"""Partitions of which no owner is complete: all their owners save their copies (S-BAK-1).

Such a copy may be old: that of a disk that missed a round, or a copy that was read before a round
that other owners know. A tombstone that was forgotten in this round is in no other copy, so the old
copy would bring back what was deleted. So the leader treats copies as owners treat records on their
way (S-DEL-3): it does not take one that was read at a number below another one's floor. It asks the
node again. If the node answers with an old number once more, its disk has missed the round, and the
node itself will drop this copy: it counts as missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from dynamo_core.backup.manifest import Piece

COMPLETE_S = 5.0
"""An owner may become complete within this time, as after a start. Then all owners are saved."""


class _Copies:
    """What is known of one partition."""

    def __init__(self) -> None:
        self.since: float | None = None
        """When an owner first said that it is not complete."""
        self.incomplete: set[str] = set()
        self.pieces: dict[str, Piece] = {}
        self.asked_at: dict[str, int] = {}
        """By node whose copy was too old: the floor that was known when it was asked again."""
        self.behind: set[str] = set()
        """Nodes whose disks have missed a round."""


class IncompleteOwners:
    """By partition: what owners that are not complete have said and saved."""

    def __init__(self, counters: Counter[str]) -> None:
        self._of: dict[int, _Copies] = {}
        self._counters = counters

    def said(self, partition: int, node: str, now: float) -> None:
        """An owner says that it is not complete."""
        copies = self._of.setdefault(partition, _Copies())
        if copies.since is None:
            copies.since = now
        if now - copies.since >= COMPLETE_S:
            copies.incomplete.add(node)

    def may_be_complete(self, partition: int, nodes: Iterable[str]) -> list[str]:
        """The owners that have stayed incomplete for long enough."""
        copies = self._of.get(partition)
        return [name for name in nodes if copies is None or name not in copies.incomplete]

    def wanted(self, partition: int, nodes: Iterable[str]) -> list[str]:
        """Those of these owners whose copies are still to be saved."""
        copies = self._of.setdefault(partition, _Copies())
        return [name for name in nodes if name not in copies.pieces and name not in copies.behind]

    def turn(self, partition: int, node: str) -> int:
        """A number that makes an order a new one after the copy was too old."""
        copies = self._of.get(partition)
        return copies.asked_at.get(node, 0) & (1 << 32) - 1 if copies is not None else 0

    def lost(self, partitions: Iterable[int]) -> None:
        """The saved copies of these partitions are no longer in the archive."""
        for partition in partitions:
            if partition in self._of:
                self._of[partition].pieces.clear()
                self._of[partition].behind.clear()

    def saved(self, partition: int, piece: Piece) -> None:
        """A copy is in the archive."""
        copies = self._of.setdefault(partition, _Copies())
        copies.pieces[piece.node] = msgspec.structs.replace(piece, root="")
        floor = max(one.floor for one in copies.pieces.values())
        for old in [one for one in copies.pieces.values() if one.seen < floor]:
            self._counters["backup_copies_too_old"] += 1
            del copies.pieces[old.node]
            if copies.asked_at.get(old.node) == floor:
                copies.behind.add(old.node)
            copies.asked_at[old.node] = floor

    def whole(
        self, partition: int, owners: Sequence[str], up: Callable[[str], bool]
    ) -> list[Piece]:
        """The copies of the partition, once all its owners that are up have saved theirs. Until
        then, none."""
        if any(up(name) for name in self.wanted(partition, owners)):
            return []
        copies = self._of[partition]
        missed = [name for name in owners if name not in copies.pieces]
        return [msgspec.structs.replace(one, missed=missed) for one in copies.pieces.values()]
