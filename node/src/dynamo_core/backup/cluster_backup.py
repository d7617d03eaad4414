"""Backup of a whole ring, led by the node that was asked (S-BAK-1).

The order of the steps makes the backup complete. First every member saves its hints. Then, in each
partition, one complete owner makes a pass over each other owner that is up, and saves its copy. A
write that was acked before the start is a hint at that time, so a member saves it or has delivered
it to the owners; or an owner has it, and the pass brings it. One complete owner without the pass is
not enough: *complete* means that no fault took data from it, but a write that was acked with W
below N may still be on its way to it. If no owner is complete, all of them save their copies. The
manifest names the nodes that are down.

The state is in the archive: `Progress` first, the manifest last. A run under the same id continues
from there, at any node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from dynamo_core.backup.archive_calls import (
    ArchiveFailed,
    Bring,
    Brought,
    Done,
    Measure,
    Measured,
    Put,
)
from dynamo_core.backup.incomplete import IncompleteOwners
from dynamo_core.backup.manifest import (
    FORMAT,
    Manifest,
    Piece,
    Progress,
    decode_manifest,
    decode_progress,
    encode_manifest,
    manifest_name,
    places,
    progress_name,
    whole,
)
from dynamo_core.backup.orders import AGAIN_S, Orders
from dynamo_core.errors import BadParameter
from dynamo_core.keys import partition_of
from dynamo_core.protocol.backup_messages import SUSPECTS_MAX, Save, Saved, SaveHints
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.refusal import Reason, Refusal
from dynamo_core.ring.document import LEFT
from dynamo_core.ring.json_form import to_document
from dynamo_core.runtime.machine import Effects, Machine, View

ARCHIVE_S = 600.0
"""An archive answers within this time, also if it only says that it failed."""
CHECKS_MAX = 3
"""If parts are gone at so many checks of the end, the archive loses parts, and the run fails."""
PROGRESS_S = 5.0
"""Interval at which the progress is written."""
HINTS = -1
"""Stands for the hints of a node, where a partition is expected."""


class ClusterBackup(Machine):
    """One run. `state`: "running", "done", "failed"; `why` says of a failure what it was."""

    def __init__(self, view: View, backup: str, archive: str, base: str, version: str) -> None:
        super().__init__()
        self.view = view
        self.id, self.archive = backup, archive
        self.what = f"a backup to {archive}"
        self.state, self.why = "running", ""
        self.manifest: Manifest | None = None
        earlier, again = base if base != backup else "", view.draw() & (1 << 32) - 1
        cluster_id, now_ms = view.ring.identity.cluster_id, view.wall_ms
        self.progress = Progress(backup, cluster_id, now_ms, earlier, again=again)
        self._version = version
        self._step: Callable[[float], Effects] = self._look
        self._base: dict[int, Piece] = {}
        self._orders = Orders()
        self._checks = 0
        """How often the end was checked."""
        self._suspects: set[bytes] = set()
        """Keys of which a node had a damaged record."""
        self._incomplete = IncompleteOwners(view.counters)
        self._request: Message | None = None
        """The call to the archive for this step."""
        self._hints_left: list[str] = []
        self._kept_at = 0.0
        self._keeping = False

    def start(self, now: float) -> Effects:
        self._kept_at = now
        self._orders.moved(now)
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
        """After `_begin`, which names the base in the progress, where deletions read it."""
        if not self.progress.base:
            return self._check(now)
        request = Bring(0, self.archive, manifest_name(self.progress.base))
        return self._archive(now, self._compare, request)

    def _check(self, now: float) -> Effects:
        """The parts to which this backup will refer must be in the archive."""
        base = (part for piece in self._base.values() for part in piece.parts)
        request = Measure(0, self.archive, places([*base, *self.progress.parts()]))
        return self._archive(now, self._check, request)

    def _checked(self, sizes: dict[str, int], now: float) -> Effects:
        lost, ends = self.progress.check(sizes), self._step == self._finish
        gone = lost if ends else [p for p, one in self._base.items() if not whole([one], sizes)]
        self._base = {p: piece for p, piece in self._base.items() if p not in gone}
        self.view.counters["backup_partitions_lost"] += len({*lost, *gone})
        if lost:
            self.progress.orders_again(self.view.draw() & (1 << 32) - 1)
        self._incomplete.lost(lost)
        if not ends:
            return self._save_hints(now)
        if not lost:
            return self._last_look(now)
        self._checks += 1
        keeps = self._checks < CHECKS_MAX
        return self._save_hints(now) if keeps else self._over("failed", "the archive loses parts")

    def _finish(self, now: float) -> Effects:
        """The manifest names nothing that is gone: backups may have been deleted meanwhile."""
        request = Measure(0, self.archive, places(self.progress.parts()))
        return self._archive(now, self._finish, request)

    def _last_look(self, now: float) -> Effects:
        """Another run under this id may have ended. Parts that it does not name may be gone."""
        return self._archive(now, self._last_look, Bring(0, self.archive, manifest_name(self.id)))

    def _end(self, now: float) -> Effects:
        view, progress = self.view, self.progress
        self.manifest = Manifest(
            FORMAT, self.id, progress.cluster_id, progress.started_ms, view.wall_ms,
            to_document(view.ring), progress.hints, progress.silent, progress.pieces,
            progress.base, self._version, progress.rounds, progress.unsure,
        )  # fmt: skip
        data = encode_manifest(self.manifest)
        request = Put(0, self.archive, manifest_name(self.id), data, True)
        return self._archive(now, self._end, request)

    def _archive(self, now: float, step: Callable[[float], Effects], request: Message) -> Effects:
        self._step, self._request = step, request
        self.wake_at = now + ARCHIVE_S
        return [(self.view.name, request)]

    def _brought(self, name: str, data: bytes | None, now: float) -> Effects:
        if name != manifest_name(self.id) and name != progress_name(self.id):
            return self._compared(data, now)
        try:
            if name == progress_name(self.id):
                if data is None:
                    return self._begin(now)
                return self._goes_on(decode_progress(data), now)
            if data is None:
                return self._end(now) if self._step == self._last_look else self._resume(now)
            self.manifest = decode_manifest(data, self.id)
            if self.manifest.cluster_id != self.progress.cluster_id:
                return self._over("failed", f"id: {self.id} is the backup of another ring")
            return self._over("done")
        except BadParameter as error:
            return self._over("failed", str(error))

    def _compared(self, data: bytes | None, now: float) -> Effects:
        """Without a base if it is gone or cannot be read."""
        try:
            base = decode_manifest(data, self.progress.base) if data is not None else None
        except BadParameter:
            base = None
        if base is not None:
            entries = len(self.view.ring.entries)
            self._base = base.comparable(self.progress.cluster_id, entries)
        else:
            self.progress.without_base()
        return self._check(now)

    def _goes_on(self, progress: Progress, now: float) -> Effects:
        if progress.cluster_id != self.progress.cluster_id or progress.id != self.id:
            return self._over("failed", f"id: {self.id} is the backup of another ring")
        if not progress.pieces.keys() <= set(range(len(self.view.ring.entries))):
            return self._over("failed", f"id: {self.id} has partitions that are not")
        self.view.counters["backups_resumed"] += 1
        self.progress = progress
        return self._compare(now)

    # ------------------------------------------------------------ hints, then partitions

    def _save_hints(self, now: float) -> Effects:
        """Hints come first: a hint that is delivered meanwhile would otherwise be in neither
        part."""
        members = self.view.ring.members.values()
        names = [m.name for m in members if m.state != LEFT]
        self._hints_left = [n for n in sorted(names) if n not in self.progress.hints]
        if self.progress.pieces:  # of an earlier run: its hints were saved before them
            self._hints_left = []
        return self._turn(now)

    def _turn(self, now: float) -> Effects:
        """Ask the nodes that are free; the run ends when nothing is left."""
        self._step = self._turn
        if self._orders.stuck(now):
            return self._over("failed", self._what_is_missing())
        self.wake_at = now + AGAIN_S
        if self._hints_left:
            return self._ask_hints(now)
        left = [p for p in range(len(self.view.ring.entries)) if p not in self.progress.pieces]
        if not left:
            return self._finish(now)
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
                self._orders.moved(now)
            elif self._orders.free(name, HINTS, now):
                effects.append(self._call(name, HINTS, True, now))
        return effects if self._hints_left else self._turn(now)

    def _ask_partition(self, partition: int, now: float) -> Effects:
        if self._orders.is_asked(partition):
            return []
        owners = self.view.preference.owners(partition)
        turn = partition % len(owners)
        up = [n for n in owners[turn:] + owners[:turn] if self.view.up(n)]
        if not up:
            self.why = f"partition {partition}: none of its owners is up: {', '.join(owners)}"
        alone = self._incomplete.may_be_complete(partition, up)
        asked = alone or self._incomplete.wanted(partition, up)
        free = [n for n in asked if self._orders.free(n, partition, now)]
        if alone:
            return [self._call(name, partition, True, now) for name in free[:1]]
        self.view.counters["backups_of_all_owners"] += bool(free)
        if not asked:  # another one was up until now
            self._saved_by_all(partition)
        return [self._call(name, partition, False, now) for name in free]

    def _saved_by_all(self, partition: int) -> None:
        owners = self.view.preference.owners(partition)
        if pieces := self._incomplete.whole(partition, owners, self.view.up):
            self.progress.pieces[partition] = pieces

    def _call(self, name: str, partition: int, alone: bool, now: float) -> tuple[str, Message]:
        order: Message = SaveHints(0, self.id, self.archive, self.progress.again)
        if partition != HINTS:
            entry_id = self.view.ring.entries[partition].id
            base = self._base.get(partition)
            root = bytes.fromhex(base.root) if base is not None and alone else b""
            again = self.progress.again ^ self._incomplete.turn(partition, name)
            bits = self.view.ring.partition_bits
            suspects = [x for x in sorted(self._suspects) if partition_of(x, bits) == partition]
            place = (self.id, self.archive, partition, entry_id, alone, root, again)
            order = Save(0, *place, tuple(suspects[:SUSPECTS_MAX]))
        return self._orders.give(name, partition, order, now)

    # ------------------------------------------------------------ events

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if isinstance(reply, ArchiveFailed):
            return self._archive_failed(request, reply.why, now)
        if isinstance(request, Bring | Put | Measure) and request is not self._request:
            if isinstance(request, Put):
                self._keeping = False
            return []
        if isinstance(request, Bring):
            assert isinstance(reply, Brought)
            self._orders.moved(now)
            return self._brought(request.name, reply.data, now)
        if isinstance(request, Measure):
            assert isinstance(reply, Measured)
            self._orders.moved(now)
            return self._checked(reply.sizes, now)
        if isinstance(request, Put):
            assert isinstance(reply, Done)
            return self._kept(request.name, now) if reply.kept else self._last_look(now)
        assert isinstance(reply, Saved)
        partition = request.partition if isinstance(request, Save) else HINTS
        if not self._orders.ended(node, partition):
            return []
        if reply.why:
            return self._not_saved(node, partition, reply.why, now)
        self._orders.moved(now)
        if partition == HINTS:
            self.progress.hints_of(node, reply)
            self._suspects.update(reply.suspects)
            self._hints_left = [name for name in self._hints_left if name != node]
        else:
            assert isinstance(request, Save)
            self._saved(node, request, reply)
        return self._turn(now)

    def _kept(self, name: str, now: float) -> Effects:
        if name == manifest_name(self.id):
            self.view.counters["backups_done"] += 1
            return self._over("done")
        self._orders.moved(now)
        return self._compare(now)

    def _saved(self, node: str, request: Save, reply: Saved) -> None:
        partition, counters = request.partition, self.view.counters
        if reply.unchanged:
            base = self._base[partition]
            piece = msgspec.structs.replace(base, backup=base.backup or self.progress.base)
            counters["backup_partitions_referred"] += 1
        else:
            piece = Piece(node, reply.parts, reply.root.hex())
            counters["backup_partitions_saved"] += 1
        piece = msgspec.structs.replace(
            piece, missed=list(reply.missed), damaged=list(reply.damaged), seen=reply.seen,
            floor=reply.floor, passed=reply.passed,
        )  # fmt: skip
        if request.alone:
            self.progress.pieces[partition] = [piece]
            return
        self._incomplete.saved(partition, piece)
        self._saved_by_all(partition)

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
        if not self._orders.ended(node, partition):
            return []
        if partition != HINTS and reason is Refusal.INCOMPLETE:
            self._incomplete.said(partition, node, now)
        return self._not_saved(node, partition, reason.words, now)

    def _not_saved(self, node: str, partition: int, why: str, now: float) -> Effects:
        self._orders.rest(node, partition, now)
        what = "hints" if partition == HINTS else f"partition {partition}"
        self.why = f"{what}: {node}: {why}"
        return []  # at the next turn

    def expired(self, now: float) -> Effects:
        if self._orders.stuck(now):
            return self._over("failed", self._what_is_missing())
        return self._orders.look(self.view.up, now) + self._step(now)

    # ------------------------------------------------------------ the end

    def _keep(self, now: float) -> Effects:
        """Writes the progress if it is due."""
        if self._keeping or now - self._kept_at < PROGRESS_S:
            return []
        self._keeping, self._kept_at = True, now
        data = msgspec.json.encode(self.progress)
        return [(self.view.name, Put(0, self.archive, progress_name(self.id), data))]

    def _what_is_missing(self) -> str:
        done, total = len(self.progress.pieces), len(self.view.ring.entries)
        return f"{done} of {total} partitions are saved, then nothing more for a while: {self.why}"

    def _over(self, state: str, why: str = "") -> Effects:
        self.finished = True
        self.state, self.why = state, why
        return []

    def report(self) -> dict[str, Any]:
        """As docs/http-api.md has it."""
        said = (self.state == "done" and self.manifest) or self.progress
        total = len(self.view.ring.entries)
        return {
            "id": self.id,
            "state": self.state,
            "reason": self.why or None,
            "partitions_total": total,
            "partitions_done": total if self.state == "done" else len(self.progress.pieces),
            **said.told(),
        }
