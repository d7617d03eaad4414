"""Answers of this node's own copy to requests, from peers and from its own machines alike.

Every answer goes through `reply`, at once for reads, after the batch (or the fsync) for writes:
nothing is acknowledged before it is persisted. A request carries the sender's entry of the
partition; another one here means that one of both must learn first (S-RING-4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from dynamo_core.arrivals import verified_record
from dynamo_core.codec import checked, decode_record, digest_in
from dynamo_core.coordination import Coordination, Minted
from dynamo_core.errors import Corrupt, NotHere, PeerCorrupt, RequestIdReused, TooManySiblings
from dynamo_core.hints import HintBook, with_stamp
from dynamo_core.ids import partition_of, range_of
from dynamo_core.journal import Journal
from dynamo_core.machine import Coordinate, Coordinated, Rejected, View
from dynamo_core.messages import (
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
from dynamo_core.move_messages import Offer, Shown
from dynamo_core.replica import Replica
from dynamo_core.sizes import SizeBook

Reply = Callable[[Message], None]


class LocalReplica:
    """The local copy as a node that is called like any other."""

    def __init__(self, view: View, journal: Journal, replica: Replica, hints: HintBook) -> None:
        self.view = view
        self.journal = journal
        self.replica = replica
        self.hints = hints
        self._level = VOLATILE if view.settings.volatile else 0
        self._coordination = Coordination(replica)
        self._stores: list[tuple[Store, bool, Reply]] = []
        """Of this turn: the request, whether it became a hint, and whom to tell."""
        self._coordinated: list[tuple[Coordinate, Minted, int, Reply]] = []
        self.kinds: dict[type, Callable[..., None]] = {
            Fetch: self.fetch,
            Store: self.store,
            Coordinate: self.coordinate,
            Roots: self.roots,
            Leaves: self.leaves,
            Listing: self.listing,
            FetchMany: self.fetch_many,
            Keys: self.keys,
            Sizes: SizeBook(view, journal).answer,
            Offer: self.offer,
        }

    def serve(self, answers: dict[type, Callable[..., None]]) -> None:
        """Requests that others answer, of the same kind: each carries an entry."""
        self.kinds |= answers

    def answers(self, request: Message) -> bool:
        """Whether the request is one for the copy."""
        return type(request) in self.kinds

    def answer(self, request: Message, reply: Reply) -> None:
        """Serve one request; one that carries another entry is refused (S-RING-4)."""
        entry = getattr(request, "entry", None)
        if entry is not None:
            partition: int = request.partition  # type: ignore[attr-defined]
            entries = self.view.ring.entries
            if not (0 <= partition < len(entries) and entries[partition].number == entry):
                return self._refuse_entry(request, partition, reply)
        return self.kinds[type(request)](request, reply)

    def _same_entry(self, partition: int, entry: tuple[int, int]) -> bool:
        ring = self.view.ring
        return 0 <= partition < len(ring.entries) and ring.entries[partition].number == entry

    def _refuse_entry(self, request: Message, partition: int, reply: Reply) -> None:
        entries = self.view.ring.entries
        entry = entries[partition] if 0 <= partition < len(entries) else None
        reply(Refused(request.id, "entry", partition, entry))

    # ------------------------------------------------------------ reading

    def fetch(self, request: Fetch, reply: Reply) -> None:
        """What is held of the key, hints included (S-HINT-5)."""
        replica, partition = self.replica, request.partition
        flags = replica.flags(partition)
        seen = replica.numbers.seen(partition)
        try:
            record = replica.held(request.stored)
        except Corrupt:
            return reply(Fetched(request.id, b"", CORRUPT, seen))
        return reply(Fetched(request.id, record or b"", flags, seen))

    def fetch_many(self, request: FetchMany, reply: Reply) -> None:
        """Own records of a partition; as many as fit, at least one. Damage is not sent."""
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
        """Tree roots of the partitions whose entry is the same here (S-AE-2)."""
        shared = [
            (partition, self.replica.forest.root(partition))
            for partition, term, version in request.partitions
            if self._same_entry(partition, (term, version)) and self.replica.flags(partition)
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
            return reply(Refused(request.id, "corrupt", request.partition))
        return reply(ListingReply(request.id, listed, after is not None))

    def keys(self, request: Keys, reply: Reply) -> None:
        """Live keys of one partition, a page; a copy that may miss some does not answer."""
        if not self.replica.complete(request.partition):
            return reply(Refused(request.id, "incomplete", request.partition))
        start, end = range_of(request.partition, self.view.ring.partition_bits)
        if request.after:
            start = request.after + b"\x00"
        limit = min(request.limit, self.view.settings.rows_max)
        try:
            rows, after = self.replica.page(start, end, limit)
        except Corrupt:
            return reply(Refused(request.id, "corrupt", request.partition))
        wall_ms = self.view.wall_ms
        try:
            live = [stored for stored, record in rows if decode_record(record).values(wall_ms)]
        except Corrupt:
            return reply(Refused(request.id, "corrupt", request.partition))
        cursor = after[:-1] if after is not None else b""
        return reply(KeysReply(request.id, live, after is not None, cursor))

    # ------------------------------------------------------------ writing

    def store(self, request: Store, reply: Reply) -> None:
        """Merge a record of this node's own machines into the copy or into a hint; answer when it
        is persisted."""
        self.stores((request,), reply)

    def stores(
        self, requests: Iterable[Store], reply: Reply, corrupt: Callable[[], None] | None = None
    ) -> None:
        """Those of one frame, in their order. `corrupt` is told when a record that a peer sent does
        not hold (T-1); None: they are this node's own."""
        replica, me, entries = self.replica, self.view.name, self.view.ring.entries
        stored = self._stores
        if not stored:
            self.journal.then(self._stores_written)
        causes: Counter[str] = Counter()
        for request in requests:
            partition, target = request.partition, request.target
            if not (0 <= partition < len(entries) and entries[partition].number == request.entry):
                self._refuse_entry(request, partition, reply)
                continue
            hint = target != "" and target != me
            if hint or partition in replica.apart:
                refusal = self._not_as_owner(request, hint)
                if refusal is not None:
                    reply(refusal)
                    continue
                target = self._target(request, target)
            elif not replica.flags(partition):
                self._refuse_entry(request, partition, reply)
                continue
            if not hint and request.seen < (floor := replica.numbers.floor(partition)):
                replica.counters["stale_records_refused"] += 1
                seen = replica.numbers.seen(partition)
                reply(Refused(request.id, "stale", partition, None, floor, seen))
                continue
            if corrupt is not None and not self._holds(request):
                corrupt()
                reply(Refused(request.id, "corrupt", partition))
                continue
            changed = replica.take(request.stored, request.record, target, request.cause)
            if hint:
                replica.counters["hints_kept"] += 1
            elif changed:
                causes[request.cause] += 1
            stored.append((request, hint, reply))
        for cause, count in causes.items():
            replica.counters[f"stored_by_{cause}"] += count

    def _holds(self, request: Store) -> bool:
        """T-1: whether it is a whole record, of a key of this partition."""
        stored = request.stored
        if partition_of(stored, self.replica.bits) != request.partition:
            return False
        try:
            verified_record(stored, request.record)
        except PeerCorrupt:
            return False
        return True

    def _not_as_owner(self, request: Store, hint: bool) -> Refused | None:
        """Why what is kept as a hint, or apart, is not taken."""
        partition = request.partition
        apart = partition in self.replica.apart
        if not hint and not self.replica.flags(partition):
            entries = self.view.ring.entries
            return Refused(request.id, "entry", partition, entries[partition])
        if not hint and request.seen < (floor := self.replica.numbers.floor(partition)):
            self.replica.counters["stale_records_refused"] += 1
            seen = self.replica.numbers.seen(partition)
            return Refused(request.id, "stale", partition, None, floor, seen)
        if apart:
            if request.cause not in ("put", "double", "hint"):
                return Refused(request.id, "apart", partition)
            self.replica.counters["puts_kept_apart"] += request.cause == "put"
        elif self.hints.full(request.target) and request.cause != "double":
            self.hints.mark_dirty(partition, request.target)
            self.replica.counters["hints_refused"] += 1
            return Refused(request.id, "hints-full", partition)
        return None

    def _target(self, request: Store, target: str) -> str:
        """Under which name it is kept."""
        if request.partition not in self.replica.apart:
            return target
        target = self.replica.apart_target
        # A hint may be as old as what lies here.
        return with_stamp(target, request.seen) if request.cause == "hint" else target

    def _stores_written(self, stored: bool) -> None:
        """All that came from others this turn; whoever wants an fsync waits on."""
        stores, self._stores = self._stores, []
        flags = self.replica.flags
        waiting: list[tuple[Store, bool, Reply]] = []
        for line in stores:
            request, hint, reply = line
            if not stored:
                reply(Refused(request.id, "full", request.partition))
            elif request.sync:
                waiting.append(line)
            else:
                role = HINTED if hint else flags(request.partition)
                reply(Stored(request.id, role | self._level))
        if waiting:
            self.journal.when_synced(partial(self._stores_synced, waiting))

    def _stores_synced(self, stores: list[tuple[Store, bool, Reply]], durable: bool) -> None:
        for request, hint, reply in stores if durable else ():
            role = HINTED if hint else self.replica.flags(request.partition)
            reply(Stored(request.id, role | SYNCED | self._level))

    def offer(self, request: Offer, reply: Reply) -> None:
        """Which of these records this owner lacks; of the others it has the same, durably."""
        lacking = []
        for number, (stored, digest) in enumerate(request.rows):
            mine = self.replica.data(stored)
            if mine is None or digest_in(mine) != digest:
                lacking.append(number)

        def synced(durable: bool) -> None:
            if durable:
                reply(Shown(request.id, self.replica.flags(request.partition), lacking))

        self.journal.then(None, synced)

    def coordinate(self, request: Coordinate, reply: Reply) -> None:
        """Make one event; the record may leave this node once it is persisted (S-DOT-3, 4)."""
        if not self.journal.writable:
            return reply(Rejected(request.id, "full"))
        try:
            minted = self._coordination.coordinate(
                request.put, request.stored, request.target, self.view.wall_ms, request.known,
                request.known_seen,
            )  # fmt: skip
        except TooManySiblings as error:
            record = self.replica.held(request.stored) or b""
            return reply(Rejected(request.id, "too-many-siblings", str(error), record))
        except RequestIdReused as error:
            return reply(Rejected(request.id, error.slug, str(error)))
        except NotHere as error:
            return reply(Rejected(request.id, "uncertain", str(error)))
        role = HINTED if request.target else self.replica.flags(minted.partition)
        role |= self._level
        if not self._coordinated:
            self.journal.then(self._coordinated_written)
        self._coordinated.append((request, minted, role, reply))
        return None

    def _coordinated_written(self, stored: bool) -> None:
        """All that was coordinated this turn."""
        events, self._coordinated = self._coordinated, []
        for request, minted, role, reply in events:
            if stored:
                reply(Coordinated(request.id, minted.record, minted.context, role, minted.seen))
            else:
                # It may be applied all the same, or a read of this very turn has carried it away.
                reply(Rejected(request.id, "uncertain"))
        events = [event for event in events if stored and event[0].sync]
        if events:
            self.journal.when_synced(partial(self._coordinated_synced, events))

    def _coordinated_synced(
        self, events: list[tuple[Coordinate, Minted, int, Reply]], durable: bool
    ) -> None:
        for request, minted, role, reply in events if durable else ():
            flags = role | SYNCED
            reply(Coordinated(request.id, minted.record, minted.context, flags, minted.seen))
