"""Delivering hints: to their target, or to all owners when the target owns no more (S-HINT-2, 3).

One machine per target and run. It keeps a window of requests under way, bounded in number and
bytes, each durable at the receiver before the hint is dropped; dropping makes this node forget, so
its actor is born again for the partition (S-DOT-2). A run ends when nothing is left of its slices
or the target fails; the next scan starts over, so nothing needs to be remembered.

A hint of a node that was removed is one of the copies that were acked until somebody else has its
place: the owners that stay get it at once, and it is kept until the owners are N again. Then they
get it once more. Another machine hands such hints on: it differs in what it reads. What need not
be handed on again the book has in memory, until some node starts anew, perhaps with another disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dynamo_core.codec import checked
from dynamo_core.errors import Corrupt
from dynamo_core.hints import HintBook, split_hint_key, stamp_of
from dynamo_core.ids import partition_of, range_of
from dynamo_core.machine import Effects, Machine, View, leading
from dynamo_core.messages import SYNCED, Message, Store, Stored
from dynamo_core.replica import Replica

Slice = tuple[bytes, bytes | None]
"""Store keys from one up to another."""


def waits(view: View, target: str, partition: int) -> bool:
    """Whether the target was removed and no other node has its place in this partition yet. A node
    that is gone itself does not wait: its copies are given up."""
    preference = view.preference
    removed = target not in preference.names and view.name in preference.names
    return removed and target in preference.owners(partition)


def waiting(view: View, target: str) -> set[int]:
    """The partitions in which hints of a removed target are kept after all owners have them."""
    return {p for p in range(len(view.ring.entries)) if waits(view, target, p)}


class Delivery(Machine):
    """All hints for one target, once through."""

    def __init__(
        self, view: View, book: HintBook, replica: Replica, target: str,
        on_end: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__()
        self.view = view
        self.book = book
        self.replica = replica
        self.target = target
        self._on_end = on_end
        self._slices = self._wanted()
        self._next: Slice | None = None
        self._resting = False
        self._ended = self._spoilt = False
        self._flying: dict[bytes, tuple[bytes, set[str]]] = {}

    def start(self, now: float) -> Effects:
        self._next = next(self._slices, None)
        return self._fill(now)

    def _wanted(self) -> Iterator[Slice]:
        """Where the hints lie that this run is about: everywhere."""
        self.book.fresh.pop(self.target, None)
        yield b"", None

    def _fill(self, now: float) -> Effects:
        """Send more hints while the window has room."""
        effects: Effects = []
        settings = self.view.settings
        room = self.view.background.share(settings.hints_in_flight_max) - len(self._flying)
        bytes_left = settings.fetch_bytes_max - sum(len(r) for r, _ in self._flying.values())
        self._resting = False
        for _ in range(settings.rows_max):
            if self._next is None or self._ended or min(room, bytes_left) <= 0:
                break
            some = self._read(self._next, room, bytes_left)
            room -= len(some)
            bytes_left -= sum(len(record) for _, record in some)
            for stored, record in some:
                effects += self._send(stored, record)
        else:
            self._resting = not self._flying  # so many slices were empty: on in the next turn
        self.wake_at = now + (0.0 if self._resting else settings.call_s)
        return effects + self._maybe_end()

    def _read(self, place: Slice, room: int, bytes_left: int) -> list[tuple[bytes, bytes]]:
        """The next hints of the slice, as many as there is room for."""
        start, end = place
        try:
            rows = self.book.some(self.target, start, room, end)
        except Corrupt as error:
            held = self.book.counts.get(self.target)
            self.replica.hint(*split_hint_key(error.key))
            if self.book.counts.get(self.target) == held:
                raise  # the damage is near that row, not in it: a salvage must find it
            self._ended = True
            return []
        some = leading(rows, bytes_left)
        more = len(rows) == room or len(some) < len(rows)
        self._next = (some[-1][0] + b"\x00", end) if more else next(self._slices, None)
        return some

    def _send(self, stored: bytes, record: bytes) -> Effects:
        if stored in self._flying:
            return []
        try:
            checked(stored[4:], record)
        except Corrupt:
            self.replica.give_up_hint(self.target, stored)
            return []
        partition = partition_of(stored, self.view.ring.partition_bits)
        apart = self.target.startswith(self.replica.apart_target)
        if apart and partition in self.replica.apart:
            return []  # S-DEL-3: not yet
        names = self.view.preference.names
        owners = tuple(n for n in self.view.preference.writers(partition) if n in names)
        # A replaced node, "~name", does not wait for the life that has its own place.
        others = tuple(owner for owner in owners if "~" + owner != self.view.name)
        to = (self.target,) if self.target in owners else others or owners
        if self.target not in owners:
            self.replica.counters["hints_rerouted"] += 1
        entry = self.view.ring.entries[partition].number
        seen = self.replica.numbers.seen(partition)
        stamp = stamp_of(self.target)
        if stamp is not None:
            if stamp < self.replica.numbers.floor(partition):
                self.replica.counters["stale_hints_dropped"] += 1
                self.book.drop(self.target, stored)
                return []
            seen = min(seen, stamp)
        self._flying[stored] = (record, set(to))
        return [
            (node, Store(0, partition, entry, stored, record, "", True, "hint", seen))
            for node in to
        ]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(request, Store)
        if not (isinstance(reply, Stored) and reply.flags & SYNCED):
            return self.failed(node, request, "not durable", now)
        flying = self._flying.get(request.stored)
        if flying is not None:
            record, waiting = flying
            waiting.discard(node)
            if not waiting:
                del self._flying[request.stored]
                self._delivered(request.stored, record)
        return self._fill(now)

    def _delivered(self, stored: bytes, record: bytes) -> None:
        if self.replica.hint(self.target, stored) != record:
            return
        partition = partition_of(stored, self.view.ring.partition_bits)
        if waits(self.view, self.target, partition):  # or has been removed while this run goes on
            self.book.handed_on(self.target, stored)
            self.replica.counters["hints_handed_on"] += 1
        else:
            self.book.drop(self.target, stored)
            self.replica.chronicle.left(stored, self.target)
            self.replica.counters["hints_delivered"] += 1
            self.replica.born_again(partition)

    def failed(self, node: str, request: Message, reason: str, now: float) -> Effects:
        assert isinstance(request, Store)
        self._flying.pop(request.stored, None)
        if reason == "refused corrupt":  # spoilt on its way: the others go on, the next run has it
            self._spoilt = True
            return self._fill(now)
        self._ended = True
        return self._maybe_end()

    def expired(self, now: float) -> Effects:
        if self._resting:
            return self._fill(now)
        self._ended = True
        self._flying.clear()
        return self._maybe_end()

    def _maybe_end(self) -> Effects:
        if not self.finished and not self._flying and (self._ended or self._next is None):
            self.finished = True
            self._end(whole=not (self._ended or self._spoilt))
            self._on_end(self.target)
        return []

    def _end(self, whole: bool) -> None:
        """The run is over; `whole`: nothing has failed."""


class HandingOn(Delivery):
    """The hints of a target that was removed and whose place is empty somewhere: all of them in the
    first run that comes to its end, and from then on those that have somewhere to go, in partitions
    where its place is filled, and those that are new."""

    _of_all = False

    def _wanted(self) -> Iterator[Slice]:
        ring, fresh = self.view.ring, self.book.fresh
        bits = ring.partition_bits
        kept = waiting(self.view, self.target)
        self._of_all = self.target not in fresh
        if self._of_all:
            fresh[self.target] = {}
            yield b"", None
            return
        for partition in range(len(ring.entries)):
            if partition not in kept and self.book.any_of(partition, bits):
                yield range_of(partition, bits)
        for stored in list(fresh.get(self.target, ())):  # forgotten by a restart meanwhile
            if partition_of(stored, bits) in kept:
                yield stored, stored + b"\x00"

    def _end(self, whole: bool) -> None:
        if self._of_all and not whole:
            self.book.fresh.pop(self.target, None)


class Deliveries:
    """Starts runs: for every target that is up or owns nothing any more, one at a time."""

    def __init__(
        self, view: View, book: HintBook, replica: Replica, spawn: Callable[[Machine], None]
    ) -> None:
        self.view = view
        self.book = book
        self.replica = replica
        self._spawn = spawn
        self._running: set[str] = set()

    def scan(self) -> None:
        """S-HINT-2, S-HINT-3."""
        for target in list(self.book.counts):
            known = target in self.view.preference.names
            if target not in self._running and (self.view.up(target) or not known):
                self._running.add(target)
                end = self._running.discard
                kind = HandingOn if waiting(self.view, target) else Delivery
                self._spawn(kind(self.view, self.book, self.replica, target, end))
