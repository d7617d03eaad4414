"""Whether this disk missed a round, and what is kept apart until that is known (S-DEL-3).

A disk that was put back, or a member that comes back after a long time, may hold records that all
others have forgotten. The numbers show it: its *seen* is below another owner's *floor*. So after a
start a partition is *apart* until this node has compared its numbers with those of another owner.
Meanwhile the node keeps what it takes of the partition, as owner or as stand-in, apart from its
copy, as hints under a target that names this life. It makes new events only from these hints. Its
partition is not complete, and it agrees to no round of it. A hint that is delivered meanwhile may
be as old as this disk's data. It is kept, and later sent, with the number that it came with.

    own seen < their floor      the node drops its copy and its hints of the partition, except what
                                it kept apart in this life, and hints that an earlier life got from
                                a store that knew the round; then it takes over the owner's numbers
    their seen <= own seen      this disk knows every round that the owner knows: it is compared
    else                        the owner agreed to a round that this node missed. The round was
                                abandoned if no owner's floor is above this node's seen; all owners
                                are asked for it at a time when every commit must have come

If the disk holds nothing old, the node takes over the numbers at once. After that, the records kept
apart go to all owners, this node included, like every hint for a target that owns nothing.
"""

from __future__ import annotations

from dynamo_core.errors import Corrupt
from dynamo_core.keys import range_of
from dynamo_core.membership.ring_state import Taken
from dynamo_core.protocol.round_messages import Numbers, NumbersTold
from dynamo_core.protocol.route import Route
from dynamo_core.replica.hint_target import HintTarget, InQuarantine
from dynamo_core.replica.replica import Replica
from dynamo_core.ring.document import Ring
from dynamo_core.runtime.failure_detector import FailureDetector
from dynamo_core.runtime.host import Host
from dynamo_core.runtime.machine import Effects, Machine, View

SLICE_S = 0.01
COMMITS = 3
"""A commit is taken at most this many call times after the first member agreed."""


class Drop(Machine):
    """Deletes a copy that missed a round, one slice at a time."""

    def __init__(
        self,
        view: View,
        replica: Replica,
        partition: int,
        numbers: tuple[int, int],
        quarantine: Quarantine,
    ) -> None:
        super().__init__()
        self.view = view
        self.replica = replica
        self.partition = partition
        self._seen, self._floor = numbers
        self._quarantine = quarantine

    def start(self, now: float) -> Effects:
        return self.expired(now)

    def expired(self, now: float) -> Effects:
        self.finished = self.partition not in self._quarantine.dropping
        self.wake_at = now + SLICE_S
        if not self.finished and self.view.writable and not self._slice():
            self._quarantine.take_over(self.partition, self._seen, self._floor)
        return []

    def _slice(self) -> bool:
        """Delete one slice; False if nothing was left."""
        replica, bits = self.replica, self.view.ring.partition_bits
        limit = self.view.settings.rows_max
        rows, after = replica.page(*range_of(self.partition, bits), limit)
        for stored, record in rows:
            replica.forget(stored, record)
        hints = replica.hints.some_of(self.partition, bits, limit, self._stays)
        if self.partition in replica.marks:
            # The store refused the batch that took the mark: it goes with the first records.
            replica.lose_complete(self.partition)
        for target, stored in hints:
            if replica.hint(target, stored) is not None:
                replica.hints.drop(target, stored)
        return bool(rows or hints) or after is not None

    def _stays(self, target: HintTarget) -> bool:
        """What came in this life stays. So does what an earlier life took from a store that had
        seen the round: its sender has dropped it."""
        if self.replica.quarantine_target.same_start(target):
            return True
        seen = target.seen if isinstance(target, InQuarantine) else None
        return seen is not None and seen >= self._floor


