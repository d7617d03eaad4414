"""Answers of this node's own copy to requests, from peers and from its own machines alike.

Every answer goes through `reply`: at once for a read, after the batch (or the fsync) for a write.
So this node acknowledges nothing before it is persisted. A request carries the sender's entry of
the partition. If the entry here differs, the node with the older entry must learn first (S-RING-4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from dynamo_core.causality.codec import checked, decode_record, digest_in
from dynamo_core.errors import Corrupt, NotHere, PeerCorrupt, RequestIdReused, TooManySiblings
from dynamo_core.keys import partition_of, range_of
from dynamo_core.protocol.arrivals import verified_record
from dynamo_core.protocol.messages import (
    CORRUPT,
    HINTED,
    SYNCED,
    VOLATILE,
    Fetch,
    Fetched,
    FetchedMany,
    FetchMany,
    Keys,
    KeysReply,
    Leaves,
    LeavesReply,
    Listing,
    ListingReply,
    Message,
    Refused,
    Roots,
    RootsReply,
    Sizes,
    Store,
    Stored,
)
from dynamo_core.protocol.move_messages import Offer, Shown
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.replica.coordination import Coordination
from dynamo_core.replica.hint_target import HintTarget
from dynamo_core.replica.hints import HintBook
from dynamo_core.replica.replica import Replica
from dynamo_core.replica.sizes import SizeBook
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.runtime.delays import stamp
from dynamo_core.runtime.machine import Coordinate, Coordinated, Rejected, View

Reply = Callable[[Message], None]


class LocalReplica:
    """The local copy; it is called like any other node."""

    def __init__(
        self, view: View, write_batch: WriteBatch, replica: Replica, hints: HintBook
    ) -> None:
        self.view = view
        self.write_batch = write_batch
        self.replica = replica
        self.hints = hints
        self._level = VOLATILE if view.settings.volatile else 0
        self._coordination = Coordination(replica)
        self._stores: list[tuple[Store, bool, Reply]] = []
        """Stores of this turn: the request, whether it became a hint, and its reply."""
        self._coordinated: list[tuple[Coordinate, Coordinated, Reply]] = []
        self.kinds: dict[type, Callable[..., None]] = {
            Fetch: self.fetch,
            Store: self.store,
            Coordinate: self.coordinate,
            Roots: self.roots,
            Leaves: self.leaves,
            Listing: self.listing,
            FetchMany: self.fetch_many,
            Keys: self.keys,
            Sizes: SizeBook(view, write_batch).answer,
            Offer: self.offer,
        }

    def serve(self, answers: dict[type, Callable[..., None]]) -> None:
        """Add requests that other parts of the node answer; each of them carries an entry."""
        self.kinds |= answers

    def answers(self, request: Message) -> bool:
        """Whether the request is one for the copy."""
        return type(request) in self.kinds

    def answer(self, request: Message, reply: Reply) -> None:
        """Serve one request. Refuse it if its entry differs from the one here (S-RING-4)."""
        entry_id = getattr(request, "entry_id", None)
        if entry_id is not None:
            partition: int = request.partition  # type: ignore[attr-defined]
            entries = self.view.ring.entries
            if not (0 <= partition < len(entries) and entries[partition].id == entry_id):
                return self._refuse_entry(request, partition, reply)
        return self.kinds[type(request)](request, reply)

    def _refuse_entry(self, request: Message, partition: int, reply: Reply) -> None:
        entries = self.view.ring.entries
        entry = entries[partition] if 0 <= partition < len(entries) else None
        reply(Refused(request.id, Refusal.ENTRY, partition, entry))

    # ------------------------------------------------------------ reading

    def fetch(self, request: Fetch, reply: Reply) -> None:
        """Answer with all that this node holds of the key, hints included (S-HINT-5)."""
        replica, partition = self.replica, request.partition
        flags = replica.roles.get(partition, 0)
        seen = replica.numbers.seen(partition)
        try:
            record = replica.held(request.stored)
        except Corrupt:
            return reply(Fetched(request.id, b"", CORRUPT, seen))
        at = stamp(self.view.now) if request.timed else 0
        return reply(Fetched(request.id, record or b"", flags, seen, at))

    def fetch_many(self, request: FetchMany, reply: Reply) -> None:
        """Answer with own records of a partition: as many as fit, at least one. Damaged records are
        not sent."""
        records: list[bytes] = []
        size = 0
        for stored in request.keys[: self.view.settings.keys_max]:
            record = self.replica.data(stored)
            if record is not None:
                try:
                    checked(stored[4:], record)
                except Corrupt:
                    self.replica.note_damage(stored)
                    record = None
            records.append(record or b"")
            size += len(records[-1])
            if size > self.view.settings.fetch_bytes_max:
                break
        seen = self.replica.numbers.seen(request.partition)
        return reply(FetchedMany(request.id, records, seen))

    def roots(self, request: Roots, reply: Reply) -> None:
        """Answer with the tree roots of the partitions whose entry is the same here (S-AE-2)."""
        entries, roles = self.view.ring.entries, self.replica.roles
        root_of = self.replica.forest.root
        shared = [
            (partition, root_of(partition))
            for partition, term, version in request.partitions
            if 0 <= partition < len(entries)
            and entries[partition].id == (term, version)
            and roles.get(partition)
        ]
        reply(RootsReply(request.id, shared))

    def leaves(self, request: Leaves, reply: Reply) -> None:
        """The leaves of one tree."""
        numbers = self.replica.numbers
        seen, floor = numbers.seen(request.partition), numbers.floor(request.partition)
        leaves = self.replica.forest.leaves(request.partition)
        reply(LeavesReply(request.id, leaves, seen, floor))

    def listing(self, request: Listing, reply: Reply) -> None:
        """Keys and digests of one leaf."""
        forest = self.replica.forest
        slot = (request.partition << self.view.settings.leaf_bits) + request.leaf
        start, end = range_of(slot, forest.bits)
        if request.after:
            start = request.after + b"\x00"
        after: bytes | None = start
        listed: list[tuple[bytes, bytes]] = []
        try:
            while after is not None and not listed:
                rows, after = self.replica.page(after, end, self.view.settings.rows_max)
                listed = [(stored, digest_in(record)) for stored, record in rows]
        except Corrupt:
            return reply(Refused(request.id, Refusal.CORRUPT, request.partition))
        return reply(ListingReply(request.id, listed, after is not None))

    def keys(self, request: Keys, reply: Reply) -> None:
        """Answer with a page of live keys of one partition. A copy that may miss keys refuses."""
        if not self.replica.complete(request.partition):
            return reply(Refused(request.id, Refusal.INCOMPLETE, request.partition))
        start, end = range_of(request.partition, self.view.ring.partition_bits)
        if request.after:
            start = request.after + b"\x00"
        limit = min(request.limit, self.view.settings.rows_max)
        try:
            rows, after = self.replica.page(start, end, limit)
        except Corrupt:
            return reply(Refused(request.id, Refusal.CORRUPT, request.partition))
        wall_ms = self.view.wall_ms
        try:
            live = [stored for stored, record in rows if decode_record(record).values(wall_ms)]
        except Corrupt:
            return reply(Refused(request.id, Refusal.CORRUPT, request.partition))
        cursor = after[:-1] if after is not None else b""
        return reply(KeysReply(request.id, live, after is not None, cursor))

    # ------------------------------------------------------------ writing

    def store(self, request: Store, reply: Reply) -> None:
        """Merge a record from this node's own machines into the copy or into a hint. Answer when it
        is persisted."""
        self.stores((request,), reply)

    def stores(
        self, requests: Iterable[Store], reply: Reply, corrupt: Callable[[], None] | None = None
    ) -> None:
        """Serve the stores of one frame in order. `corrupt` is called when a peer's record has a
        wrong digest (T-1); it is None for records of this node."""
        replica, me, entries = self.replica, self.view.name, self.view.ring.entries
        stores = self._stores
        if not stores:
            self.write_batch.then(self._stores_written)
        for request in requests:
            target: HintTarget = request.target
            partition = request.partition
            if not (0 <= partition < len(entries) and entries[partition].id == request.entry_id):
                self._refuse_entry(request, partition, reply)
                continue
            hint = target != "" and target != me
            if hint or partition in replica.quarantined:
                refusal = self._not_as_owner(request, hint)
                if refusal is not None:
                    reply(refusal)
                    continue
                target = self._target(request, target)
            elif not replica.roles.get(partition):
                self._refuse_entry(request, partition, reply)
                continue
            if not hint and request.seen < replica.numbers.floor(partition):
                reply(self._stale(request))
                continue
            if corrupt is not None and not self._holds(request):
                corrupt()
                reply(Refused(request.id, Refusal.CORRUPT, partition))
                continue
            if request.timed:
                request.timed = stamp(self.view.now)
            if target:
                changed = replica.take(request.stored, request.record, target, request.cause)
            else:
                changed = replica.merge(request.stored, request.record, request.cause)
            if hint:
                replica.counters["hints_kept"] += 1
            elif changed:
                replica.counters[f"stored_by_{request.cause}"] += 1
            stores.append((request, hint, reply))

    def _holds(self, request: Store) -> bool:
        """T-1: whether the request has a whole record of a key of its partition."""
        stored = request.stored
        if partition_of(stored, self.replica.bits) != request.partition:
            return False
        try:
            verified_record(stored, request.record)
        except PeerCorrupt:
            return False
        return True

    def _not_as_owner(self, request: Store, hint: bool) -> Refused | None:
        """The refusal of a record that would be kept as a hint or in quarantine; None if it is
        taken."""
        partition = request.partition
        if not hint and not self.replica.flags(partition):
            entries = self.view.ring.entries
            return Refused(request.id, Refusal.ENTRY, partition, entries[partition])
        if not hint and request.seen < self.replica.numbers.floor(partition):
            return self._stale(request)
        if partition in self.replica.quarantined:
            if request.cause not in ("put", "double", "hint"):
                return Refused(request.id, Refusal.APART, partition)
            self.replica.counters["puts_kept_apart"] += request.cause == "put"
        elif self.hints.full(request.target) and request.cause != "double":
            self.replica.mark_dirty(partition, request.target)
            self.replica.counters["hints_refused"] += 1
            return Refused(request.id, Refusal.HINTS_FULL, partition)
        return None

    def _stale(self, request: Store) -> Refused:
        """S-DEL-3: the record is from before a round that this copy knows."""
        self.replica.counters["stale_records_refused"] += 1
        numbers, partition = self.replica.numbers, request.partition
        floor, seen = numbers.floor(partition), numbers.seen(partition)
        return Refused(request.id, Refusal.STALE, partition, None, floor, seen)

    def _target(self, request: Store, target: HintTarget) -> HintTarget:
        """The target under which the record is kept."""
        if request.partition not in self.replica.quarantined:
            return target
        kept = self.replica.quarantine_target
        # A delivered hint may be as old as the data of this disk.
        return kept.read_at(request.seen) if request.cause == "hint" else kept

    def _stores_written(self, written: bool) -> None:
        """All stores of this turn are written, or refused by the store. Answer them; those that
        want an fsync wait for it."""
        stores, self._stores = self._stores, []
        roles, level = self.replica.roles, self._level
        waiting: list[tuple[Store, bool, Reply]] = []
        for line in stores:
            request, hint, reply = line
            if not written:
                reply(Refused(request.id, Refusal.FULL, request.partition))
            elif request.sync:
                waiting.append(line)
            else:
                role = HINTED if hint else roles.get(request.partition, 0)
                reply(Stored(request.id, role | level, request.timed))
        if waiting:
            self.write_batch.when_synced(partial(self._stores_synced, waiting))

    def _stores_synced(self, stores: list[tuple[Store, bool, Reply]], durable: bool) -> None:
        for request, hint, reply in stores if durable else ():
            role = HINTED if hint else self.replica.flags(request.partition)
            reply(Stored(request.id, role | SYNCED | self._level, request.timed))

    def offer(self, request: Offer, reply: Reply) -> None:
        """Answer which of these records this owner lacks. It has the others, unchanged and
        durably."""
        lacking = []
        for index, (stored, digest) in enumerate(request.rows):
            mine = self.replica.data(stored)
            if mine is None or digest_in(mine) != digest:
                lacking.append(index)

        def synced(durable: bool) -> None:
            if durable:
                reply(Shown(request.id, self.replica.flags(request.partition), lacking))

        self.write_batch.then(None, synced)

    def coordinate(self, request: Coordinate, reply: Reply) -> None:
        """Make one event. The record may leave this node after it is persisted (S-DOT-3, 4)."""
        if not self.write_batch.writable:
            return reply(Rejected(request.id, Refusal.FULL))
        try:
            event = self._coordination.coordinate(request, self.view.wall_ms)
        except TooManySiblings as error:
            record = self.replica.held(request.stored) or b""
            return reply(Rejected(request.id, Refusal.TOO_MANY_SIBLINGS, str(error), record))
        except RequestIdReused as error:
            return reply(Rejected(request.id, Refusal.REQUEST_ID_REUSED, str(error)))
        except NotHere as error:
            return reply(Rejected(request.id, Refusal.UNCERTAIN, str(error)))
        event.flags |= self._level
        if not self._coordinated:
            self.write_batch.then(self._coordinated_written)
        self._coordinated.append((request, event, reply))
        return None

    def _coordinated_written(self, written: bool) -> None:
        """All events of this turn are written, or refused by the store. Answer them."""
        events, self._coordinated = self._coordinated, []
        syncing = []
        for line in events:
            request, event, reply = line
            # The store may have applied it, or a read of this turn has sent it to another node.
            reply(event if written else Rejected(request.id, Refusal.UNCERTAIN))
            if written and request.sync:
                syncing.append(line)
        if syncing:
            self.write_batch.when_synced(partial(self._coordinated_synced, syncing))

    def _coordinated_synced(
        self, events: list[tuple[Coordinate, Coordinated, Reply]], durable: bool
    ) -> None:
        """Give the same answers once more, after the fsync. Each machine has taken its first answer
        by now; only the fsync is new."""
        for _, event, reply in events if durable else ():
            event.flags |= SYNCED
            reply(event)
