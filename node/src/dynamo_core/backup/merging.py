"""Merges one part of an archive into the ring: it sends the records to the owners of their keys
(S-BAK-2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from dynamo_core.backup.archive_calls import ArchiveFailed, Unpack, Unpacked
from dynamo_core.backup.orders import AGAIN_S, AT_ONCE, PATIENCE_S
from dynamo_core.bounds import ROUND_MAX, one_line
from dynamo_core.errors import PeerCorrupt
from dynamo_core.keys import PREFIX_BYTES, partition_of
from dynamo_core.protocol.arrivals import verified_record
from dynamo_core.protocol.backup_messages import Load, Loaded
from dynamo_core.protocol.messages import SYNCED, VOLATILE, Message, Store, Stored
from dynamo_core.protocol.refusal import Reason
from dynamo_core.runtime.machine import Effects, Machine, View

WINDOW = 64
"""Records that one part has on their way at once."""
UNPACK_S = 600.0


class Merging(Machine):
    """Merges one part."""

    def __init__(self, view: View, order: Load, done: Callable[[Loaded], None]) -> None:
        super().__init__()
        self.view = view
        self.order = order
        self._done = done
        self._rows: deque[tuple[bytes, bytes]] = deque()
        self._flying: dict[bytes, tuple[bytes, set[str], set[str]]] = {}
        """By store key: the record, the nodes to which it is on its way, and the nodes that have it
        fsynced."""
        self._dirty: set[tuple[int, str]] = set()
        self._count = self._skipped = 0
        self._moved_at = self._began = 0.0
        self._why = ""

    def start(self, now: float) -> Effects:
        self._moved_at = now
        self.wake_at = now + UNPACK_S
        return [(self.view.name, Unpack(0, self.order.archive, self.order.part))]

    def _unpacked(self, rows: Iterable[tuple[bytes, bytes]], now: float) -> Effects:
        partitions = len(self.order.without) and self.order.partitions
        bits = partitions.bit_length() - 1
        for stored, record in rows:
            if not stored[PREFIX_BYTES:].startswith(self.order.prefix):
                self._skipped += 1
                continue
            if partitions and partition_of(stored, bits) in self.order.without:
                continue
            try:
                verified_record(stored, record)
            except PeerCorrupt as error:
                self.view.counters["archive_records_refused"] += 1
                return self._end(f"{self.order.part.name}: {error}")
            self._rows.append((stored, record))
        return self._fill(now)

    def _fill(self, now: float) -> Effects:
        """The next records when the window is over; rests between them as the budget asks."""
        if self._flying:
            return []
        if not self._rows:
            return self._end("")
        rest = self.view.throttle.rest_s(now - self._began, AT_ONCE) if self._began else 0.0
        if rest:
            self._began = 0.0
            self.wake_at = now + rest
            return []
        self._began = now
        self.wake_at = now + self.view.settings.call_s
        effects: Effects = []
        size = 0
        while self._rows and len(self._flying) < WINDOW:
            stored, record = self._rows.popleft()
            size += len(record)
            self._flying[stored] = (record, set(), set())
            effects += self._send(stored)
            if size >= self.view.settings.fetch_bytes_max:
                break
        return effects or self._landed(now)

    def _send(self, stored: bytes) -> Effects:
        """Sends the record to every writer that is up and does not have it."""
        record, under_way, have = self._flying[stored]
        view = self.view
        partition = partition_of(stored, view.ring.partition_bits)
        entry_id = view.ring.entries[partition].id
        writers = view.preference.writers(partition)
        to = [n for n in writers if view.up(n) and n not in have and n not in under_way]
        under_way.update(to)
        place = (partition, entry_id, stored, record, "", True, "restore", ROUND_MAX)
        return [(node, Store(0, *place)) for node in to]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if isinstance(reply, ArchiveFailed):
            return self._end(reply.why)
        if isinstance(request, Unpack):
            assert isinstance(reply, Unpacked)
            return self._unpacked(reply.rows, now)
        assert isinstance(request, Store)
        if request.stored not in self._flying:
            return []
        _, under_way, have = self._flying[request.stored]
        under_way.discard(node)
        flags = reply.flags if isinstance(reply, Stored) else 0
        if flags & SYNCED and (not flags & VOLATILE or self.view.settings.volatile):
            have.add(node)
        return self._landed(now)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        self._why = f"{node}: {reason.words}"
        assert isinstance(request, Store)
        if request.stored in self._flying:
            self._flying[request.stored][1].discard(node)
        return self._landed(now)

    def _landed(self, now: float) -> Effects:
        """Records that all writers have answered for; one that too few have is sent again later."""
        for stored in [s for s, (_, under_way, _) in self._flying.items() if not under_way]:
            _, _, have = self._flying[stored]
            if self._enough(stored, have):
                del self._flying[stored]
                self._count += 1
                self._moved_at = now
        if not self._flying:
            return self._fill(now)
        if all(not under_way for _, under_way, _ in self._flying.values()):
            self.wake_at = now + AGAIN_S
        return []

    def _enough(self, stored: bytes, have: set[str]) -> bool:
        view = self.view
        partition = partition_of(stored, view.ring.partition_bits)
        w = min(view.ring.target.w, view.ring.identity.n)
        lists = [view.preference.owners(partition)]
        entry = view.ring.entries[partition]
        if entry.move:  # S-MOVE-1, S-MOVE-3: joint
            out, into = entry.move
            lists.append(tuple(into if n == out else n for n in entry.owners))
        if entry.old:
            lists.append(entry.old)
        for owners in lists:
            if len(have.intersection(owners)) < min(w, len(owners)):
                return False
        self._dirty |= {(partition, owner) for owner in lists[0] if owner not in have}
        return True

    def expired(self, now: float) -> Effects:
        if not self._flying:
            return self._fill(now) if self._rows else self._end("the archive does not answer")
        if now - self._moved_at > PATIENCE_S:
            return self._end(f"too few owners accept it: {self._why or 'no answer'}")
        self.wake_at = now + self.view.settings.call_s
        effects: Effects = []
        for stored, (_, under_way, have) in list(self._flying.items()):
            under_way.clear()
            if self._enough(stored, have):
                del self._flying[stored]
                self._count += 1
                self._moved_at = now
            else:
                effects += self._send(stored)
        return effects if self._flying else self._fill(now)

    def unserved(self) -> Iterable[tuple[int, str]]:
        """Owners that were down or silent: an exchange brings it to them."""
        return sorted(self._dirty)

    def _end(self, why: str) -> Effects:
        self.finished = True
        self._rows.clear()
        self.view.counters["records_restored"] += self._count
        self._done(Loaded(0, self._count, self._skipped, one_line(why)))
        return []
