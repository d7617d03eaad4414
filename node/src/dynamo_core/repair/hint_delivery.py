"""Delivering hints: to their target, or to all owners when the target owns no more (S-HINT-2, 3).

One machine per target and run. It keeps a window of requests under way, bounded in number and
bytes. The receiver has a hint durably before this node drops it. By dropping it this node forgets
events, so it draws a new actor for the partition (S-DOT-2). A run ends when its slices are empty or
the target fails. The next scan starts again from the beginning, so a run keeps no state.

A hint for a removed node counts as one of the acked copies until another node has taken its place.
The remaining owners get the hint at once. This node keeps it until there are N owners again, and
then sends it to them once more. `HandingOn` does this; it differs only in what it reads. The hint
book remembers in memory which hints need not be sent again, until a node starts again, perhaps with
another disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dynamo_core.causality.codec import checked
from dynamo_core.errors import Corrupt
from dynamo_core.keys import partition_of, range_of
from dynamo_core.membership.retirement import former_name
from dynamo_core.protocol.messages import SYNCED, Message, Store, Stored
from dynamo_core.protocol.refusal import Failure, Reason, Refusal
from dynamo_core.replica.hint_target import HintTarget, InQuarantine
from dynamo_core.replica.hints import HintBook, split_hint_key
from dynamo_core.replica.replica import Replica
from dynamo_core.runtime.machine import Effects, Machine, View, leading

Slice = tuple[bytes, bytes | None]
"""A range of store keys: first key, and end or None."""


def waits(view: View, target: HintTarget, partition: int) -> bool:
    """Whether the target was removed and no other node has taken its place in this partition yet. A
    node that is gone itself does not wait: its copies do not count any more."""
    preference = view.preference
    removed = target not in preference.names and view.name in preference.names
    return removed and target in preference.owners(partition)


def waiting(view: View, target: HintTarget) -> set[int]:
    """The partitions whose hints for a removed target are kept after all owners have them."""
    return {p for p in range(len(view.ring.entries)) if waits(view, target, p)}


class Delivery(Machine):
    """Sends all hints for one target once."""

    def __init__(
        self,
        view: View,
        book: HintBook,
        replica: Replica,
        target: HintTarget,
        on_end: Callable[[HintTarget], None],
    ) -> None:
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
        """The slices of store keys that this run reads: here, all keys."""
        self.book.fresh.pop(self.target, None)
        yield b"", None

    def _fill(self, now: float) -> Effects:
        """Send more hints while the window has room."""
        effects: Effects = []
        settings = self.view.settings
        room = self.view.throttle.share(settings.hints_in_flight_max) - len(self._flying)
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
            self._resting = not self._flying  # many slices were empty: go on in the next turn
        self.wake_at = now + (0.0 if self._resting else settings.call_s)
        return effects + self._maybe_end()

    def _read(self, place: Slice, room: int, bytes_left: int) -> list[tuple[bytes, bytes]]:
        """The next hints of the slice, as many as the window has room for."""
        start, end = place
        try:
            rows = self.book.some(self.target, start, room, end)
        except Corrupt as error:
            held = self.book.counts.get(self.target)
            self.replica.hint(*split_hint_key(error.key))
            if self.book.counts.get(self.target) == held:
                raise  # the damage is near that row, not in it: only a salvage finds it
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
        target, quarantine = self.target, self.replica.quarantine_target
        if partition in self.replica.quarantined and quarantine.same_start(target):
            return []  # S-DEL-3: not yet
        names = self.view.preference.names
        owners = tuple(n for n in self.view.preference.writers(partition) if n in names)
        if isinstance(target, str) and target in owners:
            to: tuple[str, ...] = (target,)
        else:
            # A replaced node does not wait for the later life that has its place.
            others = tuple(o for o in owners if former_name(o) != self.view.name)
            to = others or owners
            self.replica.counters["hints_rerouted"] += 1
        entry_id = self.view.ring.entries[partition].id
        seen = self.replica.numbers.seen(partition)
        if isinstance(target, InQuarantine) and target.seen is not None:
            if target.seen < self.replica.numbers.floor(partition):
                self.replica.counters["stale_hints_dropped"] += 1
                self.book.drop(target, stored)
                return []
            seen = min(seen, target.seen)
        self._flying[stored] = (record, set(to))
        return [
            (node, Store(0, partition, entry_id, stored, record, "", True, "hint", seen))
            for node in to
        ]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(request, Store)
        if not (isinstance(reply, Stored) and reply.flags & SYNCED):
            return self.failed(node, request, Failure.NOT_DURABLE, now)
        flying = self._flying.get(request.stored)
        if flying is not None:
            record, unheard = flying
            unheard.discard(node)
            if not unheard:
                del self._flying[request.stored]
                self._delivered(request.stored, record)
        return self._fill(now)

    def _delivered(self, stored: bytes, record: bytes) -> None:
        if self.replica.hint(self.target, stored) != record:
            return
        partition = partition_of(stored, self.view.ring.partition_bits)
        if waits(self.view, self.target, partition):  # also if it was removed during this run
            self.book.handed_on(self.target, stored)
            self.replica.counters["hints_handed_on"] += 1
        else:
            self.book.drop(self.target, stored)
            self.replica.counters["hints_delivered"] += 1
            if self.replica.history is not None:
                self.replica.history.left(stored, self.target)
            self.replica.born_again(partition)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        assert isinstance(request, Store)
        self._flying.pop(request.stored, None)
        if reason is Refusal.CORRUPT:  # damaged on its way: the next run sends it again
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
        """The run is over; `whole`: no request has failed."""


class HandingOn(Delivery):
    """Sends the hints of a removed target whose place is empty in some partition. It sends all of
    them until one run has come to its end. Later runs send only new hints, and the hints of
    partitions where another node has taken the place."""

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
        for stored in list(fresh.get(self.target, ())):  # a node's restart may clear it meanwhile
            if partition_of(stored, bits) in kept:
                yield stored, stored + b"\x00"

    def _end(self, whole: bool) -> None:
        if self._of_all and not whole:
            self.book.fresh.pop(self.target, None)


class Deliveries:
    """Starts runs: one at a time for each target that is up or owns nothing any more."""

    def __init__(
        self, view: View, book: HintBook, replica: Replica, spawn: Callable[[Machine], None]
    ) -> None:
        self.view = view
        self.book = book
        self.replica = replica
        self._spawn = spawn
        self._running: set[HintTarget] = set()
        self.since: dict[HintTarget, float] = {}
        """By target: the first of the scans that have all found hints for it. No time is kept with
        a hint, so of hints that were on the disk at the start only the time since then is known."""

    def scan(self) -> None:
        """S-HINT-2, S-HINT-3: start a run for each target with hints that can be delivered."""
        now = self.view.now
        self.since = {target: self.since.get(target, now) for target in self.book.counts}
        for target in list(self.book.counts):
            if target not in self._running and self._reachable(target):
                self._running.add(target)
                end = self._running.discard
                kind = HandingOn if waiting(self.view, target) else Delivery
                self._spawn(kind(self.view, self.book, self.replica, target, end))

    def _reachable(self, target: HintTarget) -> bool:
        """A node that is up, or all owners."""
        if isinstance(target, str) and target in self.view.preference.names:
            return self.view.up(target)
        return True
