"""The copies of one put: which node acknowledged which, what is under way, and what is missing.

A copy is made for one writer: the writer keeps it itself, or another node keeps a hinted replica
for it. Calls and acks are counted by node and by the writer whom the copy is for, since a hint and
the writer's own copy are one copy (S-RW-2), and one node may keep copies for two writers of a joint
write (S-MOVE-1). Nothing here sends a message: `put` decides what to ask, this value says what that
would still bring.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dynamo_core.messages import COMPLETE, HINTED, OWNER, SYNCED, WRITER
from dynamo_core.operations import Acks
from dynamo_core.quorum import Verdict, Waiting, joint_verdict

PROVEN = OWNER | COMPLETE
KEPT = OWNER | WRITER
Call = tuple[str, str]
"""The node that is asked, and the writer for whom it keeps a hinted replica ("": its own copy)."""


class Copies:
    """Everything known of the copies of one put; small, since every put has one."""

    __slots__ = ("acks", "by_writer", "kept", "tried", "under_way")

    def __init__(self) -> None:
        self.acks: dict[str, int] = {}
        """Flags by the node that acknowledged."""
        self.by_writer = self.acks
        """Flags by the writer whom a copy is for. The same dict as `acks` until a node acknowledges
        a copy for another."""
        self.under_way: set[Call] = set()
        self.kept: Collection[Call] = ()
        """(node, writer) of each acknowledged copy; empty while every node keeps its own."""
        self.tried: Collection[Call] = ()
        """(node, writer): which nodes were asked for a second copy, and for whom."""

    # ------------------------------------------------------------ what happens

    def acked(self, node: str, target: str, flags: int) -> None:
        """The node has persisted its own copy, or a hinted replica for `target`."""
        acks = self.acks
        copies = self.by_writer
        if target and copies is acks:
            copies = self.by_writer = dict(acks)
            self.kept = {(other, other) for other in acks}
        acks[node] = acks.get(node, 0) | flags
        if copies is not acks:
            copy = target or node
            copies[copy] = copies.get(copy, 0) | flags
            self.kept = {*self.kept, (node, copy)}

    def try_second(self, node: str, writer: str) -> None:
        """The node is asked for a second copy, for this writer."""
        self.tried = {*self.tried, (node, writer)}

    def forget(self, call: Call) -> None:
        """The node refused the entry, not the copy: it may be asked again."""
        self.under_way.discard(call)
        self.tried = {other for other in self.tried if other != call}

    # ------------------------------------------------------------ what that means

    def missing(self, writers: Collection[str]) -> list[str]:
        """The writers whose copy is neither acknowledged nor under way, in their order."""
        acked = self.by_writer
        if not self.under_way:
            return [w for w in writers if w not in acked]
        under_way = {target or node for node, target in self.under_way}
        return [w for w in writers if w not in acked and w not in under_way]

    def reached(self, owners: Collection[str], strict: bool) -> int:
        """How many copies of these owners are acknowledged or under way; under strict only those
        that the owners keep themselves."""
        reached = {target or node for node, target in self.under_way if not (strict and target)}
        reached.update(n for n, flags in self.by_writer.items() if not strict or flags & KEPT)
        return len(reached.intersection(owners))

    def elsewhere(self, node: str, writer: str) -> bool:
        """Whether this writer's copy is acknowledged, or under way at another node than this."""
        return writer in self.by_writer or any(
            other != node and (target or other) == writer for other, target in self.under_way
        )

    def asked(self, node: str) -> bool:
        """Whether a call of this node is under way."""
        return any(node == other for other, _ in self.under_way)

    def second_at(
        self, nodes: Sequence[str], writer: str, lists: Collection[Collection[str]], own: Call
    ) -> str:
        """Which of these nodes may keep a second copy, for `writer`: the first that keeps none for
        anybody in an owner list with `writer`; "" where there is none. `own`: the node that
        coordinates, and whom its first copy is for."""
        rivals = {name for owners in lists if writer in owners for name in owners}
        kept = self.kept or [(other, other) for other in self.acks]
        for node in nodes:
            keeps = {copy for other, copy in (*self.tried, *kept) if other == node}
            keeps.add(own[1] if node == own[0] else node)
            if keeps.isdisjoint(rivals):
                return node
        return ""

    def counts(self) -> Acks:
        """Acknowledgements by node, as the answer tells them."""
        owners = hinted = durable = 0
        for flags in self.acks.values():
            owners += flags & OWNER > 0
            hinted += flags & HINTED > 0
            durable += flags & SYNCED > 0
        return Acks(len(self.acks), owners, hinted, durable)

    def verdict(
        self, quorums: Collection[Collection[str]], wanted: tuple[int, int, bool], spare: int,
        me: str,
    ) -> Verdict:  # fmt: skip
        """Whether there are W copies in every owner list, `dw` of all of them durable. `wanted` is
        (w, dw, strict): under strict only copies count that complete owners keep themselves, or a
        writer beside the owners: that writer will be complete, or has been. `spare`: so many
        stand-ins could be asked besides; `me` may still report its fsync."""
        w, dw, strict = wanted
        counted = {
            copy: flags & SYNCED > 0
            for copy, flags in self.by_writer.items()
            if not strict or flags & PROVEN == PROVEN or flags & WRITER
        }
        asked = {c for node, target in self.under_way if (c := target or node) not in counted}
        own = me in self.acks and not self.acks[me] & SYNCED
        kept = self.kept if len(self.kept) > len(self.acks) else ()
        waiting = Waiting(asked, spare, own, kept)
        return joint_verdict(counted, quorums, w, dw, waiting)
