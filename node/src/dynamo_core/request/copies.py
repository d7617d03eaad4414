"""The copies of one put: which node acknowledged which, what is under way, and what is missing.

A copy is made for one writer: the writer keeps it itself, or another node keeps a hinted replica
for it. Calls and acks are counted by the node and by the writer that the copy is for. There are two
reasons: a hint and the writer's own copy are one copy (S-RW-2), and one node may keep copies for
two writers of a joint write (S-MOVE-1). Sets of nodes are bits of one integer. For nearly every
put, complete owners keep their own copies, and these sets are enough. `Aside` has all other cases;
it is made only when needed.

Nothing here sends a message. `put` decides which nodes to ask; this value says what can still come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from dynamo_core.protocol.messages import COMPLETE, HINTED, OWNER, SYNCED, VOLATILE, WRITER
from dynamo_core.protocol.operations import Acks
from dynamo_core.request.quorum import (
    IMPOSSIBLE,
    MET,
    PENDING,
    Verdict,
    on_distinct_nodes,
    write_verdict,
)
from dynamo_core.ring.preference import Bits

PROVEN = OWNER | COMPLETE
_WORTH = PROVEN | VOLATILE
KEPT = OWNER | WRITER
Call = tuple[str, str]
"""The node that is asked, and the writer that it keeps a hinted replica for ("": its own copy)."""


class Aside:
    """Copies that are not a complete owner's own copy, and second calls."""

    __slots__ = ("acks", "asked", "fsyncs", "tried", "unsyncable")

    def __init__(self) -> None:
        self.acks: dict[Call, int] = {}
        """The flags of each acknowledged copy of this kind."""
        self.asked: set[Call] = set()
        """Hinted replicas under way."""
        self.tried: set[Call] = set()
        """(node, writer): the nodes that were asked for a second copy, and for which writer."""
        self.fsyncs: set[Call] = set()
        """Acknowledged copies for which an fsync was asked later (S-RW-8)."""
        self.unsyncable: set[Call] = set()
        """Those of them whose node refused the fsync, or could not be asked."""


