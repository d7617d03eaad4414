"""Restore: a merge of records, through the way that every copy takes (S-BAK-2).

The node that was asked reads the manifest and hands the parts out; each node merges what it is
given into the owners as the ring has them now, so the ring that was saved may have been of another
size, partition count, name or place. A record of the backup keeps its dots: what is newer in the
ring covers it, and stays. A record counts as restored when W owners have it fsynced; the others are
left dirty, so that an exchange brings it.

Tombstones that were forgotten since the backup cover nothing any more: a value that was deleted and
whose tombstone is gone comes back. That is why the records are sent under the highest round number
(S-DEL-3): an owner must not refuse as stale what an administrator wants back.

Merging twice is merging once, so a run that was cut off is begun again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from dynamo_core.backup.archive_calls import ArchiveFailed, Bring, Brought, Unpack, Unpacked
from dynamo_core.backup.manifest import Manifest, decode_manifest, manifest_name
from dynamo_core.bounds import ROUND_MAX, one_line
from dynamo_core.errors import BadParameter, PeerCorrupt
from dynamo_core.keys import PREFIX_BYTES, partition_of
from dynamo_core.protocol.arrivals import verified_record
from dynamo_core.protocol.backup_messages import Load, Loaded, Part
from dynamo_core.protocol.messages import SYNCED, VOLATILE, Message, Store, Stored
from dynamo_core.protocol.refusal import Reason
from dynamo_core.ring.document import LEFT
from dynamo_core.runtime.machine import Effects, Machine, View

AT_ONCE = 2
"""Parts that one node merges at once."""
WINDOW = 64
"""Records that one part has on their way at once."""
AGAIN_S = 1.0
SILENT_S = 600.0
"""A node that is up and has not answered for so long is asked again: the call may be lost."""
UNPACK_S = 600.0
PATIENCE_S = 120.0
"""Without any progress for so long the run ends; another one begins it again."""


class Merging(Machine):
    """One part into the ring."""

    def __init__(self, view: View, order: Load, done: Callable[[Loaded], None]) -> None:
        super().__init__()
        self.view = view
        self.order = order
        self._done = done
        self._rows: deque[tuple[bytes, bytes]] = deque()
        self._flying: dict[bytes, tuple[bytes, set[str], set[str]]] = {}
        """By store key: the record, whom it is under way to, and who has it fsynced."""
        self._dirty: set[tuple[int, str]] = set()
        self._count = self._skipped = 0
        self._moved_at = self._began = 0.0
        self._why = ""

    def start(self, now: float) -> Effects:
        self._moved_at = now
        self.wake_at = now + UNPACK_S
        return [(self.view.name, Unpack(0, self.order.archive, self.order.part))]

    def _unpacked(self, rows: Iterable[tuple[bytes, bytes]], now: float) -> Effects:
        for stored, record in rows:
            if not stored[PREFIX_BYTES:].startswith(self.order.prefix):
                self._skipped += 1
                continue
            try:
                verified_record(stored, record)
            except PeerCorrupt as error:
                self.view.counters["archive_records_refused"] += 1
                return self._end(f"{self.order.part.name}: {error}")
            self._rows.append((stored, record))
        return self._fill(now)

    def _fill(self, now: float) -> Effects:
        """The next records, once the window is over; a rest between as the budget wants."""
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
        """To every writer that is up and has it not."""
        record, under_way, have = self._flying[stored]
        view = self.view
        partition = partition_of(stored, view.ring.partition_bits)
        entry = view.ring.entries[partition].number
        writers = view.preference.writers(partition)
        to = [n for n in writers if view.up(n) and n not in have and n not in under_way]
        under_way.update(to)
        place = (partition, entry, stored, record, "", True, "restore", ROUND_MAX)
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
            return self._end(f"too few owners take it: {self._why or 'no answer'}")
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


class ClusterRestore(Machine):
    """One restore. `state`: "running", "done", "failed"; `why` says of a failure what it was."""

    def __init__(self, view: View, restore: str, backup: str, archive: str, prefix: bytes) -> None:
        super().__init__()
        self.view = view
        self.id, self.backup, self.archive = restore, backup, archive
        self.prefix = prefix
        self.state, self.why = "running", ""
        self.total = self.records = self.skipped = 0
        self.bytes_total = self.bytes_done = 0
        self._left: deque[Part] = deque()
        self._calls: dict[tuple[str, str], tuple[Part, float]] = {}
        """Under way: node and name of the part, and when it is given up."""
        self._busy: Counter[str] = Counter()
        self._waits: dict[str, float] = {}
        self._moved_at = 0.0
        self._ready = False

    def start(self, now: float) -> Effects:
        self._moved_at = now
        return self._look(now)

    def _look(self, now: float) -> Effects:
        self.wake_at = now + UNPACK_S
        return [(self.view.name, Bring(0, self.archive, manifest_name(self.backup)))]

    def _begin(self, manifest: Manifest, now: float) -> Effects:
        """Hints first: what is newer than the copies that go with them covers them all the same."""
        self._ready = True
        self._left = deque(manifest.parts())
        self.total = len(self._left)
        self.bytes_total = sum(part.bytes for part in self._left)
        return self._turn(now)

    def _turn(self, now: float) -> Effects:
        self.wake_at = now + AGAIN_S
        if not self._left and not self._calls:
            self.view.counters["restores_done"] += 1
            return self._over("done")
        if now - self._moved_at > PATIENCE_S and not self._calls:
            return self._over("failed", self._what_is_missing())
        members = [m.name for m in self.view.ring.members.values() if m.state != LEFT]
        effects: Effects = []
        for name in sorted(members, key=lambda n: (self._busy[n], n)):
            ready = self.view.up(name) and self._waits.get(name, 0.0) <= now
            while self._left and ready and self._busy[name] < AT_ONCE:
                part = self._left.popleft()
                self._calls[name, part.name] = (part, now + SILENT_S)
                self._busy[name] += 1
                effects.append((name, Load(0, self.id, self.archive, part, self.prefix)))
        return effects

    def _answered(self, name: str, request: Load) -> bool:
        if self._calls.pop((name, request.part.name), None) is None:
            return False
        self._busy[name] -= 1
        return True

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if isinstance(reply, ArchiveFailed):
            return self._archive_failed(reply.why, now)
        if isinstance(request, Bring):
            self._moved_at = now
            assert isinstance(reply, Brought)
            if reply.data is None:
                return self._over("failed", f"no backup {self.backup} is there")
            try:
                return self._begin(decode_manifest(reply.data), now)
            except BadParameter as error:
                return self._over("failed", str(error))
        assert isinstance(request, Load) and isinstance(reply, Loaded)
        if not self._answered(node, request):
            return []
        if reply.why:
            return self._not_merged(node, request, reply.why, now)
        self._moved_at = now
        self.records += reply.records
        self.skipped += reply.skipped
        self.bytes_done += request.part.bytes
        return self._turn(now)

    def _archive_failed(self, why: str, now: float) -> Effects:
        self.why = f"{self.view.name}: {why}"
        self.view.counters["archive_failures"] += 1
        if now - self._moved_at > PATIENCE_S:
            return self._over("failed", self.why)
        self.wake_at = now + AGAIN_S
        return []

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        assert isinstance(request, Load)
        if not self._answered(node, request):
            return []
        return self._not_merged(node, request, reason.words, now)

    def _not_merged(self, node: str, request: Load, why: str, now: float) -> Effects:
        self.why = f"{node}: {why}"
        self._left.append(request.part)
        self._waits[node] = now + AGAIN_S
        return []

    def expired(self, now: float) -> Effects:
        if not self._ready:
            return self._look(now)
        for (name, part_name), (part, until) in list(self._calls.items()):
            if until <= now or not self.view.up(name):
                del self._calls[name, part_name]
                self._busy[name] -= 1
                self._left.append(part)
        return self._turn(now)

    def _what_is_missing(self) -> str:
        done = self.total - len(self._left)
        return f"{done} of {self.total} parts are merged, then nothing more: {self.why}"

    def _over(self, state: str, why: str = "") -> Effects:
        self.finished = True
        self.state, self.why = state, why
        return []

    def report(self) -> dict[str, Any]:
        """As docs/http-api.md has it."""
        return {
            "id": self.id,
            "backup": self.backup,
            "state": self.state,
            "reason": self.why or None,
            "parts_total": self.total,
            "parts_done": self.total - len(self._left) - len(self._calls),
            "bytes_total": self.bytes_total,
            "bytes_done": self.bytes_done,
            "records": self.records,
            "skipped": self.skipped,
        }
