"""Deletes data of a partition that this node does not own, after every owner has it (S-MOVE-5).

This node offers a slice of records by digest to every current owner. If an owner has another record
or none, this node sends it the record; the owner's fsynced answer shows that it holds at least as
much. Only when every owner is complete and has shown this for the slice, this node deletes it.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.causality.codec import digest_in
from dynamo_core.keys import range_of
from dynamo_core.protocol.messages import COMPLETE, OWNER, SYNCED, Message, Store, Stored
from dynamo_core.protocol.move_messages import Offer, Shown
from dynamo_core.protocol.refusal import Reason
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.machine import Effects, Machine, View, leading

PROVEN = OWNER | COMPLETE


class Cleanup(Machine):
    """Cleans one partition, slice by slice. Ends early if an owner fails or is not complete."""

    def __init__(
        self, view: View, replica: Replica, partition: int, on_end: Callable[[], None]
    ) -> None:
        super().__init__()
        self.view = view
        self.replica = replica
        self.partition = partition
        self._on_end = on_end
        self._rows: list[tuple[bytes, bytes]] = []
        self._seen = 0
        self._waiting = 0
        self._began = 0.0
        self._resting = False

    def start(self, now: float) -> Effects:
        return self._next(now)

    def _next(self, now: float) -> Effects:
        view = self.view
        start, end = range_of(self.partition, view.ring.partition_bits)
        self._seen = self.replica.numbers.seen(self.partition)
        rows: list[tuple[bytes, bytes]] = []
        after: bytes | None = start
        while after is not None and not rows:
            rows, after = self.replica.page(after, end, view.settings.rows_max)
        self._rows = leading(rows, view.settings.fetch_bytes_max)
        owners = [n for n in view.preference.owners(self.partition) if n in view.preference.names]
        if not self._rows or not owners or view.name in view.preference.writers(self.partition):
            return self._end()
        digests = [(stored, digest_in(record)) for stored, record in self._rows]
        entry_id = view.ring.entries[self.partition].id
        self._waiting = len(owners)
        self._began = now
        self.wake_at = now + view.settings.call_s
        return [(name, Offer(0, self.partition, entry_id, digests)) for name in owners]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        self._waiting -= 1
        effects: Effects = []
        if isinstance(reply, Shown):
            if reply.flags & PROVEN != PROVEN:
                return self._end()
            entry_id = self.view.ring.entries[self.partition].id
            rows = self._rows
            for row in [rows[index] for index in reply.lacking if 0 <= index < len(rows)]:
                store = Store(0, self.partition, entry_id, *row, "", True, "offer", self._seen)
                effects.append((node, store))
            self._waiting += len(effects)
            self.wake_at = now + self.view.settings.call_s
        else:
            assert isinstance(reply, Stored)
            if reply.flags & (PROVEN | SYNCED) != PROVEN | SYNCED:
                return self._end()
        return effects if self._waiting else self._delete(now)

    def _delete(self, now: float) -> Effects:
        """Delete the records that are unchanged since the offer, and draw a new actor (S-DOT-2).
        Then rest."""
        view = self.view
        if view.name in view.preference.writers(self.partition):
            return self._end()
        for stored, record in self._rows:
            if self.replica.data(stored) == record:
                self.replica.forget(stored, record)
        self.replica.born_again(self.partition)
        self.replica.counters["records_surrendered"] += len(self._rows)
        rest = view.throttle.rest_s(now - self._began, view.settings.moves_max)
        if not rest:
            return self._next(now)
        self._resting = True
        self.wake_at = now + rest
        return []

    def expired(self, now: float) -> Effects:
        if not self._resting:
            return self._end()
        self._resting = False
        return self._next(now)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        return self._end()

    def _end(self) -> Effects:
        self.finished = True
        self._on_end()
        return []
