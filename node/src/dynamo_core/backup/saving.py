"""One node's part of a backup: one partition, or its hints, into the archive (S-BAK-1).

A node first compares a partition with the other owners that are up, then saves it. So it has every
write that any of them acked before. It reads the rows as they are after the batch of that turn. It
reads the root of the hash tree before the rows: they may hold more than the root says, never less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dynamo_core.backup.archive_calls import ArchiveFailed, Pack, Packed
from dynamo_core.bounds import one_line
from dynamo_core.keys import DATA, HINTS, range_of
from dynamo_core.protocol.backup_messages import PARTS, Save, Saved, SaveHints
from dynamo_core.protocol.messages import Message, Refused
from dynamo_core.protocol.refusal import Reason, Refusal
from dynamo_core.repair.exchange import Exchange
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.machine import Effects, Machine, View, copied

PACK_S = 3600.0
"""The archive takes the rows of a partition within this time, or says that it cannot."""
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
    """One order under way; all that asked for it are told how it ended."""

    def __init__(self, node: Place, order: Save | SaveHints, done: Callable[[], None]) -> None:
        self.node = node
        self.order = order
        self.answer: Saved | Refused | None = None
        self._waiting: list[tuple[int, Reply]] = []
        self._done = done
        self._rounds: dict[int, int] = {}
        self._peers: list[str] = []
        self._missed: list[str] = []

    def tell(self, number: int, reply: Reply) -> None:
        """When it is over, or at once."""
        self._waiting.append((number, reply))
        self._tell()

    def begin(self) -> None:
        """The passes, then the rows."""
        order, node = self.order, self.node
        if isinstance(order, SaveHints):
            self._rounds = self._agreed()
            node.replica.write_batch.then(self._pack_hints)
            return
        replica, partition = node.replica, order.partition
        if partition not in replica.owned():
            self._failed("it does not own the partition")
        elif order.alone and not replica.complete(partition):
            self._cannot(Refusal.INCOMPLETE)
        else:
            others = replica.owned()[partition]
            self._peers = [name for name in others if node.up(name)]
            self._missed = [name for name in others if name not in self._peers]
            self._next()

    def _next(self) -> None:
        order, node = self.order, self.node
        assert isinstance(order, Save)
        if order.partition not in node.replica.owned():
            self._failed("it does not own the partition")
        elif not self._peers:
            self._pack(order)
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

    def _agreed(self) -> dict[int, int]:
        """By partition with hints. No round goes by while a node has hints, so after a later number
        these were delivered. Of partitions that are not compared the numbers may be old."""
        replica, bits = self.node.replica, self.node.ring.partition_bits
        return {
            partition: replica.numbers.seen(partition)
            for partition in range(len(self.node.ring.entries))
            if partition not in replica.quarantined and replica.hints.any_of(partition, bits)
        }

    # ------------------------------------------------------------ into the archive

    def _pack(self, order: Save) -> None:
        replica = self.node.replica
        if order.alone and not replica.complete(order.partition):
            return self._cannot(Refusal.INCOMPLETE)  # it has lost something meanwhile
        sure = not replica.tree.unsure
        self._root = replica.forest.root(order.partition) if sure else b""
        self._rounds = {order.partition: replica.numbers.floor(order.partition)}
        return replica.write_batch.then(self._pack_rows)

    def _pack_rows(self, stored: bool) -> None:
        order = self.order
        assert isinstance(order, Save)
        if not stored:
            return self._cannot(Refusal.FULL)
        if order.root and self._root == order.root and not self._missed:
            return self._answer(Saved(0, [], self._root, True, rounds=self._rounds))
        start, end = range_of(order.partition, self.node.ring.partition_bits)
        return self._ask(f"{order.partition:04d}-", DATA, start, end)

    def _pack_hints(self, stored: bool) -> None:
        self._root = b""
        if not stored:
            return self._cannot(Refusal.FULL)
        return self._ask("hints-", HINTS, b"", None)

    def _ask(self, kind: str, family: int, start: bytes, end: bytes | None) -> None:
        order = self.order
        unlike = f"{self.node.draw() & (1 << 64) - 1:016x}"  # no run writes over another's part
        prefix = f"{PARTS}{order.backup}/{kind}{unlike}"
        request = Pack(0, order.archive, prefix, family, start, end)
        self.node.spawn(ArchiveCall(self.node, request, self._packed))

    def _packed(self, reply: Message) -> None:
        if isinstance(reply, ArchiveFailed):
            return self._failed(reply.why)
        assert isinstance(reply, Packed)
        replica = self.node.replica
        for stored in reply.damaged:
            if isinstance(self.order, Save) and replica.data(stored) is not None:
                replica.note_damage(stored)
        if (reply.damaged and isinstance(self.order, Save)) or reply.unreadable:
            # S-DISK-7: another owner has it, and this one soon.
            return self._cannot(Refusal.CORRUPT)
        if isinstance(self.order, Save) and not self._still(self.order.partition):
            self._root = b""
        missed = tuple(self._missed)
        answer = Saved(0, reply.parts, self._root, False, missed, rounds=self._rounds)
        return self._answer(answer)

    def _still(self, partition: int) -> bool:
        """Whether the copy has the root that it had before its rows were read. A later copy with
        this root has nothing else than these rows, then: what was written between, and is deleted
        and forgotten, would be in them too."""
        replica = self.node.replica
        if partition not in replica.owned() or replica.tree.unsure:
            return False
        return bool(replica.forest.root(partition) == self._root)

    # ------------------------------------------------------------ the end

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
        for number, reply in waiting:
            reply(copied(self.answer, id=number))
