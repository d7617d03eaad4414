"""Restore: a merge of records, sent to the owners like every other copy (S-BAK-2).

The node that was asked reads the manifest and gives the parts to the members. Each member sends the
records of its part to the present owners of their keys. So the saved ring may have another size,
partition count, name or place. A record of the backup keeps its dots: newer values in the ring
cover it, and stay. A record counts as restored when W owners have it fsynced. The partition stays
dirty for the other owners, so that an exchange brings the record.

A tombstone that was forgotten since the backup covers nothing: its deleted value comes back. So the
records have the highest round number (S-DEL-3): an owner must not refuse as stale the data that an
administrator wants back.

One part may have a value and another part its tombstone, and a restore may take longer than a
tombstone stays. So the node that leads a restore agrees to no round meanwhile (S-DEL-2), and begins
when the commits of earlier rounds must have come: what is deleted in the backup stays deleted. A
node that merges a part agrees to none either, because the leader may end before it.

A merge may happen twice without harm, so a run that was interrupted begins again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from dynamo_core.backup.archive_calls import (
    ArchiveFailed,
    Bring,
    Brought,
    Done,
    Put,
)
from dynamo_core.backup.manifest import Manifest, decode_manifest, manifest_name
from dynamo_core.backup.marks import Mark, decode_mark, encode_mark, mark_name
from dynamo_core.backup.orders import AGAIN_S, ANY, Orders
from dynamo_core.errors import BadParameter
from dynamo_core.forgetting.quarantine import COMMITS
from dynamo_core.protocol.backup_messages import Load, Loaded, Part
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.refusal import Reason
from dynamo_core.replica.replica import Replica
from dynamo_core.ring.document import LEFT
from dynamo_core.runtime.machine import Effects, Machine, View

UNPACK_S = 600.0
MARKS_MAX = 3
"""How often the archive is asked to keep the mark before the run ends without one."""
COUNTS = ("parts_total", "bytes_total", "records", "skipped", "took_ms")


class Place(View, Protocol):
    """The node that leads a restore."""

    replica: Replica


class ClusterRestore(Machine):
    """One restore. `state`: "running", "done", "failed"; `why` says of a failure what it was."""

    def __init__(self, view: Place, restore: str, backup: str, archive: str, prefix: bytes) -> None:
        super().__init__()
        self.view = view
        self.id, self.backup, self.archive = restore, backup, archive
        self.prefix = prefix
        self.what = f"a restore of {backup} at {archive}, keys that begin with {prefix!r}"
        self.state, self.why = "running", ""
        self.total = self.records = self.skipped = 0
        self.bytes_total = self.bytes_done = self.took_ms = 0
        self._left: dict[str, Part] = {}
        """By name: parts that are not merged yet, also those for which nodes are asked now."""
        self._without: dict[str, tuple[int, ...]] = {}
        """By part with hints: the partitions that are left out."""
        self._partitions = 0
        """Partitions of the saved ring."""
        self._orders = Orders()
        self._step: Callable[[float], Effects] = self._look
        self._not_before = 0.0
        self._began = 0.0
        self._marks = 0
        """How often the archive was asked to keep the mark."""

    def start(self, now: float) -> Effects:
        self._orders.moved(now)
        self._began = now
        return self._look(now)

    def _look(self, now: float) -> Effects:
        """An earlier run under this id may be over."""
        self.wake_at = now + UNPACK_S
        return [(self.view.name, Bring(0, self.archive, mark_name(self.id)))]

    def _read(self, now: float) -> Effects:
        self._step = self._read
        self.wake_at = now + UNPACK_S
        return [(self.view.name, Bring(0, self.archive, manifest_name(self.backup)))]

    def _mark(self, now: float) -> Effects:
        """Everything is merged."""
        self._step = self._mark
        self.wake_at = now + UNPACK_S
        self._marks += 1
        mark = Mark(self.backup, self.prefix, "done", self.report())
        return [(self.view.name, Put(0, self.archive, mark_name(self.id), encode_mark(mark)))]

    def _not_marked(self, now: float) -> Effects:
        """The credentials may allow only reading. Then another run would merge again."""
        if self._marks >= MARKS_MAX:
            return self._over("done")
        self.wake_at = now + AGAIN_S
        return []

    def _marked(self, data: bytes | None, now: float) -> Effects:
        name = mark_name(self.id)
        if data is None:
            return self._read(now)
        mark = decode_mark(data, name, self.backup, self.prefix, False)
        counts = [mark.report.get(field, 0) for field in COUNTS]
        if not all(isinstance(count, int) for count in counts):
            raise BadParameter(name, "counts that are none")
        self.total, self.bytes_total, self.records, self.skipped, self.took_ms = counts
        self.bytes_done = self.bytes_total
        return self._over("done")

    def _begin(self, manifest: Manifest, now: float) -> Effects:
        """Hints first: what is newer than the copies that go with them covers them all the same."""
        self._left = {part.name: part for part in manifest.parts()}
        self.total = len(self._left)
        self.bytes_total = sum(part.bytes for part in self._left.values())
        self._without, self._partitions = manifest.forgotten(), len(manifest.pieces)
        replica = self.view.replica
        replica.restores.add((self.id, ""))
        self._not_before = replica.agreed_at + COMMITS * self.view.settings.call_s
        return self._turn(now)

    def _turn(self, now: float) -> Effects:
        self._step = self._turn
        self.wake_at = now + AGAIN_S
        if not self._left:
            self.view.counters["restores_done"] += 1
            return self._mark(now)
        if self._orders.stuck(now):
            return self._over("failed", self._what_is_missing())
        if now < self._not_before:
            self.wake_at = self._not_before
            return []
        members = [m.name for m in self.view.ring.members.values() if m.state != LEFT]
        up = [name for name in sorted(members) if self.view.up(name)]
        effects: Effects = []
        for part in self._left.values():
            if self._orders.is_asked(part.name):
                continue
            free = [n for n in up if self._orders.free(n, ANY, now)]
            if not free:
                break
            without = self._without.get(part.name, ())
            order = Load(0, self.id, self.archive, part, self.prefix, without, self._partitions)
            name = self._orders.idlest(free)
            effects.append(self._orders.give(name, part.name, order, now))
        return effects

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if isinstance(request, Put):
            return self._over("done") if isinstance(reply, Done) else self._not_marked(now)
        if isinstance(reply, ArchiveFailed):
            return self._archive_failed(reply.why, now)
        if isinstance(request, Bring):
            self._orders.moved(now)
            assert isinstance(reply, Brought)
            try:
                if self._step == self._look:
                    return self._marked(reply.data, now)
                if reply.data is None:
                    return self._over("failed", f"no backup {self.backup} is there")
                return self._begin(decode_manifest(reply.data, self.backup), now)
            except BadParameter as error:
                return self._over("failed", str(error))
        assert isinstance(request, Load) and isinstance(reply, Loaded)
        if not self._orders.ended(node, request.part.name):
            return []
        if reply.why:
            return self._not_merged(node, request.part, reply.why, now)
        self._orders.moved(now)
        del self._left[request.part.name]
        self.took_ms = round((now - self._began) * 1000)
        self.records += reply.records
        self.skipped += reply.skipped
        self.bytes_done += request.part.bytes
        return self._turn(now)

    def _archive_failed(self, why: str, now: float) -> Effects:
        self.why = f"{self.view.name}: {why}"
        self.view.counters["archive_failures"] += 1
        if self._orders.stuck(now):
            return self._over("failed", self.why)
        self.wake_at = now + AGAIN_S
        return []

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        assert isinstance(request, Load)
        if not self._orders.ended(node, request.part.name):
            return []
        return self._not_merged(node, request.part, reason.words, now)

    def _not_merged(self, node: str, part: Part, why: str, now: float) -> Effects:
        """All others go first."""
        self.why = f"{node}: {why}"
        self._left[part.name] = self._left.pop(part.name)
        for what in (ANY, part.name):
            self._orders.rest(node, what, now)
        return []

    def expired(self, now: float) -> Effects:
        if self._step != self._turn:
            return self._step(now)
        return self._orders.look(self.view.up, now) + self._turn(now)

    def _what_is_missing(self) -> str:
        done = self.total - len(self._left)
        return f"{done} of {self.total} parts are merged, then nothing more: {self.why}"

    def _over(self, state: str, why: str = "") -> Effects:
        self.finished = True
        self.view.replica.restores.discard((self.id, ""))
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
            "parts_done": self.total - len(self._left),
            "bytes_total": self.bytes_total,
            "bytes_done": self.bytes_done,
            "records": self.records,
            "skipped": self.skipped,
            "took_ms": self.took_ms,
        }
