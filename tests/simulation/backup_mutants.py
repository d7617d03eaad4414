"""Deliberate faults in backups and restores (S-BAK-1..3). Each is sought in histories that all have
backups (`EVERY`)."""

from __future__ import annotations

from typing import Any

from dynamo_core.backup import (
    archive,
    cluster_backup,
    incomplete,
    manifest,
    merging,
    saving,
    saving_hints,
)
from dynamo_core.replica import local_replica, replica
from dynamo_core.runtime import dispatcher, outbox
from dynamo_core.runtime.machine import copied
from dynamo_core.testing import backup_mixes, backups
from tests.simulation.mutants import Patch, mutant

ALONE = "incomplete owner saved alone"
EVERY: Patch = (backup_mixes, "BACKED_UP", 1.0)
OLD: Patch = (backup_mixes, "KINDS", (backup_mixes._old_copies,))
assert archive and local_replica


@mutant(ALONE)
def _() -> list[Patch]:
    """Without passes, for complete and other owners."""
    original = saving.SavingPartition.begin

    def begin(self: Any) -> None:
        self.order = copied(self.order, alone=False)
        if self.order.partition in self.node.replica.owned():
            self._passed_at = self.node.replica.numbers.floor(self.order.partition)
            self._pack()
            return
        original(self)

    return [EVERY, (saving.SavingPartition, "begin", begin)]


@mutant("hint not saved")
def _() -> list[Patch]:
    def save_hints(self: Any, now: float) -> Any:
        self._hints_left = []
        return self._turn(now)

    return [EVERY, (cluster_backup.ClusterBackup, "_save_hints", save_hints)]


@mutant("old value over a newer one")
def _() -> list[Patch]:
    original = local_replica.LocalReplica.stores
    merge = replica.Replica.merge

    def stores(self: Any, requests: Any, *rest: Any) -> None:
        for request in requests:
            over = request.cause == "restore"
            self.replica.merge = _over(self.replica) if over else merge.__get__(self.replica)
            original(self, (request,), *rest)
        self.replica.merge = merge.__get__(self.replica)

    return [EVERY, (local_replica.LocalReplica, "stores", stores)]


def _over(here: Any) -> Any:
    def write(stored: bytes, record: bytes, cause: str = "") -> bool:
        before = here.data(stored)
        if record != before:
            here.tree.write(stored, before, record)
        return record != before

    return write


@mutant("a kept backup's part deleted")
def _() -> list[Patch]:
    def unneeded(names: Any, manifests: Any, running: Any) -> list[str]:
        kept = tuple(f"parts/{one.id}/" for one in manifests)
        return [name for name in names if not name.startswith(kept)]

    return [EVERY, (manifest, "unneeded", unneeded), (backups, "unneeded", unneeded)]


@mutant("dots minted again after a restore")
def _() -> list[Patch]:
    """The restored value is made a new event under the dot that comes next in the backup's record,
    as if the restoring node were the actor of that time."""
    from dynamo_core.causality.codec import decode_record, encode_record
    from dynamo_core.causality.records import Record, Sibling, update

    original = merging.Merging._unpacked

    def unpacked(self: Any, rows: Any, now: float) -> Any:
        made = []
        for stored, record in rows:
            before = decode_record(record)
            if before.siblings:
                last = before.siblings[-1]
                dot = (last.actor, before.history.top(last.actor) + 1)
                again = Sibling(*dot, last.value, last.content_type)
                after: Record = update(before, before.context(), again)
                record = encode_record(stored[4:], after)
            made.append((stored, record))
        return original(self, made, now)

    return [EVERY, (merging.Merging, "_unpacked", unpacked)]


@mutant("a call sent to a node that does not know it")
def _() -> list[Patch]:
    return [EVERY, (dispatcher, "SINCE", {}), (outbox, "SINCE", {})]


@mutant("every hint left out of a restore")
def _() -> list[Patch]:
    """As if a round had gone by after each of them."""

    def forgotten(self: Any) -> dict[str, tuple[int, ...]]:
        every = tuple(self.pieces)
        return {part.name: every for parts in self.hints.values() for part in parts}

    return [EVERY, (manifest.Manifest, "forgotten", forgotten)]


@mutant("an old copy of an incomplete owner kept")
def _() -> list[Patch]:
    """Copies of one partition are not compared by their rounds."""

    def saved(self: Any, partition: int, piece: Any) -> None:
        copies = self._of.setdefault(partition, incomplete._Copies())
        copies.pieces[piece.node] = piece

    return [EVERY, OLD, (incomplete.IncompleteOwners, "saved", saved)]


@mutant("hints saved without the number of their store")
def _() -> list[Patch]:
    """The number of a node that has not compared its own is not believed, as if it were old."""
    original = saving_hints.SavingHints._stamps

    def stamps(self: Any, target: Any) -> dict[int, int]:
        return {p: n for p, n in original(self, target).items() if p not in self._apart}

    return [EVERY, OLD, (saving_hints.SavingHints, "_stamps", stamps)]


@mutant("damage of all copies not told")
def _() -> list[Patch]:
    rotten: Patch = (backup_mixes, "KINDS", (backup_mixes._rotten,))
    return [EVERY, rotten, (saving.SavingPartition, "_gone", lambda self: ())]
