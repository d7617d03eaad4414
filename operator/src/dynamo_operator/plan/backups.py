"""Rows about DynamoBackups and DynamoRestores: to make, begin, watch and delete them.

The nodes do the work; a run's id is made from the name and uid of its object. The operator asks the
nodes whether a run goes on, and remembers nothing itself. A run that no node knows begins again
under the same id: a backup goes on from what is in the archive, and merging twice is merging once.

No row about them delays a change of the ring: a run begins also while partitions move or a node is
down, because that is when a backup is wanted.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from dynamo_operator.actions import Delete, DeleteBackups, MakeRun, Note, StartRun, Step
from dynamo_operator.archive_runs import BACKUP, BOOTSTRAPS, RESTORE, SCHEDULED, Run, whole_backups
from dynamo_operator.plan import snapshots
from dynamo_operator.plan.schedule import due_at
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.spec import API_VERSION
from dynamo_operator.spec_backup import BackupSpec, RestoreSpec

WATCH_S = 3.0
"""Seconds between two looks at a run: its progress makes no event."""
DAY_S = 86_400.0


def begin(o: Snapshot) -> Step | None:
    """Make the backup that is due and the restore that a new ring begins with; begin the oldest
    backup and the oldest restore that wait, one of each at a time."""
    via = _via(o)
    if o.ring is None or not via or o.runs_fault:
        return None
    for made in (first_restore(o), due_backup(o)):
        if made is not None:
            name = f"{made['kind']} {made['metadata']['name']}"
            note = Note("RunScheduled", f"{name} is made")
            return Step(_reason(made["kind"]), f"{name} is due", (MakeRun(object=made, note=note),))
    for kind in (BACKUP, RESTORE):
        run = next(iter(_waiting(o, kind)), None)
        if run is None or run.missing or run.hopeless or run.rests(o.now) or run.expired(o.now):
            continue
        if run.state in ("running", "done") or run.given_up():
            continue
        text = f"{kind} {run.name} begins"
        at = via[run.failures % len(via)]
        act = StartRun(via=at, path=run.path, body=body(o, run), note=Note("RunBegun", text))
        if act.key not in o.settled:
            return Step(_reason(kind), text, (act,), progressing=False)
    return None


def _via(o: Snapshot) -> list[int]:
    return [i for i, n in sorted(o.nodes.items()) if n.disk == "member" and o.pods[i].ready]


def _reason(kind: str) -> str:
    return "BackingUp" if kind == BACKUP else "Restoring"


def _waiting(o: Snapshot, kind: str) -> list[Run]:
    """Those that have not ended, the one that has begun or is the oldest first; one that cannot
    begin delays no other."""
    runs = [r for r in o.runs if r.kind == kind and not r.ended and not r.by_snapshots]
    return sorted(
        runs, key=lambda r: (bool(r.missing or r.hopeless), r.started is None, r.created, r.name)
    )


def body(o: Snapshot, run: Run) -> dict[str, object]:
    """What the nodes are asked for."""
    asked: dict[str, object] = {"id": run.id, "archive": run.archive}
    if isinstance(run.spec, RestoreSpec):
        asked |= {"backup": run.backup} if run.backup else {}
        asked |= {"into_past": True} if run.spec.mode == "IntoPast" else {}
        if run.spec.prefix:
            asked["prefix"] = base64.b64encode(run.spec.prefix.encode()).decode()
    elif before := base(o, run):
        asked["base"] = before
    return asked


def base(o: Snapshot, run: Run) -> str:
    """The backup whose parts this one refers to where nothing changed, "" for none."""
    if isinstance(run.spec, BackupSpec) and run.spec.whole:
        return ""
    there = [r for r in whole_backups(o.runs) if r.archive == run.archive and r.id != run.id]
    return there[-1].id if there else ""


def due_backup(o: Snapshot) -> dict[str, Any] | None:
    """The DynamoBackup that is to be made now. A time is skipped if the one before has not ended
    within an hour, or the ring does not have the keys that it begins with."""
    wish = o.spec.backup
    spec = {"clusterName": o.name, "target": wish.target}
    if wish.method == "VolumeSnapshot":
        named = wish.snapshot_class_name
        spec = {"clusterName": o.name, "method": wish.method}
        spec |= {"snapshotClassName": named} if named is not None else {}
    if wish.schedule is None or wish.suspend or None in spec.values() or unrestored(o):
        return None
    due = due_at(o, wish.schedule)
    scheduled = [
        run for run in o.runs if run.kind == BACKUP and run.labels.get(SCHEDULED) == o.name
    ]
    if due is None or any(not run.ended for run in scheduled):
        return None
    name = f"{o.name}-{int(due) // 60}"
    if any(run.name == name for run in o.runs if run.kind == BACKUP):
        return None
    meta = {"name": name, "namespace": o.namespace, "labels": {SCHEDULED: o.name}}
    return {"apiVersion": API_VERSION, "kind": BACKUP, "metadata": meta, "spec": spec}


def first_restore(o: Snapshot) -> dict[str, Any] | None:
    """The DynamoRestore that a new ring begins with, once: only for a ring that this very resource
    has founded. It goes with the resource."""
    if not unrestored(o) or bootstrap_run(o) is not None:
        return None
    assert o.spec.bootstrap is not None
    source = o.spec.bootstrap.from_backup
    named = {"name": source.name, "target": source.target, "backupId": source.backup_id}
    meta = {
        "name": f"{o.name}-bootstrap",
        "namespace": o.namespace,
        "labels": {BOOTSTRAPS: o.uid},
        "ownerReferences": [o.owner.reference()],
    }
    spec = {"clusterName": o.name, "from": {name: v for name, v in named.items() if v is not None}}
    return {"apiVersion": API_VERSION, "kind": RESTORE, "metadata": meta, "spec": spec}


def bootstrap_run(o: Snapshot) -> Run | None:
    """The restore that this ring begins with."""
    return next((run for run in o.runs if run.labels.get(BOOTSTRAPS) == o.uid), None)


def unrestored(o: Snapshot) -> str:
    """Why a new ring does not have the keys of its backup yet, "" if it has, or needs none."""
    if o.spec.bootstrap is None or o.ring is None or o.ring.cluster_id != o.uid or o.copy_of:
        return ""
    if o.restored:
        return ""
    run = bootstrap_run(o)
    if run is None:
        return "the restore of spec.bootstrap.fromBackup has not begun"
    if run.ended == "Failed":
        return (
            f"DynamoRestore {run.name} failed: {run.why}; delete it, and the operator tries again"
        )
    return "" if run.ended else f"DynamoRestore {run.name}: {run.why or 'waits'}"


def retention(o: Snapshot) -> Step | None:
    """Delete scheduled backups that need not be kept, in the archive first, one archive after the
    other. While a backup or a restore is under way nothing is deleted, and nothing in an archive
    that a restore of another ring reads. What failed backups have left goes too: it is no backup,
    and the backups that it builds on could not be deleted."""
    via = _via(o)
    if not via or any(not run.ended for run in o.runs):
        return None
    if (step := snapshots.beyond(o, beyond(o))) is not None:
        return step
    gone = [run for run in beyond(o) if not run.by_snapshots]
    for archive in dict.fromkeys(run.archive for run in gone):
        if archive in o.read_by_others:
            continue
        some = [run for run in gone if run.archive == archive]
        failed = [r for r in o.runs if r.kind == BACKUP and r.ended == "Failed"]
        ids = [r.id for r in some]
        ids += [r.id for r in failed if r.archive == archive and r not in some]
        mark = sha256(" ".join(ids).encode()).hexdigest()[:16]
        request: dict[str, Any] = {"id": f"deletion-{mark}", "archive": archive, "backups": ids}
        first = DeleteBackups(via=via[0], body=request)
        if first.key in o.settled:
            continue  # not now: it has just failed
        objects = [
            Delete(kind=BACKUP, name=r.name, uid=r.uid, resource_version=r.resource_version)
            for r in some
        ]
        text = f"{len(some)} old backups at {archive} are deleted"
        actions = (first, *objects)
        return Step("TidyingBackups", text, actions, progressing=False, again_s=WATCH_S)
    return None


def beyond(o: Snapshot) -> Iterator[Run]:
    """Scheduled backups that both rules of the retention let go; of failed ones the same number
    stays."""
    kept = o.spec.backup.retention
    scheduled = [
        run for run in o.runs if run.kind == BACKUP and run.labels.get(SCHEDULED) == o.name
    ]
    for how in ("Complete", "Failed"):
        ended = [run for run in scheduled if run.ended == how]
        ended.sort(key=lambda run: (run.started or run.created, run.name))
        for run in ended[: -kept.count]:
            if o.now - (run.started or run.created) > kept.days * DAY_S:
                yield run


def under_way(o: Snapshot) -> Step | None:
    """Nothing else is to be done; the progress is written into the status."""
    if why := unrestored(o):
        run = bootstrap_run(o)
        failed = run is not None and run.ended == "Failed"
        return Step("Restoring", why, progressing=not failed, again_s=None if failed else WATCH_S)
    for kind in (BACKUP, RESTORE):
        for run in [*_waiting(o, kind), *(snapshots.waiting(o) if kind == BACKUP else [])][:1]:
            text = f"{kind} {run.name}: {run.why or 'waits'}"
            return Step(_reason(kind), text, progressing=False, again_s=WATCH_S)
    return None
