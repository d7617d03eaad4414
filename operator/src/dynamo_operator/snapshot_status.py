"""The status of a backup by volume snapshots: pure, from one look and what the pass did."""

from __future__ import annotations

from msgspec import structs

from dynamo_operator.act import Outcome
from dynamo_operator.archive_runs import Run
from dynamo_operator.conditions import Fact
from dynamo_operator.plan import snapshots
from dynamo_operator.quantity import instant, stamp
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.status import conditions_of
from dynamo_operator.status_fields import BackupStatus, SavedRing, SnapshotStatus

MESSAGE_CHARS_MAX = 4000


def snapshot_status(o: Snapshot, run: Run, outcome: Outcome) -> BackupStatus:
    """The progress of a backup that had not ended."""
    refused = outcome.runs.get(f"snapshots {run.id}", ("", False))
    end = _end(o, run, refused)
    begun = bool(run.taken)
    old, now = run.status, stamp(o.now)
    started = old.get("startTime") or (now if begun else None)
    cut = snapshots.cut_time(o, run) if begun else ""
    made = BackupStatus(
        state=end.type if end else "Running" if begun else "Waiting",
        message=(end.message if end else _message(o, run, refused[0]))[:MESSAGE_CHARS_MAX],
        start_time=started,
        snapshots=tuple(
            SnapshotStatus(name=each.name, ordinal=each.ordinal, ready=each.ready, size=each.size)
            for each in run.taken
        ),
        snapshots_ready=_ready(o, run),
        cut_time=now if cut == "now" else cut or None,
        secret_name=run.secret_copy if run.copied else "",
        ring=_saved(o, run),
    )
    if end is None:
        return made
    took = o.now - (instant(started) or o.now)
    return structs.replace(
        made,
        completion_time=now,
        duration_seconds=round(took),
        conditions=conditions_of([end], (), o.now, 0),
    )


def _saved(o: Snapshot, run: Run) -> SavedRing | None:
    """The facts of the ring as it was cut."""
    old = run.status.get("ring")
    if old is not None:
        return SavedRing(
            cluster=old["cluster"], cluster_id=old["clusterId"], epoch=old["epoch"],
            partitions=old["partitions"], factor=old["factor"], conflicts=old["conflicts"],
        )  # fmt: skip
    ring = o.ring
    if ring is None or not run.taken:
        return None
    return SavedRing(
        cluster=f"{o.namespace}/{o.name}", cluster_id=ring.cluster_id, epoch=ring.epoch,
        partitions=ring.partitions, factor=ring.n, conflicts=ring.conflicts,
    )  # fmt: skip


def _ready(o: Snapshot, run: Run) -> str:
    wanted = len(run.taken) if run.status.get("cutTime") else len(o.live_ordinals)
    return f"{sum(taken.ready for taken in run.taken)}/{wanted}" if run.taken else ""


def _end(o: Snapshot, run: Run, refused: tuple[str, bool]) -> Fact | None:
    if found := snapshots.fault(o, run):
        return Fact("Failed", True, *found)
    if refused[0] and refused[1]:
        return Fact("Failed", True, "Refused", f"the API server refuses it: {refused[0]}")
    if snapshots.whole(o, run):
        return Fact("Complete", True, "Done", f"{len(run.taken)} volume snapshots are ready")
    if run.expired(o.now):
        text = f"not done after {run.spec.timeout}: {_message(o, run, '')}"
        return Fact("Failed", True, "TimedOut", text)
    return None


def _message(o: Snapshot, run: Run, refused: str) -> str:
    if refused:
        return f"does not begin yet: {refused}"
    if not run.taken:
        return f"waits: {snapshots.restless(o) or 'another backup, or the next look'}"
    late = [taken for taken in run.taken if not taken.ready]
    text = f"{_ready(o, run)} volume snapshots are ready"
    if not late:
        return text
    why = f": {late[0].error}" if late[0].error else ""
    return f"{text}; waits for {late[0].name}{why}"