class Copies:
    """All that is known of the copies of one put. It is small, because every put has one."""

    __slots__ = ("aside_or_none", "asked", "bits", "owners", "synced")

    def __init__(self, bits: Bits) -> None:
        self.bits = bits
        self.owners = self.synced = self.asked = 0
        """`owners`: complete owners that acknowledged their own copy. `synced`: those of them that
        fsynced it. `asked`: nodes that were asked for their own copy and have not failed."""
        self.aside_or_none: Aside | None = None

    @property
    def aside(self) -> Aside:
        """The other cases; most puts have none."""
        if self.aside_or_none is None:
            self.aside_or_none = Aside()
        return self.aside_or_none

    # ------------------------------------------------------------ what happens

    def acked(self, node: str, target: str, flags: int) -> None:
        """The node has persisted its own copy, or a hinted replica for `target`."""
        if target or flags & _WORTH != PROVEN:
            aside, call = self.aside, (node, target)
            aside.acks[call] = aside.acks.get(call, 0) | flags
            self.ended(node, target)
            return
        bit = self.bits[node]
        self.owners |= bit
        if flags & SYNCED:
            self.synced |= bit

    def ask(self, node: str, target: str) -> None:
        """A call is under way."""
        if target:
            self.aside.asked.add((node, target))
        else:
            self.asked |= self.bits[node]

    def ended(self, node: str, target: str) -> None:
        """The call is not under way any more."""
        if target:
            self.aside.asked.discard((node, target))
        else:
            self.asked &= ~self.bits[node]

    def forget(self, call: Call) -> None:
        """The node refused the entry, not the copy, so it may be asked again."""
        self.ended(*call)
        self.aside.tried.discard(call)

    def no_fsync(self, call: Call) -> None:
        """The node will not fsync the copy that it has acknowledged."""
        self.aside.unsyncable.add(call)

    def volatile(self, call: Call) -> None:
        """The node keeps nothing over a restart: its copy counts, but an fsync of it does not."""
        self.aside.fsyncs.add(call)
        self.aside.unsyncable.add(call)

    # ------------------------------------------------------------ what is there, and to come

    @property
    def open(self) -> bool:
        """Whether any call is under way."""
        aside = self.aside_or_none
        return self.asked & ~self.owners != 0 or (aside is not None and len(aside.asked) > 0)

    def under_way(self) -> list[Call]:
        """Every call under way, in an order that is the same in each run."""
        calls = [(node, "") for node in self.bits.names(self.asked & ~self.owners)]
        return sorted(calls + list(self.aside.asked)) if self.aside_or_none else calls

    def waits_for(self, node: str, target: str) -> bool:
        """Whether this call is under way."""
        if target:
            return self.aside_or_none is not None and (node, target) in self.aside.asked
        return self.bits[node] & self.asked & ~self.owners != 0

    def asks(self, node: str) -> bool:
        """Whether any call to this node is under way."""
        return any(node == other for other, _ in self.under_way())

    def acknowledged(self) -> list[Call]:
        """Every acknowledged copy, as the call that asked for it."""
        calls = [(node, "") for node in self.bits.names(self.owners)]
        return sorted({*calls, *self.aside.acks}) if self.aside_or_none else calls

    def heard_from(self, node: str) -> bool:
        """Whether the node has acknowledged any copy."""
        return any(node == other for other, _ in self.acknowledged())

    def counted(self, strict: bool) -> tuple[int, int]:
        """Two sets of writers: those whose copy counts, and those whose copy is durable too. Under
        strict, a copy counts only if a complete owner keeps it itself, or a writer beside the
        owners does: that writer will be complete, or was."""
        have, synced = self.owners, self.synced
        if self.aside_or_none is not None:
            proven = have
            for (node, target), flags in self.aside_or_none.acks.items():
                copy = self.bits[target or node]
                have |= copy
                if flags & SYNCED:
                    synced |= copy
                if flags & PROVEN == PROVEN or flags & WRITER:
                    proven |= copy
            if strict:
                have, synced = proven, synced & proven
        return have, synced

    def served(self) -> int:
        """Writers whose copy is acknowledged or under way."""
        aside = self.aside_or_none
        if aside is None:
            return self.owners | self.asked
        return self.counted(False)[0] | self.asked | self._copies_of(aside.asked)

    def _copies_of(self, calls: Iterable[Call]) -> int:
        return self.bits.mask(target or node for node, target in calls)

    def reached(self, owners: int, strict: bool) -> int:
        """How many copies for these owners are acknowledged or under way. Under strict, only the
        copies that the owners keep themselves count."""
        if not strict:
            return (self.served() & owners).bit_count()
        aside = self.aside.acks if self.aside_or_none else {}
        own = self._copies_of(call for call, flags in aside.items() if flags & KEPT)
        return ((self.owners | self.asked | own) & owners).bit_count()

    def pending(self, w: int) -> bool:
        """The usual case before the last ack: fewer than W copies are acknowledged, and with those
        under way there are enough."""
        aside = self.aside_or_none
        if aside is None:
            return self.owners.bit_count() < w <= (self.owners | self.asked).bit_count()
        made = self.counted(False)[0].bit_count()
        return made < w <= made + len(self.under_way())

    def elsewhere(self, node: str, writer: str) -> bool:
        """Whether this writer's copy is acknowledged, or under way at a node other than `node`."""
        return self.bits[writer] & self.counted(False)[0] != 0 or any(
            other != node and (target or other) == writer for other, target in self.under_way()
        )

    def second_at(
        self, nodes: Sequence[str], writer: str, lists: Collection[Collection[str]], own: Call
    ) -> str:
        """The first of these nodes that may keep a second copy, for `writer`; "" if there is none.
        Such a node keeps no copy for any node that is in an owner list with `writer`. `own`: the
        node that coordinates, and the writer that its first copy is for."""
        rivals = {name for owners in lists if writer in owners for name in owners}
        tried = self.aside.tried if self.aside_or_none else ()
        kept = [*tried, *self.acknowledged()]
        for node in nodes:
            keeps = {target or node for other, target in kept if other == node}
            keeps.add(own[1] if node == own[0] else node)
            if keeps.isdisjoint(rivals):
                return node
        return ""

    # ------------------------------------------------------------ whether that is enough

    def durable(self, lists: Iterable[int], dw: int, strict: bool) -> bool:
        """Whether every owner list has `dw` copies that are fsynced."""
        synced = self.counted(strict)[1]
        return all((synced & owners).bit_count() >= dw for owners in lists)

    def unsynced(
        self, quorums: Iterable[Sequence[str]], dw: int, strict: bool, me: str
    ) -> list[Call]:
        """S-RW-8: the acknowledged copies for which to ask an fsync now, so that every owner list
        has `dw`: as many as a list lacks. This node is not asked, because its own fsync has begun.
        A node that was asked before and is silent does not count."""
        bits, found = self.bits, list[Call]()
        have, done = self.counted(strict)
        asked = self.aside.fsyncs if self.aside_or_none else ()
        calls: dict[str, Call] = {}  # one call a copy: two nodes may hold it
        for node, target in self.acknowledged():
            if node != me and (node, target) not in asked:
                calls.setdefault(target or node, (node, target))
        for owners in quorums:
            short = dw - (done & bits.mask(owners)).bit_count()
            left = [copy for copy in owners if copy in calls and bits[copy] & have & ~done]
            for copy in left[: max(short, 0)]:
                found.append(calls[copy])
                done |= bits[copy]
        return found

    def counts(self) -> Acks:
        """The numbers of acknowledgements for the answer to the client."""
        nodes = owners = self.owners
        if self.aside_or_none is None:
            total = nodes.bit_count()
            return Acks(total, total, 0, self.synced.bit_count())
        hinted = volatile = 0
        durable = self.synced
        for (node, _), flags in self.aside_or_none.acks.items():
            bit = self.bits[node]
            nodes |= bit
            owners |= bit if flags & OWNER else 0
            hinted |= bit if flags & HINTED else 0
            durable |= bit if flags & SYNCED else 0
            volatile |= bit if flags & VOLATILE else 0
        counts = (nodes, owners, hinted, durable & ~volatile)
        return Acks(*(mask.bit_count() for mask in counts))

    def verdict(self, lists: Iterable[int], wanted: tuple[int, int, bool], spare: int) -> Verdict:
        """Whether there are W copies in every owner list, `dw` of them durable (S-RW-3, S-RW-8,
        S-MOVE-1). `wanted` is (w, dw, strict). `spare`: the number of further stand-ins that could
        be asked. An acknowledged copy may still be fsynced, unless its node refused that."""
        w, dw, strict = wanted
        have, synced = self.counted(strict)
        aside, verdict = self.aside_or_none, MET
        for owners in lists:
            here = have & owners
            if aside is not None and aside.acks:
                here = self._on_distinct_nodes(here, synced)
            acked, done = here.bit_count(), (here & synced).bit_count()
            if acked >= w and done >= dw:
                continue
            more = (self.served() & owners & ~have).bit_count() + spare
            syncs = (self._syncable(have & ~synced) & owners).bit_count()
            if write_verdict(acked, done, w, dw, more, more + syncs) is IMPOSSIBLE:
                return IMPOSSIBLE
            verdict = PENDING
        return verdict

    def _on_distinct_nodes(self, copies: int, synced: int) -> int:
        bits, calls = self.bits, self.acknowledged()
        if len({node for node, _ in calls}) == len(calls):
            return copies
        kept = [(bits[node], bits[target or node]) for node, target in calls]
        return on_distinct_nodes(copies, synced, kept)

    def _syncable(self, copies: int) -> int:
        """Those of these copies whose fsync may still come."""
        if self.aside_or_none is None or not self.aside_or_none.unsyncable:
            return copies
        left = set(self.acknowledged()) - self.aside_or_none.unsyncable
        return copies & self._copies_of(left)
