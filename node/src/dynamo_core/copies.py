"""The copies of one put: which node acknowledged which, what is under way, and what is missing.

A copy is made for one writer: the writer keeps it itself, or another node keeps a hinted replica
for it. Calls and acks are counted by node and by the writer whom the copy is for, since a hint and
the writer's own copy are one copy (S-RW-2), and one node may keep copies for two writers of a joint
write (S-MOVE-1). Nothing here sends a message: `put` decides what to ask, this value says what that
would still bring.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dynamo_core.messages import COMPLETE, HINTED, OWNER, SYNCED, VOLATILE, WRITER
from dynamo_core.operations import Acks
from dynamo_core.quorum import MET, Verdict, Waiting, joint_verdict

PROVEN = OWNER | COMPLETE
KEPT = OWNER | WRITER
DURABLE = SYNCED | VOLATILE
"""Of these flags a durable copy has the first alone."""
Call = tuple[str, str]
"""The node that is asked, and the writer for whom it keeps a hinted replica ("": its own copy)."""


class Copies:
    """Everything known of the copies of one put; small, since every put has one."""

    __slots__ = ("acks", "by_writer", "fsyncs", "kept", "tried", "under_way", "unsyncable")

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
        self.fsyncs: Collection[Call] = ()
        """Acknowledged copies whose fsync was asked for afterwards (S-RW-8)."""
        self.unsyncable: Collection[Call] = ()
        """Those of them whose node refused, or could not be asked."""

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

    def ask_fsync(self, call: Call) -> None:
        """The node is asked to fsync the copy that it has acknowledged."""
        self.fsyncs = {*self.fsyncs, call}

    def no_fsync(self, call: Call) -> None:
        """It will not."""
        self.unsyncable = {*self.unsyncable, call}

    def volatile(self, call: Call) -> None:
        """The node keeps nothing over a restart: its copy counts, and no fsync of it does."""
        self.ask_fsync(call)
        self.no_fsync(call)

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

    def counted(self, strict: bool) -> dict[str, bool]:
        """Copies that count, by writer, and whether each is durable: under strict only those that
        complete owners keep themselves, or a writer beside the owners, which will be complete, or
        has been."""
        return {
            copy: flags & SYNCED > 0
            for copy, flags in self.by_writer.items()
            if not strict or flags & PROVEN == PROVEN or flags & WRITER
        }

    def durable(self, quorums: Collection[Collection[str]], dw: int, strict: bool) -> bool:
        """Whether every owner list has `dw` copies that are fsynced."""
        durable = {copy for copy, synced in self.counted(strict).items() if synced}
        return all(len(durable.intersection(owners)) >= dw for owners in quorums)

    def acknowledged(self) -> list[Call]:
        """Every acknowledged copy, as the call that asked for it."""
        if not self.kept:
            return [(node, "") for node in self.acks]
        return sorted((node, "" if copy == node else copy) for node, copy in self.kept)

    def unsynced(
        self, quorums: Collection[Collection[str]], dw: int, strict: bool, me: str
    ) -> list[Call]:
        """S-RW-8: of which acknowledged copies an fsync is to be asked now, so that every owner
        list has `dw`: as many as are missing in a list, and none of this node, which has begun its
        own. Those that were asked before and are silent are not counted on."""
        counted, found = self.counted(strict), list[Call]()
        left = [
            (node, target)
            for node, target in self.acknowledged()
            if node != me and (node, target) not in self.fsyncs
            and counted.get(target or node) is False
        ]  # fmt: skip
        for owners in quorums:
            asked = {target or node for node, target in found}
            short = dw - sum(synced and copy in owners for copy, synced in counted.items())
            short -= len(asked.intersection(owners))
            here: dict[str, Call] = {}  # one call a copy: two nodes may hold it
            for call in left:
                copy = call[1] or call[0]
                if copy in owners and copy not in asked:
                    here.setdefault(copy, call)
            found += list(here.values())[: max(short, 0)]
        return found

    def counts(self) -> Acks:
        """Acknowledgements by node, as the answer tells them."""
        owners = hinted = durable = 0
        for flags in self.acks.values():
            owners += flags & OWNER > 0
            hinted += flags & HINTED > 0
            durable += flags & DURABLE == SYNCED
        return Acks(len(self.acks), owners, hinted, durable)

    def verdict(
        self, quorums: Sequence[Collection[str]], wanted: tuple[int, int, bool], spare: int
    ) -> Verdict:
        """Whether there are W copies in every owner list, `dw` of them durable (S-RW-8). `wanted`
        is (w, dw, strict). `spare`: so many stand-ins could be asked besides. Every acknowledged
        copy may still be fsynced, unless its node refused that."""
        w, dw, strict = wanted
        acks = self.acks
        if self.by_writer is acks and len(quorums) == 1 and not strict:
            # By far the most: every copy lies with its writer, and one list decides.
            durable = sum(flags & SYNCED > 0 for flags in acks.values())
            if len(acks) >= w and durable >= dw and acks.keys() <= set(quorums[0]):
                return MET
        counted = self.counted(strict)
        asked = {c for node, target in self.under_way if (c := target or node) not in counted}
        syncs = {copy for copy, synced in counted.items() if not synced}
        if syncs and self.unsyncable:
            open_ = [call for call in self.acknowledged() if call not in self.unsyncable]
            syncs &= {target or node for node, target in open_}
        kept = self.kept if len(self.kept) > len(self.acks) else ()
        return joint_verdict(counted, quorums, w, dw, Waiting(asked, spare, syncs, kept))
