"""One put on this node's record: the event, and the record after it (S-DOT-1..3)."""

from __future__ import annotations

from dynamo_core.causality.codec import decode_record, encode_record, merge_bytes
from dynamo_core.causality.context import carried
from dynamo_core.causality.records import (
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
from dynamo_core.errors import RequestIdReused, TooManySiblings
from dynamo_core.protocol.messages import HINTED
from dynamo_core.protocol.operations import Put
from dynamo_core.replica.hint_target import HintTarget
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.machine import Coordinate, Coordinated

EXPIRIES_APART_MS_MAX = (10 * 60 + 2 * 3600) * 1000
"""S-REQ-2: two attempts of one request have expiries that differ by at most this. Each attempt may
meet another wall clock. A retry comes within 10 minutes of the first attempt (S-REQ-1), and two
clocks may each be an hour wrong (C15). It is worse to refuse an honest retry than to accept one
with a different expiry."""


def same_request(put: Put, first: Sibling) -> bool:
    """Whether the put may be a second attempt of the request that made `first` (S-REQ-2)."""
    if (put.value, put.content_type) != (first.value, first.content_type):
        return False
    if not (put.expires_ms and first.expires_ms):
        return put.expires_ms == first.expires_ms
    return abs(put.expires_ms - first.expires_ms) <= EXPIRIES_APART_MS_MAX


ID_REUSED = "dynamo-request-id: used before with another value, content type or expiry"


def _without_gap(before: Record, event: Dot) -> Record:
    """The record, with the earlier counters of this actor as seen, so that the vector has no gap:
    they were collected, or never issued for this key."""
    if event[1] <= 1 + before.history.top(event[0]):
        return before
    history = before.history.joined(History({event[0]: event[1] - 1}))
    return Record(before.siblings, history)


class Coordination:
    """Makes events of puts on one copy."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    def coordinate(self, request: Coordinate, wall_ms: int) -> Coordinated:
        """Makes the event of one put on this node's record (S-DOT-1..3). Its `target` is the node
        that it is kept for, "" when this node is an owner. Returns the record to replicate, the
        client's new context, and the lowest *seen* of the stores that parts of the record were read
        from.

        `known` is the record that the coordinator read on other nodes for a delete without a
        context; `known_seen` is the lowest *seen* of their stores. Raises TooManySiblings,
        RequestIdReused, NotHere.
        """
        replica, put, stored = self.replica, request.put, request.stored
        partition, known, known_seen = request.partition, request.known, request.known_seen
        target: HintTarget = request.target
        number = replica.numbers.seen(partition)
        own = replica.data(stored)
        held = replica.with_hints(stored, own)
        flags = HINTED if target else replica.roles.get(partition, 0)
        quarantined = partition in replica.quarantined
        if quarantined:  # use only what is kept apart: other nodes may have forgotten the rest
            replica.counters["puts_kept_apart"] += 1
            target = replica.quarantine_target
            held = replica.hint(target, stored)
        elif known is not None and known_seen >= replica.numbers.floor(partition):
            held = merge_bytes(stored[4:], held, known, replica.lww)
            number = min(number, known_seen)
        covered = decode_history(put.context.history) if put.context is not None else NOTHING
        if quarantined and known is not None and put.request_id in covered.ids:
            # A retry of a request whose first attempt was read on other nodes: that is its result.
            target = replica.quarantine_target.read_at(known_seen)
            held, number = known, known_seen
        before = decode_record(held) if held is not None else EMPTY
        name = put.request_id
        if name and (first := before.sibling_of(name)) and not same_request(put, first):
            replica.counters["request_ids_reused"] += 1
            raise RequestIdReused(ID_REUSED)
        event = (before.event_of(name) or before.forgotten(name, covered)) if name else None
        if event is None:
            size = (len(before.siblings), len(held or b""))
            if put.context is None and replica.settings.crowded(*size):
                raise TooManySiblings(f"{len(before.siblings)} siblings and no context")
            event = replica.actors.mint(partition, before.history)
            if event[1] > 1:
                before = _without_gap(before, event)
            stamp = self._stamp(before, wall_ms) if replica.lww else 0
            sibling = Sibling(*event, put.value, put.content_type, name, put.expires_ms, stamp)
            after = update(before, covered, sibling)
            # With a new key, the client has seen all that the record has.
            told = after.history if before is EMPTY and not covered.ids else covered.with_dot(event)
            if replica.lww:
                after = last_writer(after)
            encoded = encode_record(put.key, after)
            if replica.history is not None:
                siblings = (before.siblings, sibling, after.siblings)
                replica.history.made(stored, covered, siblings, target)
        else:
            replica.counters["request_id_seen_again"] += 1
            encoded, told = held or b"", covered.with_dot(event)
            sibling = Sibling(*event, None, request_id=name)
        if target:
            replica.keep_hint(target, stored, encoded)
        else:
            replica.replace(stored, own, encoded)
        told = told.naming((sibling,)) if name else told
        return Coordinated(0, encoded, carried(told, (sibling,)), flags, number)

    def _stamp(self, before: Record, wall_ms: int) -> int:
        newest = max((s.stamp for s in before.siblings), default=0)
        ahead = newest + 1 if newest - wall_ms <= self.replica.settings.skew_max_ms else 0
        return max(wall_ms, ahead)
