"""Backup of a whole ring, led by the node that was asked (S-BAK-1).

Order is what makes it whole. First every member saves its hints; then, per partition, one complete
owner makes a pass over each other owner that is up, and saves what it holds. A write acked before
the start is a hint at that time, and saved or by then delivered to owners; or an owner has it, and
the pass brings it. A complete owner alone would not do: complete means that it misses nothing by a
fault, while a write that was acked with W below N may be on its way to it. Where no owner is
complete all of them save what they hold. Nodes that are down are named in the manifest.

The state is in the archive: `Progress` first, the manifest last. A run under the same id goes on
from there, at any node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from dynamo_core.backup.archive_calls import ArchiveFailed, Bring, Brought, Done, Put
from dynamo_core.backup.manifest import (
    FORMAT,
    Manifest,
    Piece,
    Progress,
    decode_manifest,
    decode_progress,
    encode_manifest,
    manifest_name,
    progress_name,
)
from dynamo_core.errors import BadParameter
from dynamo_core.protocol.backup_messages import Save, Saved, SaveHints
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.refusal import Reason, Refusal
from dynamo_core.ring.document import LEFT
from dynamo_core.ring.json_form import to_document
from dynamo_core.runtime.machine import Effects, Machine, View

AT_ONCE = 2
"""Partitions that one node saves at once."""
COMPLETE_S = 5.0
"""So long an owner may become complete, as after a start, before all are saved."""
AGAIN_S = 1.0
"""What failed is tried again so much later."""
ARCHIVE_S = 600.0
"""The archive answers within this time, if only that it could not."""
SILENT_S = 60.0
"""A node that is up and has not answered for so long is asked again: the call may be lost."""
PATIENCE_S = 120.0
"""Without any progress for so long the run ends; another one goes on from there."""
PROGRESS_S = 5.0
"""The progress is written so often."""
HINTS = -1
"""In the place of a partition: the hints of a node."""


class ClusterBackup(Machine):
    """One run. `state`: "running", "done", "failed"; `why` says of a failure what it was."""

    def __init__(self, view: View, backup: str, archive: str, base: str, version: str) -> None:
        super().__init__()
        self.view = view
        self.id, self.archive = backup, archive
        self.state, self.why = "running", ""
        self.manifest: Manifest | None = None
        self.progress = Progress(
            backup, view.ring.identity.cluster_id, view.wall_ms, base if base != backup else ""
        )
        self._version = version
        self._step: Callable[[float], Effects] = self._look
        self._base: dict[int, Piece] = {}
        self._calls: dict[tuple[str, int], float] = {}
        """Under way: node and partition, and when it is given up."""
        self._busy: Counter[str] = Counter()
        self._incomplete: dict[int, set[str]] = {}
        """By partition: owners that said that they are not complete."""
        self._since: dict[int, float] = {}
        """By partition: when an owner first said so."""
        self._some: dict[int, list[Piece]] = {}
        """What such owners have saved, until all that are up have."""
        self._request: Message | None = None
        """To the archive, for this step."""
        self._hints_left: list[str] = []
        self._moved_at = self._kept_at = 0.0
        self._waits: dict[tuple[str, int], float] = {}
        """Node and partition: not to be asked before."""
        self._keeping = False

    def start(self, now: float) -> Effects:
        self._moved_at = self._kept_at = now
        return self._look(now)

    # ------------------------------------------------------------ the archive, step by step

    def _look(self, now: float) -> Effects:
        return self._archive(now, self._look, Bring(0, self.archive, manifest_name(self.id)))

    def _resume(self, now: float) -> Effects:
        return self._archive(now, self._resume, Bring(0, self.archive, progress_name(self.id)))

    def _begin(self, now: float) -> Effects:
        data = msgspec.json.encode(self.progress)
        request = Put(0, self.archive, progress_name(self.id), data)
        return self._archive(now, self._begin, request)

    def _compare(self, now: float) -> Effects:
        """After `_begin`, which names the base: whoever deletes it looks there."""
        if not self.progress.base:
            return self._save_hints(now)
        request = Bring(0, self.archive, manifest_name(self.progress.base))
        return self._archive(now, self._compare, request)

    def _end(self, now: float) -> Effects:
        view, progress = self.view, self.progress
        self.manifest = Manifest(
            FORMAT, self.id, progress.cluster_id, progress.started_ms, view.wall_ms,
            to_document(view.ring), progress.hints, progress.silent, progress.pieces,
            progress.base, self._version,
        )  # fmt: skip
        data = encode_manifest(self.manifest)
        return self._archive(now, self._end, Put(0, self.archive, manifest_name(self.id), data))

    def _archive(self, now: float, step: Callable[[float], Effects], request: Message) -> Effects:
        self._step, self._request = step, request
        self.wake_at = now + ARCHIVE_S
        return [(self.view.name, request)]

    def _brought(self, name: str, data: bytes | None, now: float) -> Effects:
        try:
            if name == manifest_name(self.id):
                if data is None:
                    return self._resume(now)
                self.manifest = decode_manifest(data)
                return self._over("done")
            if name == progress_name(self.id):
                if data is None:
                    return self._begin(now)
                return self._goes_on(decode_progress(data), now)
            base = decode_manifest(data) if data is not None else None
        except BadParameter as error:
            return self._over("failed", str(error))
        if base is not None and self._comparable(base):
            alone = {p: ps[0] for p, ps in base.pieces.items() if len(ps) == 1 and ps[0].root}
            self._base = alone
        return self._save_hints(now)

    def _goes_on(self, progress: Progress, now: float) -> Effects:
        if progress.cluster_id != self.progress.cluster_id or progress.id != self.id:
            return self._over("failed", f"id: {self.id} is the backup of another ring")
        entries = len(self.view.ring.entries)
        if any(not 0 <= partition < entries for partition in progress.pieces):
            return self._over("failed", f"id: {self.id} has partitions that are not")
        self.view.counters["backups_resumed"] += 1
        self.progress = progress
        return self._compare(now)

    def _comparable(self, base: Manifest) -> bool:
        entries = len(self.view.ring.entries)
        same = base.cluster_id == self.progress.cluster_id
        return same and base.ring.get("partitions") == entries

    # ------------------------------------------------------------ hints, then partitions

    def _save_hints(self, now: float) -> Effects:
        """First, or a hint delivered meanwhile would be seen neither here nor there."""
        members = self.view.ring.members.values()
        names = [m.name for m in members if m.state != LEFT]
        self._hints_left = [n for n in sorted(names) if n not in self.progress.hints]
        if self.progress.pieces:  # of an earlier run: its hints were saved before them
            self._hints_left = []
        return self._turn(now)

    def _turn(self, now: float) -> Effects:
        """Ask whoever is free; the end when nothing is left."""
        self._step = self._turn
        if now - self._moved_at > PATIENCE_S:
            return self._over("failed", self._what_is_missing())
        self.wake_at = now + AGAIN_S
        if self._hints_left:
            return self._ask_hints(now)
        left = [p for p in range(len(self.view.ring.entries)) if p not in self.progress.pieces]
        if not left:
            return self._end(now)
        effects: Effects = []
        for partition in left:
            effects += self._ask_partition(partition, now)
        return effects + self._keep(now)

    def _ask_hints(self, now: float) -> Effects:
        effects: Effects = []
        for name in list(self._hints_left):
            if not self.view.up(name):
                self._hints_left.remove(name)
                self.progress.silent.append(name)
                self._moved_at = now
            elif (name, HINTS) not in self._calls and self._waits.get((name, HINTS), 0.0) <= now:
                effects.append(self._call(name, HINTS, True, now))
        return effects if self._hints_left else self._turn(now)

    def _ask_partition(self, partition: int, now: float) -> Effects:
        if any(p == partition for _, p in self._calls):
            return []
        owners = self.view.preference.owners(partition)
        turn = partition % len(owners)
        up = [n for n in owners[turn:] + owners[:turn] if self.view.up(n)]
        candidates = [n for n in up if n not in self._incomplete.get(partition, ())]
        free = [
            name
            for name in candidates or up
            if self._waits.get((name, partition), 0.0) <= now and self._busy[name] < AT_ONCE
        ]
        if candidates:
            return [self._call(name, partition, True, now) for name in free[:1]]
        have = {piece.node for piece in self._some.get(partition, ())}
        self.view.counters["backups_of_all_owners"] += bool(free)
        return [self._call(name, partition, False, now) for name in free if name not in have]

    def _call(self, name: str, partition: int, alone: bool, now: float) -> tuple[str, Message]:
        self._calls[name, partition] = now + SILENT_S
        self._busy[name] += 1
        if partition == HINTS:
            return name, SaveHints(0, self.id, self.archive)
        entry = self.view.ring.entries[partition].number
        base = self._base.get(partition)
        root = bytes.fromhex(base.root) if base is not None and alone else b""
        return name, Save(0, self.id, self.archive, partition, entry, alone, root)

    def _answered(self, name: str, partition: int) -> bool:
        if self._calls.pop((name, partition), None) is None:
            return False
        self._busy[name] -= 1
        return True

    # ------------------------------------------------------------ events

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if isinstance(reply, ArchiveFailed):
            return self._archive_failed(request, reply.why, now)
        if isinstance(request, Bring | Put) and request is not self._request:
            if isinstance(request, Put):
                self._keeping = False
            return []
        if isinstance(request, Bring):
            assert isinstance(reply, Brought)
            self._moved_at = now
            return self._brought(request.name, reply.data, now)
        if isinstance(request, Put):
            assert isinstance(reply, Done)
            return self._kept(request.name, now)
        assert isinstance(reply, Saved)
        partition = request.partition if isinstance(request, Save) else HINTS
        if not self._answered(node, partition):
            return []
        if reply.why:
            return self._not_saved(node, partition, reply.why, now)
        self._moved_at = now
        if partition == HINTS:
            self.progress.hints[node] = reply.parts
            self._hints_left = [name for name in self._hints_left if name != node]
            self.progress.silent = [name for name in self.progress.silent if name != node]
        else:
            assert isinstance(request, Save)
            self._saved(node, request, reply)
        return self._turn(now)

    def _kept(self, name: str, now: float) -> Effects:
        if name == manifest_name(self.id):
            self.view.counters["backups_done"] += 1
            return self._over("done")
        self._moved_at = now
        return self._compare(now)

    def _saved(self, node: str, request: Save, reply: Saved) -> None:
        partition = request.partition
        if reply.unchanged:
            base = self._base[partition]
            piece = msgspec.structs.replace(base, backup=base.backup or self.progress.base)
            self.view.counters["backup_partitions_referred"] += 1
        else:
            piece = Piece(node, reply.parts, reply.root.hex(), "", list(reply.missed))
            self.view.counters["backup_partitions_saved"] += 1
        if request.alone:
            self.progress.pieces[partition] = [piece]
            return
        some = self._some.setdefault(partition, [])
        some.append(msgspec.structs.replace(piece, root=""))
        owners = self.view.preference.owners(partition)
        have = {one.node for one in some}
        if all(name in have for name in owners if self.view.up(name)):
            down = [name for name in owners if name not in have]
            self.progress.pieces[partition] = [
                msgspec.structs.replace(one, missed=down) for one in some
            ]

    def _archive_failed(self, request: Message, why: str, now: float) -> Effects:
        self.view.counters["archive_failures"] += 1
        if request is self._request:
            self.why = why
            self.wake_at = now + AGAIN_S
        else:
            self._keeping = False  # the next one will do
        return []

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        partition = request.partition if isinstance(request, Save) else HINTS
        if not self._answered(node, partition):
            return []
        if partition != HINTS and reason is Refusal.INCOMPLETE:
            since = self._since.setdefault(partition, now)
            if now - since >= COMPLETE_S:
                self._incomplete.setdefault(partition, set()).add(node)
        return self._not_saved(node, partition, reason.words, now)

    def _not_saved(self, node: str, partition: int, why: str, now: float) -> Effects:
        self._waits[node, partition] = now + AGAIN_S
        what = "hints" if partition == HINTS else f"partition {partition}"
        self.why = f"{what}: {node}: {why}"
        return []  # at the next turn

    def expired(self, now: float) -> Effects:
        if now - self._moved_at > PATIENCE_S:
            return self._over("failed", self._what_is_missing())
        late = [
            call for call, until in self._calls.items() if until <= now or not self.view.up(call[0])
        ]
        for name, partition in late:
            self._answered(name, partition)
            self._waits[name, partition] = now + AGAIN_S
        return self._step(now)

    # ------------------------------------------------------------ the end

    def _keep(self, now: float) -> Effects:
        """The progress, now and then."""
        if self._keeping or now - self._kept_at < PROGRESS_S:
            return []
        self._keeping, self._kept_at = True, now
        data = msgspec.json.encode(self.progress)
        return [(self.view.name, Put(0, self.archive, progress_name(self.id), data))]

    def _what_is_missing(self) -> str:
        done = len(self.progress.pieces)
        whole = len(self.view.ring.entries)
        return f"{done} of {whole} partitions are saved, then nothing more for a while: {self.why}"

    def _over(self, state: str, why: str = "") -> Effects:
        self.finished = True
        self.state, self.why = state, why
        return []

    def report(self) -> dict[str, Any]:
        """As docs/http-api.md has it."""
        pieces = [piece for some in self.progress.pieces.values() for piece in some]
        if self.manifest is not None and self.state == "done":
            counts, missed = self.manifest.counts(), self.manifest.missed()
        else:
            parts = [part for piece in pieces for part in piece.parts]
            counts = {
                "records": sum(p.records for p in parts),
                "bytes": sum(p.bytes for p in parts),
                "stored_bytes": sum(p.stored_bytes for p in parts),
            }
            missed = sorted({n for piece in pieces for n in piece.missed})
        total = len(self.view.ring.entries)
        return {
            "id": self.id,
            "state": self.state,
            "reason": self.why or None,
            "partitions_total": total,
            "partitions_done": total if self.state == "done" else len(self.progress.pieces),
            "missed": missed,
            **counts,
        }
