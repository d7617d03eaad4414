"""One put on this node's record: the event, and the record after it (S-DOT-1..3)."""

from __future__ import annotations

from dynamo_core.codec import decode_record, encode_record, merge_bytes
from dynamo_core.context import carried
from dynamo_core.errors import RequestIdReused, TooManySiblings
from dynamo_core.hints import with_stamp
from dynamo_core.ids import partition_of
from dynamo_core.operations import Put
from dynamo_core.replica import Replica
from dynamo_core.versions import (
    EMPTY,
    NOTHING,
    Dot,
    History,
    Record,
    Sibling,
    decode_history,
    last_writer,
    update,
)

EXPIRIES_APART_MS_MAX = (10 * 60 + 2 * 3600) * 1000
"""S-REQ-2: expiries of one request differ by no more. Each attempt has its own wall clock: it comes
within 10 minutes of the first (S-REQ-1), and two clocks may each be an hour wrong (C15). To refuse
an honest retry would be worse than to take another expiry for the same one."""


class Minted:
    """What coordination made: the record to replicate, its event, and what the client may know."""

    __slots__ = ("context", "partition", "record", "seen")

    def __init__(self, partition: int, record: bytes, context: bytes, seen: int) -> None:
        self.partition = partition
        self.record = record
        self.context = context
        self.seen = seen
        """The number of the store that the oldest part of the record was read from."""


def same_request(put: Put, first: Sibling) -> bool:
    """Whether the put may be another attempt of the request that made `first` (S-REQ-2)."""
    if (put.value, put.content_type) != (first.value, first.content_type):
        return False
    if not (put.expires_ms and first.expires_ms):
        return put.expires_ms == first.expires_ms
    return abs(put.expires_ms - first.expires_ms) <= EXPIRIES_APART_MS_MAX


class Coordination:
    """Makes events of puts on one copy."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    def coordinate(
        self, put: Put, stored: bytes, target: str, wall_ms: int, known: bytes | None = None,
        known_seen: int = 0,
    ) -> Minted:  # fmt: skip
        """One put on this node's record (S-DOT-1..3), kept for `target`, "" when we are an owner.

        `known` is a record that the coordinator read elsewhere for a delete without a context, by
        stores of which one had seen no more than `known_seen`. Raises TooManySiblings,
        RequestIdReused, NotHere.
        """
        replica = self.replica
        partition = partition_of(stored, replica.bits)
        number = replica.numbers.seen(partition)
        own = replica.data(stored)
        held = replica.with_hints(stored, own)
        if partition in replica.apart:  # from what was kept apart alone: the rest may be forgotten
            replica.counters["puts_kept_apart"] += 1
            target = replica.apart_target
            held = replica.hint(target, stored)
        elif known is not None and known_seen >= replica.numbers.floor(partition):
            held = merge_bytes(stored[4:], held, known, replica.lww)
            number = min(number, known_seen)
        seen = decode_history(put.context.history) if put.context is not None else NOTHING
        if partition in replica.apart and known is not None and put.request_id in seen.ids:
            # A retry whose first attempt was read elsewhere: what was read is what it made.
            target, held, number = with_stamp(target, known_seen), known, known_seen
        before = decode_record(held) if held is not None else EMPTY
        name = put.request_id
        if name and (first := before.sibling_of(name)) and not same_request(put, first):
            replica.counters["request_ids_reused"] += 1
            raise RequestIdReused(
                "dynamo-request-id: it is of another value, content type or expiry"
            )
        event = (before.event_of(name) or before.forgotten(name, seen)) if name else None
        if event is None:
            if put.context is None and replica.settings.crowded(
                len(before.siblings), len(held or b"")
            ):
                raise TooManySiblings(f"{len(before.siblings)} siblings and no context")
            event = replica.actors.mint(partition, before.history)
            if event[1] > 1 + before.history.top(event[0]):
                # What this actor counted before is of this key and forgotten, or never was.
                history = before.history.joined(History({event[0]: event[1] - 1}))
                before = Record(before.siblings, history)
            sibling = self._sibling(put, event, before, wall_ms)
            after = update(before, seen, sibling)
            if replica.lww:
                after = last_writer(after)
            encoded = encode_record(put.key, after)
            if replica.chronicle.on:
                told = (before.siblings, sibling, after.siblings)
                replica.chronicle.made(stored, seen, told, target)
        else:
            replica.counters["request_id_seen_again"] += 1
            encoded = held or b""
        if target:
            replica.keep_hint(target, stored, encoded)
        else:
            replica.replace(stored, own, encoded)
        mine = (Sibling(*event, None, request_id=put.request_id),)
        context = carried(seen.with_dot(event).naming(mine), mine)
        return Minted(partition, encoded, context, number)

    def _sibling(self, put: Put, dot: Dot, before: Record, wall_ms: int) -> Sibling:
        replica, stamp = self.replica, 0
        if replica.lww:
            newest = max((s.stamp for s in before.siblings), default=0)
            ahead = newest + 1 if newest - wall_ms <= replica.settings.skew_max_ms else 0
            stamp = max(wall_ms, ahead)
        return Sibling(*dot, put.value, put.content_type, put.request_id, put.expires_ms, stamp)
