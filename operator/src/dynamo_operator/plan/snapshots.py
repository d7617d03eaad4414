"""Rows about backups by volume snapshots: when they begin, what is asked for, what makes them fail.

One backup is a VolumeSnapshot of each member's claim, and a copy of the cluster secret. Each
snapshot is of another moment. The nodes merge their copies later, so this is no problem for
records. It would be one for owners: a snapshot of the receiver before a move and one of the former
owner after it, both together, lack the partition. So the operator begins when nothing moves, holds
changes of the ring until all snapshots are cut, and compares the ring's epoch (`fault`). What nodes
know of rounds of forgetting does not fit either; decision 20 says why the new ring starts without
it, and why no hint may wait at the beginning and all snapshots are cut within `SPREAD_S`.

The snapshots belong to the DynamoBackup, so Kubernetes deletes them with it, also while the
operator is down. With `deletionPolicy: Retain` they have no owner.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dynamo_operator.actions import CopySecret, Delete, DeleteTaken, MakeSnapshot, Step
from dynamo_operator.archive_runs import BACKUP, Run
from dynamo_operator.owner import labels_of
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.spec import API_VERSION
from dynamo_operator.spec_backup import BackupSpec
from dynamo_operator.volume_snapshots import API, EPOCH, OF_BACKUP, ORDINAL, SNAPSHOT, Taken

SPREAD_S = 300.0
"""Half of the age below which nodes forget no tombstone (`tombstone_age_min_s`): older snapshots
and younger ones of one backup have the same tombstones."""
ERROR_S = 120.0
"""Seconds for which the driver may report an error for a snapshot and try again."""
HOLD_S = 300.0
"""Seconds for which the operator begins no change of the ring while snapshots are not cut."""
WATCH_S = 3.0


def take(o: Snapshot) -> Step | None:
    """Ask for the secret's copy and the snapshots of the oldest backup that waits, all at once."""
    run = next(iter(waiting(o)), None)
    if run is None or run.expired(o.now) or fault(o, run) or cut_time(o, run):
        return None
    have = {taken.ordinal for taken in run.taken}
    missing = [ordinal for ordinal in o.live_ordinals if ordinal not in have]
    if not missing or restless(o):
        return None
    owners = _owners(run)
    acts: list[Any] = []
    if not run.copied:
        meta = {"name": run.secret_copy, "namespace": o.namespace} | owners
        meta["labels"] = labels_of(o.owner) | {OF_BACKUP: run.uid}
        acts.append(CopySecret(name=run.secret_copy, metadata=meta, run=run.id))
    acts += [MakeSnapshot(object=_wanted(o, run, each), run=run.id) for each in missing]
    acts = [act for act in acts if act.key not in o.settled]
    text = f"{BACKUP} {run.name} asks for {len(missing)} volume snapshots"
    return Step("BackingUp", text, tuple(acts), progressing=False) if acts else None


def waiting(o: Snapshot) -> list[Run]:
    """Backups by volume snapshots that have not ended: what has begun, then the oldest."""
    runs = [run for run in o.runs if run.by_snapshots and not run.ended]
    return sorted(runs, key=lambda run: (not run.taken, run.created, run.name))


def _owners(run: Run) -> dict[str, Any]:
    """The DynamoBackup, so that Kubernetes deletes what it owns with it; or none."""
    assert isinstance(run.spec, BackupSpec)
    if run.spec.deletion_policy == "Retain":
        return {}
    owner = {"apiVersion": API_VERSION, "kind": BACKUP, "name": run.name, "uid": run.uid}
    return {"ownerReferences": [owner]}


def _wanted(o: Snapshot, run: Run, ordinal: int) -> dict[str, Any]:
    assert isinstance(run.spec, BackupSpec) and o.ring is not None
    meta: dict[str, Any] = {"name": f"{run.id}-{ordinal}", "namespace": o.namespace}
    meta["labels"] = labels_of(o.owner) | {OF_BACKUP: run.uid}
    meta["annotations"] = {ORDINAL: str(ordinal), EPOCH: str(o.ring.epoch)}
    named = run.spec.snapshot_class_name
    spec: dict[str, Any] = {"source": {"persistentVolumeClaimName": o.owner.claim(ordinal)}}
    spec |= {} if named is None else {"volumeSnapshotClassName": named}
    return {"apiVersion": API, "kind": SNAPSHOT, "metadata": meta | _owners(run), "spec": spec}


