"""One node's part of a backup: it saves one partition in the archive (S-BAK-1). Hints:
`saving_hints`.

A node first compares a partition with the other owners that are up, then saves it. So it has every
write that any of them acked before. It reads the rows as they are after the batch of that turn. It
reads the root of the hash tree before the rows: they may hold more than the root says, never less.
With the rows go the numbers of the rounds that the store knew then (`Saved`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dynamo_core.backup.archive_calls import ArchiveFailed, Pack, Packed
from dynamo_core.bounds import one_line
from dynamo_core.keys import DATA, range_of
from dynamo_core.protocol.backup_messages import PARTS, Part, Save, Saved, SaveHints, key_hash
from dynamo_core.protocol.messages import Message, Refused
from dynamo_core.protocol.refusal import Reason, Refusal
from dynamo_core.repair.exchange import Exchange
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.machine import Effects, Machine, View, copied

PACK_S = 3600.0
"""The archive takes the rows of a partition within this time, or says that it cannot."""
ROUNDS_MAX = 3
"""How often the passes are made again if a round of the partition went by meanwhile."""
Reply = Callable[[Message], None]


class Place(View, Protocol):
    """The node that saves."""

    replica: Replica

    def spawn(self, machine: Machine) -> None:
        """Start a machine."""


class ArchiveCall(Machine):
    """One call of the archive."""

    def __init__(self, view: View, request: Message, done: Callable[[Message], None]) -> None:
        super().__init__()
        self.view = view
        self._request = request
        self._done = done

    def start(self, now: float) -> Effects:
        self.wake_at = now + PACK_S
        return [(self.view.name, self._request)]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        self.finished = True
        self._done(reply)
        return []

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        self.finished = True
        self._done(ArchiveFailed(0, f"archive: {reason.words}"))
        return []


class Saving:
    """One order under way. Each node that asked for it gets its answer."""

    def __init__(self, node: Place, order: Save | SaveHints, done: Callable[[], None]) -> None:
        self.node = node
        self.answer: Saved | Refused | None = None
        self._waiting: list[tuple[int, Reply]] = []
        self._done = done
        self._backup, self._archive = order.backup, order.archive

    def tell(self, call_id: int, reply: Reply) -> None:
        """Replies when the order is over, at once if it is over already."""
        self._waiting.append((call_id, reply))
        self._tell()

    def _ask(
        self, kind: str, family: int, start: bytes, end: bytes | None,
        packed: Callable[[Message], None],
    ) -> None:  # fmt: skip
        unlike = f"{self.node.draw() & (1 << 64) - 1:016x}"  # no run writes over another's part
        prefix = f"{PARTS}{self._backup}/{kind}{unlike}"
        request = Pack(0, self._archive, prefix, family, start, end)
        self.node.spawn(ArchiveCall(self.node, request, packed))

    def _cannot(self, reason: Refusal) -> None:
        self._answer(Refused(0, reason))

    def _failed(self, why: str) -> None:
        self._answer(Saved(0, [], why=one_line(why)))

    def _answer(self, answer: Saved | Refused) -> None:
        self.answer = answer
        self._done()
        self._tell()

    def _tell(self) -> None:
        if self.answer is None:
            return
        waiting, self._waiting = self._waiting, []
        for call_id, reply in waiting:
            reply(copied(self.answer, id=call_id))


class SavingPartition(Saving):
    """The copy of this node."""

    def __init__(self, node: Place, order: Save, done: Callable[[], None]) -> None:
        super().__init__(node, order, done)
        self.order = order
        self._root = b""
        self._peers: list[str] = []
        self._missed: list[str] = []
        self._passed_at = self._seen = self._floor = 0
        self._damaged: tuple[str, ...] = ()
        self._rounds_met = 0
        """How often a round went by between the passes and the rows."""

    def begin(self) -> None:
        """The passes, then the rows."""
        order, node = self.order, self.node
        replica, partition = node.replica, order.partition
        if partition not in replica.owned():
            self._failed("it does not own the partition")
        elif order.alone and not replica.complete(partition):
            self._cannot(Refusal.INCOMPLETE)
        else:
            others = replica.owned()[partition]
            self._peers = [name for name in others if node.up(name)]
            self._missed = [name for name in others if name not in self._peers]
            self._passed_at = replica.numbers.floor(partition)
            self._next()

    def _next(self) -> None:
        order, node = self.order, self.node
        if order.partition not in node.replica.owned():
            self._failed("it does not own the partition")
        elif not self._peers:
            self._pack()
        elif self._peers[0] not in node.ring.members:
            self._failed(f"{self._peers[0]} has left the ring meanwhile")
        else:
            peer = self._peers[0]
            node.spawn(Exchange(node, node.replica, order.partition, peer, "pass", self._passed))

    def _passed(self, exchange: Exchange, good: bool) -> None:
        if good:
            self._peers.remove(exchange.peer)
            self._next()
        elif not self.node.up(exchange.peer):
            self._peers.remove(exchange.peer)
            self._missed.append(exchange.peer)
            self._next()
        else:  # what it alone holds would be missing
            self._failed(f"a pass over {exchange.peer} failed")

    # ------------------------------------------------------------ into the archive

    def _pack(self) -> None:
        order, replica = self.order, self.node.replica
        if order.alone and not replica.complete(order.partition):
            return self._cannot(Refusal.INCOMPLETE)  # it has lost something meanwhile
        sure = not replica.tree.unsure
        self._root = replica.forest.root(order.partition) if sure else b""
        return replica.write_batch.then(self._pack_rows)

    def _pack_rows(self, written: bool) -> None:
        order = self.order
        if not written:
            return self._cannot(Refusal.FULL)
        numbers = self.node.replica.numbers
        self._seen, self._floor = numbers.seen(order.partition), numbers.floor(order.partition)
        if self._floor != self._passed_at and self._rounds_met < ROUNDS_MAX:
            # Hints from before the round may have been delivered to an owner after its pass.
            self._rounds_met += 1
            return self.begin()
        self._damaged = self._gone()
        if order.root and self._root == order.root and not self._missed:
            return self._answer(self._saved([], unchanged=True))
        start, end = range_of(order.partition, self.node.ring.partition_bits)
        return self._ask(f"{order.partition:04d}-", DATA, start, end, self._packed)

    def _packed(self, reply: Message) -> None:
        if isinstance(reply, ArchiveFailed):
            return self._failed(reply.why)
        assert isinstance(reply, Packed)
        replica = self.node.replica
        for stored in reply.damaged:
            if replica.data(stored) is not None:
                replica.note_damage(stored)
        if reply.damaged or reply.unreadable:
            # S-DISK-7: another owner has it, and this one soon.
            return self._cannot(Refusal.CORRUPT)
        if not self._still(self.order.partition):
            self._root = b""
        return self._answer(self._saved(reply.parts))

    def _gone(self) -> tuple[str, ...]:
        """Keys of damaged records that the rows lack. The passes were made, so no owner that is up
        has these keys."""
        replica, partition = self.node.replica, self.order.partition
        gone = set()
        for stored in {*replica.given_up.of(partition, replica.bits), *self.order.suspects}:
            if replica.data(stored) is None:
                gone.add(key_hash(stored))
            else:
                replica.given_up.over(stored)
        return tuple(sorted(gone))

    def _saved(self, parts: list[Part], unchanged: bool = False) -> Saved:
        return Saved(
            0, parts, self._root, unchanged, () if unchanged else tuple(self._missed),
            seen=self._seen, floor=self._floor, passed=self._passed_at,
            damaged=self._damaged,
        )  # fmt: skip

    def _still(self, partition: int) -> bool:
        """Whether the copy has the root that it had before its rows were read. A later copy with
        this root has nothing else than these rows, then: what was written between, and is deleted
        and forgotten, would be in them too."""
        replica = self.node.replica
        if partition not in replica.owned() or replica.tree.unsure:
            return False
        return bool(replica.forest.root(partition) == self._root)
