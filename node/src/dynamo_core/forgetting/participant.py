"""A member's part in the rounds that forget tombstones (S-DEL-2, S-DOT-2).

The leader asks every member. A member refuses when it has another ring, when the partition moves,
when the number is not new to it, and when it holds hints of the partition. An owner also refuses if
it is not complete; another member refuses if it holds data of the partition. A member that agrees
first stores the number durably, as its *seen*. An owner then lists the versions that it has held
for long enough. A process takes a commit only for the last number that it agreed to, and only for a
short time. So a commit that was delayed has no effect after its round.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.causality.codec import checked, decode_record, digest_in
from dynamo_core.errors import Corrupt
from dynamo_core.keys import range_of
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.round_messages import (
    RoundAnswer,
    RoundAsk,
    RoundCommit,
    RoundDone,
    Versions,
)
from dynamo_core.replica.hint_target import shown
from dynamo_core.replica.replica import Replica
from dynamo_core.ring.document import Ring
from dynamo_core.runtime.host import Host

Reply = Callable[[Message], None]


def obstacle(replica: Replica, ring: Ring, partition: int) -> str:
    """The reason, for people, why this owner agrees to no round of the partition now; or ""."""
    entry = ring.entries[partition]
    if entry.move is not None:
        return f"partition {partition} moves from {entry.move[0]} to {entry.move[1]}"
    if entry.old is not None:
        return f"partition {partition} has moved and settles"
    if replica.restores:
        return f"the restore {min(replica.restores)[0]} is under way at {replica.name}"
    hints = replica.hints.some_of(partition, ring.partition_bits, 1)
    if hints:
        return f"a hint for {shown(hints[0][0])} lies at {replica.name}"
    if replica.flags(partition) and not replica.complete(partition):
        return f"partition {partition} is not complete at {replica.name}"
    return ""


def is_dead(replica: Replica, stored: bytes, digest: bytes, wall_ms: int) -> bool:
    """Whether this node has exactly this version, and it has no live value (an expired value is not
    live, S-TTL-1)."""
    record = replica.data(stored)
    if record is None or digest_in(record) != digest:
        return False
    try:
        return not decode_record(checked(stored[4:], record)).values(wall_ms)
    except Corrupt:
        replica.note_damage(stored)
        return False


class RoundParticipant:
    """Answers to the rounds of all leaders."""

    def __init__(self, node: Host, replica: Replica) -> None:
        self.node = node
        self.replica = replica
        self._agreed: dict[int, tuple[int, float]] = {}
        """By partition: the last number, and until when its commit is taken."""

    def ask(self, request: RoundAsk, reply: Reply) -> None:
        """Agree, durably, or answer with the reason of a refusal."""
        node, partition, numbers = self.node, request.partition, self.replica.numbers
        refusal = self._refusal(request)
        if refusal:
            reply(RoundAnswer(request.id, refusal, numbers.seen(partition), []))
            return
        numbers.see(partition, request.number)
        self.replica.agrees(node.now)
        self._agreed[partition] = (request.number, node.now + 2 * node.settings.call_s)
        listed = self._aged(partition, request.listed) if self.replica.flags(partition) else []

        def synced(durable: bool) -> None:
            why = "" if durable else f"{node.name} cannot write"
            reply(RoundAnswer(request.id, why, request.number, listed))

        self.replica.write_batch.then(None, synced)

    def _refusal(self, request: RoundAsk) -> str:
        replica, ring, partition = self.replica, self.node.ring, request.partition
        name = replica.name
        if (request.members, request.target) != ring.digests()[1:3]:
            return f"{name} has another ring"
        if request.number <= replica.numbers.seen(partition):
            return f"{name} has seen a later round"
        if why := obstacle(replica, ring, partition):
            return why
        return "" if replica.flags(partition) else self._holding(partition)

    def _holding(self, partition: int) -> str:
        """A refusal if this node holds data of the partition without owning it; else ""."""
        start, end = range_of(partition, self.node.ring.partition_bits)
        try:
            held = bool(self.replica.rows(start, end, 1))
        except Corrupt:
            held = True
        name = self.replica.name
        return f"{name} holds data of partition {partition} without owning it" if held else ""

    def _aged(self, partition: int, listed: Versions) -> Versions:
        """The listed versions that this node has held for long enough and still holds, without a
        live value."""
        node, replica = self.node, self.replica
        before = node.now - node.settings.tombstone_age_min_s
        aged = []
        for stored, digest in listed[: node.settings.rows_max]:
            if replica.tombstones.is_aged(partition, stored, digest, before):
                if is_dead(replica, stored, digest, node.wall_ms):
                    aged.append((stored, digest))
                else:
                    replica.tombstones.forget(partition, stored)
        return aged

    def commit(self, request: RoundCommit, reply: Reply) -> None:
        """Delete the listed tombstones that are unchanged. In the same batch the round's number
        becomes the floor, durably."""
        node, replica, partition = self.node, self.replica, request.partition
        number, until = self._agreed.get(partition, (0, 0.0))
        known = number == request.number <= replica.numbers.seen(partition)
        if not known or node.now > until or not replica.flags(partition):
            reply(RoundDone(request.id, 0))
            return
        collected = 0
        for stored, digest in request.listed:
            record = replica.data(stored)
            if record is not None and digest_in(record) == digest:
                replica.collect(partition, stored, record)
                collected += 1
        replica.numbers.commit(partition, number)
        replica.counters["tombstones_collected"] += collected

        def synced(durable: bool) -> None:
            reply(RoundDone(request.id, collected if durable else 0))

        self.replica.write_batch.then(None, synced)