def restless(o: Snapshot) -> str:
    """Why no snapshot is asked for now, "" if the ring is at rest."""
    if o.ring is None or not o.exact or not o.unanimous:
        return "the nodes do not show one ring document"
    if o.ring.changing:
        return "a change of the ring is under way"
    for name in sorted(o.ring.live):
        ordinal = o.ordinal(name)
        claim = o.claims.get(ordinal) if ordinal is not None else None
        if claim is None or claim.phase != "Bound" or claim.deleting:
            return f"{name} has no volume"
        if not o.is_up(name):
            return f"{name} is not Ready, or is comparing with its peers"
        assert ordinal is not None
        if o.nodes[ordinal].ring_fsynced is False:
            return f"{name} has not fsynced the ring document"
    if hints := sum(each.count for node in o.nodes.values() for each in node.hints.values()):
        return f"{hints} hints are still to be delivered"
    return ""


def cut_time(o: Snapshot, run: Run) -> str:
    """When the operator found that all snapshots are cut and fit each other, "" before that."""
    if known := run.status.get("cutTime"):
        return str(known)
    return "now" if not fault(o, run) and _all_cut(o, run) else ""


def _all_cut(o: Snapshot, run: Run) -> bool:
    """At a look that shows the ring, with every member."""
    have = {taken.ordinal for taken in run.taken if taken.cut is not None or taken.ready}
    return o.ring is not None and o.exact and have.issuperset(o.live_ordinals)


def fault(o: Snapshot, run: Run) -> tuple[str, str] | None:
    """Reason and text of what makes the backup fail."""
    if run.fault:
        return "NotAvailable", run.fault
    for taken in run.taken:
        if taken.error and not taken.ready and o.now - taken.created > ERROR_S:
            return "SnapshotFailed", f"VolumeSnapshot {taken.name}: {taken.error}"
    if run.status.get("cutTime"):
        there = {taken.name for taken in run.taken}
        told = [str(each["name"]) for each in run.status.get("snapshots", ())]
        gone = [name for name in told if name not in there]
        return ("SnapshotGone", f"VolumeSnapshot {gone[0]} was deleted") if gone else None
    if o.ring is not None and any(taken.epoch != str(o.ring.epoch) for taken in run.taken):
        text = "the ring changed before all snapshots were cut, so they do not fit each other"
        return "RingChanged", f"{text}: make another backup"
    if (spread := _spread_s(run.taken, o.now)) > SPREAD_S:
        text = f"the snapshots were cut {spread:.0f} s apart, more than {SPREAD_S:.0f} s"
        return "TooFarApart", f"{text}: make another backup, or use method Records"
    return None


def _spread_s(taken: tuple[Taken, ...], now: float) -> float:
    """The longest time between two cuts. A driver need not tell the time of a cut: it was after the
    operator asked for the snapshot, and before the look at which the snapshot is ready."""
    cuts = [each.cut for each in taken if each.cut is not None]
    untold = [each for each in taken if each.cut is None and each.ready]
    cuts += [when for each in untold for when in (each.created, now)]
    return max(cuts) - min(cuts) if cuts else 0.0


def whole(o: Snapshot, run: Run) -> bool:
    """Whether every snapshot is cut and ready, and the secret has its copy."""
    ready = all(taken.ready for taken in run.taken)
    return bool(run.taken) and run.copied and ready and bool(cut_time(o, run))


def hold(o: Snapshot) -> Step | None:
    """No change of the ring begins while snapshots are being cut: they take some seconds. It waits
    until the status says so; else an operator that dies before it has written that could not tell
    later whether the ring changed before or after."""
    for run in waiting(o)[:1]:
        if not run.taken or fault(o, run) or run.expired(o.now) or run.status.get("cutTime"):
            continue
        if o.now - min(taken.created for taken in run.taken) < HOLD_S:
            text = f"{BACKUP} {run.name}: the ring is not changed until its snapshots are cut"
            return Step("BackingUp", text, progressing=False, again_s=WATCH_S)
    return None


def beyond(o: Snapshot, runs: Iterator[Run]) -> Step | None:
    """Delete the objects of scheduled backups that need not be kept; their snapshots go too."""
    gone = [_gone(run) for run in runs if run.by_snapshots]
    acts = tuple(act for act in gone if act.key not in o.settled)
    text = f"{len(acts)} old backups by volume snapshots are deleted"
    return Step("TidyingBackups", text, acts, progressing=False) if acts else None


def _gone(run: Run) -> Delete:
    named: Any = {"name": run.name, "uid": run.uid, "resource_version": run.resource_version}
    if run.ended == "Failed":
        return Delete(kind=BACKUP, **named)
    ordinals = tuple(each["ordinal"] for each in run.status.get("snapshots", ()))
    return DeleteTaken(kind=BACKUP, ordinals=ordinals, **named)
