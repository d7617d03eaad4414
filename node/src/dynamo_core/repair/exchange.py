"""Anti-entropy of one partition with one other owner (S-AE-1..3, [P 4.7]).

Leaves -> listings of the leaves that differ -> the records that differ, both ways, merged by
`sync`, never overwritten. A difference is confirmed before this node acts on it: after a short wait
for writes on their way, it reads the records again. A *full pass* is the same walk with one more
promise: every difference seen after its start is merged durably here. So this node then holds all
that the peer held at the start. A full pass does not need the wait, so it does not wait.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.causality.codec import body_of, checked, digest_in, merge_bytes
from dynamo_core.errors import Corrupt, PeerCorrupt
from dynamo_core.keys import partition_of, range_of
from dynamo_core.protocol.arrivals import verified_record
from dynamo_core.protocol.messages import (
    FetchedMany,
    FetchMany,
    Leaves,
    LeavesReply,
    Listing,
    ListingReply,
    Message,
    Store,
    Stored,
)
from dynamo_core.protocol.refusal import Reason, Refusal
from dynamo_core.replica.merkle import differing
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.machine import Effects, Machine, View

Ended = Callable[["Exchange", bool], None]
AT_ONCE = ("pass", "dirty")
"""Causes for which a record is known to be missing; a wait would only delay the repair."""


class Exchange(Machine):
    """One walk. `repaired` counts records changed on either side; `bytes` counts the bytes of keys
    and records that came here."""

    def __init__(
        self, view: View, replica: Replica, partition: int, peer: str, cause: str, on_end: Ended
    ) -> None:
        super().__init__()
        self.view = view
        self.replica = replica
        self.partition = partition
        self.peer = peer
        self.peer_id = view.ring.members[peer].id
        self.cause = cause
        self.entry_id = view.ring.entries[partition].id
        self.repaired = 0
        self.bytes = 0
        self.losses = replica.losses(partition)
        self._good = True
        self._on_end = on_end
        self._leaves: list[int] = []
        self._after = b""
        self._keys: list[bytes] = []
        self._confirmed = 0
        self._pushing = 0
        self._waiting = False
        self._asked_at = 0.0

    def start(self, now: float) -> Effects:
        return self._call(Leaves(0, self.partition, self.entry_id), now)

    def _call(self, request: Message, now: float) -> Effects:
        self._asked_at = now
        self.wake_at = now + self.view.settings.call_s
        return [(self.peer, request)]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if isinstance(reply, LeavesReply):
            self.view.heard(self.peer, self.partition, reply.seen, reply.floor)
            if self.partition in self.replica.quarantined:
                return self._end(False)
            mine = self.replica.forest.leaves(self.partition)
            if len(mine) != len(reply.leaves):
                return self._end(False)
            self._leaves = differing(mine, reply.leaves)
            return self._next(now)
        if isinstance(reply, ListingReply):
            assert isinstance(request, Listing)
            return self._listed(request, reply, now)
        if isinstance(reply, FetchedMany):
            assert isinstance(request, FetchMany)
            return self._fetched(request, reply, now)
        assert isinstance(reply, Stored)
        self._pushing -= 1
        return [] if self._pushing else self._next(now)

    def _next(self, now: float) -> Effects:
        """List the differences, up to a slice; wait a moment; fetch that slice; and so on. Between
        two slices the walk rests as the budget of background work says."""
        settings = self.view.settings
        if not (self._keys or self._leaves):
            return self._end(self._good)
        rest = self.view.throttle.rest_s(now - self._asked_at, settings.exchanges_max)
        if not (self._listing or self._confirmed or self.cause in AT_ONCE):
            rest = max(rest, settings.confirm_s)
        if not rest:
            return self._slice(now)
        self._waiting = True
        self.wake_at = now + rest
        return []

    @property
    def _listing(self) -> bool:
        more = self._leaves and len(self._keys) < self.view.settings.rows_max
        return bool(more and not self._confirmed)

    def _slice(self, now: float) -> Effects:
        if self._listing:
            leaf = self._leaves[0]
            return self._call(Listing(0, self.partition, self.entry_id, leaf, self._after), now)
        self._confirmed = self._confirmed or len(self._keys)
        keys = self._keys[: min(self._confirmed, self.view.settings.keys_max)]
        return self._call(FetchMany(0, self.partition, self.entry_id, keys), now)

    def _listed(self, request: Listing, reply: ListingReply, now: float) -> Effects:
        slot = (self.partition << self.view.settings.leaf_bits) + request.leaf
        start, end = range_of(slot, self.replica.forest.bits)
        last = reply.rows[-1][0] if reply.more else None
        mine = self._own_rows(request.after + b"\x00" if request.after else start, end, last)
        theirs = dict(reply.rows)
        self._keys += [key for key, digest in mine.items() if theirs.get(key) != digest]
        self._keys += [key for key in theirs if key not in mine]
        if reply.more:
            assert last is not None
            self._after = last
        else:
            self._leaves.pop(0)
            self._after = b""
        return self._next(now)

    def _own_rows(self, start: bytes, end: bytes | None, last: bytes | None) -> dict[bytes, bytes]:
        """This node's digests from `start` to the end of the peer's page."""
        bound = last + b"\x00" if last is not None else end
        own: dict[bytes, bytes] = {}
        after: bytes | None = start
        while after is not None:
            try:
                rows, after = self.replica.page(after, bound, self.view.settings.rows_max)
            except Corrupt:
                return own
            own.update((key, digest_in(record)) for key, record in rows)
        return own

    def expired(self, now: float) -> Effects:
        if not self._waiting:
            return self._end(False)
        self._waiting = False
        return self._slice(now)

    def _fetched(self, request: FetchMany, reply: FetchedMany, now: float) -> Effects:
        """Compare both records as they are now: merge the peer's here, and send the merge if the
        peer lacks a part of it."""
        if not reply.records:
            return self._end(False)
        numbers = self.replica.numbers
        if reply.seen < numbers.floor(self.partition):
            return self._end(False)  # S-DEL-3: read before a round, or on a disk that missed it
        seen = min(reply.seen, numbers.seen(self.partition))
        effects: Effects = []
        done = pushed = 0
        for stored, record in zip(request.keys, reply.records, strict=False):
            if pushed >= self.view.settings.fetch_bytes_max:
                break  # fetch the others again and send them in the next frame
            done += 1
            key = stored[4:]
            if record:
                try:
                    self._verified(stored, record)
                except PeerCorrupt:  # go on with the others; the next walk asks for it again
                    self.view.sent_corrupt(self.peer)
                    self._good = False
                    continue
                self.bytes += len(stored) + len(record)
                self.repaired += self.replica.merge(stored, record)
            mine = self._mine(stored)
            if mine is None:
                continue
            merged = merge_bytes(key, record or None, mine, self.view.lww)
            if not record or body_of(merged) != body_of(record):
                self.repaired += 1
                pushed += len(merged)
                effects.append((self.peer, self._push(stored, merged, seen)))
        del self._keys[:done]
        self._confirmed -= done
        self._pushing = len(effects)
        self.wake_at = now + self.view.settings.call_s
        return effects or self._next(now)

    def _verified(self, stored: bytes, record: bytes) -> bytes:
        """T-1: the record, if its digest and partition are right. Raises PeerCorrupt."""
        if partition_of(stored, self.replica.bits) != self.partition:
            raise PeerCorrupt(f"{stored.hex()} is not of partition {self.partition}")
        return verified_record(stored, record)

    def _mine(self, stored: bytes) -> bytes | None:
        """This node's record, if its digest is right: of two records that differ, either one may be
        damaged."""
        mine = self.replica.data(stored)
        if mine is not None:
            try:
                checked(stored[4:], mine)
            except Corrupt:
                self.replica.note_damage(stored)
                return None
        return mine

    def _push(self, stored: bytes, record: bytes, seen: int) -> Store:
        return Store(0, self.partition, self.entry_id, stored, record, cause="exchange", seen=seen)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        if isinstance(request, Store) and reason is Refusal.CORRUPT:
            self._good = False  # damaged on its way: go on with the others
            self._pushing -= 1
            return [] if self._pushing else self._next(now)
        return self._end(False)

    def _end(self, done: bool) -> Effects:
        self.finished = True
        self._on_end(self, done)
        return []