class Quarantine:
    """The partitions of this node that are not compared yet (`replica.quarantined`), and how they
    become compared."""

    def __init__(self, node: Host, replica: Replica, detector: FailureDetector) -> None:
        self.node = node
        self.replica = replica
        self.detector = detector
        self.dropping: set[int] = set()
        self._sure_ms = 0
        self._told: dict[int, set[Route]] = {}
        """By partition: owners whose seen is above this node's seen, but whose floor is not."""

    def begin(self) -> None:
        """The process has started with a ring, or this empty node has got one."""
        ring, node = self.node.ring, self.node
        self._sure_ms = self.detector.now_ms + int(COMMITS * node.settings.call_s * 1000)
        self.replica.quarantined.update(range(len(ring.entries)))
        self._drop_lonely(ring)
        self.replica.refresh()

    def learned(self, taken: Taken) -> None:
        """The ring is taken."""
        self._drop_lonely(taken.ring)

    def _drop_lonely(self, ring: Ring) -> None:
        """A node that owns a partition alone has no other owner to ask; nor has any node where no
        owner is left."""
        me = {self.node.name}
        waiting = self.replica.quarantined
        for partition in [p for p in waiting if me.issuperset(ring.live(ring.entries[p].owners))]:
            waiting.discard(partition)
            self.replica.stamps[partition] = self.replica.numbers.seen(partition)

    # ------------------------------------------------------------ asking

    def beat(self) -> None:
        """Ask with every heartbeat, until all partitions are compared."""
        waiting, node = self.replica.quarantined, self.node
        if waiting:
            entries = node.ring.entries
            for name in sorted({owner for p in waiting for owner in entries[p].owners}):
                self.ask(name)

    def ask(self, name: str) -> None:
        """Ask one member for its numbers, if any partition is not compared yet."""
        node = self.node
        if self.replica.quarantined and name != node.name and node.up(name):
            node.send(name, Numbers(self.detector.now_ms))

    def asked(self, route: Route, message: Numbers) -> None:
        """Tell the numbers of all partitions that this node owns."""
        numbers = self.replica.numbers
        rows = [(p, numbers.seen(p), numbers.floor(p)) for p in self.replica.owned()]
        self.node.send(route, NumbersTold(message.id, rows))

    def told(self, name: Route, message: NumbersTold) -> None:
        """Another owner's numbers. Asked by an earlier life of this node, whose clock may have been
        ahead, they prove nothing of what this life must know."""
        asked_ms = message.id if message.id <= self.detector.now_ms else -1
        for partition, seen, floor in message.rows:
            if 0 <= partition < len(self.node.ring.entries):
                self.heard(name, partition, seen, floor, asked_ms)

    # ------------------------------------------------------------ judging

    def heard(self, name: Route, partition: int, seen: int, floor: int, asked_ms: int = -1) -> None:
        """Judge a member's numbers, from its answer or from another message."""
        replica, numbers = self.replica, self.replica.numbers
        if partition in self.dropping:
            return
        if numbers.seen(partition) < floor:
            if self._holds_old(partition):
                self._drop(partition, max(seen, floor), floor)
            else:
                self.take_over(partition, seen, floor)
            return
        numbers.commit(partition, floor)
        owners = self.node.ring.entries[partition].owners
        if partition not in replica.quarantined or name not in owners:
            return
        if seen <= numbers.seen(partition) or not self._holds_old(partition):
            self.take_over(partition, seen, floor)
        elif asked_ms >= self._sure_ms:
            told = self._told.setdefault(partition, set())
            told.add(name)
            if told.issuperset(set(self.node.ring.live(owners)) - {self.node.name}):
                self.node.counters["rounds_known_to_be_abandoned"] += 1
                self.take_over(partition, 0, floor)

    def _holds_old(self, partition: int) -> bool:
        """Whether this node holds data from before the partition was apart."""
        replica, bits = self.replica, self.node.ring.partition_bits
        try:
            return bool(
                replica.hints.some_of(partition, bits, 1, replica.quarantine_target.same_start)
                or replica.rows(*range_of(partition, bits), 1)
            )
        except Corrupt:
            return True

    def take_over(self, partition: int, seen: int, floor: int) -> None:
        """Take over the numbers: they cover all that this node holds. The partition is compared
        once they are written."""
        numbers = self.replica.numbers
        numbers.commit(partition, floor)
        numbers.see(partition, seen)
        self.replica.write_batch.then(
            lambda written: self._compared(partition) if written else None
        )

    def _compared(self, partition: int) -> None:
        replica, node = self.replica, self.node
        if partition in self.dropping:
            self.dropping.discard(partition)
            if replica.hints.any_of(partition, node.ring.partition_bits):
                node.counters["kept_apart_over_a_drop"] += 1
        replica.quarantined.discard(partition)
        replica.stamps[partition] = replica.numbers.seen(partition)
        self._told.pop(partition, None)
        replica.refresh_partition(partition)

    def _drop(self, partition: int, seen: int, floor: int) -> None:
        node, replica = self.node, self.replica
        node.counters["stale_copies_dropped"] += 1
        self.dropping.add(partition)
        replica.quarantined.add(partition)
        replica.born_again(partition)
        replica.lose_complete(partition)
        replica.tombstones.forget_all(partition)
        drop = Drop(node, replica, partition, (seen, floor), self)
        node.later(lambda: node.spawn(drop))
